"""Prediction sets by split conformal prediction: the classes that an image may have, with the true one among them as often as is asked.

Whatever the model is, this holds on average over images that are drawn as those of val were. Knows arrays only.

Reference: Vovk, Gammerman & Shafer 2005, Algorithmic Learning in a Random World, sec. 4.6; Sadinle, Lei & Wasserman 2019, J. Am. Stat.
Assoc. 114, 223 (thresholds on the probability, the smallest sets there are, and one for each class).
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_keras.evaluation.acceptance import DIGITS
from tl_keras.evaluation.metrics import share

COVERAGE = 0.9  # of the sets that are measured on test
ROUNDING = 1e-9  # a product that is a whole number but for rounding counts as it


def least_images(coverage: float) -> int:
    """How many images of val a threshold for this coverage needs."""
    return math.ceil(coverage / (1 - coverage) - ROUNDING)


def class_thresholds(probabilities: NDArray[np.float64], labels: NDArray[np.integer], coverage: float) -> NDArray[np.float64]:
    """The probability from which on a class is in the set of an image.

    A class with enough images of val has a threshold of its own, so that the coverage holds for its images too and not only on average over
    classes; the others share that of all images.

    Args:
        probabilities: (n, k), of images that the model has not learned from.
        labels: int (n,), their true classes.
        coverage: the share of images in whose set the true class shall be, in (0, 1).

    Returns:
        (k,), in [0, 1].

    Raises:
        ValueError: there are fewer images than `least_images`.
    """
    own = np.round(np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0], DIGITS)
    least = least_images(coverage)
    if len(own) < least:
        raise ValueError(f"a coverage of {coverage:g} needs {least} images of val. Received: {len(own)}")
    of_all = threshold(own, coverage)
    of_class = (own[labels == each] for each in range(probabilities.shape[1]))
    return np.array([threshold(each, coverage) if len(each) >= least else of_all for each in of_class])


def threshold(own: NDArray[np.float64], coverage: float) -> float:
    """The largest probability that enough of those of true classes (n,) reach, one more image counted as if it did not."""
    needed = math.ceil((len(own) + 1) * coverage - ROUNDING)
    return float(np.sort(own)[len(own) - needed])


def prediction_sets(probabilities: NDArray[np.float64], thresholds: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which classes are in the set of each image, bool (n, k); none, where the image looks like no class.

    Probabilities are rounded like those in val_predictions.csv, from which thresholds are read: else none reaches a threshold of 1.
    """
    found: NDArray[np.bool_] = np.round(probabilities, DIGITS) >= thresholds
    return found


def sets_on_test(
    val: NDArray[np.float64], val_labels: NDArray[np.integer], test: NDArray[np.float64], test_labels: NDArray[np.integer]
) -> dict[str, Any]:
    """How the sets of `predict --coverage` do on test, for metrics.json; nothing where val has too few images.

    Args:
        val: probabilities (n, k), by which the thresholds are found.
        val_labels: int (n,).
        test: probabilities (m, k), on which the sets are measured.
        test_labels: int (m,).
    """
    if len(val) < least_images(COVERAGE):
        return {}
    sets = prediction_sets(test, class_thresholds(val, val_labels, COVERAGE))
    covered = np.take_along_axis(sets, test_labels[:, None], axis=1)[:, 0]
    return {"prediction_sets": {"coverage": COVERAGE, **share("covered", covered), "mean_size": float(sets.sum(axis=1).mean())}}
