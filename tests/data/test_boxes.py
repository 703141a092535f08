"""Boxes: their sides and places, and which pixels lie in them."""

import math

import numpy as np
import tensorflow as tf
from scipy import stats

from tl_keras.data.boxes import inside, random_sides


def test_sides_cover_the_areas_and_the_ratios_asked_for() -> None:
    area, ratio = (tf.constant(column, tf.float32) for column in np.random.default_rng(0).random((2, 2000)))
    height, width = (side.numpy() for side in random_sides((0.1, 0.3), (0.5, 2.0), tf.constant(50.0), tf.constant(60.0), area, ratio))
    assert stats.kstest(height * width / 3000, stats.uniform(0.1, 0.2).cdf).pvalue > 0.01
    assert stats.kstest(np.log(width / height), stats.uniform(math.log(0.5), math.log(4)).cdf).pvalue > 0.01


def test_no_side_is_longer_than_the_image() -> None:
    height, width = random_sides((1.0, 1.0), (4.0, 4.0), tf.constant(50.0), tf.constant(60.0), tf.zeros(2), tf.zeros(2))
    np.testing.assert_allclose(width, [60, 60])
    np.testing.assert_allclose(height, [math.sqrt(750)] * 2, rtol=1e-6)


def test_a_pixel_is_inside_where_its_centre_is() -> None:
    top, left, bottom, right = (tf.constant(edge) for edge in ([0.0, 1.4], [0.0, 0.6], [2.0, 2.6], [4.0, 2.5]))
    found = inside(top, left, bottom, right, tf.constant([3, 4])).numpy()
    assert found.shape == (2, 3, 4, 1)
    assert found[0, ..., 0].astype(int).tolist() == [[1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]]
    assert found[1, ..., 0].astype(int).tolist() == [[0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0]]
