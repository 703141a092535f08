"""Backbones from a user's own `.keras` file: read, freed of their classifier, rebuilt at the image size asked for.

Owns what can be wrong with such a file. `backbone_loading` decides on preprocessing, stages and weights.
"""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from tl_keras.errors import BackboneError
from tl_keras.models.backbone_weights import copy_weights
from tl_keras.models.backbones import BACKBONES, Backbone
from tl_keras.models.stages import find_operation, is_feature_map, parents_of

DEFAULT_IMAGE_SIZE = 224  # of a file that takes images of any size
_CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D)
_PREPROCESSING = (keras.layers.Rescaling, keras.layers.Normalization)


def file_image_size(path: Path) -> int:
    """Read the height of the images that a `.keras` file takes, without building its model."""
    try:
        with zipfile.ZipFile(path) as archive:
            layers = json.loads(archive.read("config.json"))["config"]["layers"]
        _, height, _, _ = layers[0]["config"]["batch_shape"]
    except (OSError, KeyError, IndexError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise _unusable(path, "it is no .keras file of a functional or sequential model") from error
    return int(height or DEFAULT_IMAGE_SIZE)


def read_backbone(path: Path) -> tuple[keras.Model, Backbone | None]:
    """Read a `.keras` file and cut off what follows its last feature map.

    Returns:
        The functional model up to its feature map, and the row of the table whose network it is, if any.

    Raises:
        BackboneError: It cannot be read, takes no RGB images or holds no convolution of its own.
    """
    model = _load_image_model(path)
    row, output = _recognise(model)
    nested = [layer.name for layer in model.layers if isinstance(layer, keras.Model) and not isinstance(layer, keras.Sequential)]
    if nested:
        raise _unusable(
            path,
            f"it holds the model {nested[0]!r} as one layer; save that model itself, get_layer({nested[0]!r}).save()",
        )
    backbone = keras.Model(model.inputs[0], output, name=row.name if row else path.stem)
    if not find_convolution(backbone):
        raise _unusable(path, "it has no convolution")
    return backbone, row


def _load_image_model(path: Path) -> keras.Model:
    if not zipfile.is_zipfile(path):
        raise _unusable(path, "it is no .keras file, or is cut short")
    try:
        model = keras.models.load_model(path, compile=False)
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        cause = error.__context__ or error  # Keras wraps "Could not locate class 'Mine'" into pages of configuration
        raise _unusable(path, str(cause).strip().partition("\n")[0].partition(". ")[0]) from error
    shape = getattr(model, "input_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4 or shape[-1] != 3:
        raise _unusable(path, f"its input has the shape {shape}, not (None, height, width, 3)")
    return _functional(model) if isinstance(model, keras.Sequential) else keras.Model(model.inputs[0], model.outputs[0])


def _functional(model: keras.Sequential) -> keras.Model:
    """Turn a Sequential into a functional model, with layers that know no graph but this one."""
    functional = keras.models.clone_model(keras.Model(model.inputs[0], model.outputs[0]))
    copy_weights(model, functional)
    return functional


def _unusable(path: Path, why: str) -> BackboneError:
    return BackboneError(f"{path} cannot be a backbone: {why}.")


def _recognise(model: keras.Model) -> tuple[Backbone | None, Any]:
    """Find the row with the same names and number of parameters, and the tensor where its network ends."""
    for row in BACKBONES.values():
        boundaries = [find_operation(model, name) for name in row.stages]
        if all(boundaries):
            output = boundaries[-1].output  # type: ignore[union-attr]
            if keras.Model(model.inputs[0], output).count_params() == row.num_parameters:
                return row, output
    feature_maps = [operation.output for operation in model.operations if is_feature_map(operation.output)]
    # A classifier may hold feature maps of one pixel.
    wide = [tensor for tensor in feature_maps if tensor.shape[1:3] != (1, 1)]
    return None, (wide or feature_maps)[-1]


def find_convolution(model: keras.Model) -> Any | None:
    """The layer with the first convolution; a layer that is itself a model counts if it has one inside."""
    for layer in model.layers:
        if isinstance(layer, _CONVOLUTIONS) or (isinstance(layer, keras.Model) and find_convolution(layer)):
            return layer
    return None


def find_preprocessing(model: keras.Model) -> Any | None:
    """The Rescaling or Normalization that the image passes before the first convolution."""
    parents = parents_of(model)
    waiting = list(parents[id(find_convolution(model))])
    while waiting:
        operation = waiting.pop()
        if isinstance(operation, _PREPROCESSING):
            return operation
        waiting += [parent for parent in parents[id(operation)] if parent is not operation]
    return None


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
        new = keras.models.clone_model(model, input_tensors=pixels, clone_function=_new_layer, call_function=call)
    except ValueError as error:
        raise BackboneError(
            f"backbone {model.name!r} cannot be rebuilt for image_size={tuple(pixels.shape[1:3])}: "
            f"{str(error).strip().splitlines()[0].rstrip('.')}. Its file was saved for {tuple(model.input_shape[1:3])}."
        ) from error
    for layer in new.layers:  # which a file of a frozen model holds as frozen
        layer.trainable = True
    return new


def _new_layer(layer: Any) -> Any:
    if isinstance(layer, keras.Sequential):  # whose configuration would fix the old image size
        return keras.Sequential([_new_layer(inner) for inner in layer.layers], name=layer.name)
    return type(layer).from_config(layer.get_config())
