"""How good a classifier is, from probabilities and labels: the figures of `metrics.json`.

Owns their definitions. Plain NumPy, scikit-learn and SciPy: it must not know TensorFlow, models, files or which split
the labels come from. The dictionary goes to `metrics.json` as it is.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from tl_keras.evaluation.intervals import wilson
from tl_keras.models.outputs import LOG_LOSS, SINGLE_LABEL


def classification_metrics(probabilities: ArrayLike, labels: ArrayLike, classes: Sequence[str]) -> dict[str, Any]:
    """All figures of one split, as plain Python numbers for JSON.

    The prediction is what `outputs` decides. A ratio without a denominator is 0: precision of a
    class that was never predicted, recall and F1 of a class without images. The macro figures are means over the
    classes that have images, so that a class missing from the split does not lower them.

    Args:
        probabilities: `(n, k)` in [0, 1], rows sum to 1.
        labels: integers `(n,)`, positions in `classes`.
        classes: k names.

    Returns:
        `accuracy`; `accuracy_ci95`, `[low, high]`, see `intervals.wilson`; `macro_precision`, `macro_recall` (the balanced
        accuracy), `macro_f1`; `log_loss` in nats, the true class' probability counted as at least 2.2e-16 (so at most
        36.04 an image); `per_class`, by name `precision`, `recall`, `f1` and `support`, the number of images;
        `confusion_matrix`, a list per true class of the images predicted as each class.

    Raises:
        ValueError: no images, shapes that do not fit, labels that are not classes, rows that are not probabilities.
    """
    probabilities, labels = _checked(np.asarray(probabilities, np.float64), np.asarray(labels), len(classes))
    predicted = SINGLE_LABEL.decide(probabilities)
    every = np.arange(len(classes))
    scores = precision_recall_fscore_support(labels, predicted, labels=every, zero_division=0.0)
    precision, recall, f1, support = (values.tolist() for values in scores)
    macro_precision, macro_recall, macro_f1 = (float(values[scores[3] > 0].mean()) for values in scores[:3])
    return {
        **_accuracy(int((predicted == labels).sum()), len(labels)),
        "macro_precision": macro_precision,
        "macro_recall": macro_recall,
        "macro_f1": macro_f1,
        LOG_LOSS: _log_loss(probabilities, labels),
        "per_class": {
            name: {"precision": precision[i], "recall": recall[i], "f1": f1[i], "support": support[i]} for i, name in enumerate(classes)
        },
        "confusion_matrix": confusion_matrix(labels, predicted, labels=every).tolist(),
    }


def _accuracy(num_correct: int, num_images: int) -> dict[str, Any]:
    return {"accuracy": num_correct / num_images, "accuracy_ci95": list(wilson(num_correct, num_images))}


def _log_loss(probabilities: NDArray[np.float64], labels: NDArray[np.integer]) -> float:
    """The mean negative logarithm of the true class' probability."""
    of_true_class = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(of_true_class, np.finfo(np.float64).eps)).mean())


def _checked(probabilities: NDArray[np.float64], labels: NDArray[Any], num_classes: int) -> tuple[NDArray[np.float64], NDArray[np.integer]]:
    """Raises ValueError where the arguments of `classification_metrics` do not fit together."""
    if labels.ndim != 1 or probabilities.shape != (len(labels), num_classes):
        raise ValueError(
            f"probabilities of shape {probabilities.shape}, labels of shape {labels.shape} and {num_classes} classes "
            f"do not fit together: expected (n, {num_classes}) and (n,)."
        )
    if not len(labels):
        raise ValueError("Received no images. Metrics need at least one.")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels are {labels.dtype}, expected integers, positions in the list of classes.")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(f"labels lie in {labels.min()}..{labels.max()}, expected 0..{num_classes - 1} for {num_classes} classes.")
    if not (probabilities >= 0).all() or not np.allclose(probabilities.sum(axis=1), 1.0, rtol=0, atol=1e-3):
        raise ValueError("probabilities must be 0 or more and each row must sum to 1. Received logits?")
    return probabilities, labels
