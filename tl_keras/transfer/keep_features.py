"""Finetuning that may change weights, but is held to what the backbone made of the images: DELTA."""

from typing import Any

import keras
from keras import ops

from tl_keras.models.classifier import Classifier, cut_below
from tl_keras.models.fused import fused
from tl_keras.runtime import building_as, on_devices

SMALL = 1e-12


class FeatureDistance(keras.layers.Layer):
    """Hands on the logits, and adds a loss, in training only: how far the features have moved from those before it.

    The loss is the squared distance between the features of an image now and before, relative to the mean square of those before: 1
    where they have nothing in common any more and are zero. All channels count the same.

    Args:
        strength: factor on the loss.

    Reference: DELTA (Li et al. 2019, arXiv:1901.09229), eq. 3, its variant without attention. The weights of its attention hardly
        differ between channels: see `docs/training.md`.
    """

    def __init__(self, strength: float, **kwargs: Any) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.strength = strength

    def call(self, inputs: list[Any], training: bool | None = None) -> Any:
        now, before, logits = inputs
        if training:
            self.add_loss(self.strength * relative_distance(now, ops.stop_gradient(before)))
        return logits


def relative_distance(now: Any, before: Any) -> Any:
    """Mean square of the change over that of what was before: float32 arrays of one shape -> a scalar >= 0."""
    return ops.mean(ops.square(now - before)) / (ops.mean(ops.square(before)) + SMALL)


def keep_features(classifier: Classifier, lowest: str, strength: float, *, stored: bool) -> keras.Model:
    """What finetuning trains, with a loss that keeps the last features of the backbone near what they are now.

    Args:
        lowest: the lowest stage that trains.
        strength: of the loss.
        stored: whether the model reads the stored activations below that stage, and not pixels.

    Returns:
        Activations or pixels -> logits; its layers are those of the classifier, and a frozen copy of those that train.
    """
    cut = cut_below(classifier, lowest) if stored else None
    inputs = [classifier.model.input] if cut is None else list(cut[0].values())
    features = list(classifier.boundaries.values())[-1]
    with building_as(classifier.model), on_devices():
        trained = keras.Model(inputs, [features, classifier.model.output], name="trained")
        up_to = keras.Model(inputs, features, name="before")
        before = keras.models.clone_model(up_to)
        before.set_weights(up_to.get_weights())
        before.trainable = False
        own = [keras.Input(each.shape[1:], dtype=each.dtype) for each in inputs]
        given = own[0] if len(own) == 1 else own
        now, logits = fused(trained)(given)
        held = FeatureDistance(strength, name="feature_distance")([now, fused(before)(given, training=False), logits])
        return keras.Model(given, held, name="keeps_features")
