"""Two domains seen from where they vary most: the plane of their first two principal components, for a picture."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Plane:
    """Both domains in one plane.

    Attributes:
        source: coordinates (n, 2).
        target: likewise (m, 2).
        shares: of the variance of both together, that along each axis, (2,) in [0, 1].
    """

    source: NDArray[np.floating]
    target: NDArray[np.floating]
    shares: NDArray[np.floating]


def principal_plane(source: NDArray[np.floating], target: NDArray[np.floating]) -> Plane:
    """The plane of the first two principal components of both domains together.

    An axis points to where the entry of its direction that is largest is positive, so that the same rows give the same picture. A single
    feature has no second axis: there all coordinates are 0.

    Args:
        source: rows (n, d) of variance 1 or so, as one standardiser shows them.
        target: likewise (m, d).
    """
    x = np.concatenate([source, target]).astype(np.float64)
    centred = x - x.mean(axis=0)
    _, spectrum, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:2] * np.sign(axes[np.arange(len(axes[:2])), np.abs(axes[:2]).argmax(axis=1)])[:, None]  # not a class
    points, shares = np.zeros((len(x), 2)), np.zeros(2)
    points[:, : len(axes)] = centred @ axes.T
    shares[: len(axes)] = spectrum[:2] ** 2 / max((spectrum**2).sum(), 1e-30)
    return Plane(points[: len(source)], points[len(source) :], shares)
