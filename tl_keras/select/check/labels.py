"""Which labels are likely wrong: by a linear classifier that has not seen the image, and by the image's neighbours."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tl_keras.models.outputs import SINGLE_LABEL, Labels
from tl_keras.select.check.answers import left_out_answers
from tl_keras.select.check.neighbours import Neighbours
from tl_keras.transfer.head.probe import Features

WEIGHT = 0.75  # of the classifier's rank, the rest is the neighbours': 0.5 is better where images are few, 1 where they are many
LEAST_IN_CLASS = 5  # images, from which a class may be what others are taken for


@dataclass(frozen=True)
class LabelCheck:
    """What n labels are worth.

    Attributes:
        suspicion: (n,), larger is more suspect; only to be compared.
        likely: what a suspect image's label is taken to be; of others, their label. Of the kind of the labels.
        is_suspect: bool (n,), labels that are likely wrong.
    """

    suspicion: NDArray[np.float64]
    likely: Labels
    is_suspect: NDArray[np.bool_]


def answer_labels(features: Features, labels: Labels, num_classes: int) -> NDArray[np.float32]:
    """How likely each image has each class by a classifier that learned from all others: float32 (n, k), each row of sum 1."""
    return left_out_answers(features, SINGLE_LABEL.targets(labels, num_classes))


def check_labels(answers: NDArray[np.float32], labels: Labels, neighbours: Neighbours) -> LabelCheck:
    """Find labels that are likely wrong.

    A label is suspect where the confident joint has it off its diagonal: some class's answer for the image is at least what
    that class's own images get on average, and the largest such is not the label's, and larger than it. A class of few images
    is nobody's likely class: what its own images get says nothing. Suspicion is a mean of the ranks by answers and by votes, in [0, 1].

    Args:
        answers: of `answer_labels`, (n, k).
        labels: int32 (n,), at least two classes among them.
        neighbours: of the same images.

    Reference: Northcutt, Jiang & Chuang 2021, "Confident learning", arXiv:1911.00068, eq. 1; Zhu, Dong & Liu 2022, "Detecting
    corrupted labels without training a model to predict" (SimiFeat), arXiv:2110.06283.
    """
    likely = likely_class(answers, labels)
    fitting = WEIGHT * ranks(_margin(answers, labels)) + (1 - WEIGHT) * ranks(_margin(neighbours.votes, labels))
    return LabelCheck(1 - fitting, likely, likely != labels)


def told_label(
    place: int, checked: LabelCheck, answers: NDArray[np.float32], labels: Labels, neighbours: Neighbours, classes: Sequence[str]
) -> str:
    """Why a label is suspect."""
    label = labels[place]
    agreeing = f"{neighbours.votes[place, label]:.0%} of its neighbours are labelled {classes[label]}"
    return f"looks like {classes[checked.likely[place]]}; {agreeing}"


def _margin(answers: NDArray[np.floating], labels: Labels) -> NDArray[np.floating]:
    """How far the answer for the label is above that for any other class."""
    rows = np.arange(len(labels))
    others = answers.copy()
    others[rows, labels] = -np.inf
    return answers[rows, labels] - others.max(axis=1)


def ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """0 for the smallest of n values, 1 for the largest."""
    return np.argsort(np.argsort(values, kind="stable"), kind="stable") / max(1, len(values) - 1)


def likely_class(answers: NDArray[np.floating], labels: Labels) -> NDArray[np.int32]:
    """The column of the confident joint that each image is counted in; its label where it is counted in none."""
    large = np.flatnonzero(np.bincount(labels, minlength=answers.shape[1]) >= LEAST_IN_CLASS)
    least = np.full(answers.shape[1], np.inf)
    least[large] = [answers[labels == label, label].mean() for label in large]
    confident = np.where(answers >= least, answers, -np.inf)
    likely, rows = SINGLE_LABEL.decide(confident), np.arange(len(labels))
    return np.where(confident[rows, likely] > answers[rows, labels], likely, labels).astype(np.int32)
