"""From a name of the table, a file, a TF-Hub module or a KerasHub preset to a backbone: one flat graph from raw pixels to features.

Every backbone takes RGB pixels 0..255; what its weights want (Caffe's BGR, [-1, 1], ...) is a layer of Keras inside
the graph, so that nobody can forget it or apply it twice and a saved model loads without this package (but for a TF-Hub
module, whose layer is `hub_layer`'s). Knows neither heads nor training: `classifier` goes on from here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras

from tl_keras.errors import BackboneError
from tl_keras.models.backbone_files import (
    OwnPreprocessing,
    SavedNetwork,
    file_image_size,
    find_convolution,
    find_preprocessing,
    read_backbone,
    rebuild,
)
from tl_keras.models.backbone_kinds import BACKBONE_KINDS, imported, kind_of
from tl_keras.models.backbone_names import keras_file, short_name, table_name
from tl_keras.models.backbone_weights import copy_weights, find_weights, import_builder, load_weights
from tl_keras.models.backbones import BACKBONES, Backbone
from tl_keras.models.depthwise import with_depthwise
from tl_keras.models.hub import HUB_PREPROCESSING, is_written_by_keras, read_module
from tl_keras.models.hub_layer import HubModule, Interface
from tl_keras.models.presets import PRESET_PREPROCESSING, read_preset, read_rescaling
from tl_keras.models.saved_model_graph import GraphFacts, look_into
from tl_keras.models.stages import boundaries_by_resolution, find_operation, layers_by_stage
from tl_keras.models.trust import trusting

_CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_DEVIATION = (0.229, 0.224, 0.225)

# preprocessing -> scale and offset of a Rescaling of pixels 0..255: one value, or one for each channel
_RESCALING: dict[str, tuple[Any, Any]] = {
    "none": (1.0, 0.0),
    "zero_to_one": (1 / 255, 0.0),
    "minus_one_to_one": (1 / 127.5, -1.0),
    "torch": (
        [1 / (255 * deviation) for deviation in _IMAGENET_DEVIATION],
        [-mean / deviation for mean, deviation in zip(_IMAGENET_MEAN, _IMAGENET_DEVIATION, strict=True)],
    ),
    "caffe": (1.0, [-mean for mean in _CAFFE_MEAN_BGR]),  # after RGB -> BGR
}

_LOOKED_INTO: dict[tuple[str, Interface, tuple[int, int]], GraphFacts] = {}  # an interface has the hash of the graph


@dataclass(frozen=True)
class BuiltBackbone:
    """A backbone ready for a head.

    Attributes:
        model: float32 pixels (b, h, w, 3) in 0..255 -> the last stage's feature map (b, h', w', c), or the features
            (b, d) of a TF-Hub module. Flat: every layer is a layer of this model.
        stages: "stage1", "stage2", ... from input to output -> the names of all layers of that stage. Each layer is
            in exactly one; the input and the preprocessing are in "stage1".
        boundaries: the same stages -> the symbolic tensor that the stage outputs.
        row: the row of the table that the backbone is known as, or None.
        preprocessing: what was put in front, "preset" for KerasHub's; "none" where the network itself begins with its preprocessing.
        notes: lines for the user on what was found in a file or a module: where it was cut, which preprocessing was chosen and why.
    """

    model: keras.Model
    stages: dict[str, tuple[str, ...]]
    boundaries: dict[str, Any]
    row: Backbone | None
    preprocessing: str
    notes: tuple[str, ...] = ()


def native_image_size(backbone: str, *, trust: bool = False) -> int:
    """Say at how many pixels a side a backbone was trained: by its row, or by what its file or folder says of its input.

    Args:
        trust: as `build_backbone`.
    """
    backbone = table_name(backbone)
    with trusting(trust):
        return int(imported(BACKBONE_KINDS[kind_of(backbone)].image_size)(backbone))


def row_image_size(backbone: str) -> int:
    """That of a row of the table."""
    return BACKBONES[backbone].image_size


def path_image_size(backbone: str) -> int:
    """That of a `.keras` file."""
    return file_image_size(keras_file(backbone))


def build_backbone(
    backbone: str, *, image_size: tuple[int, int], weights: str | None = "pretrained", preprocessing: str = "auto", trust: bool = False
) -> BuiltBackbone:
    """Build a backbone with its preprocessing inside and load its weights.

    Args:
        backbone: A name of `BACKBONES`; the path of a `.keras` file, whose classifier is cut off; the folder or the
            address of a TF-Hub module; "keras_hub:" and a preset, or its folder.
        image_size: Height and width of the images in pixels.
        weights: "pretrained" (published, or those in the file), "imagenet", "none" (random) or the path of a weights
            file; None for any, as they are about to be replaced.
        preprocessing: What the weights want, or "auto": known from the table, found in the file, in the module's graph or beside
            the preset, or the convention of TF-Hub.
        trust: Load a SavedModel also where its graph does more than compute, now and later on this machine; see `trust`.

    Raises:
        BackboneError: An unknown name, an image too small, a file that is missing, foreign or of another architecture,
            or a preprocessing that is unknown or would be applied twice.
    """
    if preprocessing not in ("auto", *_RESCALING):
        raise BackboneError(f"model.preprocessing={preprocessing!r} is unknown. Expected {_kinds(('auto', *_RESCALING))}.")
    backbone = table_name(backbone)
    with trusting(trust):
        built: BuiltBackbone = imported(BACKBONE_KINDS[kind_of(backbone)].build)(backbone, image_size, weights, preprocessing)
        return built


def build_row(backbone: str, image_size: tuple[int, int], weights: str | None, preprocessing: str) -> BuiltBackbone:
    """Build a row of the table; see `build_backbone`, as for the three below."""
    row = BACKBONES[backbone]
    _check_image_size(row, image_size)
    kind = row.preprocessing if preprocessing == "auto" else preprocessing
    if row.preprocessing == "none" != kind:
        raise _twice(row.name, "with its own preprocessing", preprocessing)
    weights_file = find_weights(row.name, row, weights)
    pixels = _pixels(image_size)
    tensor = pixels if row.preprocessing == "none" else _preprocess(pixels, kind)
    network = import_builder(row)(include_top=False, weights=None, input_tensor=tensor, **row.arguments)
    model = keras.Model(pixels, network.output, name=row.name)
    if weights_file:
        load_weights(model, row, weights_file)
    return _built(with_depthwise(model), row, kind)


def build_file(backbone: str, image_size: tuple[int, int], weights: str | None, preprocessing: str) -> BuiltBackbone:
    """Build a `.keras` file."""
    path = keras_file(backbone)
    saved = read_backbone(path)
    if saved.row is not None:
        _check_image_size(saved.row, image_size)
    own = find_preprocessing(saved.model)
    kind = preprocessing_of_file(path, saved.row, own, preprocessing)
    model = rebuild(saved.model, _pixels(image_size), lambda pixels: _in_front(pixels, own, kind))
    _fill(model, saved.model, weights)
    notes = (*_cut_note(path, saved), *_preprocessing_note(path, saved.row, own, kind, preprocessing))
    return replace(_built(with_depthwise(model), saved.row, kind), notes=notes)


def build_module(backbone: str, image_size: tuple[int, int], weights: str | None, preprocessing: str) -> BuiltBackbone:
    """Build a TF-Hub module."""
    if weights in ("none", "imagenet"):
        raise BackboneError(f"model.weights={weights!r}: module {backbone} brings its own weights. Expected 'pretrained' or a file.")
    weights_file = find_weights(backbone, None, None if weights == "pretrained" else weights)
    module = read_module(backbone, image_size)
    facts = _facts(backbone, module, image_size)
    kind = _module_preprocessing(backbone, module, facts) if preprocessing == "auto" else preprocessing
    pixels = _pixels(image_size)
    model = keras.Model(pixels, module(_preprocess(pixels, kind)), name=module.name)
    if weights_file:
        load_weights(model, None, weights_file)
    return replace(_cut(model, [module], None, kind), notes=_module_notes(backbone, module, facts, kind, preprocessing))


def _facts(backbone: str, module: HubModule, image_size: tuple[int, int]) -> GraphFacts:
    """What the module's graph tells, looked up once for each module: a run builds its network several times."""
    key = (backbone, module.interface, image_size)
    if key not in _LOOKED_INTO:
        _LOOKED_INTO[key] = look_into(module.require_module(), module.interface, image_size)
    return _LOOKED_INTO[key]


