"""From pixels to logits: backbone, pooling and head in one flat graph, and which of its layers train.

`trunk` (pixels -> pooled features) and `head` (features -> logits) are views of the same layers, so that a head
trained on stored features is, without a copy, the head of the whole model. How any of it is trained is for `transfer`.
"""

import math
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from tl_keras.config import ModelConfig
from tl_keras.errors import ConfigError
from tl_keras.models.backbone_loading import BuiltBackbone
from tl_keras.models.hub_layer import HubModule
from tl_keras.models.stages import activations_by_stage, ancestors, is_feature_map, parents_of
from tl_keras.runtime import building_as

POOLINGS = {"avg": layers.GlobalAveragePooling2D, "max": layers.GlobalMaxPooling2D, "flatten": layers.Flatten}
ALL_STAGES = "all"


@dataclass(frozen=True)
class Classifier:
    """A classifier and the views of it that training needs.

    Attributes:
        model: float32 pixels (b, h, w, 3) in 0..255 -> logits float32 (b, k).
        trunk: the same pixels -> pooled features (b, d).
        head: features (b, d) -> logits; its layers are those of `model`.
        stages: 'stage1' ... -> names of the backbone's layers, from the input up.
        boundaries: the same -> the symbolic tensor of `model` that the stage outputs.
        num_last: how many of the features, at their end, are the backbone's pooled output; the others are of its earlier layers.
        notes: lines for the user on what was found in the backbone's file or module.
    """

    model: keras.Model
    trunk: keras.Model
    head: keras.Model
    stages: dict[str, tuple[str, ...]]
    boundaries: dict[str, Any]
    num_last: int
    notes: tuple[str, ...] = ()


def build_classifier(config: ModelConfig, backbone: BuiltBackbone, num_classes: int, seed: int, *, all_stages: bool = False) -> Classifier:
    """Put pooling and a head on a backbone.

    Args:
        config: `pooling`, `hidden` and `dropout` are used; `pooling=flatten, hidden=[1024]` is VGG's classic head.
        all_stages: the head sees the averages of every stage's activations, not of the last output alone (Head2Toe, Evci
            et al. 2022, arXiv:2201.03529); the last output is pooled as `config.pooling` says.
        num_classes: k, at least 2.
        seed: of the head's weights and of dropout.

    Raises:
        ConfigError: a pooling is asked for where the backbone's features are vectors already.
    """
    if config.pooling != "avg" and not is_feature_map(backbone.model.output):
        raise ConfigError(f"model.pooling: got '{config.pooling}', but the backbone outputs vectors, which need no pooling. Remove it.")
    taken = {operation.name for operation in backbone.model.operations}
    features = _pool(config.pooling, "pool", taken, backbone.model.output)
    num_last = features.shape[-1]
    if all_stages:
        features = _pool_stages(backbone, features, taken)
    head_layers = _head_layers(config, num_classes, seed, taken)
    stored = keras.Input(features.shape[1:], name="features", dtype=features.dtype)
    return Classifier(
        model=keras.Model(backbone.model.input, _chain(head_layers, features), name=backbone.model.name),
        trunk=keras.Model(backbone.model.input, features, name="trunk"),
        head=keras.Model(stored, _chain(head_layers, stored), name="head"),
        stages=backbone.stages,
        boundaries=backbone.boundaries,
        num_last=num_last,
        notes=backbone.notes,
    )


def _pool(kind: str, name: str, taken: set[str], tensor: Any) -> Any:
    """Pool a feature map in float32, so that stored features are whole in every precision; a module's vectors stay as they are."""
    return POOLINGS[kind](name=_free(name, taken), dtype="float32")(tensor) if is_feature_map(tensor) else tensor


def _pool_stages(backbone: BuiltBackbone, features: Any, taken: set[str]) -> Any:
    """The averages of each stage's activations, stage by stage, in place of the last one's output the pooled `features`."""
    by_stage = []
    for stage, tensors in activations_by_stage(backbone.model, backbone.boundaries).items():
        averages = [_pool("avg", f"pool_{stage}_{place}", taken, tensor) for place, tensor in enumerate(tensors, start=1)]
        if tensors[-1] is backbone.model.output:
            averages[-1] = features
        by_stage.append(_join(averages, f"pool_{stage}", taken))
    return _join(by_stage, "pool_all", taken)


def _join(vectors: list[Any], name: str, taken: set[str]) -> Any:
    return layers.Concatenate(dtype="float32", name=_free(name, taken))(vectors) if len(vectors) > 1 else vectors[0]


def _free(name: str, taken: set[str]) -> str:
    """A name for a layer: a backbone from a file may have layers called 'pool' or 'dropout' itself."""
    return name if name not in taken else _free(f"head_{name}", taken)


def _head_layers(config: ModelConfig, num_classes: int, seed: int, taken: set[str]) -> list[Any]:
    found: list[Any] = []
    for number, units in enumerate(config.hidden, start=1):
        init = keras.initializers.HeNormal(seed=seed + number)
        found.append(layers.Dense(units, activation="relu", kernel_initializer=init, name=_free(f"hidden{number}", taken)))
    if config.dropout:
        found.append(layers.Dropout(config.dropout, seed=seed, name=_free("dropout", taken)))
    init = keras.initializers.GlorotUniform(seed=seed)
    return [*found, layers.Dense(num_classes, dtype="float32", kernel_initializer=init, name=_free("logits", taken))]


def _chain(chain: list[Any], x: Any) -> Any:
    for layer in chain:
        x = layer(x)
    return x


