"""Wrong labels that are planted are found, by a rule that a plain loop gives too."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from tl_keras.select.check import answers as answers_module
from tl_keras.select.check import labels as module
from tl_keras.select.check.labels import LabelCheck, answer_labels, check_labels
from tl_keras.select.check.neighbours import find_neighbours

K = 4


def clouds(num: int = 400, width: int = 20) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    rng = np.random.default_rng(0)
    labels = np.arange(num, dtype=np.int32) % K
    return (5 + 1.5 * rng.normal(size=(K, width))[labels] + rng.normal(size=(num, width))).astype(np.float32), labels


def flipped(labels: NDArray[np.int32], rate: float) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Labels of which some are another class's, and which."""
    rng = np.random.default_rng(1)
    wrong = np.zeros(len(labels), bool)
    wrong[rng.permutation(len(labels))[: round(rate * len(labels))]] = True
    return np.where(wrong, (labels + rng.integers(1, K, len(labels))) % K, labels).astype(np.int32), wrong


def checked(features: NDArray[np.float32], labels: NDArray[np.int32], num_classes: int = K) -> LabelCheck:
    answers = answer_labels(features, labels, num_classes)
    return check_labels(answers, labels, find_neighbours(features, labels, num_classes, 20))


@pytest.mark.parametrize("rate", [0.05, 0.3])
def test_flipped_labels_are_suspect(rate: float) -> None:
    features, right = clouds()
    labels, wrong = flipped(right, rate)
    found = checked(features, labels)
    assert roc_auc_score(wrong, found.suspicion) > 0.97
    assert wrong[found.is_suspect].mean() > 0.8
    assert found.is_suspect[wrong].mean() > 0.5
    assert (found.likely[found.is_suspect & wrong] == right[found.is_suspect & wrong]).mean() > 0.9
    assert (found.likely[~found.is_suspect] == labels[~found.is_suspect]).all()


def test_suspects_are_those_off_the_diagonal_of_the_confident_joint() -> None:
    features, right = clouds()
    labels, _ = flipped(right, 0.3)
    answers = answer_labels(features, labels, K)
    least = [np.mean([answers[row, label] for row in range(len(labels)) if labels[row] == label]) for label in range(K)]
    found = checked(features, labels)
    for row, label in enumerate(labels):
        confident = [other for other in range(K) if answers[row, other] >= least[other] and answers[row, other] > answers[row, label]]
        likely = max(confident, key=lambda other: answers[row, other]) if confident else label
        assert found.likely[row] == likely


def test_a_class_of_one_image_is_nobodys_likely_class() -> None:
    features, labels = clouds()
    labels[0] = K
    found = checked(features, labels, K + 1)
    assert set(found.likely[1:]) <= set(range(K))
    assert found.is_suspect[1:].sum() < 5


def test_a_class_without_images_is_nobodys_likely_class() -> None:
    features, labels = clouds()
    found = checked(features, labels, K + 1)
    assert found.likely.max() < K


@pytest.mark.slow
def test_a_sketch_of_wide_features_finds_them_too(monkeypatch: pytest.MonkeyPatch) -> None:
    features, right = clouds(width=200)
    labels, wrong = flipped(right, 0.3)
    whole = answer_labels(features, labels, K)
    monkeypatch.setattr(answers_module, "MOST_COLUMNS", 60)
    answers = answer_labels(features, labels, K)
    assert (answers != whole).any()
    assert roc_auc_score(wrong, -module._margin(answers, labels)) > 0.9


def test_a_class_that_is_less_likely_than_the_label_is_not_what_an_image_is_taken_for() -> None:
    """Images of class 1 get little from the classifier, so that what the first of class 0 gets is enough for it; class 0 has more."""
    answers = np.array([[0.6, 0.4], *[[0.9, 0.1]] * 5, *[[0.7, 0.3]] * 6])
    labels = np.repeat(np.arange(2, dtype=np.int32), 6)
    assert module.likely_class(answers, labels)[0] == 0
