"""Colours of random views: brightness, contrast, saturation, hue and grey as one matrix and one offset; and IDG's channel shift."""

import math

import tensorflow as tf

from tl_keras.config import AugmentConfig
from tl_keras.data.affine import product
from tl_keras.data.colour_ops import LUMA
from tl_keras.data.draws import Draws, Pair, angle, between, both_ways
from tl_keras.data.precise import precise


def shift_values(largest: float, images: tf.Tensor, draws: Draws) -> tf.Tensor:
    """IDG's channel shift: one amount for all channels of float32 `(b, h, w, 3)`, within the darkest and brightest value that there is."""
    amount = both_ways(largest, draws["channel_shift"])
    low, high = (extreme(images, axis=(1, 2, 3), keepdims=True) for extreme in (tf.reduce_min, tf.reduce_max))
    return tf.clip_by_value(images + amount[:, None, None, None], low, high)


def recolour(augment: AugmentConfig, images: tf.Tensor, draws: Draws) -> tf.Tensor:
    """Brightness, contrast, saturation, hue in that order, on float32 `(b, h, w, 3)`; may leave 0..255.

    All four are linear: with the factors k of brightness and c of contrast, the matrices S of saturation and H of hue
    and the image's mean grey g, a pixel p (a row) becomes (c k p + (1 - c) k g) S H. Neither S nor H changes a grey, so
    the second term is an offset.
    """
    brightness = _factor(augment.brightness_range, draws["brightness"])
    contrast = _factor(augment.contrast_range, draws["contrast"])
    matrix = product(_saturation(augment, draws), _hue(augment, draws))  # (b, 3, 3)
    matrix *= (brightness * contrast)[:, None, None]
    flat = tf.reshape(images, [tf.shape(images)[0], -1, 3])  # (b, h * w, 3)
    recoloured = flat @ matrix
    if augment.contrast_range:
        grey = tf.reduce_sum(tf.reduce_mean(flat, axis=1) * LUMA, axis=-1)  # (b,)
        recoloured += ((1.0 - contrast) * brightness * grey)[:, None, None]
    return tf.reshape(recoloured, tf.shape(images))


def _factor(bounds: Pair | None, uniform: tf.Tensor) -> tf.Tensor:
    """`(b,)` factors within the bounds; 1 without bounds."""
    return tf.ones_like(uniform) if bounds is None else between(*bounds, uniform)


def _saturation(augment: AugmentConfig, draws: Draws) -> tf.Tensor:
    """`(b, 3, 3)`: mixes each pixel with its grey; 0 is a grey image, 1 the image."""
    factor = tf.where(draws["grayscale"] < augment.grayscale, 0.0, _factor(augment.saturation_range, draws["saturation"]))[:, None, None]
    grey = tf.constant(LUMA)[:, None] * tf.ones([1, 3])  # a row vector times this is its grey, three times
    return factor * tf.eye(3) + (1.0 - factor) * grey


def _hue(augment: AugmentConfig, draws: Draws) -> tf.Tensor:
    """`(b, 3, 3)`: turns colours about the grey axis; a third of the circle takes red to green to blue, as in HSV.

    Reference: Rodrigues' rotation formula about (1, 1, 1) / sqrt(3).
    """
    turn = angle(360 * augment.hue_range, draws["hue"])[:, None, None]
    cross = tf.constant([[0.0, 1.0, -1.0], [-1.0, 0.0, 1.0], [1.0, -1.0, 0.0]]) / math.sqrt(3)
    cos, sin = precise(tf.cos, turn), precise(tf.sin, turn)
    return cos * tf.eye(3) + sin * cross + (1.0 - cos) / 3
