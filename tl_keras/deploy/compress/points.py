"""What a form of a run comes to: a point for each export of each run, with its size, its speed and its figure on test.

The figures are those that the export was given when it was proved (`deploy.parity`). Times are measured anew for all points, one
right after the other, so that they are of the same machine in the same state.
"""

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tl_keras.deploy.export import files_in
from tl_keras.deploy.formats import FORMATS
from tl_keras.deploy.parity import ask
from tl_keras.run_folder import write_csv

CHUNK = 1 << 20
HEADER = (
    *("run", "backbone", "zeros", "format", "file", "bytes", "compressed_bytes", "val_accuracy", "accuracy", "low", "high", "images"),
    *("agreement", "single_ms", "images_per_second", "refused"),
)


def compressed_bytes(target: Path) -> int:
    """What a file, or all in a folder, takes once compressed by deflate, as in a ZIP archive."""
    total = 0
    for file in files_in(target):
        packer = zlib.compressobj(9)
        with file.open("rb") as opened:
            while chunk := opened.read(CHUNK):
                total += len(packer.compress(chunk))
        total += len(packer.flush())
    return total


def speed_of(kind: str, artifact: Path, image_size: tuple[int, int]) -> dict[str, float]:
    """How fast an export is now, see `standalone_reader.timed`.

    Args:
        kind: a key of `FORMATS`.
        image_size: (height, width) in pixels.

    Raises:
        ExportError: it does not answer any more.
    """
    pixels = np.random.default_rng(0).integers(0, 256, (1, *image_size, 3), np.uint8)
    return ask(FORMATS[kind], artifact, pixels, str(artifact), is_timed=True).speed


def write_points(path: Path, runs: Mapping[str, Mapping[str, Any]], points: Sequence[Mapping[str, Any]]) -> None:
    """Write compress.csv: a line for each point, those that were refused among them.

    Args:
        runs: name of a run -> what it is.
    """
    lines = []
    for point in points:
        low, high = point.get("accuracy_ci95", ("", ""))
        row = dict(runs[point["run"]]) | dict(point) | {"low": low, "high": high}
        row["val_accuracy"] = row["val"]["accuracy"]
        lines.append([row.get(name, "") for name in HEADER])
    write_csv(path, HEADER, lines)
