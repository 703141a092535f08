"""Confidence intervals: of an accuracy, of a difference of two, of means over folds of a cross-validation, and by resampling."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Ends = NDArray[np.float64]

RESAMPLES = (100, 1000)  # at least and at most: of many images the intervals are narrow, and a few will do
DRAWS = 20 * 10**6  # images in all of them together
DRAWS_AT_ONCE = 10**5  # which caches hold
MOST_BIAS = 1.0  # standard deviations; from 1.96 on the corrected interval would leave out the figure itself


def wilson(num_correct: int, num_images: int) -> tuple[float, float]:
    """The 95 % interval of an accuracy, both ends in [0, 1].

    Reference: Wilson 1927, J. Am. Stat. Assoc. 22, 209; Brown, Cai & DasGupta 2001, on why it and not the normal one.
    """
    interval = stats.binomtest(num_correct, num_images).proportion_ci(confidence_level=0.95, method="wilson")
    return float(interval.low), float(interval.high)


def paired(right: NDArray[np.bool_], other_right: NDArray[np.bool_]) -> tuple[float, float]:
    """The 95 % interval of the difference of two accuracies on the same images, both ends in [-1, 1].

    Two models are often wrong on the same images, so this is narrower than the two intervals of the accuracies together.

    Args:
        right: bool (n,), whether one model is right; n at least 1.
        other_right: likewise of the other, whose accuracy is subtracted.

    Reference: Newcombe 1998, Statistics in Medicine 17, 2635, method 10: Wilson's intervals, put together with the
    correlation of the two, continuity-corrected.
    """
    num = len(right)
    both, mine, theirs = (int(np.sum(each)) for each in (right & other_right, right & ~other_right, ~right & other_right))
    neither = num - both - mine - theirs
    p, q = (both + mine) / num, (both + theirs) / num
    (low_p, high_p), (low_q, high_q) = wilson(both + mine, num), wilson(both + theirs, num)
    product: float = both * neither - mine * theirs
    scale = (both + mine) * (theirs + neither) * (both + theirs) * (mine + neither)
    if product > 0:
        product = max(product - num / 2, 0.0)
    phi = product / np.sqrt(scale) if scale else 0.0

    def reach(one: float, other: float) -> float:
        return float(np.sqrt(max(one**2 - 2 * phi * one * other + other**2, 0.0)))

    return p - q - reach(p - low_p, high_q - q), p - q + reach(high_p - p, q - low_q)


def corrected(values: Sequence[float], test_to_train: float) -> tuple[float, float]:
    """The 95 % interval of the mean of a figure over folds, whose training sets overlap.

    Folds that share images are not independent, so their variance is too small by what this adds. Also for differences
    of two configurations on the same folds: they differ where the interval is clear of zero.

    Args:
        values: of each fold and repeat, at least two.
        test_to_train: images held out per image trained on, > 0; 1/4 in five folds.

    Returns:
        Both ends of the interval, in the unit of the values.

    Raises:
        ValueError: fewer than two values.

    Reference: Nadeau & Bengio 2003, Machine Learning 52, 239, sec. 3; Bouckaert & Frank 2004, on repeated folds.
    """
    if len(values) < 2:
        raise ValueError(f"an interval needs at least two values. Received: {len(values)}")
    deviation = np.std(values, ddof=1) * np.sqrt(1 / len(values) + test_to_train)
    reach = float(stats.t.ppf(0.975, len(values) - 1) * deviation)
    mean = float(np.mean(values))
    return mean - reach, mean + reach


FEW = 20  # images: the intervals that resamples of fewer give are too narrow; with 5 they hold the true mean error 83 times of 100


def bootstrap(num_images: int, figures: Callable[[NDArray[np.integer]], NDArray[np.float64]]) -> tuple[NDArray[np.float64], Ends]:
    """Figures of some images with their 95 % intervals, from resamples of the images; the same ones for the same number of images.

    Args:
        num_images: n.
        figures: how often each image is there in each of b resamples, int (b, n) -> the figures of each, (b, f).

    Returns:
        The figures of the images as they are, (f,), and the ends of their intervals, (2, f). Some figures, such as an average precision,
        are higher or lower where images are there several times; this bias is corrected for. Where it is so large that hardly a resample
        lies on the other side, as with many classes of one or two images, the spread of the resamples is laid around the figure.

    Reference: Efron & Tibshirani 1993, An Introduction to the Bootstrap, sec. 14.3, with an acceleration of 0.
    """
    random, drawn = np.random.default_rng(num_images), []
    left = int(np.clip(DRAWS // num_images, *RESAMPLES))
    while left:
        size = min(left, max(1, DRAWS_AT_ONCE // num_images))
        drawn.append(figures(random.multinomial(num_images, np.full(num_images, 1 / num_images), size).astype(np.int32)))
        left -= size
    found, values = figures(np.ones((1, num_images), np.int64))[0], np.concatenate(drawn)
    below = np.clip(((values < found) + (values == found) / 2).mean(axis=0), 1 / len(values), 1 - 1 / len(values))
    bias = stats.norm.ppf(below)  # (f,), in standard deviations
    shares = stats.norm.cdf(2 * bias + stats.norm.ppf([[0.025], [0.975]]))  # (2, f)
    ends = np.column_stack([np.quantile(values[:, place], shares[:, place]) for place in range(len(found))])
    around = found + np.quantile(values, [0.025, 0.975], axis=0) - values.mean(axis=0)
    return found, np.where(np.abs(bias) > MOST_BIAS, around, ends)
