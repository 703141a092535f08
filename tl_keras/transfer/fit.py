"""The loop of a phase: Keras' `fit`, but that it can begin in the middle of an epoch."""

from collections.abc import Sequence
from typing import Any

import keras


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
    """
    told = keras.callbacks.CallbackList(list(callbacks), model=model, epochs=epochs, steps=steps)
    model.stop_training = False
    model.make_train_function()
    batches = iter(train)
    told.on_train_begin()
    logs: dict[str, Any] = {}
    for epoch in range(first_epoch, epochs):
        model.reset_metrics()
        told.on_epoch_begin(epoch)
        for step in range(first_step if epoch == first_epoch else 0, steps):
            told.on_train_batch_begin(step)
            told.on_train_batch_end(step, model.train_function(batches))
            if model.stop_training:
                break
        logs = dict(model.get_metrics_result())
        on_val = model.evaluate(val, verbose=0, callbacks=told, return_dict=True)
        logs |= {f"val_{name}": value for name, value in on_val.items()}
        told.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    model.optimizer.finalize_variable_values(model.trainable_weights)
    told.on_train_end(logs)
