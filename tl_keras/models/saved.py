"""model.keras: a classifier in Keras' own format, with the names of its classes inside the file.

A `.keras` file is a zip archive, of which Keras reads the members that it knows by name. The classes lie in one more, `classes.json`: a
list of names in the order of the outputs. The file stays one that Keras alone loads, and the names go wherever it is copied or renamed;
`json.loads(zipfile.ZipFile("model.keras").read("classes.json"))` reads them without this package. No layer holds them: Keras' layers keep
only settings of their own, and one more layer would change what others find in the network. So saving the loaded model again with Keras
leaves them behind; `classes.txt` in the run folder is there for that.
"""

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import keras

from tl_keras.run_folder import write_whole

CLASSES_MEMBER = "classes.json"


def save_classifier(path: Path, model: keras.Model, classes: Sequence[str]) -> None:
    """Write a `.keras` file atomically.

    Args:
        model: its outputs are logits (b, k).
        classes: the k names, in the order of the logits.
    """

    def write(temporary: Path) -> None:
        model.save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(CLASSES_MEMBER, json.dumps(list(classes)))

    write_whole(path, write)


def read_classes(path: Path) -> tuple[str, ...] | None:
    """The names of the classes in the order of the outputs; None where the file has none, as those of older versions or saved by Keras.

    Raises:
        ValueError, OSError: the file is not a `.keras` file, or is cut short.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if CLASSES_MEMBER not in archive.namelist():
                return None
            found = json.loads(archive.read(CLASSES_MEMBER))
        if not isinstance(found, list) or not all(isinstance(name, str) for name in found) or len(set(found)) != len(found):
            raise ValueError(f"{path}: {CLASSES_MEMBER} in it is not a list of names")
        return tuple(found)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path}: {error}") from error
