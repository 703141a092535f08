"""Gaussian kernels between rows of features."""

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.floating]


def squared_distances(x: Matrix, y: Matrix) -> Matrix:
    """(n, m) of rows (n, d) and (m, d); never negative."""
    found = (x * x).sum(axis=1)[:, None] + (y * y).sum(axis=1) - 2 * (x @ y.T)
    return np.maximum(found, 0)


def median_bandwidth(x: Matrix) -> float:
    """gamma of exp(-gamma |x - y|^2): one over the median of the squared distances between different rows (n, d), n at least 2."""
    distances = squared_distances(x, x)[np.triu_indices(len(x), 1)]
    return 1 / max(float(np.median(distances)), 1e-12)


def rbf(x: Matrix, y: Matrix, gamma: float) -> Matrix:
    """exp(-gamma |x - y|^2), (n, m)."""
    return np.exp(-gamma * squared_distances(x, y))
