"""A linear head, solved on stored features of a frozen backbone: rows to learn from and to choose by go in, a solved head comes out.

A run's own head, folds, trials and members of ensembles are all solved here; they differ in their rows and settings only.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_keras.config import Config
from tl_keras.models.outputs import SINGLE_LABEL, Labels, Output
from tl_keras.progress import Progress
from tl_keras.tasks import REGRESSION, figure_text, solves_head
from tl_keras.transfer.features import FrozenFeatures, StoredFeatures
from tl_keras.transfer.frozen import POOLED
from tl_keras.transfer.head.cluster_parts import ClusterParts, is_for_cluster
from tl_keras.transfer.head.parts import fit_on_parts, fit_standardiser
from tl_keras.transfer.head.probe import C_PATH, LinearProbe, Pair, StandardisedRows, Standardiser, fit_linear_probe, judge
from tl_keras.transfer.head.ridge import fit_ridge
from tl_keras.transfer.head.selection import select_features
from tl_keras.transfer.losses import class_weight_vector, logit_shifts


def solves_exactly(config: Config) -> bool:
    """Whether the head is solved and not trained by steps: it is linear, and the loss is the plain one of the task."""
    return not config.model.hidden and solves_head(config.train.loss, config.data.task, config.trained)


@dataclass(frozen=True)
class SolvedHead:
    """A solved head and what it was solved by.

    Attributes:
        probe: the solution, for standardised features.
        standardise: fitted on the rows that it learned from.
        selection: what there is to report of the selection of features; empty where nothing was selected.
        output: what its logits mean.
    """

    probe: LinearProbe
    standardise: Standardiser
    selection: dict[str, Any]
    output: Output = SINGLE_LABEL

    @property
    def on_raw(self) -> LinearProbe:
        """The same head for features as they are."""
        return self.probe.on_raw(self.standardise)

    def shifted(self, shifts: NDArray[np.float32], val: Pair) -> "SolvedHead":
        """The head that has the same loss where `shifts` are added to its logits: its bias takes them up."""
        found = replace(self, probe=replace(self.probe, bias=self.probe.bias - shifts))
        loss, metric = found.judge(val)
        return replace(found, probe=replace(found.probe, val_loss=loss, val_metric=metric))

    def judge(self, pair: Pair) -> tuple[float, float]:
        """Plain loss and metric on raw features and labels."""
        return judge(np.vstack([self.probe.kernel, self.probe.bias]), StandardisedRows(pair[0], self.standardise), pair[1], self.output)


@dataclass(frozen=True)
class HeadProblem:
    """Labelled images whose features are stored.

    Attributes:
        frozen: the features of n images.
        labels: of each, as `output` says; soft ones where there are any.
        classes: their names; a label is a position in them.
        num_views: augmented views that are learned from, beside the plain one.
        output: what labels mean.
        weights: float32 (n,), how much each image counts; None where all count alike.
    """

    frozen: FrozenFeatures
    labels: Labels
    classes: tuple[str, ...]
    num_views: int
    output: Output
    weights: NDArray[np.float32] | None = None

    def pair(self, rows: NDArray[np.int64], num_views: int = 0) -> Pair:
        """Features and labels of some images: the plain view of all of them, then view 1 of all of them, and so on."""
        return self.frozen.stored(POOLED, rows, num_views), np.concatenate([self.labels[rows]] * (1 + num_views))

    def solve(
        self,
        config: Config,
        train: NDArray[np.int64],
        val: NDArray[np.int64],
        progress: Progress | None = None,
        like: SolvedHead | None = None,
    ) -> SolvedHead:
        """Standardise, select and solve as the settings say.

        Args:
            config: its `features.selection` and `train` say how; its seed, what a selection draws.
            train: positions of the images to learn from; one may come several times.
            val: positions of those that choose C, and how much is selected.
            progress: shows the result, and a bar over the values of C.
            like: on numbers, a head whose scale and penalty to take, for a resample of what it learned from: an image that is left out
                there has copies that are not.
        """
        progress = progress or Progress()
        if self.output.task == REGRESSION:
            return self._solve_ridge(train, val, progress, like)
        pairs = self.pair(train, self.num_views), self.pair(val)
        single = SINGLE_LABEL.classes_of(self.labels[train]) if self.output == SINGLE_LABEL else self.labels[train]
        weights = class_weight_vector(config.train.class_weights, single, self.classes)
        if config.features.selection == "none":
            own = None if self.weights is None else np.tile(self.weights[train], 1 + self.num_views)
            found = _solve_on_all(config, *pairs, weights, progress, self.output, own)
        else:
            standardise = Standardiser.fit(pairs[0][0])
            found = SolvedHead(*_solve_on_some(config, *pairs, standardise, weights, progress), self.output)
        if self.output != SINGLE_LABEL:
            return found
        shifts = logit_shifts(config.train, single, self.classes)
        return found if shifts is None else found.shifted(shifts, pairs[1])

    def _solve_ridge(self, train: NDArray[np.int64], val: NDArray[np.int64], progress: Progress, like: SolvedHead | None) -> SolvedHead:
        """Ridge regression; leave-one-out chooses the penalty, so that views of one image, which know each other, are not learned from."""
        output = self.output.fitted(self.labels[train]) if like is None else like.output
        penalties = None if like is None else (1 / (like.probe.c * len(train)),)
        pair, (features, labels) = self.pair(train), self.pair(val)
        standardise = Standardiser.fit(pair[0])
        found = fit_ridge(pair[0], output.targets(pair[1], 1), standardise, penalties)
        figures = judge(np.vstack([found.kernel, found.bias]), StandardisedRows(features, standardise), labels, output)
        probe = LinearProbe(found.kernel, found.bias, 1 / (found.penalty * len(train)), *figures)
        progress.line(f"head  ridge penalty {found.penalty:.2g} an image, by leave-one-out  {told(probe, output)}")
        return SolvedHead(probe, standardise, {}, output)


def _solve_on_all(
    config: Config,
    train: Pair,
    val: Pair,
    class_weights: NDArray[np.float32],
    progress: Progress,
    output: Output,
    weights: NDArray[np.float32] | None,
) -> SolvedHead:
    """The head on all features, here or on a cluster; see `probe.fit_linear_probe` for the arguments."""
    c, num_tried = config.train.head_c, 0

    def count(_: LinearProbe) -> None:
        nonlocal num_tried
        num_tried += 1
        advance(1)

    with progress.bar("head: values of C", len(C_PATH) if c is None else 1) as advance:
        if isinstance(train[0], StoredFeatures) and isinstance(val[0], StoredFeatures) and is_for_cluster(config, train[0]):
            parts = ClusterParts(train[0], train[1], weights, class_weights, output)
            standardise = fit_standardiser(parts)
            parts_val = ClusterParts(val[0], val[1], None, class_weights, output)
            probe = fit_on_parts(parts, parts_val, val[1], standardise, class_weights, output, c, count)
        else:
            standardise = Standardiser.fit(train[0])
            probe = fit_linear_probe(train, val, standardise, class_weights, c, count, output, weights)
    progress.line(describe(probe, output) + (f"  the best of {num_tried} values of C" if c is None else ""))
    return SolvedHead(probe, standardise, {}, output)


def _solve_on_some(
    config: Config, train: Pair, val: Pair, standardise: Standardiser, class_weights: NDArray[np.float32], progress: Progress
) -> tuple[LinearProbe, Standardiser, dict[str, Any]]:
    """The probe on the features that are selected, its standardiser, and what there is to report; see `selection.select_features`."""
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
    return found.probe, standardise, found.report()


def describe(probe: LinearProbe, output: Output = SINGLE_LABEL) -> str:
    """One line about a solved head."""
    return f"head  C {probe.c:.2g}  {told(probe, output)}"


def told(probe: LinearProbe, output: Output) -> str:
    """How a solved head does on val; its val loss is the plain loss, as everywhere."""
    return f"val loss {probe.val_loss:.4f} {output.metric_title} {figure_text(output.metric_name, probe.val_metric)}"
