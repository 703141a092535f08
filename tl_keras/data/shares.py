"""The share of a batch that each device trains on, cut before an image of it is read.

All devices together train on the batch that one device would: the same images, and each counts in the loss as it would there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

as_written = tf.autograph.experimental.do_not_convert  # for functions in which no Python depends on a tensor: analysing them takes time

OF_SHARES = (
    2**52
)  # times the number of a share, added to that of a batch, of which there are fewer: each share is mixed in a way of its own


@dataclass(frozen=True)
class Shares:
    """Which shares of each batch are read here.

    Attributes:
        count: into how many shares a batch is cut, one for each device.
        first: the first that is read here.
        here: how many are, one after the other.
    """

    count: int
    first: int
    here: int

    def loaded(self, batches: Any, load: Callable[..., Any]) -> Any:
        """Load the shares of batches, one after the other.

        Args:
            batches: a data set of (number of the batch, tensors of b rows).
            load: from such an element to inputs, targets and weights of its rows.

        Returns:
            A data set of inputs, targets and weights (s,) of a share as `weigh` makes them, and int64 how many of its s rows count, and how
            many rows the batch has.
        """
        numbers = tf.data.Dataset.range(self.first, self.first + self.here)

        def cut(number: tf.Tensor, batch: Any) -> Any:
            size = tf.size(batch[0], tf.int64)
            return numbers.map(lambda share: (share, size, number, self.rows(batch, size, share)))

        def load_share(share: tf.Tensor, size: tf.Tensor, number: tf.Tensor, rows: Any) -> tuple[Any, ...]:
            inputs, targets, weights = load(number + share * OF_SHARES, rows)
            return inputs, targets, *self.weigh(weights, size, share), size

        return in_order(batches.flat_map(as_written(cut)), as_written(load_share), self.here)

    def bounds(self, size: Any, share: Any) -> tuple[Any, Any]:
        """Where a share of a batch of so many rows begins, and where it ends: at once where there is no row for it."""
        return size * share // self.count, size * (share + 1) // self.count

    def rows(self, batch: Any, size: tf.Tensor, share: tf.Tensor) -> Any:
        """The rows of a share; where there is none for it, one of the others', which will not count: no device stands idle."""
        start, stop = self.bounds(size, share)
        return tuple(each[start : tf.maximum(stop, start + 1)] for each in batch)

    def weigh(self, weights: tf.Tensor, size: tf.Tensor, share: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Weights with which the mean over all shares of their mean losses is the mean loss of the batch.

        Args:
            weights: float32 (s,), of the rows of a share in the batch.
            size: int64, of the batch.

        Returns:
            Weights (s,), and int64 how many rows of the share count: s, or 0 where there was none for it.
        """
        start, stop = self.bounds(size, share)
        factor = tf.cast(self.count * tf.size(weights, tf.int64), tf.float32) / tf.cast(size, tf.float32)
        return weights * factor * tf.cast(stop > start, tf.float32), stop - start


def loaded(batches: Any, load: Callable[..., Any], shares: Shares | None) -> Any:
    """Load whole batches, or shares of them; see `Shares.loaded`."""
    return in_order(batches, load, 1) if shares is None else shares.loaded(batches, load)


def in_order(elements: Any, load: Callable[..., Any], at_once: int) -> Any:
    """Load some elements of a data set ahead, twice as many as are needed at once."""
    return elements.map(load, num_parallel_calls=2 * at_once, deterministic=True).prefetch(2 * at_once)
