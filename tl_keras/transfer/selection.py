"""Which features a linear head needs, out of the pooled features of all stages: Head2Toe (Evci et al. 2022).

A feature is as relevant as its row of a solved kernel is long. The probe is solved again on the most relevant fraction
of features, val chooses the fraction, and the answer is a probe on all features whose other rows are zero: nothing that
comes after needs to know of the selection. Knows arrays only, like `probe`, which solves.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tl_keras.transfer.probe import CrossEntropy, Features, Labels, LinearProbe, Matrix, StandardisedRows, Standardiser, fit_linear_probe

FRACTIONS = (0.05, 0.1, 0.25, 0.5, 1.0)
GROUP_PENALTY = 0.05  # of the smallest penalty at which no feature is left
GROUP_STEPS = 300
GROUP_TOLERANCE = 1e-4  # relative change of the weights at which the steps end
POWER_STEPS = 10

Pair = tuple[Features, Labels]
Rank = Callable[[LinearProbe], Matrix]


class Columns:
    """Some features of each row, read through: features (n, d) and the `kept` ones (m,) of d."""

    def __init__(self, features: Features, kept: NDArray[np.int64]) -> None:
        self._features, self._kept = features, kept
        self.shape = (len(features), len(kept))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice, /) -> NDArray[np.float32]:
        return self._features[rows].take(self._kept, axis=1)


def relevance(kernel: Matrix) -> Matrix:
    """How much each feature moves the logits: the l2 norm of its row, (d,) >= 0, for a kernel (d, k) on standardised features.

    Reference:
        Evci et al. 2022, arXiv:2201.03529, eq. 3.
    """
    return np.sqrt((kernel.astype(np.float64) ** 2).sum(axis=1))


def select_features(
    train: Pair,
    val: Pair,
    standardise: Standardiser,
    class_weights: NDArray[np.float32],
    fractions: Sequence[float] = FRACTIONS,
    relevances: Matrix | None = None,
) -> tuple[LinearProbe, NDArray[np.int64]]:
    """Solve the probe on the most relevant fractions of features, and take the one with the lowest log loss on val.

    Args:
        train: raw features float32 (n, d), in memory or not, and labels int32 (n,).
        val: likewise; chooses the fraction, and for each the penalty.
        standardise: what the kernel and bias expect to be applied to features.
        class_weights: float32 (k,), the weight of each class.
        fractions: shares of the d features to try, each in (0, 1].
        relevances: (d,), to rank features by; None for those of the probe on all features.

    Returns:
        The probe, its kernel (d, k) exactly zero in the rows of dropped features, and the indices kept, in order.

    Raises:
        ValueError: without a fraction, or with one outside (0, 1].
    """
    if not fractions or not all(0 < fraction <= 1 for fraction in fractions):
        raise ValueError(f"fractions must be one or more shares in (0, 1]. Received: fractions={tuple(fractions)}")
    width = train[0].shape[1]
    found: list[tuple[LinearProbe, NDArray[np.int64]]] = []
    if relevances is None:
        plain = fit_linear_probe(train, val, standardise, class_weights)
        relevances = relevance(plain.kernel)
        found = [(plain, np.arange(width))] if 1.0 in fractions else []
    order = np.argsort(-relevances, kind="stable")
    for num_kept in sorted({max(1, round(fraction * width)) for fraction in fractions}):
        if all(len(kept) != num_kept for _, kept in found):
            kept = np.sort(order[:num_kept])
            found.append((_fit_on(kept, train, val, standardise, class_weights), kept))
    return min(found, key=lambda pair: pair[0].val_loss)


def _fit_on(kept: NDArray[np.int64], train: Pair, val: Pair, standardise: Standardiser, class_weights: NDArray[np.float32]) -> LinearProbe:
    """The probe on some features, as a probe on all."""
    narrow = Standardiser(standardise.mean[kept], standardise.scale[kept])
    probe = fit_linear_probe((Columns(train[0], kept), train[1]), (Columns(val[0], kept), val[1]), narrow, class_weights)
    kernel = np.zeros((train[0].shape[1], probe.kernel.shape[1]), np.float32)
    kernel[kept] = probe.kernel
    return replace(probe, kernel=kernel)


def fit_group_sparse(
    train: Pair, standardise: Standardiser, class_weights: NDArray[np.float32], strength: float = GROUP_PENALTY
) -> NDArray[np.float32]:
    """Kernel (d, k) on standardised features of least cross-entropy plus a penalty on the sum of its rows' lengths.

    The penalty (the group lasso) shrinks whole rows to zero, so the features that remain are few and do not repeat each
    other. Solved by accelerated proximal gradient steps.

    Args:
        train: raw features float32 (n, d), in memory or not, and labels int32 (n,).
        standardise: what the kernel expects to be applied to features.
        class_weights: float32 (k,), the weight of each class.
        strength: in (0, 1], of the penalty at which no row is left.

    Reference:
        Yuan & Lin 2006, doi:10.1111/j.1467-9868.2005.00532.x; FISTA: Beck & Teboulle 2009, doi:10.1137/080716542.
    """
    rows = StandardisedRows(train[0], standardise)
    objective = CrossEntropy(rows, train[1], class_weights)
    # the second derivative of softmax is at most 1/2 (Böhning 1992); rows of heavy classes count for more than the mean
    heaviest = float(objective.row_weights.max()) * len(objective.row_weights)
    step = 1 / (0.5 * heaviest * _largest_eigenvalue(rows))
    weights: Matrix = np.zeros(objective.shape)
    ahead, penalty, momentum = weights, 0.0, 1.0
    for _ in range(GROUP_STEPS):
        _, gradient, _ = objective(ahead)
        penalty = penalty or strength * float(relevance(gradient[:-1]).max())  # the first gradient is that at zero
        moved = _shrink(ahead - step * gradient, step * penalty)
        next_momentum = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = moved + (momentum - 1) / next_momentum * (moved - weights)
        change, weights, momentum = np.linalg.norm(moved - weights), moved, next_momentum
        if change <= GROUP_TOLERANCE * np.linalg.norm(weights):
            break
    return weights[:-1].astype(np.float32)


def _shrink(weights: Matrix, amount: float) -> Matrix:
    """Shorten each row of the kernel by `amount`, down to zero, and leave the bias, the last row."""
    lengths = relevance(weights)
    factors = np.maximum(1 - amount / np.maximum(lengths, amount), 0)
    factors[-1] = 1
    return weights * factors[:, None]


def _largest_eigenvalue(rows: StandardisedRows) -> float:
    """Of the mean outer product of centred rows, by power iteration; a little more, since that comes from below."""
    vector: Matrix = np.ones(rows.shape[1], np.float32)
    for _ in range(POWER_STEPS):
        unit = (vector / np.linalg.norm(vector)).astype(np.float32)
        vector = sum((x.T @ (x @ unit) for _, x in rows.read()), np.zeros_like(unit)) / rows.shape[0]
    return max(1.1 * float(np.linalg.norm(vector)), 1.0)  # 1 is the bias's
