"""Each domain with BatchNorm statistics of its own images: in every layer it gets mean 0 and variance 1 by itself.

Reference: AdaBN (Li et al. 2016, arXiv:1603.04779).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.models.functional import operation_fn
from numpy.typing import NDArray

from tl_keras.data.pipeline import Pixels
from tl_keras.models.classifier import Classifier
from tl_keras.progress import Progress
from tl_keras.transfer.features import FrozenFeatures
from tl_keras.transfer.frozen import POOLED, open_frozen
from tl_keras.transfer.task import Task

MEASURED_IMAGES = 2_000  # of a domain, whose statistics are measured
BATCH = 64

Statistics = list[NDArray[np.float32]]  # mean and variance of each BatchNorm, in the order of the layers
Rows = NDArray[np.int64]


def norms(model: keras.Model) -> list[Any]:
    """The BatchNorm layers of a flat model; those inside of blocks are not among them."""
    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


def read_statistics(model: keras.Model) -> Statistics:
    """The statistics that a model has."""
    return [np.asarray(each.numpy(), np.float32) for norm in norms(model) for each in (norm.moving_mean, norm.moving_variance)]


def write_statistics(model: keras.Model, statistics: Statistics) -> None:
    """Give a model other statistics."""
    places = [each for norm in norms(model) for each in (norm.moving_mean, norm.moving_variance)]
    for place, values in zip(places, statistics, strict=True):
        place.assign(values)


@contextmanager
def with_statistics_kept(model: keras.Model) -> Iterator[None]:
    """Leave the statistics as they were."""
    before = read_statistics(model)
    try:
        yield
    finally:
        write_statistics(model, before)


def measure_statistics(classifier: Classifier, pixels: Pixels, rows: Rows, seed: int, progress: Progress) -> None:
    """Give the backbone the statistics of some images: the mean over batches, each normalised by itself on its way up.

    Args:
        rows: positions of images that decode; of more than MEASURED_IMAGES, so many are drawn.
    """
    trunk, layers = classifier.trunk, norms(classifier.trunk)
    order = np.random.default_rng(seed).permutation(rows)[:MEASURED_IMAGES]
    size = min(BATCH, len(order))
    starts = range(0, len(order) - size + 1, size)  # a smaller batch would count as much as a whole one

    def called(operation: Any) -> Any:
        return operation_fn(operation, training=isinstance(operation, keras.layers.BatchNormalization))

    @tf.function(autograph=False)
    def see(batch: tf.Tensor) -> None:
        trunk._run_through_graph(trunk._standardize_inputs(batch), operation_fn=called)

    before = [(layer.trainable, layer.momentum) for layer in layers]
    try:
        for layer in layers:
            layer.trainable, layer.momentum = True, 0.0  # what is kept is what the last batch had
        sums = [np.zeros_like(each) for each in read_statistics(trunk)]
        with progress.bar("BatchNorm statistics", len(starts)) as advance:
            for start in starts:
                see(tf.constant(pixels.read(order[start : start + size]).astype(np.float32)))
                for total, found in zip(sums, read_statistics(trunk), strict=True):
                    total += found
                advance(1)
        write_statistics(trunk, [total / np.float32(len(starts)) for total in sums])
    finally:
        for layer, (trainable, momentum) in zip(layers, before, strict=True):
            layer.trainable, layer.momentum = trainable, momentum


def own_statistics(task: Task, pixels: Pixels, rows: Rows) -> Statistics:
    """The statistics of some images; the backbone itself is left as it was."""
    model = task.classifier.model
    with with_statistics_kept(model):
        measure_statistics(task.classifier, pixels, rows, task.config.runtime.seed, task.progress)
        return read_statistics(model)


def features_with(task: Task, pixels: Pixels, statistics: Statistics, rows: Rows, *, tail: bool = False) -> FrozenFeatures:
    """Features of images, computed by the backbone with its weights as they are and these statistics; it is left as it was.

    Args:
        tail: compute what training goes on from too, where the store has room for it.
    """
    model, source = task.classifier.model, task.the_frozen
    with with_statistics_kept(model):
        write_statistics(model, statistics)
        frozen = open_frozen(task.config, task.classifier, pixels, source.store, tail=tail).on(source.trunk.engine)
        if frozen.bytes_missing([rows]) > frozen.store.room():
            frozen = frozen.only([POOLED])
        frozen.trunk.fold()  # while the statistics are these
        frozen.compute([rows], task.progress, lambda: None)
        return frozen


def features_of_domains(
    task: Task, statistics: tuple[Statistics, Statistics], *, tail: bool = False
) -> tuple[FrozenFeatures, FrozenFeatures]:
    """`features_with` of train and val of the source, and of the target, each domain with statistics of its own."""
    target, rows = task.the_target, np.sort(np.concatenate([task.data.rows("train"), task.data.rows("val")]))
    source = features_with(task, task.the_frozen.pixels, statistics[0], rows, tail=tail)
    return source, features_with(task, target.pixels, statistics[1], target.rows, tail=tail)