def _module_preprocessing(backbone: str, module: HubModule, facts: GraphFacts) -> str:
    if facts.wants is not None:
        return facts.wants
    if is_written_by_keras(backbone, module):  # to which TF-Hub's convention means nothing
        raise BackboneError(
            f"module {backbone} was written by Keras, and its graph does not show what range of pixels it was trained on. "
            f"Expected model.preprocessing to be one of {_kinds(_RESCALING)}."
        )
    return HUB_PREPROCESSING


def _module_notes(backbone: str, module: HubModule, facts: GraphFacts, kind: str, asked: str) -> tuple[str, ...]:
    name = short_name(backbone)
    if asked != "auto" and facts.wants not in (None, kind):
        taken = "pixels 0..255" if facts.wants == "none" else f"what {facts.wants} makes of them"
        range_note = f"{name}: preprocessing {kind}, as set, though its own preprocessing takes {taken}"
    elif facts.wants == "none":
        range_note = f"{name}: gets pixels 0..255, which its own preprocessing takes"
    elif facts.wants is not None:
        range_note = f"{name}: preprocessing {kind}, the range that its own preprocessing takes"
    else:
        why = "TF-Hub's convention" if asked == "auto" else "as set"
        range_note = f"{name}: preprocessing {kind}, {why}"
    width = module.interface.features[-1]
    head = f"{name}: its features are a classifier's {width:,} probabilities; a module without its classifier tells more"
    return (range_note, head) if facts.gives_probabilities else (range_note,)


