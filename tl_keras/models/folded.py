"""A network whose weights no longer change as one graph of constants: TensorFlow folds BatchNorm into the convolutions before it.

Knows neither batches nor what the outputs are for: `transfer.trunk` and `deploy.predictor` run it.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from tl_keras.quiet import quiet

FOLDED_BYTES = 1_500_000_000  # a graph is one message of at most 2 GB

Outputs = dict[str, tf.Tensor]  # name of an output -> float32 (b, ...)


def has_finite_weights(model: keras.Model) -> bool:
    """Whether all weights are finite; asked before folding, which would hide one that is not in a ReLU."""
    return all(np.isfinite(weight.numpy()).all() for weight in model.weights)


def fold(model: keras.Model, batch_size: int | None) -> Callable[[tf.Tensor], Outputs]:
    """Compile a model in inference mode.

    Args:
        model: one input of pixels, a dictionary of outputs; its weights are as they are now, whatever becomes of them, except for
            networks of more than `FOLDED_BYTES`, which keep their variables.
        batch_size: of every batch; None for batches of any size, which one trace serves.

    Returns:
        A function of uint8 pixels (b, h, w, 3) to the outputs by name.
    """
    folded = freeze(model, batch_size)
    if folded is None:
        return _inference(model, batch_size)
    names = sorted(model.output)  # the order of a dictionary's values in a graph
    return lambda pixels: dict(zip(names, tf.nest.flatten(folded(pixels)), strict=True))


def freeze(model: keras.Model, batch_size: int | None, dtype: tf.DType = tf.uint8) -> Any | None:
    """The graph of a model with constants for its variables; None for networks of more than `FOLDED_BYTES`.

    Args:
        dtype: of the pixels.

    Returns:
        A concrete function of pixels (b, h, w, 3) to float32 outputs; its tensors are in the order of their sorted names. Both are nodes
        of the graph under their names, the input as 'pixels'.
    """
    if sum(math.prod(weight.shape) for weight in model.weights) * 4 > FOLDED_BYTES:
        return None
    constants = [(weight, weight.numpy()) for weight in model.weights]
    traced = _inference(model, batch_size, constants, dtype).get_concrete_function()
    if not traced.captured_inputs:
        return traced
    with quiet():  # a session of the graph optimiser announces itself
        return convert_variables_to_constants_v2(traced)  # those that Keras does not know of, in a SavedModel


def _inference(
    model: keras.Model, batch_size: int | None, constants: Sequence[tuple[Any, NDArray[Any]]] = (), dtype: tf.DType = tf.uint8
) -> Any:
    """Args: constants: weights of the model, and the values that take their place in the graph."""
    spec = tf.TensorSpec((batch_size, *model.input.shape[1:]), dtype)

    @tf.function(input_signature=[spec], autograph=False)
    def call(pixels: tf.Tensor) -> Any:
        with keras.StatelessScope(state_mapping=[(weight, tf.constant(values)) for weight, values in constants]):
            outputs = model(tf.cast(pixels, tf.float32), training=False)
        return {name: tf.identity(tf.cast(values, tf.float32), name=name) for name, values in outputs.items()}

    return call
