"""Which labels are likely wrong: by a linear classifier that has not seen the image, and by the image's neighbours."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.select.check.neighbours import Labels, Neighbours
from tl_keras.transfer.head.probe import Features, Standardiser
from tl_keras.transfer.head.ridge import ridge_answers
from tl_keras.transfer.head.sketch import Sketch

WEIGHT = 0.75  # of the classifier's rank, the rest is the neighbours': 0.5 is better where images are few, 1 where they are many
LEAST_IN_CLASS = 5  # images, from which a class may be what others are taken for
MOST_COLUMNS = 2048  # features, or images, up to which all columns are solved for; else a sketch of them


@dataclass(frozen=True)
class LabelCheck:
    """What n labels are worth.

    Attributes:
        answers: float32 (n, k), of the linear classifier fitted to all other images; each row of sum 1.
        suspicion: (n,), in [0, 1]: a mean of an image's ranks by both; 1 for the one that both find the most out of place.
        likely: int32 (n,), the class that a suspect image is taken for; the label of others.
        is_suspect: bool (n,), labels that are likely wrong.
        agreeing: (n,), the share of its neighbours that have the image's label.
    """

    answers: NDArray[np.float32]
    suspicion: NDArray[np.float64]
    likely: NDArray[np.int32]
    is_suspect: NDArray[np.bool_]
    agreeing: NDArray[np.float32]


def check_labels(features: Features, labels: Labels, num_classes: int, neighbours: Neighbours) -> LabelCheck:
    """Find labels that are likely wrong.

    A label is suspect where the confident joint has it off its diagonal: some class's answer for the image is at least what
    that class's own images get on average, and the largest such is not the label's, and larger than it. A class of few images
    is nobody's likely class: what its own images get says nothing. Ridge regression with exact leave-one-out
    stands in for a classifier trained fold after fold: it finds more of the wrong labels, in one fit.

    Args:
        features: float32 (n, d).
        labels: int32 (n,), at least two classes among them.
        num_classes: k.
        neighbours: of the same images.

    Reference: Northcutt, Jiang & Chuang 2021, "Confident learning", arXiv:1911.00068, eq. 1; Zhu, Dong & Liu 2022, "Detecting
    corrupted labels without training a model to predict" (SimiFeat), arXiv:2110.06283.
    """
    answers = left_out_answers(features, labels, num_classes)
    likely = _likely_class(answers, labels)
    fitting = WEIGHT * _ranks(_margin(answers, labels)) + (1 - WEIGHT) * _ranks(_margin(neighbours.votes, labels))
    return LabelCheck(
        answers=answers,
        suspicion=1 - fitting,
        likely=likely,
        is_suspect=likely != labels,
        agreeing=neighbours.votes[np.arange(len(labels)), labels],
    )


def answers_without(features: Features, labels: Labels, num_classes: int, left_out: NDArray[np.bool_]) -> NDArray[np.float32]:
    """What a classifier answers for each image that is kept if it learns from all others that are kept.

    Args:
        left_out: bool (n,).

    Returns:
        float32 (number kept, k).
    """
    kept = np.flatnonzero(~left_out)
    return left_out_answers(_Rows(features, kept), labels[kept], num_classes)


def accuracy(answers: NDArray[np.floating], labels: Labels) -> float:
    """How often the largest answer is right."""
    return float(SINGLE_LABEL.is_right(answers, labels).mean())


def left_out_answers(features: Features, labels: Labels, num_classes: int) -> NDArray[np.float32]:
    """What ridge regression on all other images answers for each image, float32 (n, k)."""
    standardise = Standardiser.fit(features)
    if min(features.shape) > MOST_COLUMNS:
        features = Sketch(features, standardise, MOST_COLUMNS)
        standardise = Standardiser.fit(features)
    return ridge_answers(features, SINGLE_LABEL.targets(labels, num_classes), standardise)[1].astype(np.float32)


def _margin(answers: NDArray[np.floating], labels: Labels) -> NDArray[np.floating]:
    """How far the answer for the label is above that for any other class."""
    rows = np.arange(len(labels))
    others = answers.copy()
    others[rows, labels] = -np.inf
    return answers[rows, labels] - others.max(axis=1)


def _ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """0 for the smallest of n values, 1 for the largest."""
    return np.argsort(np.argsort(values, kind="stable"), kind="stable") / max(1, len(values) - 1)


def _likely_class(answers: NDArray[np.floating], labels: Labels) -> Labels:
    """The column of the confident joint that each image is counted in; its label where it is counted in none."""
    large = np.flatnonzero(np.bincount(labels, minlength=answers.shape[1]) >= LEAST_IN_CLASS)
    least = np.full(answers.shape[1], np.inf)
    least[large] = [answers[labels == label, label].mean() for label in large]
    confident = np.where(answers >= least, answers, -np.inf)
    likely, rows = SINGLE_LABEL.decide(confident), np.arange(len(labels))
    return np.where(confident[rows, likely] > answers[rows, labels], likely, labels).astype(np.int32)


class _Rows:
    """Some rows of features, read by slices."""

    def __init__(self, features: Features, rows: NDArray[np.int64]) -> None:
        self.shape = (len(rows), features.shape[1])
        self._features, self._rows = features, rows

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> NDArray[np.float32]:
        return self._features[self._rows[rows]]  # type: ignore[index]  # arrays and stored features take positions too
