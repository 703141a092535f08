"""Random boxes in images: those that are cut out, erased or pasted."""

import math

import tensorflow as tf

from tl_keras.data.draws import Pair, between
from tl_keras.data.precise import precise


def random_sides(
    areas: Pair, ratios: Pair, height: tf.Tensor, width: tf.Tensor, area: tf.Tensor, ratio: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """(height, width) of boxes, float32 `(b,)` each; a box longer than the image is cut to it, where torchvision draws again.

    Args:
        areas: the fraction of the image that a box covers; uniform.
        ratios: width / height in pixels; uniform on a logarithmic scale.
        height: of the images, as `width` a float32 scalar.
        area: uniform numbers `(b,)` in [0, 1), as `ratio`.
    """
    covered = between(*areas, area) * height * width
    aspect = precise(tf.exp, between(math.log(ratios[0]), math.log(ratios[1]), ratio))
    return tf.minimum(tf.sqrt(covered / aspect), height), tf.minimum(tf.sqrt(covered * aspect), width)


def inside(top: tf.Tensor, left: tf.Tensor, bottom: tf.Tensor, right: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Whether the centre of each pixel lies in its image's box, bool `(b, h, w, 1)`.

    Args:
        top: where boxes begin and end, float32 `(b,)` in pixels from the image's corner, as `left`, `bottom` and `right`.
        size: int32 (height, width).
    """
    y, x = (tf.range(side, dtype=tf.float32) + 0.5 for side in tf.unstack(tf.cast(size, tf.float32)))
    rows = (y >= top[:, None]) & (y < bottom[:, None])  # (b, h)
    columns = (x >= left[:, None]) & (x < right[:, None])  # (b, w)
    return (rows[:, :, None] & columns[:, None, :])[..., None]
