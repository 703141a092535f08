"""The head's own phase: a classifier learned on features of the frozen backbone.

A linear head is solved by `probe`; one with hidden layers learns by steps, in `phases`. Both see standardised
features, and both end as weights of the Keras head on raw features.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tl_keras.config import Config
from tl_keras.data.augment import is_identity
from tl_keras.models.classifier import unfreeze
from tl_keras.run_folder import CHECKPOINTS, SCRATCH, write_whole
from tl_keras.transfer.checkpoints import weights_view
from tl_keras.transfer.features import compute_features
from tl_keras.transfer.phases import Phase, run_phase
from tl_keras.transfer.probe import LinearProbe, Standardiser, fit_linear_probe
from tl_keras.transfer.task import Task

HEAD_WEIGHTS = "head.weights.h5"
HEAD_PATIENCE = 10
LBFGS_LIMIT_BYTES = 2 * 10**9  # above it, features do not go to memory at once: the head learns by steps


def train_head(task: Task) -> None:
    """Train the head on features of the frozen backbone; a run that did so before is continued from the result."""
    unfreeze(task.classifier, None, freeze_batchnorm=True)
    task.tell_parameters("head")
    (task.run / CHECKPOINTS).mkdir(exist_ok=True)
    done = task.run / CHECKPOINTS / HEAD_WEIGHTS
    if not done.is_file():
        features = {split: _features(task, split) for split in ("train", "val")}
        standardise = Standardiser.fit(features["train"])
        if solves_exactly(task.config, features["train"].nbytes):
            _solve_head(task, features, standardise)
        else:
            _step_head(task, features, standardise)
        write_whole(done, task.classifier.head.save_weights)
    task.classifier.head.load_weights(done)


def solves_exactly(config: Config, num_bytes: int) -> bool:
    """Whether scikit-learn solves the head: it is linear, the loss is cross-entropy, and its features fit in memory."""
    return not config.model.hidden and config.train.loss == "cross_entropy" and num_bytes <= LBFGS_LIMIT_BYTES


def _features(task: Task, split: str) -> NDArray[np.float32]:
    rows = task.data.rows(split)
    views = num_views(task.config) if split == "train" else 0
    with task.progress.bar(f"features of {split}", (1 + views) * len(rows)) as advance:
        return compute_features(
            task.classifier.trunk,
            task.data.pixels,
            rows,
            task.run / SCRATCH / f"features_{split}.npy",
            batch_size=task.config.train.batch_size,
            views=views,
            augment=task.config.data.augment,
            seed=task.config.runtime.seed,
            advance=advance,
        )


def num_views(config: Config) -> int:
    """Augmented views of each training image whose features the head learns from, beside the plain one."""
    return 0 if is_identity(config.data.augment) else config.train.head_views


def _labels(task: Task, split: str, features: NDArray[np.float32]) -> NDArray[np.int32]:
    labels = task.data.labels(split)
    return np.tile(labels, len(features) // len(labels))


def _solve_head(task: Task, features: dict[str, NDArray[np.float32]], standardise: Standardiser) -> None:
    pairs = [(standardise(features[split]), _labels(task, split, features[split])) for split in ("train", "val")]
    probe = fit_linear_probe(pairs[0], pairs[1], task.class_weights, lambda found: task.progress.line(describe(found)))
    logits = task.classifier.head.layers[-1]
    logits.set_weights([probe.kernel, probe.bias])
    standardise.fold(logits)


def describe(probe: LinearProbe) -> str:
    """One line about one penalty of the path."""
    return f"head  C {probe.penalty:<8.2g} val loss {probe.val_loss:.4f} accuracy {probe.val_accuracy:.4f}"


def _step_head(task: Task, features: dict[str, NDArray[np.float32]], standardise: Standardiser) -> None:
    train = task.config.train
    phase = Phase(
        name="head",
        epochs=train.head_epochs,
        num_images=len(features["train"]),
        learning_rate=train.head_learning_rate,
        scales={},
        patience=HEAD_PATIENCE,
    )
    model = weights_view(task.classifier.head)
    try:
        run_phase(
            model,
            lambda epoch: _feature_batches(task, features["train"], standardise, "train", epoch),
            _feature_batches(task, features["val"], standardise, "val", None),
            phase,
            train,
            task.run,
            task.progress,
        )
    finally:  # after Ctrl-C too: the model is saved as it stands
        standardise.fold(next(layer for layer in model.layers if isinstance(layer, keras.layers.Dense)))


def _feature_batches(task: Task, features: NDArray[np.float32], standardise: Standardiser, split: str, epoch: int | None) -> Any:
    """Batches of standardised features: shuffled without end from an epoch on, or (None) once in order."""
    labels, weights = tf.constant(_labels(task, split, features)), tf.constant(task.class_weights)
    batch_size, seed, num = task.config.train.batch_size, task.config.runtime.seed, len(features)

    def read(order: NDArray[np.int64]) -> NDArray[np.float32]:
        return standardise(features[order])

    def load(order: tf.Tensor) -> tuple[tf.Tensor, ...]:
        batch = tf.numpy_function(read, [order], tf.float32, stateful=False)
        batch.set_shape((None, features.shape[1]))
        label = tf.gather(labels, order)
        targets = tf.one_hot(label, len(task.data.classes))
        return (batch, targets) if epoch is None else (batch, targets, tf.gather(weights, label))

    def one_epoch(number: tf.Tensor) -> Any:
        order = tf.range(num, dtype=tf.int64)
        key = tf.stack([tf.constant(seed, tf.int64), number])
        return tf.data.Dataset.from_tensor_slices(tf.random.experimental.stateless_shuffle(order, seed=key)).batch(batch_size)

    if epoch is None:
        orders = tf.data.Dataset.range(num).batch(batch_size)
    else:
        orders = tf.data.Dataset.range(epoch, np.iinfo(np.int32).max).flat_map(one_epoch)
    return orders.map(load).prefetch(2)
