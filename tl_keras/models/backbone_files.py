"""Backbones from a user's own `.keras` file: read, unrolled, freed of their classifier, rebuilt at the image size asked for.

Owns what can be wrong with such a file, and finds the preprocessing in it. `backbone_loading` decides what goes in front, on stages
and on weights.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tl_keras.errors import BackboneError
from tl_keras.models.backbones import BACKBONES, Backbone
from tl_keras.models.feature_cut import find_features
from tl_keras.models.file_kinds import first_layer, why_unusable
from tl_keras.models.keras_loading import BROKEN, code_in, load_keras_file
from tl_keras.models.pixel_range import range_wanted
from tl_keras.models.stages import ancestors, find_operation, parents_of
from tl_keras.models.unroll import new_layer, unrolled

DEFAULT_IMAGE_SIZE = 224  # of a file that takes images of any size
_CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D)
# Names of operations before the first convolution that change the size of an image or nothing, but not its numbers.
_GEOMETRY = {"InputLayer", "ZeroPadding2D", "Cropping2D", "CenterCrop", "Resizing", "RandomCrop", "Reshape", "Permute"}
_GEOMETRY |= {"Dropout", "GaussianNoise", "Identity", "Cast"}


@dataclass(frozen=True)
class SavedNetwork:
    """What a `.keras` file holds of a backbone.

    Attributes:
        model: a flat functional model from images to features, with its weights.
        row: the row of the table whose network it is, if any.
        end: the name of the operation that outputs the features.
        total: weights of the whole file, in numbers.
    """

    model: keras.Model
    row: Backbone | None
    end: str
    total: int


@dataclass(frozen=True)
class OwnPreprocessing:
    """What a network does itself to the numbers of an image before its first convolution.

    Attributes:
        names: of its operations.
        wants: the preprocessing that makes the range which it takes: "none", "zero_to_one" or "minus_one_to_one"; None: unknown.
    """

    names: tuple[str, ...]
    wants: str | None


def file_image_size(path: Path) -> int:
    """Read the height of the images that a `.keras` file takes, without building its model."""
    if why := why_unusable(path):
        raise BackboneError(f"{path} cannot be a backbone: {why}")
    try:
        _, height, _, _ = first_layer(path)["batch_shape"]
    except (LookupError, TypeError, ValueError) as error:
        raise _unusable(path, "it does not begin with an input of images, (None, height, width, 3)") from error
    return int(height or DEFAULT_IMAGE_SIZE)


def read_backbone(path: Path) -> SavedNetwork:
    """Read a `.keras` file and cut off its classifier.

    Raises:
        BackboneError: It cannot be read, takes no RGB images, holds no convolution of its own, ends in tokens, or shares weights.
    """
    loaded = _load_image_model(path)
    whole = unrolled(loaded)
    if not find_convolution(whole.model):
        raise _unusable(path, "it has no convolution")
    row, output = _recognise(whole.model)
    output = find_features(whole.model) if output is None else output
    if output is None:
        raise _unusable(
            path,
            f"it outputs tokens or a sequence, {tuple(whole.model.output.shape)}. Expected a feature map (None, h, w, c) or a vector for "
            f"each image (None, d): save it with a pooling layer after them",
        )
    backbone = keras.Model(whole.model.inputs[0], output, name=row.name if row else path.stem)
    if again := [whole.repeated[layer.name] for layer in backbone.layers if layer.name in whole.repeated]:
        raise _unusable(path, f"its layer {again[0]!r} is called more than once, and a backbone's layers share no weights")
    end = next(operation.name for operation in backbone.operations if operation.output is output)
    return SavedNetwork(backbone, row, end, loaded.count_params())


def _load_image_model(path: Path) -> keras.Model:
    if why := why_unusable(path):
        raise BackboneError(f"{path} cannot be a backbone: {why}")
    try:
        model = load_keras_file(path)
    except BROKEN as error:
        if code := code_in(error):
            raise _unusable(path, code) from error
        cause = error.__context__ or error  # Keras wraps "Could not locate class 'Mine'" into pages of configuration
        raise _unusable(path, str(cause).strip().partition("\n")[0].partition(". ")[0]) from error
    shape = getattr(model, "input_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4 or shape[-1] != 3:
        raise _unusable(path, f"its input has the shape {shape}, not (None, height, width, 3)")
    return model


def _unusable(path: Path, why: str) -> BackboneError:
    return BackboneError(f"{path} cannot be a backbone: {why}.")


def _recognise(model: keras.Model) -> tuple[Backbone | None, Any]:
    """Find the row with the same names and number of parameters, and the tensor where its network ends."""
    before = _before_first_convolution(model)
    for row in BACKBONES.values():
        boundaries = [find_operation(model, name) for name in row.stages]
        if all(boundaries) and not any(each in before for each in boundaries):
            output = boundaries[-1].output  # type: ignore[union-attr]
            if keras.Model(model.inputs[0], output).count_params() == row.num_parameters:
                return row, output
    return None, None


def find_convolution(model: keras.Model) -> Any | None:
    """The layer with the first convolution; a layer that is itself a model counts if it has one inside."""
    for layer in model.layers:
        if isinstance(layer, _CONVOLUTIONS) or (isinstance(layer, keras.Model) and find_convolution(layer)):
            return layer
    return None


def _before_first_convolution(model: keras.Model) -> list[Any]:
    """The operations that an image passes before the first convolution, in the order of the graph."""
    first = find_convolution(model)
    if first is None:
        return []
    needed = ancestors(model, first.output, parents_of(model))
    return [operation for operation in model.operations if id(operation) in needed and operation is not first]


def find_preprocessing(model: keras.Model) -> OwnPreprocessing | None:
    """What a flat model does to the numbers of an image before its first convolution; None where it does nothing."""
    found = [operation for operation in _before_first_convolution(model) if type(operation).__name__ not in _GEOMETRY]
    if not found:
        return None
    seen = keras.Model(model.inputs[0], find_convolution(model).input)  # type: ignore[union-attr]

    def see(images: Any) -> Any:
        return keras.ops.convert_to_numpy(keras.ops.cast(seen(images, training=False), "float32"))

    height, width = (side or DEFAULT_IMAGE_SIZE for side in model.inputs[0].shape[1:3])
    wants = range_wanted(see, (height, width))
    if wants is None and any(_says_raw(operation) for operation in found):
        wants = "none"
    return OwnPreprocessing(tuple(operation.name for operation in found), wants)


def _says_raw(operation: Any) -> bool:
    """Whether this is a Rescaling that changes nothing: this package puts it where raw pixels are meant."""
    return isinstance(operation, keras.layers.Rescaling) and bool(np.all(operation.scale == 1) and np.all(operation.offset == 0))


def rebuild(model: keras.Model, pixels: Any, preprocess: Callable[[Any], Any]) -> keras.Model:
    """Build the same network on other pixels, with new layers of the same names and random weights.

    Args:
        model: A flat functional model of one input.
        pixels: The new input, symbolic, (b, h, w, 3).
        preprocess: What `pixels` go through first.
    """
    tensor = preprocess(pixels)

    def call(layer: Any, *arguments: Any, **options: Any) -> Any:
        return layer(*(tensor if argument is pixels else argument for argument in arguments), **options)

    try:
        new = keras.models.clone_model(model, input_tensors=pixels, clone_function=new_layer, call_function=call)
    except ValueError as error:
        raise BackboneError(
            f"backbone {model.name!r} cannot be rebuilt for image_size={tuple(pixels.shape[1:3])}: "
            f"{str(error).strip().splitlines()[0].rstrip('.')}. Its file was saved for {tuple(model.input_shape[1:3])}."
        ) from error
    for layer in new.layers:  # which a file of a frozen model holds as frozen
        layer.trainable = True
    return new
