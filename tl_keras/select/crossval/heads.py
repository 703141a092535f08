"""Cross-validation of a linear head on stored features: one pass over the images serves every fold.

Each fold standardises, selects and solves on its own images only, so that what is held out has no part in it. Folds of
whole training runs are runs of their own, which a workflow starts; both end as `Answer`s.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_keras.config import Config
from tl_keras.data.groups import blocks_of
from tl_keras.data.index import Index
from tl_keras.data.splits import outside_test
from tl_keras.data.strata import stratified
from tl_keras.evaluation import metrics
from tl_keras.evaluation.intervals import corrected
from tl_keras.evaluation.metrics import SUMMARY
from tl_keras.models.outputs import Output
from tl_keras.progress import Progress
from tl_keras.select.crossval.folds import Fold, make_folds
from tl_keras.transfer.backbone_features import BackboneFeatures, open_features
from tl_keras.transfer.head.problem import HeadProblem


@dataclass(frozen=True)
class Answer:
    """The predictions of the training run on a fold for the held-out images.

    Attributes:
        values: float64 (len(fold.held_out), k), see `output.answers`.
        output: what they mean; what is fitted or chosen in it, is so on the fold.
    """

    fold: Fold
    values: NDArray[np.float64]
    output: Output


def cut_folds(config: Config, index: Index) -> list[Fold]:
    """Cut the images of an index into the folds of a configuration; groups, and images of equal content, stay together.

    Raises:
        DataError: a class has too few images, or there are too few groups.
    """

    def cut(labels: NDArray[np.int32], groups: NDArray[np.int64] | None) -> list[Fold]:
        return make_folds(
            labels,
            groups,
            num_folds=config.crossval.folds,
            num_repeats=config.crossval.repeats,
            val_fraction=config.data.val_fraction,
            seed=config.data.split_seed,
        )

    blocks, labels = blocks_of(index), stratified(index).labels
    if blocks is None or index.groups is not None:
        return cut(labels, blocks)
    _, first, block = np.unique(blocks, return_index=True, return_inverse=True)

    def with_copies(rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.flatnonzero(np.isin(block, rows))

    return [
        replace(fold, train=with_copies(fold.train), val=with_copies(fold.val), held_out=with_copies(fold.held_out))
        for fold in cut(labels[first], None)
    ]


def compute_features(config: Config, index: Index, progress: Progress) -> tuple[BackboneFeatures, NDArray[np.int64]]:
    """Compute the features of every image of an index, and further views of those outside test.

    Test's are computed too, for which files decode decides the cut; nobody reads them here.

    Returns:
        The features, and the positions of the images outside test, int64 (n,).

    Raises:
        UserError: from the data, the backbone or the store.
    """
    learned = ("train", "val")
    opened = open_features(config, index, progress, learned)
    return opened, outside_test(opened.compute_and_cut(progress, learned))


def solve_fold(config: Config, problem: HeadProblem, rows: NDArray[np.int64], fold: Fold) -> Answer:
    """Solve the head of a configuration on one fold.

    Args:
        rows: the images that the folds were cut from, as positions in the problem, int64 (n,).
    """
    solved = problem.solve(config, rows[fold.train], rows[fold.val])

    def answers(chosen: NDArray[np.int64]) -> NDArray[np.float64]:
        return solved.output.answers(solved.probe.logits(solved.standardise(problem.pair(rows[chosen])[0][:])))

    output = solved.output.chosen(answers(fold.val), problem.labels[rows[fold.val]])
    return Answer(fold, answers(fold.held_out), output)


def figures_of(answer: Answer, index: Index) -> dict[str, Any]:
    """The figures of one fold, by name; see `evaluation.metrics`."""
    found = metrics.figures_of(answer.output, answer.values, index.learned[answer.fold.held_out], index.classes)
    return {name: found[name] for name in SUMMARY[answer.output.task]}


def summary(answers: Sequence[Answer], index: Index) -> dict[str, Any]:
    """Over all folds and repeats: each figure's mean, standard deviation and corrected 95 % interval of the mean."""
    folds, ratio = [figures_of(answer, index) for answer in answers], held_out_ratio(answers)
    return {name: spread_of([fold[name] for fold in folds], ratio) for name in folds[0]}


def spread_of(values: Sequence[float], ratio: float) -> dict[str, Any]:
    """Mean, standard deviation and corrected 95 % interval of the mean of a figure of all folds; see `intervals.corrected`."""
    return {"mean": float(np.mean(values)), "deviation": float(np.std(values, ddof=1)), "ci95": list(corrected(values, ratio))}


def held_out_ratio(answers: Sequence[Answer]) -> float:
    """Images held out per image that took part in training, over all folds; those that chose count as training."""
    held_out = sum(len(answer.fold.held_out) for answer in answers)
    return held_out / sum(len(answer.fold.train) + len(answer.fold.val) for answer in answers)
