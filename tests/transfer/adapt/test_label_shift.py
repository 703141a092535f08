"""Label shift: the true ratios of classes are found from a model's mistakes."""

import numpy as np
import pytest

from tl_keras.transfer.adapt.label_shift import class_ratios


def test_ratios_of_a_model_with_mistakes_are_those_of_the_classes() -> None:
    draws = np.random.default_rng(0)
    says = np.array([[0.8, 0.15, 0.05], [0.1, 0.8, 0.1], [0.0, 0.3, 0.7]])  # of each class, what a model says
    shares = {"source": [1 / 3, 1 / 3, 1 / 3], "target": [0.6, 0.3, 0.1]}
    labels = {name: draws.choice(3, 20_000, p=each) for name, each in shares.items()}
    said = {name: (draws.random((20_000, 1)) > says[each].cumsum(axis=1)).sum(axis=1) for name, each in labels.items()}
    found = class_ratios(said["source"], labels["source"], said["target"], 3)
    np.testing.assert_allclose(found, [1.8, 0.9, 0.3], atol=0.08)


def test_ratios_are_1_where_nothing_shifts_and_never_negative() -> None:
    labels = np.repeat([0, 1, 2], 30)
    np.testing.assert_allclose(class_ratios(labels, labels, labels, 3), 1, atol=1e-6)
    found = class_ratios(labels, labels, np.zeros(50, int), 3)
    assert found.tolist() == pytest.approx([3, 0, 0])
