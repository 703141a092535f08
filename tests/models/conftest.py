"""Small SavedModels of every kind that `--backbone FOLDER` takes, made here: images (b, 16, 16, 3) in [0, 1] -> features."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

SIZE = 16
CHANNELS = 5
IMAGES = tf.TensorSpec((None, SIZE, SIZE, 3), tf.float32)


class Network(tf.Module):
    """A convolution and a BatchNorm of one's own, with statistics; pooled to a vector or not."""

    def __init__(self, pooled: bool) -> None:
        super().__init__()
        draw = np.random.default_rng(3).normal
        self.pooled = pooled
        self.kernel = tf.Variable(draw(size=(3, 3, 3, CHANNELS)), dtype=tf.float32, name="conv/kernel")
        self.gamma = tf.Variable(1 + 0.1 * draw(size=CHANNELS), dtype=tf.float32, name="norm/gamma")
        self.mean = tf.Variable(draw(size=CHANNELS), dtype=tf.float32, trainable=False, name="norm/mean")
        self.count = tf.Variable(0, dtype=tf.int64, trainable=False, name="count")

    def compute(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        maps = tf.nn.conv2d(images, self.kernel, 2, "SAME")
        mean = tf.reduce_mean(maps, (0, 1, 2)) if training else self.mean
        if training:
            self.mean.assign(0.9 * self.mean + 0.1 * mean)
            self.count.assign_add(1)
        maps = tf.nn.relu((maps - mean) * self.gamma)
        return tf.reduce_mean(maps, (1, 2)) if self.pooled else maps


class PlainModule(Network):
    """A `tf.Module` that can be called, without an argument `training`."""

    @tf.function(input_signature=[IMAGES])
    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        return self.compute(images)


def hub_object(folder: Path, pooled: bool) -> None:
    """TF-Hub's reusable SavedModel, as tensorflow.org/hub/reusable_saved_models describes it; the kernel alone trains."""
    network, root = Network(pooled), tf.train.Checkpoint()
    call = tf.function(lambda images, training=False: network.compute(images, training))
    for training in (True, False):
        call.get_concrete_function(IMAGES, training=training)
    root.__call__ = call
    root.variables = [network.kernel, network.gamma, network.mean, network.count]
    root.trainable_variables = [network.kernel]
    root.regularization_losses = [tf.function(lambda: 0.5 * tf.reduce_sum(network.kernel**2), input_signature=[])]
    tf.saved_model.save(root, str(folder))


def plain_module(folder: Path, pooled: bool) -> None:
    """A plain `tf.Module`."""
    tf.saved_model.save(PlainModule(pooled), str(folder))


def signature_only(folder: Path, pooled: bool) -> None:
    """A SavedModel with a signature and nothing to call, as TF-Hub's before TensorFlow 2."""
    network = Network(pooled)
    network.serve = tf.function(lambda images: {"default": network.compute(images), "other": images}, input_signature=[IMAGES])
    tf.saved_model.save(network, str(folder), signatures={"default": network.serve})


def _layers(library: Any, pooled: bool) -> list[Any]:
    layers = library.layers
    stack = [layers.Conv2D(CHANNELS, 3, 2, "same"), layers.BatchNormalization(), layers.ReLU(), layers.Dropout(0.5)]
    return [*stack, layers.GlobalAveragePooling2D()] if pooled else stack


def keras_export(folder: Path, pooled: bool) -> None:
    """An archive of Keras 3's `model.export`."""
    keras.Sequential([keras.Input((SIZE, SIZE, 3)), *_layers(keras, pooled)]).export(folder, verbose=False)


def tf_keras_model(folder: Path, pooled: bool) -> None:
    """A SavedModel of Keras 2."""
    import tf_keras

    tf_keras.utils.set_random_seed(0)
    tf_keras.Sequential([tf_keras.Input((SIZE, SIZE, 3)), *_layers(tf_keras, pooled)]).save(folder, save_format="tf")


MAKERS = {make.__name__: make for make in (hub_object, plain_module, signature_only, keras_export, tf_keras_model)}
MakeModule = Callable[..., Path]


@pytest.fixture(scope="session")
def hub_module(tmp_path_factory: pytest.TempPathFactory) -> MakeModule:
    """A factory of folders: `hub_module(kind, pooled=)`; the same again is the same folder."""
    made: dict[tuple[str, bool], Path] = {}

    def make(kind: str, pooled: bool = True) -> Path:
        if (kind, pooled) not in made:
            made[kind, pooled] = tmp_path_factory.mktemp("hub") / kind
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of Keras 2
                keras.utils.set_random_seed(0)
                MAKERS[kind](made[kind, pooled], pooled)
        return made[kind, pooled]

    return make


@pytest.fixture(scope="session")
def raw_features() -> Callable[[Path, Any], Any]:
    """A function of a folder and images in [0, 1]: what the SavedModel itself puts out in inference."""
    return lambda folder, images: features_of(tf.saved_model.load(str(folder)), images).numpy()


def features_of(loaded: Any, images: Any) -> Any:
    """What a SavedModel itself puts out in inference, called as its kind is called."""
    if not callable(loaded):
        name = "default" if "default" in loaded.signatures else "serving_default"
        (key,) = loaded.signatures[name].structured_input_signature[1]
        found = loaded.signatures[name](**{key: images})
        return found["default"] if "default" in found else next(iter(found.values()))
    try:
        return loaded(images, training=False)
    except TypeError:
        return loaded(images)
