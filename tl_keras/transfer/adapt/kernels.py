"""Gaussian kernels between rows of features."""

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.floating]

ROUNDING = 1e-5  # of the mean squared length of rows: float32 does not tell smaller squared distances from 0


def squared_distances(x: Matrix, y: Matrix) -> Matrix:
    """(n, m) of rows (n, d) and (m, d); never negative."""
    found = (x * x).sum(axis=1)[:, None] + (y * y).sum(axis=1) - 2 * (x @ y.T)
    return np.maximum(found, 0)


def median_bandwidth(x: Matrix) -> float:
    """gamma of exp(-gamma |x - y|^2): one over the median of the squared distances between rows (n, d) that are not the same.

    1 where all rows are the same. Copies are left out: a median of 0 would leave a kernel that sees nothing but copies.
    """
    distances = squared_distances(x, x)[np.triu_indices(len(x), 1)]
    size = float((x * x).sum(axis=1).mean())
    apart = distances[distances > ROUNDING * size]
    return 1 / float(np.median(apart)) if len(apart) else 1.0


def rbf(x: Matrix, y: Matrix, gamma: float) -> Matrix:
    """exp(-gamma |x - y|^2), (n, m)."""
    return np.exp(-gamma * squared_distances(x, y))
