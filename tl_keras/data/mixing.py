"""MixUp and CutMix: each image of a batch takes a part of the next one, and its target takes as much of the next one's.

An image that is 70 % rose and 30 % tulip is to be called that, so that a network does not become sure of single pixels. How
much is kept of an image depends on (seed, epoch, step, its place in the batch) alone.

References: Zhang et al. 2017, arXiv:1710.09412 (MixUp: all pixels are blended); Yun et al. 2019, arXiv:1905.04899 (CutMix: a
box is pasted).
"""

from collections.abc import Callable

import tensorflow as tf

from tl_keras.config import TrainConfig
from tl_keras.data.boxes import inside

Batch = tuple[tf.Tensor, tf.Tensor, tf.Tensor]  # images float32 (b, h, w, 3), targets float32 (b, k), weights float32 (b,)
Mix = Callable[[tf.Tensor, Batch], Batch]  # the number of a batch, epoch * 2**32 + step, int64; and the batch


def mix_of(train: TrainConfig, seed: int) -> Mix | None:
    """What mixes batches as `train.mixup_alpha` and `train.cutmix_alpha` say; None where both are 0."""
    if not train.mixes:
        return None
    return lambda number, batch: _mixed(batch, _kept(train, seed, number, tf.shape(batch[0])))


def _mixed(batch: Batch, kept: tf.Tensor) -> Batch:
    """A batch of which each image keeps a part, float32 `(b, h, w, 1)` in [0, 1], and takes the rest from the next.

    The loss of a mixed image is to be the mean of the losses with both targets, each with the weight of its class. So the
    target is mixed in proportion to the weights, and the weight is the mean.
    """
    images, targets, weights = batch
    share = tf.reduce_mean(kept, axis=(1, 2, 3))  # (b,)
    own, other = share * weights, (1.0 - share) * _next(weights)
    weight = own + other
    target = (own[:, None] * targets + other[:, None] * _next(targets)) / weight[:, None]
    return kept * images + (1.0 - kept) * _next(images), target, weight


def _next(rows: tf.Tensor) -> tf.Tensor:
    """What comes after each row of a batch, whose order is random; after the last comes the first."""
    return tf.roll(rows, -1, axis=0)


def _kept(train: TrainConfig, seed: int, number: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """What each image keeps of each pixel, float32 `(b, h, w, 1)`: all or nothing for CutMix, as much of each for MixUp."""
    keys = tf.random.split(tf.stack([tf.constant(seed, tf.int64), -1 - number]), 2, alg="philox")  # those of views and orders are >= 0
    which, row, column, *uniform = tf.unstack(tf.random.stateless_uniform([5, shape[0]], keys[0], alg="philox"), 5)
    chance = 0.5 if train.mixup_alpha and train.cutmix_alpha else float(train.cutmix_alpha > 0)
    cut = which < chance
    share = _beta(tf.where(cut, train.cutmix_alpha, train.mixup_alpha), tf.stack(uniform), keys[1])
    half = tf.sqrt(1.0 - share) / 2
    height, width = tf.unstack(tf.cast(shape[1:3], tf.float32))
    box = inside((row - half) * height, (column - half) * width, (row + half) * height, (column + half) * width, shape[1:3])
    return tf.where(cut[:, None, None, None], 1.0 - tf.cast(box, tf.float32), share[:, None, None, None])


def _beta(alpha: tf.Tensor, uniform: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Draws of Beta(alpha, alpha), float32 `(b,)`, from x / (x + y) of two gammas.

    Gammas of a small alpha are 0 in float32, so logarithms are compared: a gamma of alpha is one of alpha + 1 times u ** (1 / alpha).

    Args:
        uniform: `(2, b)` in [0, 1).
    """
    gammas = tf.random.stateless_gamma(tf.shape(uniform), key, alpha + 1.0)
    logs = tf.math.log(gammas) + tf.math.log(1.0 - uniform) / alpha
    return tf.sigmoid(logs[0] - logs[1])
