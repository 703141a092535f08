"""DELTA: the loss against a twin, what it holds and what it leaves alone."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from tl_keras.transfer import finetune as finetuning
from tl_keras.transfer.finetune import finetune
from tl_keras.transfer.keep_features import FeatureDistance, keep_features, relative_distance
from tl_keras.transfer.task import Task

MakeTask = Callable[..., Task]
RNG = np.random.default_rng(0)


@pytest.fixture
def every_epoch_is_better(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetuning, "measure", lambda *_: {"val_loss": 1e9, "val_accuracy": -1.0})


def features_of(task: Task) -> np.ndarray:
    """The last features of noise, (8, h, w, c)."""
    classifier = task.classifier
    last = keras.Model(classifier.model.input, list(classifier.boundaries.values())[-1])
    return last.predict(np.float32(np.random.default_rng(1).uniform(0, 255, (8, *classifier.model.input_shape[1:]))), verbose=0)


def test_the_loss_is_the_share_of_the_features_that_has_changed() -> None:
    now, before, logits = (RNG.normal(size=shape).astype(np.float32) for shape in ((4, 3, 3, 5), (4, 3, 3, 5), (4, 2)))
    expected = ((now - before) ** 2).sum() / (before**2).sum()
    layer = FeatureDistance(0.5)
    np.testing.assert_array_equal(layer([now, before, logits], training=True), logits)
    assert float(layer.losses[0]) == pytest.approx(0.5 * expected, rel=1e-5)
    layer([now, before, logits], training=False)
    assert layer.losses == []
    assert float(relative_distance(np.zeros_like(before), before)) == pytest.approx(1)
    assert float(relative_distance(before, np.zeros_like(before))) > 1e6  # dead features: large, and a number


@pytest.mark.parametrize("stored", [True, False])
def test_the_model_says_what_the_classifier_says(make_task: MakeTask, stored: bool) -> None:
    task = make_task(train={"unfreeze_from": "stage2"})
    plain = finetuning.finetune_feed(task, task.classifier).model if stored else task.classifier.model
    held = keep_features(task.classifier, "stage2", 1.0, stored=stored)
    inputs = [np.float32(RNG.uniform(0, 255, (4, *each.shape[1:]))) for each in plain.inputs]
    given = inputs[0] if len(inputs) == 1 else inputs
    expected = plain.predict(given, verbose=0)
    np.testing.assert_allclose(held.predict(given, verbose=0), expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.usefixtures("every_epoch_is_better")
@pytest.mark.parametrize("lowest", ["all", "stage2"], ids=["pixels", "stored activations"])
def test_features_stay_nearer_and_the_labels_are_learned_all_the_same(make_task: MakeTask, lowest: str) -> None:
    moved, weights = [], []
    for strength in (0.0, 100.0):
        settings: dict[str, Any] = {"unfreeze_from": lowest, "keep_features": strength, "learning_rate": 0.01, "epochs": 3}
        task = make_task(f"strength {strength}", train=settings)
        before = features_of(task)
        finetune(task)
        moved.append(float(relative_distance(features_of(task), before)))
        weights.append(task.classifier.model.get_weights()[-1])
    assert moved[0] > 3 * moved[1] > 0
    assert not np.array_equal(*weights)
