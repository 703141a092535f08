"""Which images an epoch shows, in which order: each once, be it a few shards at a time, or as many of each class as of any other."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

Order = Callable[[int, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
"""(seed, epoch int64 scalar) -> places in train, int64 (n,), and the number of each view, int64 (n,) below 2**32, which its random changes
depend on: views of one epoch with the same number are equal."""

MIXED = 8  # shards; most have thousands of images each
OF_ORDER = 2**33  # with what seeds are told apart: those of views and mixing are below


def shuffled(num: int) -> Order:
    """Each of `num` images once; the number of a view is the place of its image."""

    def order(seed: int, epoch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        key = tf.stack([tf.constant(seed, tf.int64), epoch])
        places = tf.random.experimental.stateless_shuffle(tf.range(num, dtype=tf.int64), seed=key)
        return places, places

    return order


def by_shard(shards: NDArray[np.integer]) -> Order:
    """Each image once, and few shards read at a time: the shards come in a random order, and the images of `MIXED` of them are shuffled
    together; the number of a view is the place of its image.

    For disks on which a jump costs more than the bytes, as those behind a network. The images must not be sorted by class in the shards.

    Args:
        shards: int (n,), the number of each image's shard.
    """
    numbers = np.unique(shards, return_inverse=True)[1]
    shard, num_shards = tf.constant(numbers, tf.int64), int(numbers.max(initial=0)) + 1

    def order(seed: int, epoch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        key = tf.stack([tf.constant(seed + OF_ORDER, tf.int64), epoch])
        rank = tf.random.experimental.stateless_shuffle(tf.range(num_shards, dtype=tf.int64), seed=key)
        uniform = tf.random.stateless_uniform([len(numbers)], key, dtype=tf.float64, alg="philox")
        mixed = tf.gather(rank, shard) // MIXED
        places = tf.cast(tf.argsort(tf.cast(mixed, tf.float64) + uniform), tf.int64)
        return places, places

    return order


def balanced(labels: NDArray[np.integer]) -> Order:
    """As many draws as there are images, with replacement: first a class, all equally likely, then one of its images.

    Args:
        labels: int (n,), the class of each image.
    """
    num, sizes = len(labels), np.bincount(labels)
    there = np.flatnonzero(sizes)
    by_class = tf.constant(np.argsort(labels, kind="stable"), tf.int64)
    starts, lengths = (tf.constant(each[there], tf.int64) for each in (np.cumsum(sizes) - sizes, sizes))

    def order(seed: int, epoch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        key = tf.stack([tf.constant(seed + OF_ORDER, tf.int64), epoch])
        uniform = tf.random.stateless_uniform([2, num], key, dtype=tf.float64, alg="philox")
        drawn = tf.cast(uniform[0] * len(there), tf.int64)
        inside = tf.cast(uniform[1] * tf.cast(tf.gather(lengths, drawn), tf.float64), tf.int64)
        places = tf.gather(by_class, tf.gather(starts, drawn) + inside)
        return places, num + tf.range(num, dtype=tf.int64)  # an image that comes twice has two views

    return order
