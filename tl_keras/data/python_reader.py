"""A function of Python that reads batches inside a TensorFlow graph, and is let go when its data set is.

`tf.numpy_function` appends each function that it is given to a list of the process' outermost graph, which never shrinks
(`script_ops._internal_py_func`): with it would stay whatever the function refers to, such as a whole training run with its networks.
So it is given one that refers to the reader weakly. The data set, whose own map function calls `python_reader`'s result, keeps it.
"""

import weakref
from collections.abc import Callable
from typing import Any

import tensorflow as tf


class _Reader:
    """Holds a function, so that it can be referred to weakly."""

    def __init__(self, read: Callable[[Any], Any]) -> None:
        self.read = read


def python_reader(read: Callable[[Any], Any], dtypes: Any) -> Callable[[tf.Tensor], Any]:
    """Make a function of tensors from one of arrays.

    Args:
        read: int64 rows (b,) -> an array, or a list of arrays, as `dtypes` says.
        dtypes: a dtype of TensorFlow, or a list of them.

    Returns:
        The function to call in the map function of a `tf.data.Dataset`, which must refer to it for as long as it is read.
    """
    reader = _Reader(read)
    weak = weakref.ref(reader)

    def read_now(rows: Any) -> Any:
        held = weak()
        if held is None:
            raise RuntimeError("a batch was asked for after its data set had gone")
        return held.read(rows)

    def load(rows: tf.Tensor, _held: _Reader = reader) -> Any:  # referred to by this function, and so by the data set
        return tf.numpy_function(read_now, [rows], dtypes, stateful=False)

    return load
