"""The meaning of `model.backbone`: a row of the table, a file, a SavedModel or a preset; or why it is none of them.

Looks at names and at what lies on the disk, and imports neither Keras nor TensorFlow, so that a wrong name is told at once.
Whether the file, folder or address can really be a backbone is found out by the module that reads it.
"""

import re
from pathlib import Path

from tl_keras.errors import BackboneError
from tl_keras.models.backbone_kinds import FILE, SAVED_MODEL, kind_of
from tl_keras.models.backbones import BACKBONES, PRESET_PREFIX
from tl_keras.models.file_kinds import convert_hint, holds_whole_model

_HDF5 = (".h5", ".hdf5")
_LOOKALIKES = str.maketrans("oli", "011")


def check_backbone(backbone: str) -> None:
    """Raise BackboneError for a name that is neither a row of the table nor a file, folder or address of a backbone."""
    if kind_of(table_name(backbone)) == FILE:
        keras_file(backbone)


def table_name(backbone: str) -> str:
    """The table's own spelling of a row's name, as names are compared without case, `_` and `-`; anything else as it is.

    `MobileNetV2` is mobilenet_v2. A folder that holds a SavedModel or a preset stays what it is, whatever it is called.
    """
    return _SPELLINGS.get(_squeezed(backbone), backbone) if kind_of(backbone) == FILE else backbone


def short_name(backbone: str) -> str:
    """What people call the value of `model.backbone`: a row, a file, a folder or a preset by its name, an address by its end."""
    name = table_name(backbone).removeprefix(PRESET_PREFIX)
    return "-".join(name.split("/")[-3:]) if "://" in name else Path(name).name.removesuffix(".keras")


def keras_file(backbone: str) -> Path:
    """Take `model.backbone`, which is not a name of the table, for the path of a `.keras` file.

    Raises:
        BackboneError: It is not a path, there is no such file, or it is a file of another kind.
    """
    path = Path(backbone).expanduser()
    if path.suffix.lower() in _HDF5:
        raise BackboneError(_what_hdf5_is(backbone, path))
    if path.is_dir():
        raise BackboneError(
            f"backbone: folder {path} holds neither {SAVED_MODEL}, as a TF-Hub module does, nor config.json and model.weights.h5, "
            f"as a KerasHub preset does."
        )
    if path.suffix != ".keras":
        raise BackboneError(_unknown(backbone, path))
    if not path.is_file():
        raise BackboneError(f"backbone: there is no file {path}.")
    return path


def _what_hdf5_is(backbone: str, path: Path) -> str:
    """Why a `.h5` file is refused: it may be weights alone, or a whole model in Keras' old format."""
    if not path.is_file():
        return f"backbone: there is no file {path}."
    if holds_whole_model(path):
        return f"backbone {backbone!r} is a whole model in HDF5, the format of earlier versions of Keras. {convert_hint(path)}"
    return (
        f"backbone {backbone!r} is a file of weights, which does not say what network they belong to. "
        f"Use --backbone NAME --set model.weights={backbone}."
    )


def _unknown(backbone: str, path: Path) -> str:
    if path.is_file():
        return f"backbone: {path} is not a .keras file. Expected a .keras file, the folder of a SavedModel, or a name such as mobilenet_v2."
    if len(path.parts) > 1:
        return f"backbone: there is no file or folder {path}."
    forms = "the path of a .keras file, the folder or address of a TF-Hub module, keras_hub:PRESET"
    begins = [name for spelling, name in _SPELLINGS.items() if spelling.startswith(_squeezed(backbone))]
    if begins and len(begins) < len(BACKBONES):
        return f"unknown backbone {backbone!r}. Names that begin with it: {', '.join(begins)}. Expected one of them, {forms}."
    meant = [name for spelling, name in _SPELLINGS.items() if _is_slip(_squeezed(backbone), spelling)]
    hint = f" Did you mean {meant[0]!r}?" if len(meant) == 1 else ""
    return f"unknown backbone {backbone!r}.{hint} Expected {forms}, or one of: {', '.join(BACKBONES)}."


def _squeezed(name: str) -> str:
    return re.sub(r"[_-]", "", name.lower())


def _is_slip(typed: str, name: str) -> bool:
    """Whether what was typed is `name` with a character doubled, a letter missing or swapped with the next, or O for 0.

    Other letters and other digits are other networks: resnext50 is not a misspelt resnet50, nor is resnet18.
    """
    places = range(len(name))
    doubled = {name[:at] + name[at] + name[at:] for at in places}
    missing = {name[:at] + name[at + 1 :] for at in places if not name[at].isdigit()}
    swapped = {name[:at] + name[at + 1] + name[at] + name[at + 2 :] for at in places[:-1] if name[at : at + 2].isalpha()}
    return typed in doubled | missing | swapped or typed.translate(_LOOKALIKES) == name.translate(_LOOKALIKES)


_SPELLINGS = {_squeezed(name): name for name in BACKBONES}
