"""Grad-CAM: the channels of the last feature map, weighted by what each does for an answer. One pass of the network for an image."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tl_keras.evaluation.explain.evidence import evidence
from tl_keras.evaluation.explain.explainer import Explainer, Map, batch_size
from tl_keras.runtime import building_as


def grad_cam(explainer: Explainer, pixels: NDArray[np.uint8], columns: Sequence[int]) -> list[Map]:
    """The maps of some images.

    The map is the sum of the channels, each times the mean of the gradient of the evidence over its places; what is above 0 is the
    paper's map.

    Args:
        pixels: (n, h, w, 3) of the model's size.
        columns: of each image the output that is explained.

    Raises:
        ConfigError: see `Explainer.feature_map`.

    Reference: Selvaraju et al. 2017, arXiv:1610.02391, eq. 1 and 2.
    """
    with building_as(explainer.model):
        both = keras.Model(explainer.model.input, [explainer.feature_map, explainer.model.output])
    found: list[Map] = []
    size = batch_size(pixels)
    for start in range(0, len(pixels), size):
        part = slice(start, start + size)
        with tf.GradientTape() as tape:
            images = tf.convert_to_tensor(pixels[part], tf.float32)
            tape.watch(images)
            maps, logits = both(images, training=False)
            total = tf.reduce_sum(evidence(explainer.output, logits, np.asarray(columns[part])))
        weights = tf.reduce_mean(tape.gradient(total, maps), axis=(1, 2), keepdims=True)
        found += list(tf.reduce_sum(weights * maps, axis=-1).numpy().astype(np.float32))
    return found
