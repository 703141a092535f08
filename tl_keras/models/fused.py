"""Training with BatchNorm in fewer passes over the activations than Keras needs.

A BatchNorm that stands still goes into the convolution before it: a scaled kernel and a bias give the same numbers as multiplying and
adding over the whole activation, in every step and once more for the gradient. One that trains is one operation of TensorFlow's, where
Keras writes out mean, variance and all. `folded` does the first for networks that no longer train.
"""

from typing import Any

import keras
import tensorflow as tf
from keras.src.models.functional import operation_fn

from tl_keras.models.stages import parents_of
from tl_keras.runtime import building_as

_CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)


class FusedModel(keras.Model):
    """A flat functional model, computed with fewer operations; its layers, weights and outputs are those of the plain one.

    A BatchNorm goes into the convolution before it wherever it does not look at the batch: always if it is not trainable, and in
    inference (`training=False`) in any case. Where it does, it normalises, with its gradient and statistics, in one operation.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._norm_of = _norms(self)  # names, not layers: those would be saved twice

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """As Keras calls a functional model, but for the convolutions."""
        norms = {convolution: self.get_layer(norm) for convolution, norm in self._norm_of.items()}
        still = {convolution: norm for convolution, norm in norms.items() if training is False or not norm.trainable}
        done = {norm.name for norm in still.values()}

        def called(operation: Any) -> Any:
            if operation.name in still:
                return lambda inputs, **_: _convolve(operation, still[operation.name], inputs)
            if operation.name in done:
                return lambda outputs, **_: keras.ops.cast(outputs, operation.compute_dtype)
            if training and _is_image_norm(operation) and operation.trainable:
                return lambda inputs, **_: _normalise(operation, inputs)
            return operation_fn(operation, training=training)

        outputs = self._run_through_graph(self._standardize_inputs(inputs), operation_fn=called)
        return outputs[0] if isinstance(outputs, list | tuple) and len(outputs) == 1 else outputs


def fused(model: keras.Model) -> keras.Model:
    """The same layers as a `FusedModel`; the model itself where it has no BatchNorm of images."""
    if not any(map(_is_image_norm, model.operations)):
        return model
    with building_as(model):
        return FusedModel(model.input, model.output, name=model.name)


def _norms(model: keras.Model) -> dict[str, str]:
    """The convolutions whose only reader is a BatchNorm of its channels, and that BatchNorm, by name."""
    parents = parents_of(model)
    readers: dict[int, list[Any]] = {}
    for operation in model.operations:
        for parent in parents[id(operation)]:
            readers.setdefault(id(parent), []).append(operation)
    last = {id(tensor._keras_history.operation) for tensor in keras.tree.flatten(model.output)}
    found = {}
    for operation in model.operations:
        read_by = readers.get(id(operation), [])
        if len(read_by) == 1 and _is_plain(operation) and id(operation) not in last and _is_image_norm(read_by[0]):
            found[operation.name] = read_by[0].name
    return found


def _is_plain(operation: Any) -> bool:
    """Whether it is a convolution that does nothing besides convolving and adding its bias."""
    return (
        type(operation) in _CONVOLUTIONS
        and operation.activation is keras.activations.linear
        and operation.activity_regularizer is None
        and operation.data_format == "channels_last"
    )


def _is_image_norm(operation: Any) -> bool:
    """Whether it is a BatchNorm of the channels of (b, h, w, c), as most are."""
    return (
        type(operation) is keras.layers.BatchNormalization
        and operation.axis in (-1, 3)
        and len(operation.output.shape) == 4
        and not (operation.renorm or operation.synchronized)
    )


def _convolve(layer: Any, norm: Any, inputs: Any) -> Any:
    """A convolution and the BatchNorm after it: inputs (b, h, w, c) -> (b, h', w', k) in the layer's precision."""
    scale = keras.ops.rsqrt(norm.moving_variance + norm.epsilon)  # (k,), float32
    scale = scale * norm.gamma if norm.scale else scale
    bias = (layer.bias if layer.use_bias else 0.0) - norm.moving_mean
    bias = bias * scale + (norm.beta if norm.center else 0.0)
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    kernel = layer.kernel * keras.ops.reshape(scale, layer.kernel.shape[-2:] if depthwise else (-1,))
    convolve = keras.ops.depthwise_conv if depthwise else keras.ops.conv
    outputs = convolve(
        keras.ops.cast(inputs, layer.compute_dtype),
        keras.ops.cast(kernel, layer.compute_dtype),
        strides=layer.strides,
        padding=layer.padding,
        data_format=layer.data_format,
        dilation_rate=layer.dilation_rate,
    )
    return tf.nn.bias_add(outputs, keras.ops.cast(bias, layer.compute_dtype))


def _normalise(norm: Any, inputs: Any) -> Any:
    """A BatchNorm in training: inputs (b, h, w, c) by the mean and variance of the batch, of which it keeps moving averages."""
    channels = norm.moving_mean.shape
    outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
        tf.cast(inputs, tf.float32),  # as Keras does: the statistics of lower precisions overflow
        norm.gamma if norm.scale else tf.ones(channels),
        norm.beta if norm.center else tf.zeros(channels),
        epsilon=norm.epsilon,
        is_training=True,
    )
    count = tf.cast(tf.size(inputs) / channels[0], tf.float32)
    variance = variance * (count - 1) / count  # TensorFlow's divides by count - 1, Keras keeps the one that divides by count
    for moving, found in ((norm.moving_mean, mean), (norm.moving_variance, variance)):
        moving.assign(moving * norm.momentum + tf.stop_gradient(found) * (1 - norm.momentum))
    return tf.cast(outputs, norm.compute_dtype)
