"""A linear head, solved on stored features of a frozen backbone: rows to learn from and to choose by go in, a solved head comes out.

A run's own head, folds, trials and members of ensembles are all solved here; they differ in their rows and settings only.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_keras.config import Config
from tl_keras.progress import Progress
from tl_keras.transfer.features import FrozenFeatures
from tl_keras.transfer.frozen import POOLED
from tl_keras.transfer.head.probe import C_PATH, LinearProbe, Pair, StandardisedRows, Standardiser, fit_linear_probe, judge
from tl_keras.transfer.head.selection import select_features
from tl_keras.transfer.losses import class_weight_vector


def solves_exactly(config: Config) -> bool:
    """Whether the head is solved and not trained by steps: it is linear, and the loss is cross-entropy."""
    return not config.model.hidden and config.train.loss == "cross_entropy"


@dataclass(frozen=True)
class SolvedHead:
    """A solved head and what it was solved by.

    Attributes:
        probe: the solution, for standardised features.
        standardise: fitted on the rows that it learned from.
        selection: what there is to report of the selection of features; empty where nothing was selected.
    """

    probe: LinearProbe
    standardise: Standardiser
    selection: dict[str, Any]

    @property
    def on_raw(self) -> LinearProbe:
        """The same head for features as they are."""
        return self.probe.on_raw(self.standardise)

    def judge(self, pair: Pair) -> tuple[float, float]:
        """Log loss and accuracy on raw features and labels."""
        return judge(np.vstack([self.probe.kernel, self.probe.bias]), StandardisedRows(pair[0], self.standardise), pair[1])


@dataclass(frozen=True)
class HeadProblem:
    """Labelled images whose features are stored.

    Attributes:
        frozen: the features of n images.
        labels: int32 (n,).
        classes: their names; a label is a position in them.
        num_views: augmented views that are learned from, beside the plain one.
    """

    frozen: FrozenFeatures
    labels: NDArray[np.int32]
    classes: tuple[str, ...]
    num_views: int

    def pair(self, rows: NDArray[np.int64], num_views: int = 0) -> Pair:
        """Features and labels of some images: the plain view of all of them, then view 1 of all of them, and so on."""
        return self.frozen.stored(POOLED, rows, num_views), np.tile(self.labels[rows], 1 + num_views)

    def solve(self, config: Config, train: NDArray[np.int64], val: NDArray[np.int64], progress: Progress | None = None) -> SolvedHead:
        """Standardise, select and solve as the settings say.

        Args:
            config: its `features.selection` and `train` say how; its seed, what a selection draws.
            train: positions of the images to learn from; one may come several times.
            val: positions of those that choose C, and how much is selected.
            progress: shows the result, and a bar over the values of C.
        """
        pairs = self.pair(train, self.num_views), self.pair(val)
        weights = class_weight_vector(config.train.class_weights, self.labels[train], self.classes)
        standardise = Standardiser.fit(pairs[0][0])
        solve = _solve_on_all if config.features.selection == "none" else _solve_on_some
        probe, selection = solve(config, *pairs, standardise, weights, progress or Progress())
        return SolvedHead(probe, standardise, selection)


def _solve_on_all(
    config: Config, train: Pair, val: Pair, standardise: Standardiser, class_weights: NDArray[np.float32], progress: Progress
) -> tuple[LinearProbe, dict[str, Any]]:
    """The probe on all features, and nothing to report; see `probe.fit_linear_probe` for the arguments."""
    c, num_tried = config.train.head_c, 0

    def count(_: LinearProbe) -> None:
        nonlocal num_tried
        num_tried += 1
        advance(1)

    with progress.bar("head: values of C", len(C_PATH) if c is None else 1) as advance:
        probe = fit_linear_probe(train, val, standardise, class_weights, c, count)
    progress.line(describe(probe) + (f"  the best of {num_tried} values of C" if c is None else ""))
    return probe, {}


def _solve_on_some(
    config: Config, train: Pair, val: Pair, standardise: Standardiser, class_weights: NDArray[np.float32], progress: Progress
) -> tuple[LinearProbe, dict[str, Any]]:
    """The probe on the features that are selected, and what there is to report; see `selection.select_features`."""
    found = select_features(
        config.features.selection,
        train,
        val,
        standardise,
        class_weights,
        keep=config.features.keep,
        c=config.train.head_c,
        seed=config.runtime.seed,
    )
    progress.line(f"{describe(found.probe)}  {found.summary}")
    return found.probe, found.report()


def describe(probe: LinearProbe) -> str:
    """One line about a solved head; its val loss is the log loss, as everywhere."""
    return f"head  C {probe.c:.2g}  val loss {probe.val_loss:.4f} accuracy {probe.val_accuracy:.4f}"
