"""The loop of a phase: Keras' `fit`, but that it can begin in the middle of an epoch, and that others than Keras may make its steps."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import keras


class Devices(Protocol):
    """What a compiled model is trained on."""

    def step(self, batches: Iterator[Any]) -> dict[str, Any]:
        """Train on the next batch; what callbacks hear of it."""

    def on_train(self) -> dict[str, float]:
        """The figures on train of the steps since the last `reset_metrics`."""

    def on_val(self, val: Any, told: keras.callbacks.CallbackList) -> dict[str, float]:
        """The figures on val of the weights as they are; the callbacks hear of each batch."""

    def is_stopped(self) -> bool:
        """Whether a callback has set `stop_training`."""


class OneDevice:
    """Keras' own steps."""

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        model.make_train_function()

    def step(self, batches: Iterator[Any]) -> dict[str, Any]:
        found: dict[str, Any] = self._model.train_function(batches)
        return found

    def on_train(self) -> dict[str, float]:
        return dict(self._model.get_metrics_result())

    def on_val(self, val: Any, told: keras.callbacks.CallbackList) -> dict[str, float]:
        found: dict[str, float] = self._model.evaluate(val, verbose=0, callbacks=told, return_dict=True)
        return found

    def is_stopped(self) -> bool:
        return bool(self._model.stop_training)


def fit(
    model: keras.Model,
    train: Any,
    val: Any,
    callbacks: Sequence[keras.callbacks.Callback],
    *,
    epochs: int,
    steps: int,
    first_epoch: int = 0,
    first_step: int = 0,
    devices: Devices | None = None,
) -> None:
    """Train a compiled model, and measure it on val after each epoch.

    Callbacks see what they see in `fit`; the batches of the first epoch are counted from `first_step` on.

    Args:
        train: endless batches from that step on.
        val: batches, once through.
        epochs: of the whole training.
        steps: of an epoch.
        first_epoch: epochs that are done.
        first_step: steps of the epoch after these that are done.
        devices: what it is trained on; None for Keras' own steps.
    """
    told = keras.callbacks.CallbackList(list(callbacks), model=model, epochs=epochs, steps=steps)
    model.stop_training = False
    devices = devices or OneDevice(model)
    batches = iter(train)
    told.on_train_begin()
    logs: dict[str, Any] = {}
    for epoch in range(first_epoch, epochs):
        model.reset_metrics()
        told.on_epoch_begin(epoch)
        for step in range(first_step if epoch == first_epoch else 0, steps):
            told.on_train_batch_begin(step)
            told.on_train_batch_end(step, devices.step(batches))
            if model.stop_training:
                break
        logs = devices.on_train()
        logs |= {f"val_{name}": value for name, value in devices.on_val(val, told).items()}
        told.on_epoch_end(epoch, logs)
        if devices.is_stopped():
            break
    model.optimizer.finalize_variable_values(model.trainable_weights)
    told.on_train_end(logs)
