"""The middle and the spread of numbers of which some may be wrong by any amount. Plain NumPy."""

import numpy as np
from numpy.typing import NDArray

OF_MEDIAN, OF_MEAN = 1.4826, 1.2533  # standard deviations of a normal distribution per median, and mean, absolute deviation


def middle_and_spread(values: NDArray[np.floating]) -> tuple[float, float]:
    """The median, and what the standard deviation would be if the numbers were normal and none of them wrong.

    The spread is the median absolute deviation; where more than half of the numbers are equal, the mean absolute deviation; 0 where all
    are.

    Args:
        values: (n,), n at least 1.

    Reference: Iglewicz & Hoaglin 1993, "How to detect and handle outliers".
    """
    middle = float(np.median(values))
    distances = np.abs(np.asarray(values, np.float64) - middle)
    return middle, OF_MEDIAN * float(np.median(distances)) or OF_MEAN * float(distances.mean())
