"""Calibration: whether a classifier is as often right as it says, and the one number that mends most of it.

Knows arrays only.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from tl_keras.models.outputs import Labels, Output, Regression

FITTED_ON = 5_000  # images at most, evenly spaced: one number needs no more
PRIOR = 0.5  # standard deviation of the temperature's logarithm before an image has said anything
FARTHEST = 3.0  # of that logarithm from 0
BINS = 15  # of confidence, equally wide

Matrix = NDArray[np.floating]


def fit_temperature(output: Output, logits: Matrix, labels: Labels) -> float:
    """The number to divide logits by so that probabilities are calibrated: the most likely one on val. Predicted classes do not change.

    Where val has few images and the model is right on all of them, the likelihood alone would drive the temperature to 0. The logarithm has
    a normal prior around 0 against that.

    Args:
        logits: (n, k), to images that the model has not learned from.
        labels: of the n images, as `output` says.

    Returns:
        Above 1 where the model is too sure, below where it is too unsure; 1 for numbers.

    Reference: Guo et al. 2017, arXiv:1706.04599, sec. 4.2; the prior is ours.
    """
    if isinstance(output, Regression):
        return 1.0
    places = np.unique(np.linspace(0, len(logits) - 1, min(len(logits), FITTED_ON)).astype(np.int64))
    logits, labels = np.asarray(logits, np.float64)[places], labels[places]

    def loss(log_temperature: float) -> float:
        return float(output.plain_losses(logits * np.exp(-log_temperature), labels).sum() + 0.5 * (log_temperature / PRIOR) ** 2)

    return float(np.exp(minimize_scalar(loss, bounds=(-FARTHEST, FARTHEST), method="bounded").x))


def bins_of(confidence: NDArray[np.floating]) -> NDArray[np.int64]:
    """The bin of each confidence in [0, 1], (n,), from 0 to BINS - 1; each bin has its upper end."""
    return np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)


def calibration_error(confidence: NDArray[np.floating], right: NDArray[np.bool_]) -> Callable[[NDArray[np.integer]], NDArray[np.float64]]:
    """The expected calibration error: the mean distance of confidence and accuracy over bins, by the images in each.

    Args:
        confidence: (n,), the probability of the predicted class.
        right: bool (n,), whether that is the true one.

    Returns:
        How often each image is there in each of b resamples, int (b, n) -> the error of each, (b,), in [0, 1].

    Reference: Naeini, Cooper & Hauskrecht 2015, AAAI 29, 2901; Guo et al. 2017, arXiv:1706.04599, eq. 3.
    """
    own = bins_of(confidence)
    order = np.argsort(own, kind="stable")
    starts = np.searchsorted(own[order], np.unique(own))
    gaps = (confidence - right)[order]
    return lambda times: np.abs(np.add.reduceat(times[:, order] * gaps, starts, axis=1)).sum(axis=1) / times.sum(axis=1)


def reliability(confidence: NDArray[np.floating], right: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """What a reliability diagram shows, for JSON: of each bin that has images its ends, how many, their mean confidence and accuracy."""
    own = bins_of(confidence)
    return [
        {
            "from": each / BINS,
            "to": (each + 1) / BINS,
            "images": int((own == each).sum()),
            "confidence": float(confidence[own == each].mean()),
            "accuracy": float(right[own == each].mean()),
        }
        for each in np.unique(own).tolist()
    ]
