"""What a linear model says of each image without having seen it: the second opinion that labels are judged by."""

import numpy as np
from numpy.typing import NDArray

from tl_keras.transfer.head.probe import Features, Standardiser
from tl_keras.transfer.head.ridge import ridge_answers
from tl_keras.transfer.head.sketch import Sketch

MOST_COLUMNS = 2048  # features, or images, up to which all columns are solved for; else a sketch of them


def left_out_answers(features: Features, targets: NDArray[np.float32]) -> NDArray[np.float32]:
    """What ridge regression on all other images answers for each image, float32 (n, k).

    Exact leave-one-out stands in for a model trained fold after fold: it finds more of the wrong labels, in one fit.

    Args:
        features: float32 (n, d).
        targets: float32 (n, k).
    """
    standardise = Standardiser.fit(features)
    if min(features.shape) > MOST_COLUMNS:
        features = Sketch(features, standardise, MOST_COLUMNS)
        standardise = Standardiser.fit(features)
    return ridge_answers(features, targets, standardise)[1].astype(np.float32)


class SomeRows:
    """Some rows of features, read by slices."""

    def __init__(self, features: Features, rows: NDArray[np.int64]) -> None:
        self.shape = (len(rows), features.shape[1])
        self._features, self._rows = features, rows

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> NDArray[np.float32]:
        return self._features[self._rows[rows]]  # type: ignore[index]  # arrays and stored features take positions too
