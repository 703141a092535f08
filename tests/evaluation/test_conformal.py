"""Prediction sets: the promised coverage on data drawn alike, whatever the model."""

import numpy as np
import pytest
from scipy import special

from tl_keras.evaluation.conformal import class_thresholds, least_images, prediction_sets


def drawn(num: int, seed: int, sure: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of a model that is far too sure, and labels; the classes are of unequal difficulty and size."""
    draws = np.random.default_rng(seed)
    labels = draws.choice(4, num, p=[0.4, 0.3, 0.2, 0.1])
    logits = draws.normal(0, 1, (num, 4)) + np.array([3.0, 2.0, 1.0, 0.5])[labels][:, None] * np.eye(4)[labels]
    return special.softmax(sure * logits, axis=1), labels


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_coverage_is_what_was_asked_for_over_resplits(coverage):
    probabilities, labels = drawn(1200, 0)
    found, of_classes = [], []
    for seed in range(200):
        order = np.random.default_rng(seed).permutation(len(labels))
        val, test = order[:400], order[400:]
        sets = prediction_sets(probabilities[test], class_thresholds(probabilities[val], labels[val], coverage))
        covered = sets[np.arange(len(test)), labels[test]]
        found.append(covered.mean())
        of_classes.append([covered[labels[test] == each].mean() for each in range(4)])
    assert np.mean(found) == pytest.approx(coverage, abs=0.02)
    assert np.mean(of_classes, axis=0) == pytest.approx(np.full(4, coverage), abs=0.025)  # of the hard classes as of the easy ones


def test_sets_are_larger_where_more_coverage_is_asked_for():
    probabilities, labels = drawn(2000, 1)
    sizes = [prediction_sets(probabilities, class_thresholds(probabilities, labels, each)).sum(axis=1).mean() for each in (0.5, 0.8, 0.95)]
    assert sizes[0] < sizes[1] < sizes[2]


@pytest.mark.parametrize(("coverage", "least"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99)])
def test_so_many_images_are_needed_and_suffice(coverage, least):
    assert least_images(coverage) == least
    probabilities = np.linspace(0.3, 0.9, least)[:, None] * [1.0, 0.0]
    labels = np.zeros(least, int)
    assert class_thresholds(probabilities, labels, coverage).tolist() == [pytest.approx(0.3)] * 2  # the lowest of all
    with pytest.raises(ValueError, match=rf"needs {least} images of val. Received: {least - 1}"):
        class_thresholds(probabilities[1:], labels[1:], coverage)


def test_a_class_of_few_images_has_the_threshold_of_all():
    probabilities, labels = drawn(500, 2)
    kept = np.flatnonzero((labels != 3) | (np.cumsum(labels == 3) <= 5))
    probabilities, labels = probabilities[kept], labels[kept]
    own = np.sort(probabilities[np.arange(len(labels)), labels].round(6))
    thresholds = class_thresholds(probabilities, labels, 0.9)
    assert thresholds[3] == own[len(own) - int(np.ceil((len(own) + 1) * 0.9))]
    assert thresholds[0] != thresholds[3]


def test_a_model_that_is_as_good_as_sure_has_sets_with_its_class():
    labels = np.arange(40) % 2
    probabilities = np.where(np.arange(2) == labels[:, None], 1 - 2e-7, 2e-7)  # never 1, as a vote of graphs of float32
    as_written = probabilities.round(6)  # in val_predictions.csv
    assert prediction_sets(probabilities, class_thresholds(as_written, labels, 0.9)).tolist() == (probabilities > 0.5).tolist()
