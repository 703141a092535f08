"""Ctrl-C that is not lost: Keras turns what a callback is given into numbers inside of a bare `except`, which swallows it."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras


class StopAfterInterrupt(keras.callbacks.Callback):
    """Raise KeyboardInterrupt at the next step if one was raised before and did not get through."""

    def __init__(self) -> None:
        super().__init__()
        self.interrupted = False

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._stop()

    def on_test_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._stop()

    def _stop(self) -> None:
        if self.interrupted:
            raise KeyboardInterrupt


@contextmanager
def noted_interrupts(callback: StopAfterInterrupt) -> Iterator[None]:
    """Let a callback know of each Ctrl-C meanwhile; it is raised as ever. Elsewhere than in the main thread there is none."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is not signal.default_int_handler:
        yield
        return

    def note(number: int, frame: Any) -> None:
        callback.interrupted = True
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
