"""Feature-based adaptation: maps of both domains' features into one space, where a head that learned from the source suits the target.

Each method returns an affine map of the source and one of the target. That of the target is folded into the head, so that a model
needs no further step.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.optimize import minimize

from tl_keras.transfer.adapt.affine import Affine, MappedFeatures, sample
from tl_keras.transfer.adapt.kernels import median_bandwidth, rbf
from tl_keras.transfer.head.probe import Features, Standardiser, chunks

Matrix = NDArray[np.floating]
Maps = tuple[Affine, Affine]  # of the source, of the target

DIMENSIONS = 64  # of a shared subspace, at most
TCA_ROWS = 1_000  # of each domain: what is cubic in rows sees so many
TCA_WEIGHT = 1.0  # mu of the paper: how much the size of the map counts
MMD_ROWS = 500  # of each domain: each step of the search compares all pairs
MMD_STEPS = 100
RIDGE = 1.0  # added to the variances of standardised features, as in the paper


def same(source: Features, target: Features, rng: np.random.Generator) -> Maps:
    """Leave both domains as they are."""
    return Affine.identity(source.shape[1]), Affine.identity(target.shape[1])


def standardise(source: Features, target: Features, rng: np.random.Generator) -> Maps:
    """Give each feature mean 0 and variance 1 in each domain by itself."""
    return tuple(Affine.standardising(Standardiser.fit(each)) for each in (source, target))  # type: ignore[return-value]


def coral(source: Features, target: Features, rng: np.random.Generator) -> Maps:
    """Give the standardised source the correlations of the standardised target.

    Reference: CORAL (Sun, Feng & Saenko 2016, arXiv:1511.05547, algorithm 1).
    """
    maps = standardise(source, target, rng)
    from_source, to_target = (
        _power(_covariance(MappedFeatures(each, own)) + RIDGE * np.eye(own.width), power)
        for each, own, power in zip((source, target), maps, (-0.5, 0.5), strict=True)
    )
    return maps[0].then(from_source @ to_target), maps[1]


def subspace(source: Features, target: Features, rng: np.random.Generator) -> Maps:
    """Turn the principal axes of the source into those of the target.

    Reference: subspace alignment (Fernando et al. 2013, ICCV), on standardised features.
    """
    maps = standardise(source, target, rng)
    num = min(DIMENSIONS, len(source) - 1, len(target) - 1, source.shape[1])
    axes = [_leading(_covariance(MappedFeatures(each, own)), num) for each, own in zip((source, target), maps, strict=True)]
    return maps[0].then(axes[0] @ (axes[0].T @ axes[1])), maps[1].then(axes[1])


def tca(source: Features, target: Features, rng: np.random.Generator) -> Maps:
    """Project both domains on the directions along which they vary together and their means do not differ.

    Reference: transfer component analysis (Pan et al. 2011, IEEE Trans. Neural Networks 22, 199, eq. 8), with a linear kernel, whose
    map is a matrix. At most TCA_ROWS rows of each domain are looked at.
    """
    rows = [sample(each, TCA_ROWS, rng)[1] for each in (source, target)]
    own = Standardiser.fit(np.concatenate(rows))
    x = own(np.concatenate(rows)).astype(np.float64)
    x /= np.sqrt(x.shape[1])  # a kernel of about 1 on the diagonal
    num_source, num = len(rows[0]), len(x)
    e = np.concatenate([np.full(num_source, 1 / num_source), np.full(num - num_source, -1 / (num - num_source))])
    kernel = x @ x.T
    differing = kernel @ e
    centred = kernel - kernel.mean(axis=0)
    penalty = np.outer(differing, differing) + TCA_WEIGHT * np.eye(num) / num
    count = min(DIMENSIONS, num - 2)
    _, vectors = eigh(centred.T @ centred / num, penalty, subset_by_index=(num - count, num - 1))
    both = Affine.standardising(own).then(x.T @ vectors[:, ::-1])
    return both, both


def least_mmd(source: Features, target: Features, rng: np.random.Generator) -> Maps:
    """Shift and scale each feature of the source so that the maximum mean discrepancy between the domains is least.

    Reference: location-scale maps that minimise MMD (Zhang et al. 2013, ICML, sec. 4). At most MMD_ROWS rows of each domain are
    looked at.
    """
    rows = [sample(each, MMD_ROWS, rng)[1] for each in (source, target)]
    own = Standardiser.fit(np.concatenate(rows))
    s, t = (own(each).astype(np.float64) for each in rows)
    width = s.shape[1]
    gamma = median_bandwidth(np.concatenate([s, t]))

    def evaluate(flat: Matrix) -> tuple[float, Matrix]:
        scale, shift = flat[:width], flat[width:]
        moved = s * scale + shift
        within, across = rbf(moved, moved, gamma), rbf(moved, t, gamma)
        loss = within.mean() - 2 * across.mean()
        by_moved = _pull(within, moved, moved, gamma) * 2 / within.size - _pull(across, moved, t, gamma) * 2 / across.size
        return float(loss), np.concatenate([(by_moved * s).sum(axis=0), by_moved.sum(axis=0)])

    start = np.concatenate([np.ones(width), np.zeros(width)])
    found = minimize(evaluate, start, jac=True, method="L-BFGS-B", options={"maxiter": MMD_STEPS}).x
    scale, shift = found[:width], found[width:]
    standard = Affine.standardising(own)
    moved = Affine.of(own.mean - own.scale * shift / np.where(scale == 0, 1, scale), scale / own.scale)
    return moved, standard


def _pull(values: Matrix, x: Matrix, y: Matrix, gamma: float) -> Matrix:
    """The gradient by x of the sum of exp(-gamma |x - y|^2), whose values these are."""
    return -2 * gamma * (values.sum(axis=1, keepdims=True) * x - values @ y)


def _covariance(features: Features) -> Matrix:
    """(d, d) of features (n, d) of mean 0."""
    found = np.zeros((features.shape[1], features.shape[1]))
    for rows in chunks(features):
        x = features[rows]
        found += x.T @ x
    return found / max(1, len(features) - 1)


def _power(matrix: Matrix, power: float) -> Matrix:
    values, vectors = eigh(matrix)
    return (vectors * values**power) @ vectors.T


def _leading(matrix: Matrix, num: int) -> Matrix:
    width = len(matrix)
    return eigh(matrix, subset_by_index=(width - num, width - 1))[1][:, ::-1]


ALIGNMENTS: dict[str, Callable[[Features, Features, np.random.Generator], Maps]] = {
    "standardise": standardise,
    "coral": coral,
    "subspace": subspace,
    "tca": tca,
    "least_mmd": least_mmd,
}
