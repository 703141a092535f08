"""Intervals: Wilson's against its closed form, the paired one against its paper's table, the corrected one against its paper's
formula, both against a simulation."""

import numpy as np
import pytest
from scipy import stats

from tl_keras.evaluation.intervals import bootstrap, corrected, paired, wilson


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


def right(both: int, mine: int, theirs: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    counts = [both, mine, theirs, neither]
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


def test_paired_is_newcombe_s_tenth_method() -> None:
    np.testing.assert_allclose(paired(*right(36, 12, 2, 0)), (0.0569, 0.3404), atol=5e-5)  # a line of his table


def test_paired_takes_half_an_image_each_off_a_correlation_above_zero() -> None:
    # Of 200 images 170 and 155 are right, 150 of them by both models.
    phi = (150 * 25 - 20 * 5 - 100) / np.sqrt(170 * 30 * 155 * 45)
    p, q = 170 / 200, 155 / 200
    (low_p, high_p), (low_q, high_q) = wilson(170, 200), wilson(155, 200)
    below = np.sqrt((p - low_p) ** 2 - 2 * phi * (p - low_p) * (high_q - q) + (high_q - q) ** 2)
    above = np.sqrt((high_p - p) ** 2 - 2 * phi * (high_p - p) * (q - low_q) + (q - low_q) ** 2)
    assert paired(*right(150, 20, 5, 25)) == pytest.approx((p - q - below, p - q + above))


def test_paired_turns_round_with_its_arguments_and_holds_no_difference() -> None:
    one, other = right(150, 20, 5, 25)
    low, high = paired(one, other)
    assert paired(other, one) == pytest.approx((-high, -low))
    assert low < 15 / 200 < high
    low, high = paired(one, one)
    assert low == -high < 0


@pytest.mark.slow
def test_paired_covers_the_truth_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0)
    shares, hits, rounds = (0.8, 0.07, 0.04, 0.09), 0, 600
    for _ in range(rounds):
        low, high = paired(*right(*draws.multinomial(200, shares)))
        hits += low <= 0.03 <= high
    assert 0.93 <= hits / rounds <= 0.99


def test_an_interval_by_resampling_of_a_mean_is_that_of_the_textbook() -> None:
    values = np.random.default_rng(0).normal(3, 2, 400)
    (found,), ((low,), (high,)) = bootstrap(400, lambda times: (times @ values / 400)[:, None])
    assert found == pytest.approx(values.mean())
    assert (low, high) == pytest.approx(stats.t.interval(0.95, 399, values.mean(), stats.sem(values)), abs=0.03)


@pytest.mark.slow
def test_it_covers_what_is_true_19_times_out_of_20() -> None:
    covered = 0
    for seed in range(100):
        scores = np.random.default_rng(seed).uniform(0, 2, 150)
        (_,), ((low,), (high,)) = bootstrap(150, lambda times, scores=scores: (times @ scores / 150)[:, None])
        covered += low <= 1 <= high
    assert covered >= 88  # of 95 expected; fewer than 88 have a chance of 1 in 500


def test_the_bias_of_resamples_is_corrected_for() -> None:
    """The number of different images in a resample is 63 % of them: its plain percentiles do not even hold the figure."""
    values = np.random.default_rng(0).normal(size=200)
    (found,), ((low,), (high,)) = bootstrap(200, lambda times: np.where(times > 0, np.abs(values), 0).max(axis=1, keepdims=True))
    assert low <= found <= high


@pytest.mark.slow
@pytest.mark.parametrize("num", [1, 2, 30_000, 300_000])
def test_many_images_are_drawn_in_parts_and_fewer_times(num: int) -> None:
    sizes = []

    def figures(times: np.ndarray) -> np.ndarray:
        assert (times.sum(axis=1) == num).all()
        sizes.append(len(times))
        return np.zeros((len(times), 1))

    bootstrap(num, figures)
    assert sizes[-1] == 1  # the images as they are
    assert max(sizes) * num <= 10**6
    assert sum(sizes[:-1]) == {1: 1000, 2: 1000, 30_000: 666, 300_000: 100}[num]


def test_the_same_images_have_the_same_interval() -> None:
    values = np.random.default_rng(0).normal(size=50)
    first, again = (bootstrap(50, lambda times: (times @ values)[:, None])[1] for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_a_small_bias_of_resamples_is_corrected_by_their_own_quantiles() -> None:
    numbers = np.random.default_rng(3).exponential(1, 40)

    def deviation(times: np.ndarray) -> np.ndarray:  # lower in most resamples
        shares = times / 40
        return np.sqrt(shares @ numbers**2 - (shares @ numbers) ** 2)[:, None]

    found, ends = bootstrap(40, deviation)
    values = deviation(np.random.default_rng(40).multinomial(40, [1 / 40] * 40, 1000))[:, 0]
    below = float((values < found).mean())
    assert 0.5 < below < stats.norm.cdf(1)
    shares = stats.norm.cdf(2 * stats.norm.ppf(below) + stats.norm.ppf([0.025, 0.975]))
    np.testing.assert_allclose(ends[:, 0], np.quantile(values, shares))
    assert ends[0, 0] > np.quantile(values, 0.025)
