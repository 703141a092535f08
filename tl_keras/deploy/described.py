"""What a program has to know besides the graph, in a ZIP archive: the whole file, as Keras has it, or its end, as LiteRT's metadata."""

import json
import zipfile
from pathlib import Path

from tl_keras.deploy.exported import Exported

LABELS, DESCRIPTION = "labels.txt", "model.json"


def describe(exported: Exported, file: Path) -> None:
    """Append labels and description to a file."""
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(LABELS, "".join(f"{name}\n" for name in exported.classes).encode("utf-8", "surrogateescape"))
        archive.writestr(DESCRIPTION, json.dumps(exported.description))
