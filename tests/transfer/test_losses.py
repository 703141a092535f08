"""Losses against NumPy double loops, class weights against scikit-learn."""

import math

import keras
import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from tl_keras.config import TrainConfig
from tl_keras.errors import ConfigError, DataError
from tl_keras.models.outputs import MultiLabel, Output, Regression
from tl_keras.transfer.losses import class_weight_vector, logit_shifts, make_loss

KINDS = {
    "cross_entropy": TrainConfig(label_smoothing=0.0),
    "cross_entropy, smoothed": TrainConfig(label_smoothing=0.3),
    "focal": TrainConfig(loss="focal", label_smoothing=0.0),
    "focal, gamma 0.5": TrainConfig(loss="focal", focal_gamma=0.5, label_smoothing=0.0),
    "focal, smoothed": TrainConfig(loss="focal", focal_gamma=3.0, label_smoothing=0.2),
    "mse": TrainConfig(loss="mse", label_smoothing=0.0),
    "mse, smoothed": TrainConfig(loss="mse", label_smoothing=0.2),
}


def batch(rows: int = 6, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Soft targets and logits, both (rows, classes) float32; the first two rows are one-hot."""
    rng = np.random.default_rng(0)
    targets = rng.dirichlet(np.ones(classes), rows).astype("float32")
    targets[:2] = np.eye(classes)[[2, 0]]
    return targets, rng.normal(0, 3, (rows, classes)).astype("float32")


def term(train: TrainConfig, target: float, p: float, classes: int) -> float:
    """What one class of one image adds to the loss."""
    target = target * (1 - train.label_smoothing) + train.label_smoothing / classes
    if train.loss == "mse":
        return (p - target) ** 2 / classes
    return -target * (1 - p) ** (train.focal_gamma if train.loss == "focal" else 0) * math.log(p)


def twin(train: TrainConfig, targets: np.ndarray, logits: np.ndarray) -> list[float]:
    losses = []
    for target, logit in zip(targets.astype("float64"), logits.astype("float64"), strict=True):
        total = sum(math.exp(z) for z in logit)
        losses.append(sum(term(train, y, math.exp(z) / total, len(logit)) for y, z in zip(target, logit, strict=True)))
    return losses


@pytest.mark.parametrize("train", KINDS.values(), ids=KINDS)
def test_loss_equals_double_loop(train: TrainConfig) -> None:
    targets, logits = batch()
    expected = twin(train, targets, logits)
    loss = make_loss(train)
    np.testing.assert_allclose(loss.call(targets, keras.ops.convert_to_tensor(logits)), expected, rtol=1e-4)
    np.testing.assert_allclose(loss(targets, logits), np.mean(expected), rtol=1e-5)


@pytest.mark.parametrize("train", KINDS.values(), ids=KINDS)
def test_loss_weighs_images(train: TrainConfig) -> None:
    targets, logits = batch()
    weights = np.linspace(0, 2, len(targets)).astype("float32")
    expected = np.mean(np.multiply(twin(train, targets, logits), weights))
    np.testing.assert_allclose(make_loss(train)(targets, logits, sample_weight=weights), expected, rtol=1e-5)


@pytest.mark.parametrize("train", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_loss_and_gradient_are_finite_when_logits_are_extreme(train: TrainConfig, dtype: str) -> None:
    import tensorflow as tf

    targets = tf.constant(np.eye(3, dtype="float32"))
    logits = tf.cast([[60000.0, -60000.0, 0.0], [60000.0, -60000.0, 0.0], [0.0, 0.0, 0.0]], dtype)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = make_loss(train)(targets, logits)
    assert loss.dtype == "float32"
    assert np.isfinite(loss)
    assert np.isfinite(tape.gradient(loss, logits)).all()


def test_focal_is_cross_entropy_when_gamma_is_zero() -> None:
    targets, logits = batch()
    focal = make_loss(TrainConfig(loss="focal", focal_gamma=0.0))
    np.testing.assert_allclose(focal(targets, logits), make_loss(TrainConfig())(targets, logits), rtol=1e-6)


@pytest.mark.parametrize("train", KINDS.values(), ids=KINDS)
def test_loss_survives_serialisation(train: TrainConfig) -> None:
    loss = make_loss(train)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert again.get_config() == loss.get_config()
    targets, logits = batch()
    np.testing.assert_array_equal(again(targets, logits), loss(targets, logits))


def test_balanced_weights_equal_scikit_learn() -> None:
    labels = np.array([0, 0, 0, 0, 1, 2, 2])
    vector = class_weight_vector("balanced", labels, ["a", "b", "c"])
    assert vector.dtype == np.float32
    np.testing.assert_allclose(vector, compute_class_weight("balanced", classes=np.arange(3), y=labels), rtol=1e-6)
    assert vector[labels].mean() == pytest.approx(1.0)


def test_weights_are_one_when_none_are_asked_for() -> None:
    np.testing.assert_array_equal(class_weight_vector("none", np.array([1]), ["a", "b"]), [1.0, 1.0])


def test_weights_follow_names_when_given_by_name() -> None:
    np.testing.assert_array_equal(class_weight_vector({"c": 3.0, "a": 0.5}, np.array([0]), ["a", "b", "c"]), [0.5, 1, 3])


def test_weights_refuse_an_unknown_class() -> None:
    with pytest.raises(ConfigError, match=r"^train.class_weights: unknown class 'tulp'. Did you mean 'tulip'\?$"):
        class_weight_vector({"tulp": 2.0}, np.array([0]), ["rose", "tulip"])
    with pytest.raises(ConfigError, match=r"unknown class 'xy'. The classes are 'rose', 'tulip'.$"):
        class_weight_vector({"xy": 2.0}, np.array([0]), ["rose", "tulip"])


def test_balanced_weights_refuse_an_empty_class() -> None:
    with pytest.raises(DataError, match="class 'tulip' has no training image"):
        class_weight_vector("balanced", np.array([0, 0]), ["rose", "tulip"])


def test_logit_adjustment_is_cross_entropy_of_logits_and_log_shares() -> None:
    train = TrainConfig(logit_adjustment=2.0, label_smoothing=0.1)
    labels = np.array([0] * 6 + [1] * 3 + [2, 3, 3])
    shifts = logit_shifts(train, labels, list("abcd"))
    assert shifts is not None
    np.testing.assert_allclose(shifts, 2 * np.log([6 / 12, 3 / 12, 1 / 12, 2 / 12]), rtol=1e-6)
    targets, logits = batch()
    plain = make_loss(TrainConfig(label_smoothing=0.1))
    assert float(make_loss(train, shifts=shifts)(targets, logits)) == pytest.approx(float(plain(targets, logits + shifts)), rel=1e-6)
    again = keras.losses.deserialize(keras.losses.serialize(make_loss(train, shifts=shifts)))
    assert float(again(targets, logits)) == pytest.approx(float(plain(targets, logits + shifts)), rel=1e-6)


def test_weights_that_make_classes_count_alike_leave_nothing_to_adjust() -> None:
    labels = np.array([0] * 6 + [1] * 3)
    shifts = logit_shifts(TrainConfig(logit_adjustment=1.0, class_weights={"b": 2.0}), labels, ["a", "b"])
    assert shifts is not None
    assert shifts[0] == pytest.approx(shifts[1])
    assert logit_shifts(TrainConfig(), labels, ["a", "b"]) is None


@pytest.mark.parametrize(
    ("loss", "output"), [("focal", MultiLabel()), ("huber", Regression()), ("cross_entropy", MultiLabel()), ("mse", Regression())]
)
def test_the_losses_of_other_tasks_are_those_of_keras(loss: str, output: Output) -> None:
    rng = np.random.default_rng(0)
    targets, logits = rng.integers(0, 2, (6, 3)).astype(np.float32), rng.normal(0, 3, (6, 3)).astype(np.float32)
    found = float(make_loss(TrainConfig(loss=loss, label_smoothing=0.0), output)(targets, logits))
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    right, error = np.where(targets == 1, p, 1 - p), np.abs(targets - logits.astype(np.float64))
    expected = {
        "cross_entropy": -np.log(right),
        "focal": -((1 - right) ** 2) * np.log(right),
        "mse": error**2,
        "huber": np.where(error <= 1, error**2 / 2, error - 0.5),
    }[loss]
    assert found == pytest.approx(expected.mean(), rel=1e-5)


def test_a_loss_that_a_task_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="regression has no loss 'focal'"):
        make_loss(TrainConfig(loss="focal"), Regression())
