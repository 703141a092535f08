"""Graphs whose gradients TensorFlow keeps by name go when they are no longer needed."""

import gc
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework.func_graph import FuncGraph

from tl_keras.transfer.gradient_registry import gradients_let_go
from tl_keras.transfer.optimizers import ScaledAdamW


def graphs() -> int:
    gc.collect()
    return sum(type(each) is FuncGraph for each in gc.get_objects())


def trained_step() -> Any:
    """One step on a swish, which has a gradient of its own, by an optimizer of Keras, whose sum over replicas has another."""
    weight, optimizer = keras.Variable([0.5]), ScaledAdamW(scales={}, decay=0.0, learning_rate=0.1)
    optimizer.build([weight])

    @tf.function
    def step(x: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.nn.silu(weight * x))
        optimizer.apply([tape.gradient(loss, weight.value)])
        return loss

    step(tf.constant([1.0]))
    return weight.numpy()


@pytest.mark.slow
def test_no_graph_is_kept_of_a_training_that_has_ended() -> None:
    with gradients_let_go():
        first = trained_step()
    before = graphs()
    for _ in range(2):
        with gradients_let_go():
            np.testing.assert_array_equal(trained_step(), first)
    assert graphs() == before


def test_gradients_that_were_there_before_stay() -> None:
    x = tf.Variable([0.5])
    swish = tf.function(lambda: tf.nn.silu(x)).get_concrete_function()
    with pytest.raises(ZeroDivisionError), gradients_let_go():
        raise ZeroDivisionError
    with tf.GradientTape() as tape:
        found = swish()
    assert np.isfinite(tape.gradient(found, x)).all()
