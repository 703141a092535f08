"""Precision and recall of one class's scores, over all thresholds: average precision, and the threshold with the best F1. Plain NumPy."""

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
    times = np.ones((1, len(scores)), np.int64) if times is None else times
    order = np.argsort(-scores, kind="stable")
    ends = _ends(scores[order])
    hits = np.cumsum(times[:, order] * truth[order], axis=1)[:, ends]
    taken = np.cumsum(times[:, order], axis=1)[:, ends]
    precision = hits / np.maximum(taken, 1)
    gains = np.diff(hits, axis=1, prepend=0)
    with np.errstate(invalid="ignore"):  # 0 / 0 where no image has the class
        found: NDArray[np.float64] = (precision * gains).sum(axis=1) / hits[:, -1]
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
