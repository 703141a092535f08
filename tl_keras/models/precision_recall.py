"""Precision and recall of one class's scores, over all thresholds: average precision, and the threshold with the best F1. Plain NumPy."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating]
Truth = NDArray[np.bool_]


def mean_average_precision(scores: Scores, truth: Truth) -> float:
    """The mean over those classes that any image has: scores (n, k) of any scale, truth bool (n, k); NaN where no class is there."""
    found = [float(average_precision(scores[:, k], truth[:, k])[0]) for k in np.flatnonzero(truth.any(axis=0))]
    return float(np.mean(found)) if found else float("nan")


def average_precision(scores: Scores, truth: Truth, times: NDArray[np.integer] | None = None) -> NDArray[np.float64]:
    """The average precision of one class: the sum over thresholds of precision times the gain in recall, without interpolation.

    Args:
        scores: (n,), the higher the likelier.
        truth: bool (n,), which images have the class.
        times: int (b, n), how often each image is there in each of b resamples; None for once each.

    Returns:
        float64 (b,), or (1,); NaN where no image has the class.
    """
    return Ranking.of(scores, truth).average_precision(np.ones((1, len(scores)), np.int32) if times is None else times)


@dataclass(frozen=True)
class Ranking:
    """The images in the order of one class's scores, of which any number of resamples can be judged.

    Attributes:
        order: int32 (n,), positions of the images, the likeliest first.
        having: places in the order of the images that have the class.
        ends: the places at which a run of equal scores ends in which some image has it.
        last: the last of `having` in each of these runs, as a position in it.
    """

    order: NDArray[np.int32]
    having: NDArray[np.int64]
    ends: NDArray[np.int64]
    last: NDArray[np.int64]

    @classmethod
    def of(cls, scores: Scores, truth: Truth) -> Self:
        """The ranking of scores (n,) and truth (n,)."""
        order = np.argsort(-scores, kind="stable").astype(np.int32)
        having, ends = np.flatnonzero(truth[order]), _ends(scores[order])
        own = ends[np.searchsorted(ends, having)]
        last = np.flatnonzero(np.diff(own, append=-1))
        return cls(order, having, own[last], last)

    def average_precision(self, times: NDArray[np.integer]) -> NDArray[np.float64]:
        """See the function of this name: int (b, n) -> float64 (b,)."""
        drawn = times[:, self.order]
        hits = np.cumsum(drawn[:, self.having], axis=1)[:, self.last]
        if not hits.size:
            return np.full(len(times), np.nan)
        precision = hits / np.maximum(np.cumsum(drawn, axis=1, dtype=np.int32)[:, self.ends], 1)
        with np.errstate(invalid="ignore"):  # 0 / 0 where no image that was drawn has the class
            found: NDArray[np.float64] = (precision * np.diff(hits, axis=1, prepend=0)).sum(axis=1) / hits[:, -1]
        return found


def best_threshold(probabilities: Scores, truth: Truth) -> float:
    """The threshold from which on the class is found, with the highest F1; it lies halfway to the next lower probability.

    Of equally good ones it is the highest. 0.5 where no image has the class.

    Args:
        probabilities: (n,) in [0, 1].
        truth: bool (n,), which images have the class.
    """
    if not truth.any():
        return 0.5
    order = np.argsort(-probabilities, kind="stable")
    values = probabilities[order].astype(np.float64)
    ends = _ends(values)
    f1 = 2 * np.cumsum(truth[order])[ends] / (ends + 1 + truth.sum())
    best = int(ends[f1.argmax()])  # a place, not a class
    below = values[best + 1] if best + 1 < len(values) else 0.0
    return float((values[best] + below) / 2)


def _ends(descending: Scores) -> NDArray[np.int64]:
    """The last position of each run of equal scores: a threshold cannot tell them apart."""
    return np.append(np.flatnonzero(np.diff(descending)), len(descending) - 1)
