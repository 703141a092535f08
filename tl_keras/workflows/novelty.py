"""Fits the novelty score at the end of a training run; see `evaluation.novelty`.

Nothing frozen is computed again: features and feature maps are those that the run has stored, and val and test go through the network once,
which tells logits and signs together.
"""

from collections.abc import Iterator, Sequence
from copy import copy
from typing import Any

import keras
import numpy as np

from tl_keras.data.splits import stratified_sample
from tl_keras.evaluation.novelty import Basis, fit_basis, styles
from tl_keras.models.classifier import Classifier, cut_below
from tl_keras.models.outputs import SINGLE_LABEL, SingleLabel
from tl_keras.models.stages import is_feature_map
from tl_keras.runtime import building_as
from tl_keras.transfer.defaults import required
from tl_keras.transfer.feeds import Feed, PixelFeed
from tl_keras.transfer.frozen import POOLED
from tl_keras.transfer.task import Task

MOST_IMAGES = 2000  # of train, that are fitted on: 64 directions of more would hardly differ
SEED = 0
CHUNK = 32  # images at once


def with_signs(task: Task, classifier: Classifier, feed: Feed) -> tuple[Feed, Basis | None]:
    """A feed whose model tells the signs of novelty after the logits, (b, k + 2 or 3), and what they follow from.

    The same feed and None where a run has no novelty: where an image has not one class; after adapting, of whose target no features are
    known to be of its classes; and with too few images.

    Args:
        classifier: as it is saved, but for the temperature.
        feed: what is left to run of it.
    """
    if not isinstance(task.data.output, SingleLabel) or task.config.mode == "adapt":
        return feed, None
    features = classifier.trunk.output
    if task.config.mode == "extract" and not isinstance(feed, PixelFeed):
        own, maps, logits, features_seen = classifier.head.input, [], classifier.head.output, classifier.head.input
    else:
        cut = cut_below(classifier, required(task.config.train.unfreeze_from)) if task.config.mode == "finetune" else None
        tensors = [] if cut is None else list(cut[0].values())
        own = classifier.model.input if isinstance(feed, PixelFeed) else tensors if len(tensors) > 1 else tensors[0]
        maps, logits, features_seen = [each for each in tensors if is_feature_map(each)], classifier.model.output, features
    with building_as(classifier.model):
        seen = keras.Model(own, _joined([features_seen, *([styles(maps)] if maps else [])]))
    observed = np.concatenate([np.asarray(seen(batch, training=False)) for batch in _train_batches(task, feed)])
    names = {id(operation.output): operation.name for operation in classifier.model.operations if hasattr(operation.output, "shape")}
    width = features.shape[-1]
    basis = fit_basis(names[id(features)], [names[id(each)] for each in maps], observed[:, :width], observed[:, width:])
    if basis is None:
        return feed, None
    watched = copy(feed)
    with building_as(classifier.model):
        watched.model = keras.Model(own, _joined([logits, basis.signs(logits, features_seen, maps)]), name=feed.model.name)
    return watched, basis


def _joined(tensors: Sequence[Any]) -> Any:
    found = [keras.ops.cast(each, "float32") for each in tensors]
    return keras.ops.concatenate(found, axis=-1)


def _train_batches(task: Task, feed: Feed) -> Iterator[Any]:
    """What the model of a feed takes, of training images without augmentation: of each class by its share, at most `MOST_IMAGES`."""
    places = stratified_sample(SINGLE_LABEL.classes_of(task.data.labels("train")), MOST_IMAGES, SEED)
    rows = task.data.rows("train")
    outputs = task.tail if task.config.mode == "finetune" else (POOLED,)
    stored = [] if isinstance(feed, PixelFeed) else [task.stored(name, "train") for name in outputs]
    for start in range(0, len(places), CHUNK):
        part = places[start : start + CHUNK]
        if isinstance(feed, PixelFeed):
            yield task.data.pixels.read(rows[part]).astype(np.float32)
        else:
            found = [each[part] for each in stored]
            yield found if len(found) > 1 else found[0]
