"""Gradients that TensorFlow would keep for the life of the process, and with them the graphs of every training run.

`tf.custom_gradient` registers a function for each call of it in a graph, under a name of its own, and never removes it: the function
refers to the graph. Each training step of Keras makes such a call, for the sum of the gradients over replicas, and each swish another.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from tensorflow.python.framework import ops

_OWN_NAME = "CustomGradient-"  # what `tf.custom_gradient` begins its names with


@contextmanager
def gradients_let_go() -> Iterator[None]:
    """Let go, at the end, of the gradients that were registered meanwhile: no graph that was made in here is differentiated later.

    For one thread of the process at a time, as training is.
    """
    registered = ops.gradient_registry._registry
    before = set(registered)
    try:
        yield
    finally:
        for name in set(registered) - before:
            if name.startswith(_OWN_NAME):
                del registered[name]
