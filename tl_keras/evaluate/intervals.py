"""How sure a figure is: intervals of an accuracy, and of means over the folds of a cross-validation."""

from collections.abc import Sequence

import numpy as np
from scipy import stats


def wilson(num_correct: int, num_images: int) -> tuple[float, float]:
    """The 95 % interval of an accuracy, both ends in [0, 1].

    Reference: Wilson 1927, J. Am. Stat. Assoc. 22, 209; Brown, Cai & DasGupta 2001, on why it and not the normal one.
    """
    interval = stats.binomtest(num_correct, num_images).proportion_ci(confidence_level=0.95, method="wilson")
    return float(interval.low), float(interval.high)


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
