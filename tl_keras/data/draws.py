"""The random numbers of a view, uniform in [0, 1), and how they become amounts.

The numbers of a view depend on (seed, epoch, the image's number) alone: not on threads, on batches or on what is switched on.
"""

import math
from typing import Any

import tensorflow as tf

MOST_OPS = 3  # operations of RandAugment for an image

# One uniform number each. All are drawn whatever is on, so that an option does not change the numbers of the others.
DRAWS = (
    "horizontal_flip",
    "vertical_flip",
    "rotation",
    "width_shift",
    "height_shift",
    "zoom_width",
    "zoom_height",
    "shear",
    "crop_area",
    "crop_ratio",
    "crop_left",
    "crop_top",
    "brightness",
    "contrast",
    "saturation",
    "hue",
    "channel_shift",  # new ones go to the end: the numbers of those above stay as they are
    "grayscale",
    "erase",
    "erase_area",
    "erase_ratio",
    "erase_left",
    "erase_top",
    "auto_magnitude",
    *(f"auto_{what}_{number}" for number in range(1, MOST_OPS + 1) for what in ("op", "sign")),
)

Draws = dict[str, Any]  # name of DRAWS -> float32 (b,) in [0, 1)
Pair = tuple[float, float]  # low, high


def draw(seed: int, epoch: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """The random numbers of one view of one image; equal in every run, thread and batch size.

    Args:
        seed: the run's, 0 to 2**31 - 1; 0 is a seed like any other.
        epoch: int64 scalar, 0 to 2**31 - 1.
        index: int64 scalar, 0 to 2**32 - 1, the image's number in its split.

    Returns:
        float32 `(len(DRAWS),)` in [0, 1).
    """
    view = tf.cast(epoch, tf.int64) * 2**32 + tf.cast(index, tf.int64)
    key = tf.stack([tf.constant(seed, tf.int64), view])
    return tf.random.stateless_uniform([len(DRAWS)], key, alg="philox")


def by_name(draws: tf.Tensor) -> Draws:
    """The columns of `(b, len(DRAWS))`, rows of `draw`."""
    return dict(zip(DRAWS, tf.unstack(draws, len(DRAWS), axis=1), strict=True))


def between(low: Any, high: Any, uniform: tf.Tensor) -> tf.Tensor:
    """Numbers in [0, 1) stretched to [low, high)."""
    return low + (high - low) * uniform


def both_ways(limit: float, uniform: tf.Tensor) -> tf.Tensor:
    """Numbers in [0, 1) stretched to [-limit, limit)."""
    return between(-1.0, 1.0, uniform) * limit


def angle(degrees: float, uniform: tf.Tensor) -> tf.Tensor:
    """Radians of [-degrees, degrees)."""
    return both_ways(math.radians(degrees), uniform)
