"""A prepared TFDS folder as data, before TFDS is given it: what it would import, what it is known by, and whether its names are safe.

TFDS imports the Python modules that features.json names, wherever it finds them, and reads the shards that dataset_info.json names.
Such a folder may come from a stranger. `tfds` asks; nothing here imports TFDS.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tl_keras.errors import DataError

FEATURES = "features.json"
OWN_MODULES = "tensorflow_datasets."  # the only features that are imported
SAMPLES, SAMPLE_BYTES = 16, 65536  # of a shard's content that are looked at; a shard of a megabyte is read whole
_CLASS_KEYS = ("type", "pythonClassName", "python_class_name")  # under which TFDS looks for the name of a class
_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)*")


def require_own_features(folder: Path) -> None:
    """Refuse a set whose features are not TFDS' own: their modules would be imported from wherever Python finds them.

    Raises:
        DataError: naming the class; or features.json is damaged.
    """
    file = folder / FEATURES
    if not file.is_file():
        return
    try:
        named = list(_classes_in(json.loads(file.read_text(encoding="utf-8"))))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{folder}: is not a complete TFDS data set ({FEATURES} cannot be read). Prepare it again.") from error
    for name in named:
        if not name.startswith(OWN_MODULES):
            raise DataError(
                f"{folder}: has a feature of the class {name!a}, which would be imported and run; expected features of TFDS alone. "
                "Export the images into class folders."
            )


def _classes_in(tree: Any) -> Iterator[str]:
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        if key in _CLASS_KEYS and isinstance(value, str):
            yield value
        yield from _classes_in(value)


def require_inside(folder: Path, files: Iterator[Path]) -> None:
    """Refuse a set whose shards lie elsewhere.

    Raises:
        DataError: naming the first.
    """
    for file in files:
        if not file.resolve().is_relative_to(folder.resolve()):
            raise DataError(f"{folder}: names the file {str(file)!a}, which is outside of it. Prepare the set with TFDS again.")


def folder_name(name: str, folder: Path) -> str:
    """The name of the folder into which a set is unpacked: its own, and a hash of what it holds.

    Sets of one name and version may have other images. Of large shards samples are hashed, evenly spaced, beside their sizes.

    Raises:
        DataError: its name would lead elsewhere.
    """
    if not _NAME.fullmatch(name):
        raise DataError(f"{folder}: the data set is called {name!a}, expected letters, digits, '_', '-' and '.'.")
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.iterdir() if path.is_file()):
        size = file.stat().st_size
        digest.update(f"{file.name!a} {size} ".encode())
        with file.open("rb") as opened:
            for number in range(SAMPLES if size > SAMPLES * SAMPLE_BYTES else 1):
                opened.seek(number * (size - SAMPLE_BYTES) // (SAMPLES - 1) if number else 0)
                digest.update(opened.read(SAMPLE_BYTES if size > SAMPLES * SAMPLE_BYTES else size))
    return f"{name.replace('/', '-')}-{digest.hexdigest()[:16]}"


def class_folder(name: str, folder: Path) -> str:
    """The name of a class as that of a folder.

    Raises:
        DataError: it has none.
    """
    safe = name.replace("/", "_").replace("\\", "_")
    if safe in ("", ".", "..") or "\0" in safe:
        raise DataError(f"{folder}: has a class that is called {name!a}, which no folder can be. Prepare the set with other names.")
    return safe
