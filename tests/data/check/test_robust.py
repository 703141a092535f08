"""Wrong numbers do not move the middle, and hardly the spread."""

import numpy as np
import pytest

from tl_keras.data.check.robust import middle_and_spread


def test_of_normal_numbers_it_is_mean_and_deviation_even_with_wrong_ones_among_them() -> None:
    values = np.random.default_rng(0).normal(7, 3, 20_000)
    values[:1000] = 1e9
    assert middle_and_spread(values) == (pytest.approx(7, abs=0.3), pytest.approx(3, abs=0.3))


def test_numbers_of_which_most_are_equal_have_a_spread() -> None:
    assert middle_and_spread(np.array([0, 0, 0, 5.0])) == (0, pytest.approx(1.2533 * 1.25))
    assert middle_and_spread(np.full(3, 2, np.float32)) == (2, 0)
