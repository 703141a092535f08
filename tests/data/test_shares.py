"""Shares of a batch against the batch."""

import numpy as np
import pytest
import tensorflow as tf

from tl_keras.data.shares import OF_SHARES, Shares, loaded

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("size", [1, 2, 4, 7, 10])
def test_the_shares_of_a_batch_are_its_rows_once_and_their_losses_those_of_the_batch(size, count):
    losses, weights = RNG.normal(size=size).astype(np.float32), RNG.uniform(0.5, 2, size).astype(np.float32)
    total, counted = 0.0, []
    for share in range(count):
        shares = Shares(count, share, 1)
        rows = shares.rows((tf.range(size),), tf.constant(size, tf.int64), tf.constant(share, tf.int64))[0].numpy()
        scaled, num = shares.weigh(tf.gather(weights, rows), tf.constant(size, tf.int64), tf.constant(share, tf.int64))
        total += float(np.mean(scaled * losses[rows])) / count  # as Keras scales the loss of one of several devices
        counted += rows[: int(num)].tolist()
        assert len(rows) >= 1
    assert counted == list(range(size))
    assert total == pytest.approx(np.mean(weights * losses), rel=1e-6)


def batches(sizes: list[int]) -> tf.data.Dataset:
    """Numbered batches of places, one after the other."""
    return tf.data.Dataset.range(sum(sizes)).map(lambda place: (place, 10 * place)).batch(sizes[0]).enumerate(100)


def test_shares_are_read_in_order_and_nobody_reads_another_s():
    read: list[list[int]] = []

    def load(number: tf.Tensor, rows: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, ...]:
        tf.py_function(lambda places: read.append(places.numpy().tolist()), [rows[0]], [])
        return number, rows[1], tf.ones(tf.shape(rows[0]))

    found = []
    for first in (0, 2):  # two processes, of two devices each
        shares = Shares(4, first, 2)
        found += [[each.numpy().tolist() for each in element] for element in loaded(batches([8, 6]), load, shares)]
    assert sorted(place for places in read for place in places) == list(range(14))
    numbers, rows, weights, counts, sizes = zip(*found, strict=True)
    assert numbers == tuple(batch + share * OF_SHARES for shares in ((0, 1), (2, 3)) for batch in (100, 101) for share in shares)
    assert rows == ([0, 10], [20, 30], [80], [90, 100], [40, 50], [60, 70], [110], [120, 130])
    assert (counts, sizes) == ((2, 2, 1, 2, 2, 2, 1, 2), (8, 8, 6, 6, 8, 8, 6, 6))
    assert weights[2] == [pytest.approx(4 / 6)]
    assert weights[3] == [pytest.approx(8 / 6)] * 2


def test_whole_batches_are_as_they_are():
    found = list(loaded(batches([3, 2]), lambda number, rows: (number, *rows), None))
    assert [(int(number), places.numpy().tolist()) for number, places, _ in found] == [(100, [0, 1, 2]), (101, [3, 4])]
