"""One phase of training on several devices, which together make the steps that one would.

Each device has a copy of the weights and takes its share of every batch; the gradients are summed, and each makes the same update. A
loop of our own does it: Keras' `fit` fails in several processes (keras#20585), takes shares of different sizes for equal ones, and
clips gradients before they are summed. What is measured on val, and what an epoch is chosen by, are the chief's figures: machines may
differ in the last digit.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tl_keras.data.shares import Shares
from tl_keras.errors import TrainingError, first_line
from tl_keras.models.outputs import Output
from tl_keras.runtime import building_as, making_variables, place, strategy

LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError)


def fit(
    model: keras.Model,
    batches: Callable[[Shares], Any],
    val: Any,
    output: Output,
    *,
    epochs: range,
    steps: int,
    callbacks: Sequence[Any],
) -> None:
    """Train a compiled model as its own `fit` would, on all devices of the strategy that is in force.

    Args:
        batches: from shares to their data set, endless; see `data.shares`.
        val: (inputs, targets) batches, once through.
        output: what the outputs of the model mean, and what is measured of them.
        epochs: those to be trained.
        steps: batches of an epoch.

    Raises:
        TrainingError: another process is gone.
    """
    spread = _strategy()
    with making_variables():
        metrics = output.metrics()
    with building_as(model):
        view = keras.Model(model.input, model.output, name=model.name)
    view.compile(loss=output.loss(), metrics=output.metrics())
    step = _step(model, metrics, spread)
    listeners = keras.callbacks.CallbackList(list(callbacks), model=model, epochs=epochs.stop, steps=steps)
    model.stop_training = False
    with _synchronised(model), _told_when_others_are_lost():
        listeners.on_train_begin()
        coming = iter(_distributed(batches, spread))
        for epoch in epochs:
            for metric in metrics:
                metric.reset_state()
            listeners.on_epoch_begin(epoch)
            losses, sizes = [], []
            for number in range(steps):
                listeners.on_train_batch_begin(number)
                loss, size = step(next(coming))
                losses.append(loss)
                sizes.append(size)
                listeners.on_train_batch_end(number, {})
            logs = {"loss": float(np.average(np.array(losses), weights=np.array(sizes)))}
            with spread.scope():
                logs |= {metric.name: float(metric.result()) for metric in metrics}
            listeners.on_test_begin()
            found = view.evaluate(val, verbose=0, return_dict=True)
            listeners.on_test_end(found)
            logs = _chiefs_logs(logs | {f"val_{name}": float(value) for name, value in found.items()})
            listeners.on_epoch_end(epoch, logs)
            if bool(the_chiefs([np.array(model.stop_training)])[0]):
                break
        listeners.on_train_end()


def _strategy() -> tf.distribute.Strategy:
    found = strategy()
    if found is None:
        raise ValueError("there is no strategy in force")
    return found


def _distributed(batches: Callable[[Shares], Any], spread: tf.distribute.Strategy) -> Any:
    """The shares of this process, each on its device."""

    def here(context: tf.distribute.InputContext) -> Any:
        count, processes = context.num_replicas_in_sync, context.num_input_pipelines
        shares = Shares(count, context.input_pipeline_id * count // processes, count // processes)
        return batches(shares).apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))

    return spread.distribute_datasets_from_function(here)


def _step(model: keras.Model, metrics: Sequence[Any], spread: tf.distribute.Strategy) -> Callable[[Any], tuple[tf.Tensor, tf.Tensor]]:
    """A step on all devices: from their shares to the loss of the whole batch, and its size."""

    def on_device(inputs: Any, targets: tf.Tensor, weights: tf.Tensor, count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            logits = model(inputs, training=True)
            loss = model.compute_loss(x=inputs, y=targets, y_pred=logits, sample_weight=weights, training=True)
            scaled = model.optimizer.scale_loss(loss)
        variables = model.trainable_weights
        gradients = tape.gradient(scaled, variables)
        known = [index for index, gradient in enumerate(gradients) if gradient is not None]
        summed = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, [gradients[index] for index in known])
        model.optimizer.apply(summed, [variables[index] for index in known])
        for metric in metrics:
            metric.update_state(targets[:count], logits[:count])
        return loss, count

    @tf.function(autograph=False, reduce_retracing=True)
    def step(shares: Any) -> tuple[tf.Tensor, tf.Tensor]:
        loss, count = spread.run(on_device, args=shares)
        return spread.reduce("SUM", loss, axis=None), spread.reduce("SUM", count, axis=None)

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
        raise TrainingError(
            f"{here} has lost the others ({first_line(error)[:200]}). Start all of them again, with --resume where an epoch was done."
        ) from error


def the_chiefs(values: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """The chief's values in place of this process' own, arrays of numbers of the same shapes; all processes have to ask, and wait.

    Where one process trains, these are its own.
    """
    here, spread = place(), strategy()
    if here is None or spread is None:
        return list(values)

    def of_chief(value: NDArray[Any]) -> NDArray[Any]:
        own = tf.constant(value, tf.float64)
        parts = spread.experimental_distribute_values_from_function(
            lambda context: own if context.replica_id_in_sync_group == 0 else tf.zeros_like(own)
        )
        found: NDArray[Any] = spread.reduce("SUM", parts, axis=None).numpy().astype(value.dtype)
        return found

    with _told_when_others_are_lost():
        return [of_chief(np.asarray(value)) for value in values]


def _chiefs_logs(logs: dict[str, float]) -> dict[str, float]:
    return dict(zip(logs, the_chiefs([np.array(list(logs.values()))])[0].tolist(), strict=True))


def wait_for_others() -> None:
    """Go on when every process is here."""
    the_chiefs([np.zeros(1)])


def require_equal(model: keras.Model) -> None:
    """Refuse weights that are not, bit for bit, those that the chief's process has.

    Raises:
        TrainingError: they are not, which only a fault of a machine or a library explains.
    """
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(weight).tobytes() for weight in model.get_weights())).digest()
    own = np.frombuffer(digest, np.uint8)
    if not np.array_equal(the_chiefs([own])[0], own):
        raise TrainingError(f"{place()} has other weights than the chief after the same steps. Look for a faulty machine, and start again.")


def assign_on_each(variable: keras.Variable, value_of: Callable[[int], NDArray[Any]]) -> None:
    """Give each device's copy of a variable a value of its own, by the device's number among all, from 0."""
    spread = strategy()
    if spread is None:
        variable.assign(value_of(0))
        return
    values = spread.experimental_distribute_values_from_function(lambda context: tf.constant(value_of(context.replica_id_in_sync_group)))
    with spread.scope():
        spread.extended.update(variable.value, lambda copy, value: copy.assign(value), args=(values,))


def take_chiefs_weights(model: keras.Model) -> None:
    """Give a model the weights that it has in the chief's process."""
    if place() is not None:
        model.set_weights(the_chiefs(model.get_weights()))
