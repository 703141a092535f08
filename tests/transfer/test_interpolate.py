"""The line between two sets of weights: its points by brute force, and through finetuning."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tl_keras.models.outputs import PLAIN_LOSS, SINGLE_LABEL
from tl_keras.transfer import finetune as finetuning
from tl_keras.transfer.finetune import finetune, read_interpolation
from tl_keras.transfer.interpolate import SHARES, between, interpolate
from tl_keras.transfer.phases import measure
from tl_keras.transfer.task import Task

X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
LABELS = (X[:, 0] > 0).astype(int)
VAL = tf.data.Dataset.from_tensor_slices((X, np.eye(2, dtype=np.float32)[LABELS])).batch(16)
TRUE = np.array([[-1, 1], [0, 0], [0, 0]], np.float32)


def model(kernel: np.ndarray) -> keras.Model:
    inputs = keras.Input((3,))
    made = keras.Model(inputs, keras.layers.Dense(2, use_bias=False)(inputs))
    made.set_weights([kernel])
    return made


@pytest.mark.slow
def test_the_best_point_is_that_of_brute_force() -> None:
    before, after = -0.5 * TRUE, 3 * TRUE + 1.5 * np.array([[0, 0], [1, -1], [0, 0]], np.float32)
    made = model(after)
    best, points = interpolate(made, [before], VAL, SINGLE_LABEL, "val_loss")
    losses = [measure(model((1 - share) * before + share * after), VAL)["val_loss"] for share in SHARES]
    np.testing.assert_allclose([point.figures["val_loss"] for point in points], losses, rtol=1e-4)
    assert best.share == SHARES[int(np.argmin(losses))]
    assert 0 < best.share < 1
    np.testing.assert_allclose(made.get_weights()[0], (1 - best.share) * before + best.share * after, rtol=1e-6)


def test_of_equal_points_the_finetuned_weights_are_kept_exactly() -> None:
    made = model(2 * TRUE)
    best, _ = interpolate(made, [1.9 * TRUE], VAL, SINGLE_LABEL, "val_accuracy")
    assert best.share == 1
    np.testing.assert_array_equal(made.get_weights()[0], 2 * TRUE)


def test_the_ends_are_exact_and_integers_stay_integers() -> None:
    before, after = [np.float32([1 / 3]), np.int32([4])], [np.float32([0.7]), np.int32([8])]
    assert between(before, after, 0) is before
    assert between(before, after, 1) is after
    assert [each.dtype for each in between(before, after, 0.5)] == [np.float32, np.int32]


@pytest.mark.slow
@pytest.mark.parametrize("lowest", ["all", "stage3"])
def test_finetuning_keeps_the_best_point(lowest: str, make_task: Callable[..., Task], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetuning, "measure", lambda *_: {"val_loss": 1e9, "val_accuracy": -1.0})  # an epoch is better
    task = make_task(train={"unfreeze_from": lowest, "epochs": 1, "interpolate": True, "learning_rate": 0.05})
    finetune(task)
    report: dict[str, Any] = read_interpolation(task.run)
    assert [point["share"] for point in report["points"]] == list(SHARES)
    losses = [point["val_loss"] for point in report["points"]]
    assert report["share"] == SHARES[int(np.argmin(losses))]
    feed = finetuning.finetune_feed(task, task.classifier)
    found = keras.Model(feed.model.input, feed.model.output)
    found.compile(loss=SINGLE_LABEL.loss(), metrics=SINGLE_LABEL.metrics())
    assert min(losses) == pytest.approx(found.evaluate(feed.ordered("val"), verbose=0, return_dict=True)[PLAIN_LOSS], rel=1e-4)
