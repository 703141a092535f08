"""Cross-validation of a linear head on stored features: one pass over the images serves every fold.

Each fold standardises, selects and solves on its own images only, so that what is held out has no part in it. Folds of
whole trainings are runs of their own, which a workflow starts; both end as `Answer`s.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_keras.config import Config
from tl_keras.data.sources import Index
from tl_keras.data.splits import outside_test
from tl_keras.evaluation.intervals import corrected
from tl_keras.evaluation.metrics import classification_metrics, softmax
from tl_keras.progress import Progress
from tl_keras.select.crossval.folds import Fold, groups_of, make_folds
from tl_keras.transfer.backbone_features import BackboneFeatures, open_features
from tl_keras.transfer.head.problem import HeadProblem

FIGURES = ("accuracy", "macro_f1", "log_loss")


@dataclass(frozen=True)
class Answer:
    """What the training on a fold says of the images held out: probabilities float64 (len(fold.held_out), k)."""

    fold: Fold
    probabilities: NDArray[np.float64]


def taken(index: Index, rows: NDArray[np.int64]) -> Index:
    """Some images of an index, as an index that says nothing of splits."""
    ids = None if index.ids is None else index.ids[rows]
    return replace(index, paths=tuple(index.paths[row] for row in rows), labels=index.labels[rows], given=None, ids=ids)


def cut_folds(config: Config, index: Index) -> list[Fold]:
    """Cut the images of an index into the folds of a configuration."""
    wanted = config.crossval
    groups = None if wanted.group_pattern is None else groups_of(index.paths, wanted.group_pattern)
    return make_folds(
        index.labels,
        groups,
        num_folds=wanted.folds,
        num_repeats=wanted.repeats,
        val_fraction=config.data.val_fraction,
        seed=config.data.split_seed,
    )


def compute_features(config: Config, index: Index, progress: Progress) -> tuple[BackboneFeatures, NDArray[np.int64]]:
    """Compute the features of every image of an index, and further views of those outside test.

    Test's are computed too, for which files decode decides the cut; nobody reads them here.

    Returns:
        The features, and the positions of the images outside test, int64 (n,).

    Raises:
        UserError: from the data, the backbone or the store.
    """
    opened = open_features(config, index, progress)
    return opened, outside_test(opened.compute_and_cut(progress, varied=("train", "val")))


def solve_fold(config: Config, problem: HeadProblem, rows: NDArray[np.int64], fold: Fold) -> Answer:
    """Solve the head of a configuration on one fold.

    Args:
        rows: the images that the folds were cut from, as positions in the problem, int64 (n,).
    """
    solved = problem.solve(config, rows[fold.train], rows[fold.val])
    features, _ = problem.pair(rows[fold.held_out])
    return Answer(fold, softmax(solved.probe.logits(solved.standardise(features[:]))))


def figures_of(answer: Answer, index: Index) -> dict[str, Any]:
    """The figures of one fold, by name; see `evaluation.metrics`."""
    found = classification_metrics(answer.probabilities, index.labels[answer.fold.held_out], index.classes)
    return {name: found[name] for name in FIGURES}


def summary(answers: list[Answer], index: Index) -> dict[str, Any]:
    """Over all folds and repeats: each figure's mean, standard deviation and corrected 95 % interval of the mean."""
    folds = [figures_of(answer, index) for answer in answers]
    ratio = held_out_ratio(answers)
    return {
        name: {
            "mean": float(np.mean(values)),
            "deviation": float(np.std(values, ddof=1)),
            "ci95": list(corrected(values, ratio)),
        }
        for name in FIGURES
        for values in [[fold[name] for fold in folds]]
    }


def held_out_ratio(answers: list[Answer]) -> float:
    """Images held out per image that took part in training, over all folds; those that chose count as training."""
    held_out = sum(len(answer.fold.held_out) for answer in answers)
    return held_out / sum(len(answer.fold.train) + len(answer.fold.val) for answer in answers)
