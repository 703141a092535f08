"""The random numbers of views: which they are, that they are uniform, and that no two views share them."""

import numpy as np
import tensorflow as tf
from scipy import stats

from tl_keras.data.draws import DRAWS, angle, between, both_ways, by_name, draw


def numbers(seeds: range, epochs: range, indices: range) -> np.ndarray:
    """(seeds * epochs * indices, len(DRAWS))."""
    views_of_image = tf.function(lambda epoch, index: tf.stack([draw(seed, epoch, index) for seed in seeds]))
    pairs = ((tf.constant(epoch, tf.int64), tf.constant(index, tf.int64)) for epoch in epochs for index in indices)
    return np.concatenate([views_of_image(*pair) for pair in pairs])


def test_draws_are_these_in_every_release() -> None:
    row = draw(0, tf.constant(0, tf.int64), tf.constant(0, tf.int64))
    assert row.shape == (len(DRAWS),)
    np.testing.assert_allclose(row[:3], [0.21101546, 0.70601, 0.80006337], rtol=1e-6)


def test_more_draws_leave_the_earlier_numbers_as_they_are() -> None:
    """Those of the 16 options that there were first, as they were drawn then."""
    for epoch, index in ((0, 0), (3, 41), (2**31 - 1, 2**32 - 1)):
        key = tf.constant([7, epoch * 2**32 + index], tf.int64)
        first = tf.random.stateless_uniform([16], key, alg="philox")
        now = draw(7, tf.constant(epoch, tf.int64), tf.constant(index, tf.int64))
        np.testing.assert_array_equal(now[:16], first)


def test_draws_are_uniform_and_never_repeat() -> None:
    rows = numbers(range(3), range(20), range(25))
    assert len(np.unique(rows[:, 0])) > 0.999 * len(rows)
    assert rows.min() >= 0
    assert rows.max() < 1
    for column in rows.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-3
    related = np.corrcoef(rows.T) - np.eye(len(DRAWS))
    assert np.abs(related).max() < 0.1


def test_draws_of_large_numbers_are_their_own() -> None:
    largest = 2**31 - 1
    pairs = [(0, 0), (0, 1), (1, 0), (largest, 0), (0, 2**32 - 1), (largest, 2**32 - 1)]
    rows = [draw(largest, tf.constant(e, tf.int64), tf.constant(i, tf.int64)) for e, i in pairs]
    assert len(np.unique(rows, axis=0)) == len(pairs)


def test_columns_have_the_names_of_the_table() -> None:
    rows = np.random.default_rng(0).random((5, len(DRAWS)), dtype=np.float32)
    named = by_name(tf.constant(rows))
    assert list(named) == list(DRAWS)
    np.testing.assert_array_equal(named["hue"], rows[:, DRAWS.index("hue")])


def test_numbers_are_stretched() -> None:
    uniform = tf.constant([0.0, 0.25, 1.0])
    np.testing.assert_allclose(between(-2.0, 6.0, uniform), [-2, 0, 6])
    np.testing.assert_allclose(both_ways(3.0, uniform), [-3, -1.5, 3])
    np.testing.assert_allclose(angle(180, uniform), [-np.pi, -np.pi / 2, np.pi], rtol=1e-6)