def head_of(model: keras.Model) -> list[Any]:
    """The layers of a saved classifier that a head is made of, from the features to the logits; none where the last is not one of them.

    A model of several networks has no single head.
    """
    found: list[Any] = []
    parents = parents_of(model)
    waiting = [operation for operation in model.operations if operation.output is model.output]
    while len(waiting) == 1 and isinstance(waiting[0], (layers.Dense, layers.Dropout)):
        found.insert(0, waiting[0])
        waiting = parents[id(waiting[0])]
    return found


def unfreeze(classifier: Classifier, lowest: str | None, *, freeze_batchnorm: bool) -> None:
    """Choose what trains: the head always, and the backbone from one stage up.

    `base_model(x, training=False)` does not hold BatchNorm's moving statistics once the base is unfrozen; setting
    `trainable = False` on each BatchNormalization layer does, so that is what happens here.

    Args:
        lowest: the lowest stage that trains, 'all' for the whole backbone, None for none of it.
        freeze_batchnorm: hold BatchNorm still in stages that train. Of a TF-Hub module that is its statistics and dropout.

    Raises:
        ConfigError: the backbone has no such stage, or is a module whose BatchNorm cannot be told to learn.
    """
    names = list(classifier.stages)
    if lowest is not None and lowest != ALL_STAGES and lowest not in names:
        raise ConfigError(f"train.unfreeze_from: got '{lowest}', expected 'all' or one of {', '.join(names)}, the backbone's stages.")
    first = len(names) if lowest is None else 0 if lowest == ALL_STAGES else names.index(lowest)
    for position, name in enumerate(names):
        for layer_name in classifier.stages[name]:
            layer = classifier.model.get_layer(layer_name)
            # Some of KerasHub's layers are blocks with a BatchNorm inside. Each is told by itself: what a layer is already, Keras does
            # not hand on to those inside.
            for inner in layer._flatten_layers():
                still = freeze_batchnorm and isinstance(inner, layers.BatchNormalization)
                inner.trainable = position >= first and not still
            if isinstance(layer, HubModule):
                _hold_batchnorm(layer, freeze_batchnorm or position < first)


def divide_logits(classifier: Classifier, temperature: float) -> None:
    """Divide the logits by scaling the weights of the last layer, so that every copy and export of the model has it."""
    classifier.head.layers[-1].set_weights([weight / temperature for weight in classifier.head.layers[-1].get_weights()])


def _hold_batchnorm(module: HubModule, still: bool) -> None:
    if not (still or module.has_training_mode):
        raise ConfigError(
            "model.freeze_batchnorm: got false, expected true: the TF-Hub module has no argument 'training', so its BatchNorm stays frozen."
        )
    module.freeze_batchnorm = still


def cut_below(classifier: Classifier, lowest: str) -> tuple[dict[str, Any], keras.Model] | None:
    """Cut the graph where training begins: what lies below `lowest` is frozen and need not run again.

    Returns:
        The frozen tensors that the rest reads, by name, and the rest: a model from those tensors, in this order, to
        logits, which shares its layers with `classifier.model`. None where nothing below is frozen.
    """
    names = list(classifier.stages)
    first = 0 if lowest == ALL_STAGES else names.index(lowest)
    if first == 0:
        return None
    parents = parents_of(classifier.model)
    frozen = ancestors(classifier.model, classifier.boundaries[names[first - 1]], parents)
    operations = classifier.model.operations
    for each in operations:
        if _is_pooling(each) and all(id(parent) in frozen for parent in parents[id(each)]):
            frozen.add(id(each))
    read = [parent for each in operations if id(each) not in frozen for parent in parents[id(each)] if id(parent) in frozen]
    tensors = {f"cut{place}": parent.output for place, parent in enumerate({id(parent): parent for parent in read}.values(), start=1)}
    with building_as(classifier.model):
        return tensors, keras.Model(list(tensors.values()), classifier.model.output, name="tail")


def _is_pooling(operation: Any) -> bool:
    vector = len(getattr(operation.output, "shape", ())) == 2
    return vector and isinstance(operation, (*POOLINGS.values(), layers.Concatenate))


def update_scales(classifier: Classifier, layer_decay: float) -> dict[str, float]:
    """The factor on the update of each variable: 1 in the head, `layer_decay` once more per stage towards the input.

    Reference: ULMFiT's discriminative fine-tuning (Howard & Ruder 2018, arXiv:1801.06146, sec. 3.2), per stage.
    """
    return {path: layer_decay**depth for path, depth in _depths(classifier).items()}


def first_epochs(classifier: Classifier, every: int) -> dict[str, int]:
    """The epoch, from 0, in which each variable of the backbone begins to train: 0 in the last stage, `every` later per stage below.

    Reference: ULMFiT's gradual unfreezing (Howard & Ruder 2018, arXiv:1801.06146, sec. 3.3), after a head that was trained first.
    """
    return {path: every * (depth - 1) for path, depth in _depths(classifier).items()}


def _depths(classifier: Classifier) -> dict[str, int]:
    """How many stages below the head each variable of the backbone lies, by its path: 1 in the last stage."""
    return {
        variable.path: depth
        for depth, name in enumerate(reversed(classifier.stages), start=1)
        for layer_name in classifier.stages[name]
        for variable in classifier.model.get_layer(layer_name).variables
    }


def count_parameters(model: keras.Model) -> dict[str, int]:
    """Numbers of weights: 'total' and 'trainable', as `metrics.json` holds them."""
    return {
        "total": sum(math.prod(weight.shape) for weight in model.weights),
        "trainable": sum(math.prod(weight.shape) for weight in model.trainable_weights),
    }
