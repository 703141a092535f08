"""Which features a linear head needs, out of the pooled features of all stages: Head2Toe (Evci et al. 2022).

A feature is as relevant as its row of a solved kernel is long. The probe is solved again on the most relevant fraction
of features, val chooses the fraction, and the answer is a probe on all features whose other rows are zero: nothing that
comes after needs to know of the selection. Knows arrays only, like `probe`, which solves.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tl_keras.transfer.probe import Features, Labels, LinearProbe, Matrix, Standardiser, fit_linear_probe

FRACTIONS = (0.05, 0.1, 0.25, 0.5, 1.0)

Pair = tuple[Features, Labels]


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
    penalty: float | None = None,
) -> tuple[LinearProbe, NDArray[np.int64]]:
    """Solve the probe on the most relevant fractions of features, and take the one with the lowest log loss on val.

    Args:
        train: raw features float32 (n, d), in memory or not, and labels int32 (n,).
        val: likewise; chooses the fraction, and for each the penalty.
        standardise: what the kernel and bias expect to be applied to features.
        class_weights: float32 (k,), the weight of each class.
        fractions: shares of the d features to try, each in (0, 1].
        penalty: the only one to solve for; None chooses on val.

    Returns:
        The probe, its kernel (d, k) exactly zero in the rows of dropped features, and the indices kept, in order.

    Raises:
        ValueError: without a fraction, or with one outside (0, 1].
    """
    if not fractions or not all(0 < fraction <= 1 for fraction in fractions):
        raise ValueError(f"fractions must be one or more shares in (0, 1]. Received: fractions={tuple(fractions)}")
    width = train[0].shape[1]
    plain = fit_linear_probe(train, val, standardise, class_weights, penalty=penalty)
    found = [(plain, np.arange(width))] if 1.0 in fractions else []
    order = np.argsort(-relevance(plain.kernel), kind="stable")
    for num_kept in sorted({max(1, round(fraction * width)) for fraction in fractions}):
        if all(len(kept) != num_kept for _, kept in found):
            kept = np.sort(order[:num_kept])
            found.append((_fit_on(kept, train, val, standardise, class_weights, penalty), kept))
    return min(found, key=lambda pair: pair[0].val_loss)


def _fit_on(
    kept: NDArray[np.int64],
    train: Pair,
    val: Pair,
    standardise: Standardiser,
    class_weights: NDArray[np.float32],
    penalty: float | None,
) -> LinearProbe:
    """The probe on some features, as a probe on all."""
    narrow = Standardiser(standardise.mean[kept], standardise.scale[kept])
    probe = fit_linear_probe((Columns(train[0], kept), train[1]), (Columns(val[0], kept), val[1]), narrow, class_weights, penalty=penalty)
    kernel = np.zeros((train[0].shape[1], probe.kernel.shape[1]), np.float32)
    kernel[kept] = probe.kernel
    return replace(probe, kernel=kernel)
