"""Functions whose last digit does not depend on where in a batch a number stands.

In float32 the processor takes eight or sixteen numbers at once, and the few that are left of a batch by other code, which may end on
another digit: enough to move a pixel by a grey level. Of float64 all digits that float32 has are the same.
"""

from collections.abc import Callable

import tensorflow as tf


def precise(function: Callable[[tf.Tensor], tf.Tensor], values: tf.Tensor) -> tf.Tensor:
    """`function(values)` of float32, such as of `tf.exp`, rounded only at the end."""
    return tf.cast(function(tf.cast(values, tf.float64)), tf.float32)
