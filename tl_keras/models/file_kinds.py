"""The kind of a Keras file, whatever its name: Keras 3's archive, one of Keras 2, HDF5 of a whole model, or of weights alone.

Looks into files without Keras or TensorFlow. Each kind that cannot be a backbone has a reason of its own, and the way to convert it.
"""

import json
import shlex
import zipfile
from pathlib import Path
from typing import Any

from tl_keras.models.zip_members import read_member

_OF_KERAS = ("keras", "tf_keras")
_GRAPHS = ("Functional", "Sequential")


def why_unusable(path: Path) -> str | None:
    """Why a file called .keras is not what Keras 3 saves of a functional or sequential model; None where it looks like one.

    Whole sentences; a command to copy ends them without a full stop.
    """
    if not zipfile.is_zipfile(path):
        return _why_not_zip(path)
    try:
        with zipfile.ZipFile(path) as archive:
            saved, about = (json.loads(read_member(archive, name)) for name in ("config.json", "metadata.json"))
        name, version = saved["class_name"], str(about["keras_version"])
    except (OSError, KeyError, TypeError, ValueError, RecursionError, zipfile.BadZipFile):
        return "it is not a .keras file, which holds config.json and metadata.json."
    if _is_2(version):
        return f"it was saved by Keras {version}, whose files Keras 3 does not read. {convert_hint(path)}"
    if name not in _GRAPHS and (saved.get("module") or "").partition(".")[0] not in (*_OF_KERAS, "keras_hub"):
        return (
            f"it is a subclassed model: the code of its class {name!r} is not in the file. Build the same network from layers with "
            f"keras.Model(inputs, outputs), give it the weights, and save that."
        )
    return None


def is_of_keras_2(path: Path) -> bool:
    """Whether a file is the archive that Keras 2 wrote under the name .keras."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _is_2(json.loads(read_member(archive, "metadata.json"))["keras_version"])
    except (OSError, KeyError, TypeError, ValueError, RecursionError, zipfile.BadZipFile):
        return False


def _is_2(version: object) -> bool:
    return str(version).startswith("2.")


def _why_not_zip(path: Path) -> str:
    if holds_whole_model(path):
        return f"it is a whole model in HDF5, the format of earlier versions of Keras. {convert_hint(path)}"
    if _is_hdf5(path):
        return "it is an HDF5 file of weights, which does not say what network they belong to."
    return "it is not a .keras file, or is cut short."


def holds_whole_model(path: Path) -> bool:
    """Whether a file is HDF5 and holds a model's architecture beside its weights."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return "model_config" in file.attrs
    except OSError:  # it is not HDF5
        return False


def convert_hint(old: Path) -> str:
    """The sentence that says how a model of an earlier version of Keras becomes one of Keras 3, without its full stop."""
    new = old.with_name(f"{old.stem}_keras3.keras") if old.suffix == ".keras" else old.with_suffix(".keras")
    return f"Convert it: python -m tl_keras.models.convert {shlex.quote(str(old))} {shlex.quote(str(new))}"


def _is_hdf5(path: Path) -> bool:
    import h5py

    return bool(h5py.is_hdf5(path))


def first_layer(path: Path) -> dict[str, Any]:
    """The configuration of the first layer of a `.keras` file's model.

    Raises:
        LookupError, TypeError: it has none.
    """
    with zipfile.ZipFile(path) as archive:
        config: dict[str, Any] = json.loads(read_member(archive, "config.json"))["config"]["layers"][0]["config"]
    return config
