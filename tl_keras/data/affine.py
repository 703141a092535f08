"""Affine maps of the plane as matrices, one for each image of a batch."""

from typing import Any

import tensorflow as tf


def affine(xx: Any, xy: Any, x: Any, yx: Any, yy: Any, y: Any) -> tf.Tensor:
    """`(b, 3, 3)` of entries that are `(b,)` or scalars; `(1, 3, 3)` where all are scalars."""
    zero = 0.0 * (xx + xy + x + yx + yy + y)  # of the common shape
    entries = [zero + entry for entry in (xx, xy, x, yx, yy, y, 0.0, 0.0, 1.0)]
    return tf.reshape(tf.stack(entries, axis=-1), [-1, 3, 3])


def product(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """`a @ b` of `(b, 3, 3)` in full float32: oneDNN may multiply matrices in bfloat16, a pixel off at 256."""
    return tf.reduce_sum(a[:, :, :, None] * b[:, None, :, :], axis=2)
