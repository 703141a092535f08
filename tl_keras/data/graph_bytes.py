"""Reading a file's bytes with TensorFlow ops: numbers, signatures, pieces, and blocks that follow each other.

Knows no file format; `decode_graph` and `orientation_graph` do. A file is held twice: `data`, a string scalar, for what
takes strings, and `raw`, uint8 (n,), for numbers.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf


class Step(NamedTuple):
    """One look at a file's structure.

    Attributes:
        found: bool (m,), for each of m kinds of block that are sought, whether this is one.
        begin: int64, where its content lies.
        end: int64, the place behind its content.
        next: int64, where the next block begins.
    """

    found: list[tf.Tensor]
    begin: tf.Tensor
    end: tf.Tensor
    next: tf.Tensor


def find_blocks(raw: tf.Tensor, start: int, number: int, step: Callable[[tf.Tensor], Step]) -> list[tuple[tf.Tensor, tf.Tensor]]:
    """Where the content of the first block of each of `number` kinds lies: begin and end, both 0 where there is none."""

    def unfinished(at: tf.Tensor, _: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
        return (at < size(raw)) & tf.reduce_any(end == 0)

    def advance(at: tf.Tensor, begin: tf.Tensor, end: tf.Tensor) -> tuple[tf.Tensor, ...]:
        block = step(at)
        new = tf.stack(block.found) & (end == 0)
        return block.next, tf.where(new, block.begin, begin), tf.where(new, block.end, end)

    none = tf.zeros((number,), tf.int64)
    _, begin, end = tf.while_loop(unfinished, advance, (tf.constant(start, tf.int64), none, none))
    return list(zip(tf.unstack(begin), tf.unstack(end), strict=True))


def unsigned(raw: tf.Tensor, at: tf.Tensor | int, length: int, *, big_endian: bool = True) -> tf.Tensor:
    """Unsigned integers of `length` bytes at each place, int64 of the shape of `at`; past the end the last byte is repeated."""
    digits = tf.cast(_bytes_at(raw, at, length), tf.int64)
    exponents = range(length - 1, -1, -1) if big_endian else range(length)
    return tf.reduce_sum(digits * tf.constant([256**exponent for exponent in exponents], tf.int64), axis=-1)


def holds(raw: tf.Tensor, at: tf.Tensor | int, expected: bytes) -> tf.Tensor:
    """Whether these bytes lie at a place: bool scalar."""
    return tf.reduce_all(_bytes_at(raw, at, len(expected)) == tf.constant(list(expected), tf.uint8))


def _bytes_at(raw: tf.Tensor, at: tf.Tensor | int, length: int) -> tf.Tensor:
    places = tf.convert_to_tensor(at, tf.int64)[..., tf.newaxis] + tf.range(length, dtype=tf.int64)
    return tf.gather(raw, tf.minimum(places, size(raw) - 1))


def cut(data: tf.Tensor, begin: tf.Tensor | int, end: tf.Tensor) -> tf.Tensor:
    """The bytes of a string from `begin` to before `end`."""
    begin = tf.cast(begin, tf.int64)
    return tf.strings.substr(data, begin, tf.cast(end, tf.int64) - begin)


def size(raw: tf.Tensor) -> tf.Tensor:
    """How many bytes there are, int64."""
    return tf.size(raw, tf.int64)
