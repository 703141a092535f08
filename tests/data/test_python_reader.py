"""What Python reads for a data set is let go with the data set."""

import gc
import weakref
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tl_keras.data.python_reader import python_reader


class Source:
    """Something large that a reader refers to."""

    def read(self, rows: Any) -> Any:
        return rows.astype(np.float32) * 2


def data_set(source: Source) -> Any:
    read = python_reader(source.read, tf.float32)
    return tf.data.Dataset.range(4).batch(2).map(lambda rows: read(rows)).prefetch(1)


@pytest.mark.slow
def test_a_data_set_reads_for_as_long_as_it_lives() -> None:
    made = data_set(Source())
    gc.collect()
    for _ in range(2):
        assert [part.numpy().tolist() for part in made] == [[0.0, 2.0], [4.0, 6.0]]


def test_nothing_is_kept_of_a_data_set_that_has_gone() -> None:
    source = Source()
    kept = weakref.ref(source)
    made = data_set(source)
    list(made)
    del source, made
    gc.collect()
    assert kept() is None


@pytest.mark.slow
def test_a_reader_that_has_gone_is_an_error() -> None:
    function = tf.function(python_reader(Source().read, tf.float32)).get_concrete_function(tf.TensorSpec((None,), tf.int64))
    gc.collect()
    with pytest.raises(tf.errors.OpError, match="a batch was asked for after its data set had gone"):
        function(tf.constant([1], tf.int64))
