"""The last digit of a number does not depend on the numbers beside it."""

import numpy as np
import pytest
import tensorflow as tf

from tl_keras.data.precise import precise


@pytest.mark.parametrize("function", [tf.exp, tf.sin, tf.cos])
def test_a_number_is_the_same_alone_and_in_any_company(function) -> None:
    values = np.random.default_rng(0).random(100, dtype=np.float32)
    together = precise(function, tf.constant(values)).numpy()
    assert together.dtype == np.float32
    for size in (1, 3, 8, 13):
        parts = [precise(function, tf.constant(values[start : start + size])) for start in range(0, 100, size)]
        np.testing.assert_array_equal(np.concatenate(parts), together)
    np.testing.assert_array_equal(together, getattr(np, function.__name__)(values.astype(np.float64)).astype(np.float32))
