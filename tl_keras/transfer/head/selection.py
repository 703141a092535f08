"""A linear head on some of the features: the most relevant ones by any row of `relevance.RANKERS`, or principal components.

The probe is solved on all features and then on a few shares of them, val chooses the share, and the answer is a probe on
all features whose other rows are zero: nothing that comes after needs to know of the selection. What is relevant is learned
from train alone. Knows arrays only, like `probe`, which solves; `head` reports what was kept.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tl_keras.transfer.head.probe import (
    IN_MEMORY_BYTES,
    Axes,
    Features,
    LinearProbe,
    Pair,
    StandardisedRows,
    Standardiser,
    chunks,
    fit_linear_probe,
)
from tl_keras.transfer.head.relevance import RANKERS, most_relevant, relevance, row_norms

FRACTIONS = (0.05, 0.1, 0.25, 0.5, 1.0)
BY_PROBE = ("head2toe", "rfe")  # these rank features by the probe that is solved on all of them
PCA = "pca"
METHODS = (*BY_PROBE, *RANKERS, PCA)

Problem = tuple[Pair, Pair, Standardiser, NDArray[np.float32], float | None]  # the arguments of `fit_linear_probe`


@dataclass(frozen=True)
class Selection:
    """A probe on some features, and how it compares with the one on all.

    Attributes:
        method: by which they were selected.
        probe: on all d features, for standardised ones; its kernel is exactly zero in the rows of dropped features.
        kept: number of features, or of principal components, that it sees.
        val_accuracy_all: in [0, 1], of the probe on all features.
    """

    method: str
    probe: LinearProbe
    kept: int
    val_accuracy_all: float

    @property
    def summary(self) -> str:
        """On how much of the features, and what all of them give, for one line."""
        num, width = f"{self.kept:,}", f"{len(self.probe.kernel):,}"
        part = f"{num} components of {width} features" if self.method == PCA and num != width else f"{num} of {width} features"
        return f"on {part} by {self.method}; on all accuracy {self.val_accuracy_all:.4f}"

    def report(self) -> dict[str, Any]:
        """The entry in metrics.json; both accuracies are on val, which chose the share and each C."""
        return {
            "method": self.method,
            "kept": self.kept,
            "of": len(self.probe.kernel),
            "val_accuracy": self.probe.val_metric,
            "val_accuracy_all": self.val_accuracy_all,
        }


class TransformedFeatures:
    """What a function makes of each row, read through: features (n, d) and `show`, from (m, d) to (m, width)."""

    def __init__(self, features: Features, width: int, show: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> None:
        self._features, self._show = features, show
        self._parts = chunks(features)
        self.shape = (len(features), width)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice, /) -> NDArray[np.float32]:
        """A slice of rows without step; a narrow one may be long, so that what it comes from is read in chunks."""
        start, stop, _ = rows.indices(len(self))
        parts = (slice(max(part.start, start), min(part.stop, stop)) for part in self._parts if part.start < stop and start < part.stop)
        return np.concatenate([self._show(self._features[part]) for part in parts])


@threadpool_limits.wrap(limits=1, user_api="blas")  # as in `fit_linear_probe`
def select_features(
    method: str,
    train: Pair,
    val: Pair,
    standardise: Standardiser,
    class_weights: NDArray[np.float32],
    *,
    keep: float | None = None,
    c: float | None = None,
    seed: int = 0,
) -> Selection:
    """Solve the probe on the most relevant shares of features, and take the one with the lowest log loss on val.

    Args:
        method: a row of `relevance.RANKERS`; 'head2toe', which ranks by the probe on all features (Evci et al. 2022,
            arXiv:2201.03529); 'rfe', which does so again after each share that it drops (Guyon et al. 2002, Machine Learning
            46, with few solves); or 'pca', which takes leading principal components in place of features.
        train: raw features float32 (n, d), in memory or not, and labels int32 (n,).
        val: likewise; chooses the share, and C for each. Nothing else is learned from it.
        standardise: what the kernel and bias expect to be applied to features.
        class_weights: float32 (k,), the weight of each class.
        keep: the one share to keep, in (0, 1], in place of a choice among `FRACTIONS`. Below 1, features of relevance 0 are
            dropped all the same: of l1 there are never more than have a weight. Of pca it is a share of the components that
            there are, see `_along_components`.
        c: scikit-learn's C, the only one to solve for; None chooses on val.
        seed: of the rows and numbers that a ranker draws, at least 0.

    Raises:
        ValueError: an unknown method, or a share outside (0, 1].
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}. Received: method={method!r}")
    fractions = FRACTIONS if keep is None else (keep,)
    if not all(0 < fraction <= 1 for fraction in fractions):
        raise ValueError(f"keep must be a share in (0, 1]. Received: keep={keep}")
    problem = (train, val, standardise, class_weights, c)
    plain = fit_linear_probe(*problem)
    found = [(plain, len(plain.kernel))] if 1.0 in fractions else []
    parts = [fraction for fraction in fractions if fraction < 1]
    if parts and method == PCA:
        found += _along_components(parts, problem)
    elif parts:
        found += _on_most_relevant(parts, method, plain, problem, seed)
    found = found or [(plain, len(plain.kernel))]  # where no feature varies there is no component; the bias answers
    probe, kept = min(found, key=lambda pair: pair[0].val_loss)
    return Selection(method, probe, kept, plain.val_metric)


