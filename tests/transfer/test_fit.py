"""The loop of a phase against Keras' `fit`: the same weights, and callbacks that hear the same."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tl_keras.transfer.fit import fit

RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 4)).astype(np.float32)
Y = np.eye(2, dtype=np.float32)[(X[:, 0] > 0).astype(int)]
BATCHES = tf.data.Dataset.from_tensor_slices((X, Y, np.ones(20, np.float32))).batch(8)
VAL = tf.data.Dataset.from_tensor_slices((X[:9], Y[:9])).batch(8)
EVENTS = ("train", "epoch", "train_batch", "test", "test_batch")


class Heard(keras.callbacks.Callback):
    """Notes each call with what it is given."""

    def __init__(self, last_epoch: int) -> None:
        super().__init__()
        self.calls: list[tuple[Any, ...]] = []
        self.last_epoch = last_epoch
        for event in EVENTS:
            for end in ("begin", "end"):
                setattr(self, f"on_{event}_{end}", self._note(f"{event} {end}"))

    def _note(self, name: str) -> Any:
        def note(*given: Any, logs: dict[str, Any] | None = None) -> None:
            number, found = [each for each in given if isinstance(each, int)], [each for each in (*given, logs) if isinstance(each, dict)]
            self.calls.append((name, *number, {key: round(float(value), 5) for key, value in (found or [{}])[0].items()}))
            if name == "epoch end" and number == [self.last_epoch]:
                self.model.stop_training = True

        return note


def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    made = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    made.compile(keras.optimizers.Adam(0.05, use_ema=True), keras.losses.CategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    return made


@pytest.mark.slow
def test_it_is_the_loop_of_keras() -> None:
    last_epoch = 1  # of 3: after it, a callback stops
    ours, theirs, heard, expected = model(), model(), Heard(last_epoch), Heard(last_epoch)
    fit(ours, BATCHES.repeat(), VAL, [heard], epochs=3, steps=3)
    theirs.fit(BATCHES.repeat(), validation_data=VAL, epochs=3, steps_per_epoch=3, callbacks=[expected], verbose=0, shuffle=False)
    assert heard.calls == expected.calls
    assert heard.params == {key: expected.params[key] for key in ("epochs", "steps")}
    for value, wanted in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(value, wanted)


@pytest.mark.slow
def test_it_begins_within_an_epoch() -> None:
    heard = Heard(2)
    fit(model(), BATCHES.repeat().skip(1), VAL, [heard], epochs=2, steps=3, first_epoch=1, first_step=1)
    assert [call[:2] for call in heard.calls if call[0] in ("epoch begin", "train_batch begin")] == [
        ("epoch begin", 1),
        ("train_batch begin", 1),
        ("train_batch begin", 2),
    ]