def build_preset(backbone: str, image_size: tuple[int, int], weights: str | None, preprocessing: str) -> BuiltBackbone:
    """Build a preset of KerasHub."""
    rescaling = read_rescaling(backbone) if preprocessing == "auto" else None
    network = read_preset(backbone, load_weights=weights == "pretrained")
    if rescaling is not None:
        kind = PRESET_PREPROCESSING
        model = rebuild(network, _pixels(image_size), lambda pixels: _rescale(pixels, *rescaling))
    else:
        own = find_preprocessing(network)
        if own is not None and own.wants is None and weights != "pretrained":  # statistics that are not loaded would tell
            own = replace(own, wants="none")
        kind = preprocessing_of_file(backbone, None, own, preprocessing)
        model = rebuild(network, _pixels(image_size), lambda pixels: _in_front(pixels, own, kind))
    _fill(model, network, weights)
    return _built(with_depthwise(model), None, kind)


def _fill(model: keras.Model, source: keras.Model, weights: str | None) -> None:
    """Give a rebuilt network the weights that it was read with, or those of a file."""
    if weights == "pretrained":
        copy_weights(source, model)
    elif weights_file := find_weights(model.name, None, weights):
        load_weights(model, None, weights_file)


def preprocessing_of_file(path: str | Path, row: Backbone | None, own: OwnPreprocessing | None, asked: str) -> str:
    """What goes in front of a network from a file, which may do its own preprocessing."""
    if own is not None and own.wants == "none":
        if asked not in ("auto", "none"):
            raise _twice(str(path), f"with the layer {own.names[0]!r}", asked)
        return "none"
    if asked != "auto":
        return asked
    if own is not None:
        if own.wants is None:
            raise BackboneError(
                f"{path} does something of its own to images before its first convolution ({_few(own.names)}), which does not show what "
                f"range of pixels it was trained on. Set model.preprocessing: 'none', as fits a file that does all of its preprocessing "
                f"itself, or one of {_kinds(kind for kind in _RESCALING if kind != 'none')}, which is put in front."
            )
        return own.wants
    if row is None or row.preprocessing == "none":  # a row that has it inside, saved without
        raise BackboneError(
            f"{path} has no preprocessing before its first convolution, so nothing says what range of pixels "
            f"it was trained on. Expected model.preprocessing to be one of {_kinds(_RESCALING)}."
        )
    return row.preprocessing