def _on_most_relevant(
    fractions: Sequence[float], method: str, plain: LinearProbe, problem: Problem, seed: int
) -> Iterator[tuple[LinearProbe, int]]:
    """The probe on each share of the features, and their number; recursive elimination passes through larger shares."""
    train, _, standardise, class_weights, _ = problem
    scores = row_norms(plain.kernel) if method in BY_PROBE else relevance(method, train, standardise, class_weights, seed)
    largest, width = max(1, int(np.count_nonzero(scores))), len(scores)
    wanted = {min(largest, max(1, round(fraction * width))) for fraction in fractions}
    passed = {round(fraction * width) for fraction in FRACTIONS if method == "rfe" and max(wanted) < fraction * width < largest}
    for num in sorted(wanted | passed, reverse=True):
        probe = _fit_on(most_relevant(scores, num), problem)
        if num in wanted:
            yield probe, num
        if method == "rfe":
            scores = row_norms(probe.kernel)


def _fit_on(kept: NDArray[np.int64], problem: Problem) -> LinearProbe:
    """The probe on some features, as a probe on all."""
    train, val, standardise, class_weights, c = problem
    narrow = Standardiser(standardise.mean[kept], standardise.scale[kept])
    seen = [(TransformedFeatures(features, len(kept), lambda x: x.take(kept, axis=1)), labels) for features, labels in (train, val)]
    probe = fit_linear_probe(*seen, narrow, class_weights, c)
    kernel = np.zeros((train[0].shape[1], probe.kernel.shape[1]), np.float32)
    kernel[kept] = probe.kernel
    return replace(probe, kernel=kernel)


def _along_components(fractions: Sequence[float], problem: Problem) -> Iterator[tuple[LinearProbe, int]]:
    """The probe on leading principal components of standardised train, and their number.

    There are at most as many as train has rows or features, as rows are sampled (`Axes.of`: of 4,096 features or more, some
    2,048 rows), and as let what the rows of train are along them stay in memory.
    """
    (features, _), _, standardise, _, _ = problem
    axes = Axes.of(StandardisedRows(features, standardise))
    vectors = axes.leading()[:, : max(1, IN_MEMORY_BYTES // (4 * len(features)))]
    most = vectors.shape[1]
    for num in sorted({min(most, max(1, round(fraction * most))) for fraction in fractions} - {0}):
        yield _fit_along(np.ascontiguousarray(vectors[:, :num]), problem), num


def _fit_along(vectors: NDArray[np.float32], problem: Problem) -> LinearProbe:
    """The probe on what standardised features are along vectors (d, m), as a probe on all features."""
    train, val, standardise, class_weights, c = problem
    width = vectors.shape[1]
    seen = [(TransformedFeatures(features, width, lambda x: standardise(x) @ vectors), labels) for features, labels in (train, val)]
    probe = fit_linear_probe(*seen, Standardiser.identity(width), class_weights, c)
    return replace(probe, kernel=vectors @ probe.kernel)
