"""Statistics of a domain's own images: by hand for one layer, and a backbone that is left as it was."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from tl_keras.data.pipeline import Pixels
from tl_keras.models.classifier import Classifier
from tl_keras.progress import Progress
from tl_keras.transfer.adapt import statistics as module
from tl_keras.transfer.adapt.statistics import (
    features_with,
    measure_statistics,
    norms,
    own_statistics,
    read_statistics,
    write_statistics,
)
from tl_keras.transfer.task import Task


@pytest.fixture
def task(make_task: Callable[..., Task], own_backbone: str) -> Task:
    return make_task(mode="extract", model={"backbone": own_backbone, "preprocessing": "none"}, data={"image_size": 16})


def of_batches(classifier: Classifier, pixels: Pixels, order: np.ndarray, size: int) -> list[np.ndarray]:
    """Mean and variance of what the only BatchNorm gets, the means over batches."""
    before = keras.Model(classifier.trunk.input, norms(classifier.trunk)[0].input)
    batches = [order[start : start + size] for start in range(0, len(order) - size + 1, size)]
    seen = [np.asarray(before(pixels.read(rows).astype(np.float32))) for rows in batches]
    return [np.mean([getattr(each, name)(axis=(0, 1, 2)) for each in seen], axis=0) for name in ("mean", "var")]


@pytest.mark.parametrize("size", [4, 64])
def test_statistics_are_the_means_over_batches(size: int, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", size)
    pixels, rows = task.the_frozen.pixels, task.data.rows("train")
    layer = norms(task.classifier.trunk)[0]
    before = layer.trainable, layer.momentum
    measure_statistics(task.classifier, pixels, rows, 0, Progress())
    order = np.random.default_rng(0).permutation(rows)
    for found, expected in zip(
        read_statistics(task.classifier.model), of_batches(task.classifier, pixels, order, min(size, len(rows))), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert (layer.trainable, layer.momentum) == before


def test_features_are_of_the_statistics_and_the_backbone_is_left_as_it_was(task: Task) -> None:
    rows, before = task.data.rows("train"), read_statistics(task.classifier.model)
    statistics = own_statistics(task, task.the_frozen.pixels, rows)
    frozen = features_with(task, task.the_frozen.pixels, statistics, rows)
    for kept, was in zip(read_statistics(task.classifier.model), before, strict=True):
        np.testing.assert_array_equal(kept, was)
    found = frozen.stored("pooled", rows)[:]
    plain = task.the_frozen.stored("pooled", rows)[:]
    assert not np.allclose(found, plain, atol=1e-3)
    write_statistics(task.classifier.model, statistics)
    expected: Any = task.classifier.trunk(task.the_frozen.pixels.read(rows).astype(np.float32), training=False)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    again = own_statistics(task, task.the_frozen.pixels, rows)  # from statistics that are no longer the backbone's own
    for one, other in zip(again, statistics, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