def _in_front(pixels: Any, own: OwnPreprocessing | None, kind: str) -> Any:
    return pixels if own is not None and kind == "none" else _preprocess(pixels, kind)


def _cut_note(path: Path, saved: SavedNetwork) -> tuple[str, ...]:
    kept = saved.model.count_params()
    known = "" if saved.row is None else f"a {saved.row.name}, "
    share = f"all {kept:,}" if kept == saved.total else f"{kept:,} of {saved.total:,}"
    return (f"{path.name}: {known}cut behind {saved.end!r}: {share} weights stay",)


def _preprocessing_note(path: Path, row: Backbone | None, own: OwnPreprocessing | None, kind: str, asked: str) -> tuple[str, ...]:
    """Say what `auto` chose."""
    if own is not None:
        needs = "" if kind == "none" else f", behind {kind}, the range that it takes" if asked == "auto" else f", behind {kind}, as set"
        return (f"{path.name}: its own preprocessing is used ({_few(own.names)}){needs}",)
    return (f"{path.name}: preprocessing {kind}, as {row.name} wants it",) if asked == "auto" and row is not None else ()


def _few(names: Sequence[str], most: int = 3) -> str:
    shown = ", ".join(map(repr, names[:most]))
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def _built(model: keras.Model, row: Backbone | None, preprocessing: str) -> BuiltBackbone:
    if row is None:
        operations = boundaries_by_resolution(model, find_convolution(model))
    else:
        operations = [find_operation(model, name) for name in row.stages]
    return _cut(model, operations, row, preprocessing)


def _cut(model: keras.Model, operations: list[Any], row: Backbone | None, preprocessing: str) -> BuiltBackbone:
    """Cut a backbone into stages; `operations` are the last of each."""
    boundaries = {f"stage{number}": operation.output for number, operation in enumerate(operations, start=1)}
    return BuiltBackbone(model, layers_by_stage(model, operations), boundaries, row, preprocessing)


def _pixels(image_size: tuple[int, int]) -> Any:
    return keras.Input((*image_size, 3), dtype="float32", name="pixels")


def _preprocess(pixels: Any, kind: str) -> Any:
    """Turn pixels 0..255 into what the weights want, in float32 whatever the precision of the network.

    "none" is a layer too: it says in a saved file that raw pixels were meant.
    """
    if kind == "caffe":
        pixels = keras.ops.flip(pixels, axis=-1)
    return _rescale(pixels, *_RESCALING[kind])


def _rescale(pixels: Any, scale: Any, offset: Any) -> Any:
    return keras.layers.Rescaling(scale, offset, dtype="float32", name="preprocessing")(pixels)


def _check_image_size(row: Backbone, image_size: tuple[int, int]) -> None:
    if min(image_size) < row.min_size:
        raise BackboneError(
            f"image_size={tuple(image_size)} is too small for backbone {row.name!r}: it needs at least {row.min_size} "
            f"pixels a side; it was trained at {(row.image_size, row.image_size)}."
        )


def _twice(backbone: str, beginning: str, asked: str) -> BackboneError:
    return BackboneError(
        f"model.preprocessing={asked!r}: backbone {backbone} begins {beginning}, and pixels would be preprocessed twice. "
        f"Expected 'auto' or 'none'."
    )


def _kinds(kinds: Iterable[str]) -> str:
    return ", ".join(repr(kind) for kind in kinds)
