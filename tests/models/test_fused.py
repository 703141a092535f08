"""A network with its BatchNorm inside the convolutions: the same outputs, gradients and files as the plain one."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tl_keras.models.fused import FusedModel, fused
from tl_keras.models.saved import read_weights, write_weights
from tl_keras.runtime import POLICIES, building

SIZE = (16, 16)


def network(convolution: keras.layers.Layer, **norm: Any) -> keras.Model:
    """A convolution with a BatchNorm, and a head with dropout."""
    pixels = keras.Input((*SIZE, 3), name="pixels")
    x = keras.layers.BatchNormalization(name="norm", **norm)(convolution(pixels))
    x = keras.layers.GlobalAveragePooling2D(name="pool")(keras.layers.ReLU(6.0, name="relu")(x))
    x = keras.layers.Dropout(0.5, seed=0, name="dropout")(x)
    return with_weights(keras.Model(pixels, keras.layers.Dense(3, name="logits")(x), name="net"))


def with_weights(model: keras.Model) -> keras.Model:
    rng = np.random.default_rng(1)
    for weight in model.weights:
        if "seed" not in weight.path:
            weight.assign(rng.uniform(0.3, 1.5, weight.shape))
    return model


def plain(name: str = "convolution", **settings: Any) -> keras.Model:
    return network(keras.layers.Conv2D(4, 3, name=name, **settings))


def frozen(model: keras.Model) -> keras.Model:
    model.get_layer("norm").trainable = False
    return model


def images() -> tf.Tensor:
    return tf.constant(np.random.default_rng(0).uniform(-1, 1, (5, *SIZE, 3)), tf.float32)


def multiplied_norms(model: keras.Model, *, training: bool) -> int:
    """How many BatchNorm layers multiply a whole activation in the graph of a model, instead of a kernel."""
    traced = tf.function(lambda pixels: model(pixels, training=training), autograph=False).get_concrete_function(images())
    operations = traced.graph.get_operations()
    kernels = [each.inputs[1].op for each in operations if each.type in ("Conv2D", "DepthwiseConv2dNative")]
    return sum(each.type == "Mul" and each.outputs[0].shape.rank == 4 and each not in kernels for each in operations)


CONVOLUTIONS = {
    "plain": lambda: keras.layers.Conv2D(4, 3, name="convolution"),
    "strided": lambda: keras.layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False, name="convolution"),
    "dilated": lambda: keras.layers.Conv2D(4, 3, dilation_rate=2, kernel_regularizer="l2", name="convolution"),
    "grouped": lambda: keras.layers.Conv2D(6, 3, groups=3, name="convolution"),
    "depthwise": lambda: keras.layers.DepthwiseConv2D(3, strides=2, padding="same", name="convolution"),
    "two depthwise outputs a channel": lambda: keras.layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False, name="convolution"),
}


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_outputs_and_gradients_are_those_of_the_plain_network(kind: str) -> None:
    model = frozen(network(CONVOLUTIONS[kind]()))
    twin = fused(model)
    assert isinstance(twin, FusedModel)
    assert [weight.path for weight in twin.trainable_weights] == [weight.path for weight in model.trainable_weights]
    found = {}
    for name, each in (("plain", model), ("fused", twin)):
        each.get_layer("dropout").seed_generator.state.assign([0, 0])
        with tf.GradientTape() as tape:
            outputs = each(images(), training=True)
            loss = tf.reduce_mean(outputs**2) + sum(each.losses)
        found[name] = [outputs, loss, *tape.gradient(loss, each.trainable_weights)]
    for one, other in zip(found["plain"], found["fused"], strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(twin(images(), training=False), model(images(), training=False), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("norm", [{"scale": False}, {"center": False}, {"epsilon": 0.5}, {"axis": 3}], ids=str)
def test_norms_of_every_kind(norm: dict[str, Any]) -> None:
    model = frozen(network(keras.layers.Conv2D(4, 3, name="convolution"), **norm))
    assert multiplied_norms(fused(model), training=True) == 0
    np.testing.assert_allclose(fused(model)(images(), training=False), model(images(), training=False), rtol=1e-5, atol=1e-6)


def test_a_frozen_norm_is_not_run_by_itself() -> None:
    model = frozen(plain())
    assert multiplied_norms(model, training=True) == 1
    assert multiplied_norms(fused(model), training=True) == 0


@pytest.mark.parametrize("norm", [{}, {"scale": False}, {"center": False, "momentum": 0.7, "epsilon": 0.1}], ids=str)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_norm_that_trains_is_as_keras_has_it(norm: dict[str, Any], precision: str) -> None:
    found = []
    for make in (lambda model: model, fused):
        with building(precision):
            model = network(keras.layers.Conv2D(4, 3, name="convolution"), **norm)
        each, before = make(model), model.get_layer("norm").moving_mean.numpy()
        with tf.GradientTape() as tape:
            outputs = each(images(), training=True)
            loss = tf.reduce_mean(outputs**2)
        assert not np.allclose(before, each.get_layer("norm").moving_mean)  # they move
        found.append([outputs, *tape.gradient(loss, each.trainable_weights), *each.non_trainable_weights])
    assert type(each) is FusedModel
    assert [value.dtype for value in found[0]] == [value.dtype for value in found[1]]
    close = {"rtol": 1e-4, "atol": 1e-4} if precision == "float32" else {"rtol": 0.05, "atol": 0.02}
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(np.asarray(one, np.float32), np.asarray(other, np.float32), **close)


def test_a_norm_stands_still_in_inference_or_when_it_is_told_so() -> None:
    twin = fused(plain())
    norm = twin.get_layer("norm")
    before = norm.moving_mean.numpy()
    twin(images(), training=False)
    np.testing.assert_array_equal(norm.moving_mean.numpy(), before)
    assert multiplied_norms(twin, training=False) == 0
    norm.trainable = False  # as `unfreeze` does, after the model was made
    twin(images(), training=True)
    np.testing.assert_array_equal(norm.moving_mean.numpy(), before)
    assert multiplied_norms(twin, training=True) == 0


def test_dropout_is_on_in_training_alone() -> None:
    twin = fused(frozen(plain()))
    dropped = keras.Model(twin.input, twin.get_layer("dropout").output)
    assert (np.asarray(dropped(images(), training=True)) == 0).any()
    one, other = twin(images(), training=True), twin(images(), training=True)
    assert not np.allclose(one, other)
    np.testing.assert_array_equal(twin(images(), training=False), twin(images(), training=False))


@pytest.mark.parametrize(
    "settings",
    [{"activation": "relu"}, {"activity_regularizer": "l2"}],
    ids=str,
)
def test_other_convolutions_are_left_alone(settings: dict[str, Any]) -> None:
    model = frozen(plain(**settings))
    assert multiplied_norms(fused(model), training=True) == 1
    np.testing.assert_allclose(fused(model)(images(), training=False), model(images(), training=False), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("reader", ["another layer", "the model's output"])
def test_a_convolution_that_something_else_reads_is_left_alone(reader: str) -> None:
    pixels = keras.Input((*SIZE, 3))
    x = keras.layers.Conv2D(3, 3, padding="same", name="convolution")(pixels)
    normed = keras.layers.BatchNormalization(name="norm")(x)
    outputs = [normed, x] if reader == "the model's output" else [keras.layers.Add(name="sum")([normed, x])]
    model = with_weights(keras.Model(pixels, outputs))
    for one, other in zip(fused(model)(images(), training=False), model(images(), training=False), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_model_without_batchnorm_stays_as_it_is() -> None:
    pixels = keras.Input((*SIZE, 3))
    model = keras.Model(pixels, keras.layers.Conv2D(3, 3)(pixels))
    assert fused(model) is model


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision(precision: str) -> None:
    with building(precision):
        model = frozen(plain())
    twin = fused(model)
    assert twin.dtype_policy.name == POLICIES[precision]
    one, other = twin(images(), training=False), model(images(), training=False)
    assert one.dtype == other.dtype
    np.testing.assert_allclose(np.asarray(one, np.float32), np.asarray(other, np.float32), rtol=0.05)


def test_checkpoints_are_those_of_the_plain_network(tmp_path: Path) -> None:
    """Weights and the optimiser's state: what was written by the one is read by the other."""
    model, twin = frozen(plain()), fused(frozen(plain()))
    for each in (model, twin):
        each.compile(optimizer="adam", loss="mse")
        each.optimizer.build(each.trainable_variables)
    twin.fit(images(), np.zeros((5, 3)), epochs=1, verbose=0)
    write_weights(tmp_path / "twin.weights.h5", twin)
    read_weights(tmp_path / "twin.weights.h5", model)
    for one, other in zip(model.weights, twin.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(model.optimizer.variables, twin.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one, other)
