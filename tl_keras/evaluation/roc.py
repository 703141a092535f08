"""The area under the ROC curve of each class against all others, with an interval of its mean.

How often a random image that has the class gets a higher score for it than a random image that has not; equal scores count half.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

Z = float(stats.norm.ppf(0.975))


class RocAreas(NamedTuple):
    """`each` (k,), NaN for a class that all images have or none; `mean` of the others, NaN without any; `ci95`, both ends in [0, 1]."""

    each: NDArray[np.float64]
    mean: float
    ci95: tuple[float, float]


def roc_areas(scores: NDArray[np.floating], truth: NDArray[np.bool_]) -> RocAreas:
    """Measure the areas of k classes on the same n images.

    The interval of the mean is normal on the logit scale, by the variance of what each image adds to the areas; those of one image are
    not independent, and need not be.

    Args:
        scores: (n, k), the higher the likelier; of any scale.
        truth: bool (n, k), which images have which class.

    Reference: DeLong, DeLong & Clarke-Pearson 1988, Biometrics 44, 837.
    """
    num, k = scores.shape
    each, influence, counted = np.full(k, np.nan), np.zeros(num), 0
    for place in np.flatnonzero(truth.any(axis=0) & ~truth.all(axis=0)):
        placements = _placements(scores[:, place], truth[:, place])
        has = truth[:, place]
        each[place] = placements[has].mean()
        influence += (placements - each[place]) * np.where(has, _weight(has), _weight(~has))
        counted += 1
    if not counted:
        return RocAreas(each, float("nan"), (float("nan"), float("nan")))
    mean = float(np.nanmean(each))
    error = float(np.sqrt(np.sum((influence / counted) ** 2)))
    return RocAreas(each, mean, _interval(mean, error))


def _weight(kind: NDArray[np.bool_]) -> float:
    """What a kind's placements are multiplied by so that the sum of their squares is the variance of the mean; NaN for one image."""
    num = int(kind.sum())
    return 1 / np.sqrt(num * (num - 1)) if num > 1 else float("nan")


def _placements(scores: NDArray[np.floating], has: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The share of the images of the other kind that each image is on the right side of, (n,); both kinds are there."""
    found = np.empty(len(scores))
    found[has] = _share_below(scores[has], scores[~has])
    found[~has] = 1 - _share_below(scores[~has], scores[has])
    return found


def _share_below(scores: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.float64]:
    """The share of the others that have less than each score, and half of those that have as much, (n,)."""
    ordered = np.sort(others)
    less, at_most = (np.searchsorted(ordered, scores, side) for side in ("left", "right"))
    found: NDArray[np.float64] = (less + at_most) / (2 * len(others))
    return found


def _interval(mean: float, error: float) -> tuple[float, float]:
    if not 0 < mean < 1:  # the images that there are say nothing of the spread
        return float("nan"), float("nan")
    reach = Z * error / (mean * (1 - mean))
    low, high = special.expit(special.logit(mean) + np.array([-reach, reach]))
    return float(low), float(high)
