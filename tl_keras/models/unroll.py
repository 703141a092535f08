"""A model made of models becomes one flat graph, in which each layer is called once.

Keras' own guide puts a network into another model as one layer, behind augmentation and preprocessing. Everything in this package
works on flat graphs, whose layers it freezes, cuts and recognises by name. Random augmentation is left out: `data.augment` does that.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import keras

from tl_keras.models.backbone_weights import settle_normalization

_RANDOM = ("Random", "RandAugment", "AugMix", "CutMix", "MixUp")  # how the names of layers that augment begin
_RANDOM_CROP = "RandomCrop"  # gives images their size in inference too


@dataclass
class Unrolled:
    """A flat model with the weights of the one that it was made of.

    Attributes:
        model: one input, one output, and layers of its own.
        repeated: layers that stand for another call of a layer with weights, and the name of that: trained, they would go their own
            ways.
    """

    model: keras.Model
    repeated: dict[str, str]


def unrolled(model: keras.Model) -> Unrolled:
    """Unroll a functional or sequential model with one input; a flat functional one comes back as it is, cut to its first output."""
    if isinstance(model, keras.Sequential) or any(_is_unrolled(each) for each in model.operations) or _has_repeats(model):
        return _Unroller().unroll(model)
    return Unrolled(keras.Model(model.inputs[0], model.outputs[0], name=model.name), {})


def new_layer(layer: Any) -> Any:
    """A layer with the same settings and new weights, in the precision of layers that are built now; what scales pixels stays float32."""
    if isinstance(layer, keras.Sequential):  # whose configuration would fix the old image size
        return keras.Sequential([new_layer(inner) for inner in layer.layers], name=layer.name)
    config = layer.get_config()
    if isinstance(layer, keras.layers.Layer) and not isinstance(layer, keras.layers.Rescaling | keras.layers.Normalization):
        config["dtype"] = keras.config.dtype_policy()
    return type(layer).from_config(config)


@dataclass
class _Unroller:
    pairs: list[tuple[Any, Any]] = field(default_factory=list)  # an old layer, and the new one that takes its place
    repeated: dict[str, str] = field(default_factory=dict)

    def unroll(self, model: keras.Model) -> Unrolled:
        old = model.inputs[0]
        pixels = keras.Input(batch_shape=old.shape, dtype=old.dtype, name="pixels")
        output = keras.tree.flatten(self.run(model, pixels))[0]
        flat = keras.Model(pixels, output, name=model.name)
        for theirs, ours in self.pairs:
            if getattr(theirs, "weights", None):
                ours.set_weights(theirs.get_weights())
        settle_normalization(flat)
        return Unrolled(flat, self.repeated)

    def run(self, model: Any, inputs: Any) -> Any:
        """What a model's layers make of other symbolic inputs."""
        if isinstance(model, keras.Sequential):
            for layer in model.layers:
                inputs = self.replaced(layer)(inputs)
            return inputs
        return model._run_through_graph(inputs, operation_fn=self.replaced)

    def replaced(self, operation: Any) -> Callable[..., Any]:
        """What is called in place of one call of an operation."""
        if _is_random(operation):
            return lambda inputs, **_: inputs
        if _is_unrolled(operation):
            return lambda inputs, **_: self.run(operation, inputs)
        return self.copied(operation)

    def copied(self, operation: Any) -> Any:
        again = any(theirs is operation for theirs, _ in self.pairs)
        copy = new_layer(operation)
        taken = {ours.name for _, ours in self.pairs}
        while copy.name in taken:
            copy.name += "_again"
        if again and getattr(operation, "weights", None):
            self.repeated[copy.name] = operation.name
        self.pairs.append((operation, copy))
        return copy


def _is_unrolled(operation: Any) -> bool:
    """Whether an operation is a model to unroll, or is left out. A Sequential that begins with weights is a block of its network."""
    if isinstance(operation, keras.Sequential):
        inner = operation.layers
        return not (inner and inner[0].weights) or any(_is_unrolled(layer) for layer in inner)
    return isinstance(operation, keras.Model) or _is_random(operation)


def _is_random(operation: Any) -> bool:
    name = type(operation).__name__
    return name.startswith(_RANDOM) and name != _RANDOM_CROP and isinstance(operation, keras.layers.Layer)


def _has_repeats(model: keras.Model) -> bool:
    return len(list(_nodes(model))) > len(model.operations)


def _nodes(model: keras.Model) -> Iterator[Any]:
    """The calls of a functional model's operations."""
    for nodes in model._nodes_by_depth.values():
        yield from nodes
