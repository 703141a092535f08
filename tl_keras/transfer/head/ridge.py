"""A linear head that is scored without a val split, in about a second: ridge regression with exact leave-one-out.

For rankings (which backbone, which stage, which recipe), where a probe solved for each candidate would take too long.
One eigendecomposition serves every penalty and every left-out image. Knows arrays only, which `probe` reads in chunks.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from tl_keras.transfer.head.probe import RANK_FLOOR, Features, Matrix, StandardisedRows, Standardiser

LeftOut = Callable[[Sequence[int]], Iterator[tuple[slice, int, Matrix]]]  # penalties -> answers, see `_leave_one_out`

RIDGE_PENALTIES = tuple(10.0**power for power in np.arange(-2.0, 3.5, 0.5))  # lambda / n, for features of variance 1


@dataclass(frozen=True)
class RidgeProbe:
    """Ridge on the targets of labels: kernel (d, k) and bias (k,) for standardised features, and how it does on images left out.

    `penalty` is lambda / n; `loo_error` the mean squared error over images and targets where each image is answered by the fit to all
    others.
    """

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]
    penalty: float
    loo_error: float


def fit_ridge(
    features: Features, targets: NDArray[np.float32], standardise: Standardiser, penalties: Sequence[float] | None = None
) -> RidgeProbe:
    """Solve ridge regression for a path of penalties; the leave-one-out squared error chooses among them.

    Args:
        features: raw, float32 (n, d), in memory or not.
        targets: (n, k), such as 1 in the column of an image's class and 0 elsewhere.
        standardise: what the solution's kernel and bias expect to be applied to features; itself not left out.
        penalties: values of lambda / n; None for `RIDGE_PENALTIES`.
    """
    return _solve(features, targets, standardise, penalties or RIDGE_PENALTIES)[0]


def ridge_answers(features: Features, targets: NDArray[np.float32], standardise: Standardiser) -> tuple[RidgeProbe, Matrix]:
    """The same, and what the fit to all other images answers for each image: (n, k), each row of sum 1 where those of targets are."""
    probe, answers = _solve(features, targets, standardise, RIDGE_PENALTIES)
    return probe, np.concatenate([each for _, _, each in answers((RIDGE_PENALTIES.index(probe.penalty),))])


def _solve(
    features: Features, targets: NDArray[np.float32], standardise: Standardiser, penalties: Sequence[float]
) -> tuple[RidgeProbe, LeftOut]:
    """The probe, and what answers left-out rows with some of the penalties."""
    rows = StandardisedRows(features, standardise)
    share = targets.mean(axis=0)
    centre, products = _moments(rows, targets - share)
    spectrum, axes = _principal_axes(rows, centre)
    damping = 1 / (spectrum[:, None] + len(targets) * np.array(penalties))  # (r, penalties)
    rotated_products = axes.T @ products  # (r, k)
    answers = partial(_leave_one_out, rows, targets, centre, axes, rotated_products, damping)
    errors = np.zeros(len(penalties))
    for part, place, found in answers(range(len(penalties))):
        errors[place] += ((targets[part] - found) ** 2).sum()
    best = int(errors.argmin())
    kernel = axes @ (damping[:, best, None] * rotated_products)
    bias = share - centre @ kernel
    probe = RidgeProbe(
        kernel.astype(np.float32),
        bias.astype(np.float32),
        penalties[best],
        float(errors[best] / targets.size),
    )
    return probe, answers


def _moments(rows: StandardisedRows, targets: NDArray[np.float32]) -> tuple[NDArray[np.float32], Matrix]:
    """Mean (d,) of the rows, and their products (d, k) with centred targets."""
    centre, products = np.zeros(rows.shape[1]), np.zeros((rows.shape[1], targets.shape[1]))
    for part, x in rows.read():
        centre += x.sum(axis=0, dtype=np.float64) / rows.shape[0]
        products += x.T @ targets[part]
    return centre.astype(np.float32), products


def _principal_axes(rows: StandardisedRows, centre: NDArray[np.float32]) -> tuple[Matrix, NDArray[np.float32]]:
    """Eigenvalues (r,) of the scatter of centred rows, and its eigenvectors (d, r), r at most n and d."""
    num, width = rows.shape
    if num < width:  # the n x n kernel has the same eigenvalues
        x = np.concatenate([chunk for _, chunk in rows.read()]) - centre
        spectrum, vectors = np.linalg.eigh((x @ x.T).astype(np.float64))
        kept = spectrum > RANK_FLOOR * spectrum[-1]
        return spectrum[kept], x.T @ (vectors[:, kept] / np.sqrt(spectrum[kept])).astype(np.float32)
    scatter = np.zeros((width, width))
    for _, chunk in rows.read():
        x = chunk - centre
        scatter += x.T @ x
    spectrum, vectors = np.linalg.eigh(scatter)
    kept = spectrum > RANK_FLOOR * spectrum[-1]
    return spectrum[kept], vectors[:, kept].astype(np.float32)


def _leave_one_out(
    rows: StandardisedRows,
    targets: NDArray[np.float32],
    centre: NDArray[np.float32],
    axes: NDArray[np.float32],
    products: Matrix,
    damping: Matrix,
    penalties: Sequence[int],
) -> Iterator[tuple[slice, int, Matrix]]:
    """What the fits to all other rows answer for each row, (m, k), chunk by chunk and for each of some penalties.

    The answer to a left-out row follows from the fit to all: its residual grows by 1 / (1 - h), h being the row's entry
    on the diagonal of the hat matrix, with 1 / n in it for the free intercept.

    Args:
        rows: standardised features (n, d) of mean `centre` (d,).
        targets: (n, k).
        axes: eigenvectors (d, r) of the scatter of the rows.
        products: of the rows along the axes with the centred targets, (r, k).
        damping: 1 / (eigenvalue + lambda), (r, penalties).
        penalties: positions in the path of penalties.

    Reference:
        Hastie, Tibshirani & Friedman 2009, The Elements of Statistical Learning, eq. 7.52 and 7.64.
    """
    share = targets.mean(axis=0)
    for part, x in rows.read():
        rotated = (x - centre) @ axes  # (m, r)
        leverages = 1 / len(targets) + (rotated * rotated) @ damping  # (m, penalties)
        for place in penalties:
            fitted = share + rotated @ (damping[:, place, None] * products).astype(np.float32)
            yield part, place, targets[part] - (targets[part] - fitted) / (1 - leverages[:, place, None])
