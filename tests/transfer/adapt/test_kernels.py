"""Kernels: their width is told from rows that differ."""

import numpy as np
import pytest

from tl_keras.transfer.adapt.kernels import median_bandwidth

DRAWS = np.random.default_rng(0).normal(size=(4, 3))


def test_the_width_is_the_median_of_all_pairs() -> None:
    distances = [((a - b) ** 2).sum() for i, a in enumerate(DRAWS) for b in DRAWS[:i]]
    assert median_bandwidth(DRAWS) == pytest.approx(1 / np.median(distances))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_copies_do_not_narrow_it(dtype: type) -> None:
    few = DRAWS[:2].astype(dtype)
    assert median_bandwidth(np.repeat(few, [30, 2], axis=0)) == pytest.approx(median_bandwidth(few), rel=1e-3)
    assert median_bandwidth(np.repeat(few[:1], 9, axis=0)) == 1
