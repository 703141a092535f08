"""Label shift: the classes of the target are those of the source in other shares, and each looks the same in both."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls


def class_ratios(
    predicted_val: NDArray[np.integer], labels_val: NDArray[np.integer], predicted_target: NDArray[np.integer], num_classes: int
) -> NDArray[np.float32]:
    """How many times as often each class occurs in the target as in the source, float32 (k,), from predictions of one model on both.

    Solves C w = q, of the shares C of each prediction and class on val and the shares q of each prediction in the target, for w >= 0,
    which is scaled so that the source has weight 1 on average.

    Reference: BBSE (Lipton, Wang & Smola 2018, arXiv:1802.03916, sec. 4), with the bound w >= 0.
    """
    joint = np.zeros((num_classes, num_classes))
    np.add.at(joint, (predicted_val, labels_val), 1 / len(labels_val))
    shares = np.bincount(predicted_target, minlength=num_classes) / len(predicted_target)
    ratios, _ = nnls(joint, shares)
    mean = ratios @ joint.sum(axis=0)
    return np.ones(num_classes, np.float32) if mean <= 0 else (ratios / mean).astype(np.float32)
