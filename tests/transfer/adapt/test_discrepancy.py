"""Losses between two domains against brute force, and what they are where there is nothing to lower."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import softmax  # of logits to compare with, not a class

from tl_keras.transfer.adapt.discrepancy import (
    TEMPERATURE,
    ClassConfusion,
    CovarianceDistance,
    MeanDiscrepancy,
    class_confusion,
    covariance,
    squared_mmd,
)
from tl_keras.transfer.adapt.domain_loss import DomainLoss, Seen
from tl_keras.transfer.adapt.measures import WIDTHS

DRAWS = np.random.default_rng(0)
X, Y = (DRAWS.normal(size=(num, 4)).astype(np.float32) + shift for num, shift in ((7, 0.0), (5, 0.7)))


def test_class_confusion_is_the_paper_s() -> None:
    logits = DRAWS.normal(0, 3, (6, 3)).astype(np.float32)
    p = softmax(logits / TEMPERATURE, axis=1)
    entropies = -(p * np.log(p)).sum(axis=1)
    weights = 6 * (1 + np.exp(-entropies)) / sum(1 + np.exp(-entropies))
    confusion = np.array([[sum(weights[i] * p[i, a] * p[i, b] for i in range(6)) for b in range(3)] for a in range(3)])
    confusion /= confusion.sum(axis=1, keepdims=True)
    expected = sum(confusion[a, b] for a in range(3) for b in range(3) if a != b) / 3
    assert float(class_confusion(logits)) == pytest.approx(expected, rel=1e-5)


def test_predictions_that_are_sure_are_not_confused_and_equal_ones_wholly() -> None:
    sure = (100 * np.eye(4, dtype=np.float32))[[0, 1, 2, 3, 2]]
    assert float(class_confusion(sure)) == pytest.approx(0, abs=1e-6)
    assert float(class_confusion(np.zeros((5, 4), np.float32))) == pytest.approx(1 - 1 / 4, rel=1e-5)


def test_squared_mmd_is_that_of_every_pair() -> None:
    rows = np.concatenate([X, Y])
    distances = ((rows[:, None] - rows[None]) ** 2).sum(axis=2)
    mean = distances.sum() / (12 * 11)
    kernel = np.mean([np.exp(-width * distances / mean) for width in WIDTHS], axis=0)
    expected = kernel[:7, :7].mean() + kernel[7:, 7:].mean() - 2 * kernel[:7, 7:].mean()
    assert float(squared_mmd(X, Y)) == pytest.approx(expected, rel=1e-4)
    assert float(squared_mmd(X, X)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("num", [1, 2, 7])
def test_covariance_is_numpy_s(num: int) -> None:
    expected = np.cov(X[:num], rowvar=False) if num > 1 else np.zeros((4, 4))
    np.testing.assert_allclose(covariance(X[:num]), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("loss", [ClassConfusion, MeanDiscrepancy, CovarianceDistance])
def test_a_loss_is_added_in_training_alone_and_grows_from_zero_where_it_is_ramped(loss: type[DomainLoss]) -> None:
    layer = loss(num_steps=10)
    inputs = [tf.constant(each) for each in (X, X[:, :3], Y, Y[:, :3])]
    np.testing.assert_array_equal(layer(inputs, training=False), X[:, :3])
    assert not layer.losses
    np.testing.assert_array_equal(layer(inputs, training=True), X[:, :3])
    first = float(layer.losses[0])
    assert int(layer.done) == 1
    layer.done.assign(10)
    layer(inputs, training=True)
    last = float(layer.losses[0])
    plain = float(layer.compare(Seen(*inputs[:2]), Seen(*inputs[2:])))  # at 11 of 10 steps the ramp is as good as 1
    assert last == pytest.approx(plain, rel=1e-3)
    assert first == pytest.approx(last if loss is ClassConfusion else 0, abs=1e-6)
    assert last > 0.01


def test_every_loss_has_a_gradient_for_what_it_compares() -> None:
    for loss in (ClassConfusion, MeanDiscrepancy, CovarianceDistance):
        layer = loss(num_steps=10)
        inputs = [tf.Variable(each) for each in (X, X[:, :3], Y, Y[:, :3])]
        layer.build([each.shape for each in inputs])
        layer.done.assign(10)
        with tf.GradientTape() as tape:
            value = layer.compare(Seen(*inputs[:2]), Seen(*inputs[2:]))
        found = tape.gradient(value, inputs)
        assert [each is not None for each in found] == {
            ClassConfusion: [False, False, False, True],
            MeanDiscrepancy: [True] * 4,
            CovarianceDistance: [True, False, True, False],
        }[loss]
        assert all(np.abs(each).max() > 1e-6 for each in found if each is not None)
