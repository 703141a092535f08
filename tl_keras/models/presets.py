"""Backbones from KerasHub: a preset by its name, its address or its folder becomes a plain functional model.

KerasHub keeps what it does to an image outside of the graph; here that is read, so that `backbone_loading` can put it in
front of the network. How an image gets its size is not: that is `data.resize` for every backbone. KerasHub is an extra
of this package, imported only here and only when it is asked for.
"""

import difflib
import re
from pathlib import Path
from typing import Any

import keras

from tl_keras.errors import BackboneError, first_line
from tl_keras.models.backbone_files import find_convolution
from tl_keras.models.backbone_kinds import BACKBONE_KINDS, PRESET
from tl_keras.models.backbone_weights import DOWNLOAD_TIMEOUT_S
from tl_keras.models.backbones import PRESET_PREFIX
from tl_keras.models.stages import is_feature_map

PRESET_PREPROCESSING = "preset"
IMAGE_SIZE = 224  # where the preset names none
_HUGGING_FACE = "hf://"


def preset_image_size(backbone: str) -> int:
    """Read at how many pixels a side a preset was trained; `IMAGE_SIZE` where it does not say."""
    converter = _converter(backbone)
    size = None if converter is None else converter.image_size
    return IMAGE_SIZE if size is None else int(size[0])


def read_preset(backbone: str, *, load_weights: bool) -> keras.Model:
    """Read a preset's network up to its feature map, in the precision of layers that are built now.

    Raises:
        BackboneError: KerasHub is not installed, the preset is missing and cannot be downloaded, is damaged, or is not a network
            from RGB images to a feature map.
    """
    location = _location(backbone)
    try:
        loaded = _keras_hub().models.Backbone.from_preset(location, load_weights=load_weights)
    except Exception as error:  # of Kaggle's, Hugging Face's and KerasHub's own kinds
        raise _failed(backbone, error) from error
    inputs = loaded.inputs
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].shape[-1] != 3:
        shapes = ", ".join(str(tensor.shape) for tensor in inputs)
        raise _unusable(backbone, f"its input has the shape {shapes}, not (None, height, width, 3)")
    if not is_feature_map(loaded.output):
        raise _unusable(backbone, f"it outputs {getattr(loaded.output, 'shape', 'several tensors')}, not a feature map (None, h, w, c)")
    network = keras.Model(inputs[0], loaded.output, name=loaded.name)
    if not find_convolution(network):
        raise _unusable(backbone, "it has no convolution of Keras' own")
    return network


def read_rescaling(backbone: str) -> tuple[Any, Any] | None:
    """What a preset does to pixels 0..255 before its network: scale and offset, each one number or one a channel.

    None where nothing goes with the network.

    Raises:
        BackboneError: it does something else than to scale and to shift.
    """
    converter = _converter(backbone)
    if converter is None:
        return None
    plain = _keras_hub().layers.ImageConverter
    if any(getattr(type(converter), name) is not getattr(plain, name) for name in ("call", "_call_python", "_call_tf")):
        raise _unusable(
            backbone, f"its {type(converter).__name__} does more to images than to scale and shift them; say what with model.preprocessing"
        )
    return 1.0 if converter.scale is None else converter.scale, 0.0 if converter.offset is None else converter.offset


def _converter(backbone: str) -> Any | None:
    location = _location(backbone)
    try:
        return _keras_hub().layers.ImageConverter.from_preset(location)
    except FileNotFoundError:  # saved without one
        return None
    except Exception as error:  # of Kaggle's, Hugging Face's and KerasHub's own kinds
        raise _failed(backbone, error) from error


def _keras_hub() -> Any:
    try:
        import keras_hub
    except ImportError as error:
        raise BackboneError(
            f"a KerasHub preset needs KerasHub, which is not installed ({first_line(error)}). Install it: {BACKBONE_KINDS[PRESET].needs}."
        ) from error
    return keras_hub


def _location(backbone: str) -> str:
    """What KerasHub calls the preset."""
    name = backbone.removeprefix(PRESET_PREFIX)
    known = _keras_hub().models.Backbone.presets
    if "://" not in name and name not in known and not Path(name).expanduser().is_dir():
        digits = re.findall(r"\d+", name)  # other numbers are other networks
        near = difflib.get_close_matches(name, [each for each in known if re.findall(r"\d+", each) == digits], n=1, cutoff=0.85)
        hint = f" Did you mean {PRESET_PREFIX + near[0]!r}?" if near else ""
        raise BackboneError(
            f"unknown preset {name!r}.{hint} Expected a name of KerasHub, kaggle://..., hf://... or a folder that KerasHub wrote."
        )
    if name.startswith(_HUGGING_FACE):
        return _hugging_face(name)
    return name if "://" in name or name in known else str(Path(name).expanduser())


def _hugging_face(name: str) -> str:
    """The same, or its folder in the cache where nobody answers: KerasHub would ask six times, half a minute long."""
    import huggingface_hub

    repository = name.removeprefix(_HUGGING_FACE)
    try:
        huggingface_hub.HfApi().model_info(repository, timeout=DOWNLOAD_TIMEOUT_S)
    except Exception as offline:  # of its HTTP library's kinds, which change
        try:
            return str(huggingface_hub.snapshot_download(repository, local_files_only=True))
        except (OSError, ValueError):  # it is not in the cache
            raise _failed(name, offline) from offline
    return name


def _failed(backbone: str, error: Exception) -> BackboneError:
    if Path(backbone.removeprefix(PRESET_PREFIX)).expanduser().is_dir():
        return _unusable(backbone, f"it does not load ({first_line(error)})")
    return BackboneError(
        f"the preset {backbone} is not on this machine and did not download ({first_line(error)}). Where there is a network, "
        f"download it, save_to_preset(FOLDER), and give the folder as --backbone."
    )


def _unusable(backbone: str, why: str) -> BackboneError:
    return BackboneError(f"preset {backbone} cannot be a backbone: {why}.")
