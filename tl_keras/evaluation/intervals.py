"""Confidence intervals: of an accuracy, of a difference of two, and of means over folds of a cross-validation."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats


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
