"""Ctrl-C that is not lost: Keras turns what a callback is given into numbers inside of a bare `except`, which swallows it."""

from typing import Any

import keras

from tl_keras.interrupts import kind_of


class StopAfterInterrupt(keras.callbacks.Callback):
    """Raise an interrupt at the next step if one was noted before and did not get through.

    Attributes:
        seen: the numbers of the signals, which `noted_interrupts` fills.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._stop()

    def on_test_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._stop()

    def _stop(self) -> None:
        if self.seen:
            raise kind_of(self.seen[0])
