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
from tl_keras.transfer.frozen import open_frozen
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

    before = [(layer.trainable, layer.momentum) for layer in layers]
    try:
        with progress.bar("BatchNorm statistics", len(starts)) as advance:
            for number, start in enumerate(starts, start=1):
                for layer in layers:
                    layer.trainable, layer.momentum = True, 1 - 1 / number  # so that the last is the mean of all
                batch = tf.constant(pixels.read(order[start : start + size]).astype(np.float32))
                trunk._run_through_graph(trunk._standardize_inputs(batch), operation_fn=called)
                advance(1)
    finally:
        for layer, (trainable, momentum) in zip(layers, before, strict=True):
            layer.trainable, layer.momentum = trainable, momentum


def own_features(task: Task, pixels: Pixels, measured: Rows, wanted: Rows) -> tuple[FrozenFeatures, Statistics]:
    """Features of images by a backbone that has the statistics of some of them, computed; the backbone itself is left as it was.

    Args:
        measured: the images whose statistics it gets.
        wanted: the images whose features are computed.
    """
    model, classifier = task.classifier.model, task.classifier
    with with_statistics_kept(model):
        measure_statistics(classifier, pixels, measured, task.config.runtime.seed, task.progress)
        source = task.the_frozen
        frozen = open_frozen(task.config, classifier, pixels, source.store).on(source.trunk.engine)
        frozen.trunk.fold()  # while the weights are these
        frozen.compute([wanted], task.progress, lambda: None)
        return frozen, read_statistics(model)
