"""Images that are unlike all others: by the distance to their neighbours, and by an isolation forest."""

import numpy as np
from numpy.typing import NDArray

from tl_keras.select.check.neighbours import Neighbours

LEAST_IMAGES = 20  # fewer have no usual
INNER, OUTER = 1.5, 3.0  # interquartile ranges beyond the quartiles, as a box plot has them


def find_outliers(neighbours: Neighbours) -> NDArray[np.bool_]:
    """The images that lie beyond the outer fence of a box plot of distances, or beyond the inner one where the forest agrees.

    Returns:
        bool (n,).

    Reference: Tukey 1977, Exploratory Data Analysis.
    """
    distance, isolation = neighbours.distance, neighbours.isolation
    if len(distance) < LEAST_IMAGES:
        return np.zeros(len(distance), bool)
    far, alone = distance > upper_fence(distance, INNER), isolation > upper_fence(isolation, INNER)
    return (distance > upper_fence(distance, OUTER)) | (far & alone)


def upper_fence(values: NDArray[np.floating], ranges: float) -> float:
    """The third quartile and some interquartile ranges."""
    low, high = np.percentile(values, [25, 75])
    return float(high + ranges * (high - low))
