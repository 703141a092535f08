"""The source of a phase's batches: pixels, augmented anew each epoch, or the outputs of a frozen trunk for them.

Both give the same things in the same order: an epoch is each training image once, and val or test is read in the order
of its rows. What a feed feeds is its `model`: the whole classifier, its tail, or its head.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tl_keras.data.mixing import mix_of
from tl_keras.data.pipeline import ordered_batches, train_batches, without_tuning
from tl_keras.data.python_reader import python_reader
from tl_keras.data.shares import Shares, as_written, loaded
from tl_keras.transfer.features import StoredFeatures
from tl_keras.transfer.task import Task


class Feed(Protocol):
    """A model and the batches that it learns from and is measured on."""

    model: keras.Model

    def train(self, first_epoch: int, first_step: int = 0, shares: Shares | None = None) -> Any:
        """Endless (inputs, targets (b, k), weights (b,)) batches from an epoch (0-based) and a step in it on, or shares of them."""

    def ordered(self, split: str) -> Any:
        """(inputs, targets (b, k)) batches of each image of a split once, in the order of its rows."""


class PixelFeed:
    """The images themselves, mixed where `train` says so; every epoch sees views that no epoch saw before."""

    def __init__(self, task: Task, model: keras.Model) -> None:
        self.model = model
        self._task = task

    def train(self, first_epoch: int, first_step: int = 0, shares: Shares | None = None) -> Any:
        task, data = self._task, self._task.data
        return train_batches(
            data.pixels,
            data.rows("train"),
            task.learned,
            task.train_weights,
            task.targets_op,
            batch_size=task.config.train.batch_size,
            augment=task.config.data.augment,
            seed=task.config.runtime.seed,
            mix=mix_of(task.config.train, task.config.runtime.seed),
            order=task.order,
            first_epoch=first_epoch,
            first_step=first_step,
            shares=shares,
        )

    def ordered(self, split: str) -> Any:
        data = self._task.data
        size = self._task.config.train.batch_size
        return ordered_batches(data.pixels, data.rows(split), data.index.learned, self._task.targets_op, batch_size=size)


class StoredFeed:
    """Stored features; an image's views take turns over the epochs, each once before one comes back.

    Args:
        model: reads the outputs, one input for each.
        outputs: names of outputs of the task's trunk.
        change: applied to each batch of the (one) output, such as standardising.
    """

    def __init__(
        self,
        task: Task,
        model: keras.Model,
        outputs: Sequence[str],
        change: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None,
    ) -> None:
        self.model = model
        self._task = task
        self._outputs = outputs
        self._change = change or (lambda features: features)

    def train(self, first_epoch: int, first_step: int = 0, shares: Shares | None = None) -> Any:
        task = self._task
        labels, weights = tf.constant(task.learned[task.data.rows("train")]), tf.constant(task.train_weights)
        num, num_views, seed = len(task.data.labels("train")), 1 + task.num_views, task.config.runtime.seed
        show = task.order
        load = self._loader([task.stored(output, "train") for output in self._outputs])

        @as_written
        def one_epoch(epoch: tf.Tensor) -> Any:
            places, numbers = show(seed, epoch)
            view = view_of(numbers % num, epoch, num, num_views, seed)  # where images come several times, views differ by the draw
            return tf.data.Dataset.from_tensor_slices((places, view)).batch(task.config.train.batch_size).enumerate()

        @as_written
        def batch(_: tf.Tensor, rows: tuple[tf.Tensor, tf.Tensor]) -> tuple[Any, ...]:
            order, view = rows
            return load(view * num + order), task.targets_op(tf.gather(labels, order)), tf.gather(weights, order)

        epochs = tf.data.Dataset.range(first_epoch, np.iinfo(np.int32).max).flat_map(one_epoch).skip(first_step)
        return without_tuning(loaded(epochs, batch, shares))

    def ordered(self, split: str) -> Any:
        task = self._task
        labels = tf.constant(task.data.learned(split))
        load = self._loader([task.stored(output, split) for output in self._outputs])
        rows = tf.data.Dataset.range(len(task.data.labels(split))).batch(task.config.train.batch_size)

        @as_written
        def batch(order: tf.Tensor) -> tuple[Any, tf.Tensor]:
            return load(order), task.targets_op(tf.gather(labels, order))

        return without_tuning(rows.map(batch).prefetch(2))

    def _loader(self, stored: list[StoredFeatures]) -> Callable[[tf.Tensor], Any]:
        def read(rows: NDArray[np.int64]) -> list[NDArray[np.float32]]:
            return [self._change(features[rows]) for features in stored]

        read_now = python_reader(read, [tf.float32] * len(stored))

        def load(rows: tf.Tensor) -> Any:
            found = read_now(rows)
            for tensor, features in zip(found, stored, strict=True):
                tensor.set_shape((None, *features.shape[1:]))
            return found[0] if len(found) == 1 else tuple(found)

        return load


def view_of(order: tf.Tensor, epoch: tf.Tensor, num: int, num_views: int, seed: int) -> tf.Tensor:
    """Which view of each image an epoch shows: int64 like `order`; over `num_views` epochs each view comes once."""
    key = tf.stack([tf.constant(seed, tf.int64), 2**32 + epoch // num_views])
    first = tf.random.stateless_uniform([num], key, 0, num_views, tf.int64)
    return (tf.gather(first, order) + epoch) % num_views
