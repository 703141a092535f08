"""From a configuration to a network: its classifier is built, and the settings that depend on it are filled."""

import numpy as np
from numpy.typing import NDArray

from tl_keras.config import Config, absolute
from tl_keras.data.index import Index
from tl_keras.data.sources import absolute_source
from tl_keras.errors import ConfigError
from tl_keras.models.backbone_loading import build_backbone, native_image_size
from tl_keras.models.backbone_names import table_name
from tl_keras.models.backbone_weights import WEIGHTS
from tl_keras.models.backbones import BACKBONES
from tl_keras.models.classifier import Classifier, build_classifier, count_parameters, unfreeze
from tl_keras.models.hub_layer import HubModule
from tl_keras.progress import Progress
from tl_keras.runtime import building
from tl_keras.transfer import defaults
from tl_keras.transfer.losses import image_weights
from tl_keras.transfer.pruning import pruning_of


def build(config: Config, num_classes: int, weights: str | None) -> Classifier:
    """Build the classifier of a configuration in its precision; `weights` as in `model.weights`, None where they will be replaced."""
    with building(config.runtime.precision):
        backbone = build_backbone(
            config.model.backbone,
            image_size=image_size_of(config),
            weights=weights,
            preprocessing=config.model.preprocessing,
            trust=config.model.trust,
        )
        all_stages = defaults.head_stages(config) == "all"
        return build_classifier(config.model, backbone, num_classes, config.runtime.seed, all_stages=all_stages)


def build_and_tell(config: Config, num_classes: int, progress: Progress) -> Classifier:
    """Build the classifier with the weights that are asked for, and say what was found in its backbone's file or module."""
    classifier = build(config, num_classes, config.model.weights)
    for note in classifier.notes:
        progress.line(note)
    return classifier


def image_size_of(config: Config) -> tuple[int, int]:
    """(height, width) in pixels: what `data.image_size` says, or the backbone's native size."""
    size = config.data.image_size
    if size is None:
        size = native_image_size(config.model.backbone, trust=config.model.trust)
    return (size, size) if isinstance(size, int) else size


def resolve(config: Config, classifier: Classifier, num_train: int) -> Config:
    """Fill every open setting, and make paths absolute."""
    config = config.replace("data.image_size", image_size_of(config)).replace("data.source", absolute_source(config.data.source))
    config = config.replace("model.backbone", absolute(table_name(config.model.backbone), BACKBONES))
    config = config.replace("model.weights", absolute(config.model.weights, WEIGHTS))
    if config.mode == "adapt" and config.adapt.target is not None:
        config = config.replace("adapt.target", absolute_source(config.adapt.target))
    if config.train.teacher is not None:
        config = config.replace("train.teacher", absolute(config.train.teacher, ()))
    if config.data.exclude is not None:
        config = config.replace("data.exclude", absolute(config.data.exclude, ()))
    return defaults.resolve(config, num_train, tuple(classifier.stages), count_parameters(classifier.trunk)["total"])


def check_names(config: Config, classifier: Classifier, index: Index, split: NDArray[np.str_]) -> None:
    """Refuse a stage or a class that there is not, what a TF-Hub module cannot do, and mixing without pixels: before computing anything."""
    is_hub = any(isinstance(layer, HubModule) for layer in classifier.model.layers)
    if config.mode == "pretrain" and is_hub:
        raise ConfigError(
            f"--mode pretrain: {config.model.backbone} is a TF-Hub module, of which no backbone.keras is made. Use --mode finetune."
        )
    if config.mode == "finetune" and is_hub and (strength := config.train.keep_features):
        raise ConfigError(
            f"train.keep_features: got {strength:g}, expected 0: {config.model.backbone} is a TF-Hub module, which cannot be copied. "
            "Remove it."
        )
    unfreeze(classifier, config.train.unfreeze_from, freeze_batchnorm=config.mode != "finetune" or config.model.freeze_batchnorm)
    pruning_of(classifier, config.train.sparsity if config.mode == "finetune" else 0.0, steps=1)
    image_weights(config.train.class_weights, index.labels[split == "train"], index.classes, index.output)
    _require_pixels_to_mix(config, classifier)
    _require_turns(config, classifier)


def _require_pixels_to_mix(config: Config, classifier: Classifier) -> None:
    """Refuse MixUp and CutMix where finetuning would learn from stored features; `config` is resolved.

    Raises:
        ConfigError: stages below the lowest that trains are frozen.
    """
    lowest, train = config.train.unfreeze_from, config.train
    if config.mode != "finetune" or not train.mixes or lowest not in list(classifier.stages)[1:]:
        return
    name = "mixup_alpha" if train.mixup_alpha else "cutmix_alpha"
    raise ConfigError(
        f"train.{name}: got {getattr(train, name):g}, but finetuning from {lowest} up learns from stored features of the stages below, "
        "where there are no pixels to mix. Set train.unfreeze_from=all, or remove it."
    )


def _require_turns(config: Config, classifier: Classifier) -> None:
    """Refuse gradual unfreezing in which a stage would have no turn, or all have the same; `config` is resolved.

    Raises:
        ConfigError: one stage trains, or the epochs end before the lowest begins.
    """
    if config.mode != "finetune" or (every := config.train.unfreeze_every) is None:
        return
    lowest, names = config.train.unfreeze_from, list(classifier.stages)
    epochs = defaults.required(config.train.epochs)
    below = len(names) - 1 - (names.index(lowest) if lowest in names else 0)  # the last stage
    if not below:
        raise ConfigError(
            f"train.unfreeze_every: got {every}, but only {lowest} trains, so no stage is left for later. Set train.unfreeze_from "
            "to a lower stage, or remove it."
        )
    if every * below >= epochs:
        mends = [f"it to at most {most}"] if (most := (epochs - 1) // below) else []
        raise ConfigError(
            f"train.unfreeze_every: got {every}, but {names[-1 - below]} would begin to train after {every * below} epochs, and there are "
            f"{epochs}. Set {', or '.join([*mends, f'train.epochs to more than {every * below}'])}."
        )
