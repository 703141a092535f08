"""Intervals: Wilson's against its closed form, the corrected one against its paper's formula and a simulation."""

import numpy as np
import pytest
from scipy import stats

from tl_keras.evaluate.intervals import corrected, wilson


@pytest.mark.parametrize(("correct", "num"), [(0, 5), (5, 5), (175, 200), (1, 3)])
def test_wilson_is_its_closed_form(correct: int, num: int) -> None:
    z = stats.norm.ppf(0.975)
    p = correct / num
    centre, reach = (p + z**2 / (2 * num)) / (1 + z**2 / num), z * np.sqrt(p * (1 - p) / num + z**2 / (4 * num**2)) / (1 + z**2 / num)
    np.testing.assert_allclose(wilson(correct, num), (centre - reach, centre + reach), atol=1e-12)


def test_corrected_is_nadeau_and_bengio_s_formula() -> None:
    values = [0.81, 0.84, 0.79, 0.88, 0.83]
    mean = sum(values) / 5
    variance = sum((value - mean) ** 2 for value in values) / 4
    reach = 2.7764451052 * (variance * (1 / 5 + 1 / 4)) ** 0.5
    np.testing.assert_allclose(corrected(values, 0.25), (mean - reach, mean + reach), atol=1e-9)


def test_corrected_is_wider_than_what_takes_folds_for_independent() -> None:
    values = np.random.default_rng(0).normal(0.8, 0.02, 15).tolist()
    low, high = corrected(values, 0.25)
    plain = stats.t.interval(0.95, 14, np.mean(values), stats.sem(values))
    assert (high - low) == pytest.approx((plain[1] - plain[0]) * np.sqrt((1 / 15 + 0.25) * 15))


def test_one_value_has_no_interval() -> None:
    with pytest.raises(ValueError, match="an interval needs at least two values"):
        corrected([0.5], 0.25)
