"""Affine maps against NumPy."""

import numpy as np
import tensorflow as tf

from tl_keras.data.affine import affine, product


def test_entries_have_their_places() -> None:
    found = affine(tf.constant([1.0, 2.0]), 3.0, 4.0, 5.0, tf.constant([6.0, 7.0]), 8.0)
    np.testing.assert_array_equal(found, [[[1, 3, 4], [5, 6, 8], [0, 0, 1]], [[2, 3, 4], [5, 7, 8], [0, 0, 1]]])
    assert affine(1.0, 0.0, 0.0, 0.0, 1.0, 0.0).shape == (1, 3, 3)


def test_product_is_that_of_matrices() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 5, 3, 3)).astype(np.float32)
    np.testing.assert_allclose(product(tf.constant(a), tf.constant(b)), a @ b, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(product(tf.constant(a[:1]), tf.constant(b)), a[:1] @ b, rtol=1e-5, atol=1e-6)
