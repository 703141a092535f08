"""The table of kinds of backbones: what the value of `model.backbone` may be, and who builds it.

Imports neither Keras nor TensorFlow: a builder is a string, as in the table of backbones, and is imported when it is called.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from tl_keras.models.backbones import BACKBONES, PRESET_PREFIX

SAVED_MODEL = "saved_model.pb"  # the file that makes a folder a SavedModel
ADDRESSES = ("https://", "http://")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of backbone.

    Attributes:
        matches: whether a value of `model.backbone` is of this kind; the first row that says so has it.
        image_size: "module:function", (backbone) -> the height and width in pixels that it was trained at.
        build: "module:function", (backbone, image_size, weights, preprocessing) -> `BuiltBackbone`.
        needs: what to run where a package is missing that not every installation has; None where nothing is needed.
    """

    matches: Callable[[str], bool]
    image_size: str
    build: str
    needs: str | None = None


def is_row(backbone: str) -> bool:
    """Whether `model.backbone` is a name of the table of backbones, spelt as the table spells it."""
    return backbone in BACKBONES


def is_module(backbone: str) -> bool:
    """Whether `model.backbone` is an address, or a folder with a SavedModel in it."""
    return backbone.startswith(ADDRESSES) or (Path(backbone).expanduser() / SAVED_MODEL).is_file()


def is_preset(backbone: str) -> bool:
    """Whether `model.backbone` begins with 'keras_hub:', or is a folder that KerasHub wrote."""
    folder = Path(backbone).expanduser()
    written = ("metadata.json", "model.weights.h5")
    return backbone.startswith(PRESET_PREFIX) or ((folder / "config.json").is_file() and any((folder / name).is_file() for name in written))


PRESET, FILE = "preset", "file"
_LOADING = "tl_keras.models.backbone_loading"

BACKBONE_KINDS: dict[str, Kind] = {
    "row": Kind(matches=is_row, image_size=f"{_LOADING}:row_image_size", build=f"{_LOADING}:build_row"),
    "module": Kind(matches=is_module, image_size="tl_keras.models.hub:module_image_size", build=f"{_LOADING}:build_module"),
    PRESET: Kind(
        matches=is_preset,
        image_size="tl_keras.models.presets:preset_image_size",
        build=f"{_LOADING}:build_preset",
        needs='pip install "keras-hub>=0.32,<0.33"',  # the extra `hub` of pyproject.toml, which in a clone has another name
    ),
    FILE: Kind(  # whatever is left; what reads it says what is wrong with it
        matches=lambda _: True, image_size=f"{_LOADING}:path_image_size", build=f"{_LOADING}:build_file"
    ),
}


def kind_of(backbone: str) -> str:
    """The kind of a value of `model.backbone`: a key of the table."""
    return next(name for name, kind in BACKBONE_KINDS.items() if kind.matches(backbone))


def is_elsewhere(backbone: str) -> bool:
    """Whether a name says by itself that it is not a path on this machine's disk: an address, or a preset's name."""
    return "://" in backbone or backbone.startswith(PRESET_PREFIX)


def imported(where: str) -> Callable[..., Any]:
    """The function that "module:function" names."""
    module, function = where.split(":")
    found: Callable[..., Any] = getattr(import_module(module), function)
    return found
