"""Keras' files, written atomically; and model.keras: a classifier with the names of its classes inside the file.

What Keras writes is made in memory first and goes to disk as bytes: where a disk is full, HDF5 fails a second time when it closes
its file, and that ends the process with a segmentation fault.

A `.keras` file is a zip archive, of which Keras reads the members that it knows by name. The classes lie in one more, `classes.json`: a
list of names in the order of the outputs. The file stays one that Keras alone loads, and the names go wherever it is copied or renamed;
`json.loads(zipfile.ZipFile("model.keras").read("classes.json"))` reads them without this package. No layer holds them: Keras' layers keep
only settings of their own, and one more layer would change what others find in the network. So saving the loaded model again with Keras
leaves them behind; `classes.txt` in the run folder is there for that.
"""

import json
import zipfile
import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
from keras.src.saving import saving_lib
from numpy.typing import NDArray

from tl_keras.models.zip_members import read_member
from tl_keras.run_folder import write_atomically

CLASSES_MEMBER = "classes.json"
MORE = "more"  # a group of a weights file
CHECKSUM = "crc32"  # an attribute of a weights file; a `.keras` file needs none, for zip archives have their own


def save_classifier(path: Path, model: keras.Model, classes: Sequence[str]) -> None:
    """Write a `.keras` file atomically.

    Args:
        model: its outputs are logits (b, k).
        classes: the k names, in the order of the logits.
    """

    whole = _saved(model)
    with zipfile.ZipFile(whole, "a") as archive:
        archive.writestr(CLASSES_MEMBER, json.dumps(list(classes)))
    write_atomically(path, lambda temporary: temporary.write_bytes(whole.getbuffer()))


def write_model(path: Path, model: keras.Model) -> None:
    """Write a `.keras` file as Keras does.

    Raises:
        OSError: it cannot be written; nothing is left.
    """
    whole = _saved(model)
    write_atomically(path, lambda temporary: temporary.write_bytes(whole.getbuffer()))


def write_weights(path: Path, model: keras.Model, more: Sequence[NDArray[Any]] = ()) -> None:
    """Write a `.weights.h5` file as Keras does, with a checksum: the weights, and of a compiled model the optimiser's state.

    Args:
        more: further arrays, which Keras does not read; see `read_more`.

    Raises:
        OSError: it cannot be written; nothing is left.
    """
    whole = BytesIO()
    store = saving_lib.H5IOStore(whole, mode="w")
    saving_lib._save_state(model, weights_store=store, assets_store=None, inner_path="", visited_saveables=set())
    for number, array in enumerate(more):
        store.h5_file[f"{MORE}/{number}"] = array
    store.h5_file.attrs[CHECKSUM] = _checksum(store.h5_file)
    store.close()
    write_atomically(path, lambda temporary: temporary.write_bytes(whole.getbuffer()))


def read_weights(path: Path, model: keras.Model | keras.layers.Layer) -> None:
    """Load what `write_weights` wrote into a model, or what Keras wrote, which has no checksum.

    Raises:
        OSError, ValueError, KeyError: it cannot be read, is damaged, or is of another network.
    """
    with h5py.File(path) as file:
        if CHECKSUM in file.attrs and file.attrs[CHECKSUM] != _checksum(file):
            raise ValueError(f"{path}: its numbers are not those that were written")
    model.load_weights(path)


def read_more(path: Path) -> list[NDArray[Any]]:
    """The further arrays in a file that `write_weights` wrote.

    Raises:
        OSError, KeyError: it cannot be read.
    """
    with h5py.File(path) as file:
        return [file[f"{MORE}/{number}"][()] for number in range(len(file.get(MORE, ())))]


def _checksum(file: h5py.File) -> int:
    """CRC-32 over the names and bytes of all arrays, in the order of their names."""
    found = 0

    def add(name: str, item: h5py.Group | h5py.Dataset) -> None:
        nonlocal found
        if isinstance(item, h5py.Dataset):
            found = zlib.crc32(np.ascontiguousarray(item).tobytes(), zlib.crc32(name.encode(), found))

    file.visititems(add)
    return found


def _saved(model: keras.Model) -> BytesIO:
    """The bytes of a `.keras` file."""
    whole = BytesIO()
    saving_lib.save_model(model, whole)
    return whole


def read_classes(path: Path) -> tuple[str, ...] | None:
    """The names of the classes in the order of the outputs; None where the file has none, as those of older versions or saved by Keras.

    Raises:
        ValueError, OSError: the file is not a `.keras` file, or is cut short.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if CLASSES_MEMBER not in archive.namelist():
                return None
            found = json.loads(read_member(archive, CLASSES_MEMBER))
        if not isinstance(found, list) or not all(isinstance(name, str) for name in found) or len(set(found)) != len(found):
            raise ValueError(f"{path}: {CLASSES_MEMBER} in it is not a list of names")
        return tuple(found)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path}: {error}") from error
