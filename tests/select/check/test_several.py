"""Wrong tags that are planted are found, by the rule that was published."""

import numpy as np
import pytest
from cleanlab.filter import find_label_issues
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from tl_keras.models.outputs import OUTPUTS
from tl_keras.select.check.neighbours import Neighbours, find_neighbours
from tl_keras.select.check.several import answer_several, check_several, off_diagonal, told_several

K, NUM, WIDTH = 4, 500, 24
CLASSES = ("beach", "boat", "people", "sunset")


@pytest.fixture(scope="module")
def planted() -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """Features that are sums of what each class looks like, tags of which some are wrong, and which are."""
    rng = np.random.default_rng(0)
    right = rng.random((NUM, K)) < [0.5, 0.3, 0.3, 0.15]
    features = 2 + right @ rng.normal(size=(K, WIDTH)) * 1.5 + rng.normal(size=(NUM, WIDTH)) * 0.5
    wrong = np.zeros((NUM, K), bool)
    wrong[rng.permutation(NUM)[:40], rng.integers(0, K, 40)] = True
    return features.astype(np.float32), right ^ wrong, wrong


@pytest.fixture(scope="module")
def judged(
    planted: tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]],
) -> tuple[NDArray[np.float32], Neighbours]:
    features, labels, _ = planted
    strata = np.zeros(NUM, np.int32)
    return answer_several(features, labels, K), find_neighbours(features, labels, K, WIDTH, OUTPUTS["multi_label"], strata)


def test_wrong_tags_are_found_and_named(
    planted: tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]], judged: tuple[NDArray[np.float32], Neighbours]
) -> None:
    _, labels, wrong = planted
    answers, neighbours = judged
    found = check_several(answers, labels, neighbours)
    suspect = found.likely != labels
    assert suspect[wrong].mean() > 0.5
    assert wrong[suspect].mean() > 0.95
    assert (found.is_suspect == suspect.any(axis=1)).all()
    assert roc_auc_score(wrong.any(axis=1), found.suspicion) > 0.97
    for row in np.flatnonzero(found.is_suspect):
        told = told_several(row, found, answers, labels, neighbours, CLASSES)
        for label, name in enumerate(CLASSES):
            assert (f"{name} missing (" in told) == (suspect[row, label] and not labels[row, label])
            assert (f"{name} too much (" in told) == (suspect[row, label] and labels[row, label])


def test_votes_are_the_shares_of_neighbours_that_have_a_class(judged: tuple[NDArray[np.float32], Neighbours]) -> None:
    _, neighbours = judged
    assert neighbours.votes.min() >= 0
    assert neighbours.votes.max() <= 1 + 1e-6
    assert neighbours.votes.sum(axis=1).max() > 1.5


def test_each_class_is_a_confident_joint_of_its_own(
    planted: tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]], judged: tuple[NDArray[np.float32], Neighbours]
) -> None:
    """As a double loop has it; and as cleanlab's rule for several labels has it, where that is installed."""
    labels, answers = planted[1], np.clip(judged[0], 0, 1).astype(np.float64)
    found = off_diagonal(answers, labels)
    for label in range(K):
        yes, has = answers[:, label], labels[:, label]
        least = {True: yes[has].mean(), False: (1 - yes[~has]).mean()}
        for row in range(NUM):
            own, other = (yes[row], 1 - yes[row]) if has[row] else (1 - yes[row], yes[row])
            assert found[row, label] == (other >= least[not has[row]] and other > own)


def test_the_rule_is_that_of_cleanlab(
    planted: tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]], judged: tuple[NDArray[np.float32], Neighbours]
) -> None:
    labels, answers = planted[1], np.clip(judged[0], 0, 1).astype(np.float64)
    for label in range(K):
        both = np.column_stack([1 - answers[:, label], answers[:, label]])
        theirs = find_label_issues(labels[:, label].astype(int), both, filter_by="confident_learning", n_jobs=1)
        assert (off_diagonal(answers, labels)[:, label] == theirs).all()


def test_a_class_of_very_few_images_is_never_missing() -> None:
    rng = np.random.default_rng(0)
    answers, labels = rng.random((50, 1)).astype(np.float32), np.arange(50)[:, None] < 3
    assert not off_diagonal(answers, labels)[~labels].any()


def test_what_only_the_classifier_says_must_be_surer() -> None:
    """Ten images have the class, ten have not; what is said of two others, neighbours do not confirm."""
    labels = np.arange(22)[:, None] < 10
    answers = np.where(labels, 0.9, 0.1).astype(np.float32)
    answers[20:] = [[0.95], [1.05]]
    votes = np.where(labels, 0.9, 0.1).astype(np.float32)
    found = check_several(answers, labels, Neighbours(votes, np.zeros(22), np.zeros(22)))
    assert np.flatnonzero(found.is_suspect).tolist() == [21]
    votes[20] = 0.9
    found = check_several(answers, labels, Neighbours(votes, np.zeros(22), np.zeros(22)))
    assert np.flatnonzero(found.is_suspect).tolist() == [20, 21]
