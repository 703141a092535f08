"""Training on several devices, which together make the steps that one would.

Each device has a copy of the weights and takes its share of every batch; the gradients are summed, and each makes the same update. The
step is our own: Keras' fails in several processes (keras#20585), takes shares of different sizes for equal ones, and clips gradients
before they are summed. What is measured on val, and what an epoch is chosen by, are the chief's figures: machines may differ in the
last digit.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tl_keras.data.shares import Shares
from tl_keras.errors import TrainingError
from tl_keras.models.outputs import Output
from tl_keras.runtime import building_as, on_devices, place, strategy

LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError)
ASKED = 20  # steps between two times that processes ask the chief for its clock


class Replicas:
    """All devices of a strategy, each with a copy of a compiled model.

    Args:
        output: what the outputs of the model mean, and what is measured of them.
    """

    def __init__(self, model: keras.Model, output: Output, spread: tf.distribute.Strategy) -> None:
        self._model, self._spread = model, spread
        with building_as(model):
            self._view = keras.Model(model.input, model.output, name=model.name)  # measured by each process alone
        self._view.compile(loss=output.loss(), metrics=output.metrics())
        self._step = _step(model, spread)

    def batches(self, train: Callable[..., Any]) -> Any:
        """The shares of this process, each on its device.

        Args:
            train: from `shares` to their data set, endless; see `data.shares`.
        """

        def here(context: tf.distribute.InputContext) -> Any:
            count, processes = context.num_replicas_in_sync, context.num_input_pipelines
            shares = Shares(count, context.input_pipeline_id * count // processes, count // processes)
            return train(shares=shares).apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))

        return self._spread.distribute_datasets_from_function(here)

    def step(self, batches: Iterator[Any]) -> dict[str, Any]:
        self._step(next(batches))
        return {}

    def on_train(self) -> dict[str, float]:
        with on_devices():
            return {name: float(value) for name, value in self._model.get_metrics_result().items()}

    def on_val(self, val: Any, told: keras.callbacks.CallbackList) -> dict[str, float]:
        found = self._view.evaluate(val, verbose=0, callbacks=told, return_dict=True)
        return dict(zip(found, the_chiefs([np.array(list(found.values()), np.float64)])[0].tolist(), strict=True))

    def is_stopped(self) -> bool:
        return bool(the_chiefs([np.array(self._model.stop_training)])[0])

    @contextmanager
    def working(self) -> Iterator[None]:
        """While it trains, let every BatchNorm see the whole batch, and say in one line where another process is gone."""
        with _synchronised(self._model), _told_when_others_are_lost():
            yield


def _step(model: keras.Model, spread: tf.distribute.Strategy) -> Callable[[Any], None]:
    """A step on all devices, with their shares of a batch."""
    tracker, *_ = model.metrics  # of the loss

    def on_device(inputs: Any, targets: tf.Tensor, weights: tf.Tensor, count: tf.Tensor, size: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            logits = model(inputs, training=True)
            loss = model.compute_loss(x=inputs, y=targets, y_pred=logits, sample_weight=weights, training=True)
            scaled = model.optimizer.scale_loss(loss)
        variables = model.trainable_weights
        gradients = tape.gradient(scaled, variables)
        known = [index for index, gradient in enumerate(gradients) if gradient is not None]
        summed = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, [gradients[index] for index in known])
        model.optimizer.apply(summed, [variables[index] for index in known])
        num = tf.cast(count, loss.dtype)  # the losses of all devices add up to that of the batch, which counts as often as it has rows
        tracker.update_state(tf.math.divide_no_nan(loss * tf.cast(size, loss.dtype), num), sample_weight=num)
        model.compute_metrics(None, targets[:count], logits[:count])

    @tf.function(autograph=False, reduce_retracing=True)
    def step(shares: Any) -> None:
        spread.run(on_device, args=shares)

    return step


@contextmanager
def _synchronised(model: keras.Model) -> Iterator[None]:
    """Let every BatchNorm that trains see the batch, and not the share of its device."""
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    before = [norm.synchronized for norm in norms]
    try:
        for norm in norms:
            norm.synchronized = True
        yield
    finally:
        for norm, was in zip(norms, before, strict=True):
            norm.synchronized = was


@contextmanager
def _told_when_others_are_lost() -> Iterator[None]:
    """Let the error of TensorFlow's that says that another process is gone be told as one line."""
    try:
        yield
    except LOST as error:
        if (here := place()) is None:
            raise
        raise TrainingError(f"{here} has lost another. Start all again, with --resume if there is something to go on from.") from error


def the_chiefs(values: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """The chief's values in place of this process' own, arrays of numbers of the same shapes; all processes have to ask, and wait.

    Where one process trains, these are its own.
    """
    here, spread = place(), strategy()
    if here is None or spread is None:
        return list(values)

    def of_chief(value: NDArray[Any]) -> NDArray[Any]:
        own = tf.constant(value.astype(np.float64))
        parts = spread.experimental_distribute_values_from_function(
            lambda context: own if context.replica_id_in_sync_group == 0 else tf.zeros_like(own)
        )
        found: NDArray[Any] = spread.reduce("SUM", parts, axis=None).numpy().astype(value.dtype)
        return found

    with _told_when_others_are_lost():
        return [of_chief(np.asarray(value)) for value in values]


def is_due(step: int, here: bool) -> bool:
    """Whether the chief says that something is due, which is asked every `ASKED` steps; where one process trains, what it says.

    Args:
        step: the same in every process.
        here: what this process says.
    """
    return here if place() is None else step % ASKED == 0 and bool(the_chiefs([np.array(here)])[0])


def wait_for_others() -> None:
    """Go on when every process is here."""
    the_chiefs([np.zeros(1)])


def are_the_chiefs(contents: Iterable[bytes]) -> bool:
    """Whether some bytes are those of the chief; all processes have to ask, and wait."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    own = np.frombuffer(digest.digest(), np.uint8)
    return bool(np.array_equal(the_chiefs([own])[0], own))


def require_equal(model: keras.Model) -> None:
    """Refuse weights that are not, bit for bit, those that the chief's process has.

    Raises:
        TrainingError: they are not, which only a fault of a machine or a library explains.
    """
    if not are_the_chiefs(np.ascontiguousarray(weight).tobytes() for weight in model.get_weights()):
        raise TrainingError(f"{place()} has other weights than the chief after the same steps. Look for a faulty machine, and start again.")


def assign_on_each(variable: keras.Variable, value_of: Callable[[int], NDArray[Any]]) -> None:
    """Give each device's copy of a variable a value of its own, by the device's number among all, from 0."""
    spread = strategy()
    if spread is None:
        variable.assign(value_of(0))
        return
    values = spread.experimental_distribute_values_from_function(lambda context: tf.constant(value_of(context.replica_id_in_sync_group)))
    with on_devices():
        spread.extended.update(variable.value, lambda copy, value: copy.assign(value), args=(values,))


def take_chiefs_weights(model: keras.Model) -> None:
    """Give a model the weights that it has in the chief's process."""
    if place() is not None:
        model.set_weights(the_chiefs(model.get_weights()))
