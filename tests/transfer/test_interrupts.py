"""Ctrl-C: it stops a training also where Keras swallowed it, and is left as it was afterwards."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import keras
import numpy as np
import pytest

from tl_keras.interrupts import noted_interrupts
from tl_keras.transfer.interrupts import StopAfterInterrupt


class Swallowed(keras.callbacks.Callback):
    """Ctrl-C in the third batch, at a place where it is lost."""

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if batch == 2:
            with suppress(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)


class Count(keras.callbacks.Callback):
    """How many batches were trained."""

    num = 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.num += 1


@pytest.fixture(autouse=True)
def _python_s_own_handler() -> Iterator[None]:
    """A shell may start its background jobs with Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def model() -> keras.Model:
    made = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    made.compile("sgd", "mse", run_eagerly=True)
    return made


def fit(model: keras.Model, *callbacks: keras.callbacks.Callback) -> None:
    model.fit(np.zeros((20, 2)), np.zeros((20, 1)), batch_size=2, verbose=0, callbacks=list(callbacks))


def test_an_interrupt_that_was_swallowed_stops_the_next_step(model: keras.Model) -> None:
    before, stop, count = signal.getsignal(signal.SIGINT), StopAfterInterrupt(), Count()
    with pytest.raises(KeyboardInterrupt), noted_interrupts(stop.seen):
        fit(model, stop, count, Swallowed())
    assert count.num == 3
    assert signal.getsignal(signal.SIGINT) is before


def test_without_it_the_training_goes_on(model: keras.Model) -> None:
    count = Count()
    fit(model, StopAfterInterrupt(), count, Swallowed())
    assert count.num == 10


def test_other_threads_and_handlers_of_others_are_left_alone() -> None:
    stop, seen = StopAfterInterrupt(), []

    def elsewhere() -> None:
        with noted_interrupts(stop.seen):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with noted_interrupts(stop.seen):
            seen.append(signal.getsignal(signal.SIGINT))
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [before, signal.SIG_IGN]
