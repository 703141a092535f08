"""Which of an image's several classes are likely missing, and which are too much."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tl_keras.models.outputs import OUTPUTS, Labels
from tl_keras.select.check.answers import left_out_answers
from tl_keras.select.check.labels import WEIGHT, LabelCheck, likely_class, ranks
from tl_keras.select.check.neighbours import Neighbours
from tl_keras.tasks import MULTI_LABEL
from tl_keras.transfer.head.probe import Features

SURE = 1.0  # an answer against the label beyond which neighbours need not agree: as far off as a label can be

Answers = NDArray[np.floating]


def answer_several(features: Features, labels: Labels, num_classes: int) -> NDArray[np.float32]:
    """How likely each image has each class, by classifiers that learned from all others: float32 (n, k), about 0 to 1, each for itself."""
    return left_out_answers(features, OUTPUTS[MULTI_LABEL].targets(labels, num_classes))


def check_several(answers: NDArray[np.float32], labels: Labels, neighbours: Neighbours) -> LabelCheck:
    """Find classes that are likely missing or too much.

    Each class is a question of its own with the answers yes and no, and its label is suspect where the confident joint of the two has it
    off the diagonal, as cleanlab does it. There are k questions an image, most of them about classes that are not there, and many
    answers that are right by chance only: the votes of the neighbours must be off the diagonal too, unless the answer is surer than a
    label can be.

    Args:
        answers: of `answer_several`, (n, k).
        labels: bool (n, k).
        neighbours: of the same images.

    Reference: Northcutt, Jiang & Chuang 2021, arXiv:1911.00068; Thyagarajan et al. 2022, "Identifying incorrect annotations in
    multi-label classification data", arXiv:2211.13895.
    """
    against = np.where(labels, 1 - answers, answers)
    wrong: NDArray[np.bool_] = off_diagonal(answers, labels) & (off_diagonal(neighbours.votes, labels) | (against >= SURE))
    by_answers, by_votes = (ranks(_excess(each, labels).max(axis=1)) for each in (answers, neighbours.votes))
    return LabelCheck(WEIGHT * by_answers + (1 - WEIGHT) * by_votes, labels ^ wrong, np.asarray(wrong.any(axis=1)))


def told_several(place: int, checked: LabelCheck, answers: Answers, labels: Labels, neighbours: Neighbours, classes: Sequence[str]) -> str:
    """Which classes are missing and which are too much, the surest first."""
    wrong = np.flatnonzero(labels[place] != checked.likely[place])
    surest = wrong[np.argsort(np.where(labels[place, wrong], 1, -1) * answers[place, wrong], kind="stable")]
    return "; ".join(
        f"{classes[label]} {'too much' if labels[place, label] else 'missing'} ({np.clip(answers[place, label], 0, 1):.0%} likely, "
        f"{neighbours.votes[place, label]:.0%} of its neighbours have it)"
        for label in surest
    )


def off_diagonal(answers: Answers, labels: Labels) -> NDArray[np.bool_]:
    """Which labels the confident joint of their class has off its diagonal: answers (n, k) and bool (n, k) -> bool (n, k)."""
    found = np.zeros(labels.shape, bool)
    for label in range(labels.shape[1]):
        has, yes = labels[:, label].astype(np.int32), answers[:, label]
        found[:, label] = likely_class(np.column_stack([1 - yes, yes]), has) != has
    return found


def _excess(answers: Answers, labels: Labels) -> Answers:
    """How far the answer speaks against each label, (n, k); farther where labels of that class and value usually get a high one."""
    own = np.where(labels, answers, 1 - answers)
    yes, no = ((own * each).sum(axis=0) / np.maximum(each.sum(axis=0), 1) for each in (labels, ~labels))
    return np.where(labels, yes, no) + 1 - 2 * own
