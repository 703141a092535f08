"""A task with a TF-Hub module as its backbone: what the defaults choose works, and the run folder serves every later mode."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tl_keras.errors import ConfigError
from tl_keras.models.classifier import cut_below
from tl_keras.progress import Progress
from tl_keras.transfer.finetune import finetune
from tl_keras.transfer.frozen import POOLED
from tl_keras.transfer.task import Task

MakeTask = Callable[..., Task]
SIZE = 16


class Module(tf.Module):
    """The colour of each quarter of an image, mixed by weights that can learn."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = tf.Variable(np.random.default_rng(0).normal(size=(8, 8, 3, 6)), dtype=tf.float32, name="kernel")

    @tf.function(input_signature=[tf.TensorSpec((None, SIZE, SIZE, 3), tf.float32)])
    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        return tf.nn.relu(tf.reduce_mean(tf.nn.conv2d(images, self.kernel, 8, "VALID"), (1, 2)))


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("hub") / "module_1.0"
    tf.saved_model.save(Module(), str(folder))
    return str(folder)


def settings(module: str, **train: Any) -> dict[str, Any]:
    return {"model": {"backbone": module, "preprocessing": "auto"}, "data": {"image_size": None}, "train": {"unfreeze_from": None} | train}


@pytest.mark.slow
@pytest.mark.parametrize("lowest", [None, "stage1"])
def test_finetuning_trains_the_module(make_task: MakeTask, module: str, lowest: str | None) -> None:
    task = make_task(**settings(module, unfreeze_from=lowest))
    assert task.frozen is not None
    assert list(task.frozen.trunk.shapes) == [POOLED]  # nothing lies below a module's only stage
    assert cut_below(task.classifier, task.config.train.unfreeze_from) is None
    layer = task.classifier.model.get_layer("hub_module")
    before = layer.get_weights()
    finetune(task)
    assert not np.array_equal(layer.get_weights()[0], before[0])
    assert task.config.train.unfreeze_from == (lowest or "all")


class KilledAfterOneEpoch(Progress):
    """Stops once the first epoch of finetuning is told of, as Ctrl-C does."""

    def line(self, text: str) -> None:
        if text.startswith("finetune   2/"):
            raise KeyboardInterrupt


@pytest.mark.slow
def test_interrupted_and_resumed_equals_uninterrupted(make_task: MakeTask, module: str) -> None:
    given = settings(module, epochs=3)
    whole = make_task("whole", **given)
    finetune(whole)
    with pytest.raises(KeyboardInterrupt):
        finetune(make_task("run", progress=KilledAfterOneEpoch(), **given))
    resumed = make_task("run", **given)
    finetune(resumed)
    for one, other in zip(resumed.classifier.model.get_weights(), whole.classifier.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_frozen_features_of_a_module_are_found_again(make_task: MakeTask, module: str, own_store: Path) -> None:
    first = make_task("first", "extract", **settings(module))
    again = make_task("again", "extract", **settings(module))
    assert first.frozen is not None
    assert again.frozen is not None
    assert first.frozen.store.num_computed > 0
    assert again.frozen.store.num_computed == 0
    assert again.config.features.stages == "all"


def test_what_a_module_cannot_do_is_said_before_anything_is_computed(make_task: MakeTask, module: str) -> None:
    with pytest.raises(ConfigError, match=r"^--mode pretrain: .*module_1\.0 is a TF-Hub module, of which no backbone\.keras is made\."):
        make_task(mode="pretrain", **settings(module))
    with pytest.raises(ConfigError, match=r"^model\.freeze_batchnorm: got false, expected true: the TF-Hub module has no argument"):
        make_task(**settings(module) | {"model": {"backbone": module, "preprocessing": "auto", "freeze_batchnorm": False}})
    with pytest.raises(ConfigError, match=r"got 'stage2', expected 'all' or one of stage1, the backbone's stages"):
        make_task(**settings(module, unfreeze_from="stage2"))
