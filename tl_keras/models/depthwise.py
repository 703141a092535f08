"""Convolutions of one channel each, said as such: Keras' ConvNeXt builds them as `Conv2D` with as many groups as channels.

The numbers are the same, but TensorFlow has no kernel of its own for groups on a CPU: it compiles them with XLA, and takes six times
as long as for `DepthwiseConv2D`, in training too.
"""

from typing import Any

import keras
import numpy as np

from tl_keras.models.unroll import new_layer

_SHARED = ("name", "kernel_size", "strides", "padding", "data_format", "dilation_rate", "activation", "use_bias", "trainable")


def with_depthwise(model: keras.Model) -> keras.Model:
    """The same network, in which convolutions of one channel each are `DepthwiseConv2D`, with the same names and weights.

    Args:
        model: a flat functional model; returned as it is where it has no such convolution.
    """
    if not any(map(is_depthwise, model.layers)):
        return model
    twin = keras.models.clone_model(model, clone_function=lambda layer: _depthwise(layer) if is_depthwise(layer) else new_layer(layer))
    for old, new in zip(model.layers, twin.layers, strict=True):
        weights = old.get_weights()
        if is_depthwise(old):
            weights[0] = np.swapaxes(weights[0], -1, -2)  # (h, w, 1, c) -> (h, w, c, 1)
        new.set_weights(weights)
    return twin


def is_depthwise(layer: Any) -> bool:
    """Whether a layer is a `Conv2D` of one channel in and out for each of several groups, which `DepthwiseConv2D` can say."""
    return (
        type(layer) is keras.layers.Conv2D
        and layer.kernel.shape[-2] == 1
        and layer.filters == layer.groups > 1
        and len(set(layer.strides)) == 1
    )


def _depthwise(layer: keras.layers.Conv2D) -> keras.layers.DepthwiseConv2D:
    config = layer.get_config()
    return keras.layers.DepthwiseConv2D(
        **{key: config[key] for key in _SHARED},
        depthwise_regularizer=config["kernel_regularizer"],
        bias_regularizer=config["bias_regularizer"],
        dtype=keras.config.dtype_policy(),
    )
