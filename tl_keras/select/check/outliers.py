"""Images that are unlike all others: by the distance to their neighbours, and by an isolation forest."""

import numpy as np
from numpy.typing import NDArray

from tl_keras.select.check.neighbours import Neighbours

SEED = 0
LEAST_IMAGES = 20  # fewer have no usual
INNER, OUTER = 1.5, 3.0  # interquartile ranges beyond the quartiles, as a box plot has them


def find_outliers(neighbours: Neighbours) -> NDArray[np.bool_]:
    """The images that lie beyond the outer fence of a box plot of distances, or beyond the inner one where the forest agrees.

    Returns:
        bool (n,).

    Reference: Tukey 1977, Exploratory Data Analysis; Liu, Ting & Zhou 2008, "Isolation forest".
    """
    distance = neighbours.distance
    if len(distance) < LEAST_IMAGES:
        return np.zeros(len(distance), bool)
    isolated = isolation(neighbours.directions)
    return (distance > upper_fence(distance, OUTER)) | (
        (distance > upper_fence(distance, INNER)) & (isolated > upper_fence(isolated, INNER))
    )


def isolation(directions: NDArray[np.float32]) -> NDArray[np.float64]:
    """How few random cuts part each image from the others, (n,); larger is more alone."""
    from sklearn.ensemble import IsolationForest

    return -np.asarray(IsolationForest(random_state=SEED).fit(directions).score_samples(directions))


def upper_fence(values: NDArray[np.floating], ranges: float) -> float:
    """The third quartile and some interquartile ranges."""
    low, high = np.percentile(values, [25, 75])
    return float(high + ranges * (high - low))
