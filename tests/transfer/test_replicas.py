"""Steps of several devices against those of one: logical devices of a CPU, which only a process of its own can have."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from tl_keras.transfer.checkpoints import OF_DEVICE, go_on_drawing
from tl_keras.transfer.replicas import is_due, require_equal, take_chiefs_weights, the_chiefs

PythonAlone = Callable[..., subprocess.CompletedProcess[str]]

SEVERAL = """
import json, sys
import keras, numpy as np, tensorflow as tf
from functools import partial
from tempfile import mkdtemp

tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)

from tl_keras import runtime
from tl_keras.config import RuntimeConfig, TrainConfig
from tl_keras.data.shares import loaded
from tl_keras.errors import ConfigError
from tl_keras.models.fused import fused
from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.progress import Progress
from tl_keras.run_folder import RunFolder
from tl_keras.transfer.checkpoints import go_on_drawing
from tl_keras.transfer.phases import Phase, run_phase

RNG, NUM, BATCH = np.random.default_rng(0), 13, 6  # batches of 6, 6 and 1: the last leaves a device without an image
X, Y = RNG.normal(size=(NUM, 4, 4, 2)).astype(np.float32), np.eye(3, dtype=np.float32)[RNG.integers(3, size=NUM)]
WEIGHTS = RNG.uniform(0.5, 2, NUM).astype(np.float32)
VAL = tf.data.Dataset.from_tensor_slices((X, Y)).batch(5)


def batches(first_epoch, first_step, shares=None):
    epoch = tf.data.Dataset.range(NUM).map(lambda place: (place,)).batch(BATCH)
    found = epoch.enumerate().repeat().skip(3 * first_epoch + first_step)
    load = lambda _, rows: (tf.gather(X, rows[0]), tf.gather(Y, rows[0]), tf.gather(WEIGHTS, rows[0]))
    return loaded(found, load, shares)


def trained(strategy):
    with runtime.restoring_process():
        runtime.set_up(RuntimeConfig())
        runtime.spread(RuntimeConfig(strategy=strategy))
        with runtime.building("float32"):
            image = keras.Input((4, 4, 2))
            made = keras.layers.Conv2D(3, 2, use_bias=False, kernel_initializer=keras.initializers.GlorotUniform(seed=1))(image)
            made = keras.layers.BatchNormalization()(made)
            made = keras.layers.Dense(3, kernel_initializer=keras.initializers.GlorotUniform(seed=2))(keras.layers.Flatten()(made))
            model = fused(keras.Model(image, made))
        run = RunFolder.at(mkdtemp())
        config = TrainConfig(batch_size=BATCH, optimizer="sgd", clip_norm=0.1, ema=0.9, label_smoothing=0.1, warmup_fraction=0)
        run_phase(model, batches, VAL, Phase("finetune", 2, NUM, 0.05, {}, None), config, run, Progress())
        dropout = keras.layers.Dropout(0.5)
        with runtime.building("float32"):
            dropout = keras.layers.Dropout(0.5, seed=7)
        go_on_drawing(dropout.seed_generator, np.array([7, 3]))
        spread = runtime.strategy()
        ones = tf.ones((1, 20))
        drawn = [dropout(ones, training=True)] if spread is None else spread.run(lambda: dropout(ones, training=True)).values
        lines = (run / "history.csv").read_text().splitlines()[1:]
        synchronized = [layer.synchronized for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
        return {
            "history": [[float(each) for each in line.split(",")[2:7]] for line in lines],
            "weights": [weight.tolist() for weight in model.get_weights()],
            "drawn": [np.asarray(each).tolist() for each in drawn],
            "synchronized": synchronized,
        }


print(json.dumps([trained("none"), trained("mirrored")]))
"""


@pytest.mark.slow
def test_two_devices_train_as_one_does(python_alone: PythonAlone, tmp_path: Path) -> None:
    one, two = json.loads(python_alone(SEVERAL, cwd=tmp_path).stdout.splitlines()[-1])
    np.testing.assert_allclose(two["history"], one["history"], rtol=5e-5)  # losses, accuracies, rates: uneven shares, an idle device
    for found, expected in zip(two["weights"], one["weights"], strict=True):  # also BatchNorm's, and gradients clipped as a whole
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert one["synchronized"] == two["synchronized"] == [False]  # as saved
    assert two["drawn"][0] == one["drawn"][0] != two["drawn"][1]


def test_a_process_alone_is_its_own_chief() -> None:
    values = [np.array([1.5, -0.0]), np.array(3)]
    assert the_chiefs(values) == values
    assert [is_due(1, here) for here in (True, False)] == [True, False]
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    before = model.get_weights()
    take_chiefs_weights(model)
    require_equal(model)
    assert all(np.array_equal(x, y) for x, y in zip(model.get_weights(), before, strict=True))


def test_a_generator_goes_on_from_a_state() -> None:
    generator = keras.random.SeedGenerator(5)
    go_on_drawing(generator, np.array([5, 12]))
    assert generator.state.numpy().tolist() == [5, 12]
    states = [
        (device * OF_DEVICE + step) % (2**31 - 2) for device in range(100) for step in (0, 1, 1024, OF_DEVICE - 1)
    ]  # as Keras has them
    assert len(set(states)) == len(states)
