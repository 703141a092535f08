"""Exporting a model in one of the formats, checked against the model before it is called done."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tl_keras.deploy.exported import Exported
from tl_keras.deploy.formats import FORMATS
from tl_keras.deploy.parity import Agreement, Bounds, Reference, check, compare, with_own_threshold
from tl_keras.errors import ConfigError, ExportError
from tl_keras.export_formats import EXPORT_FORMATS, FORMAT_NAMES
from tl_keras.packages import require_packages
from tl_keras.partial import clear_partial
from tl_keras.run_folder import EXPORT_RECORD, read_json, reading, require_no_special_file, write_atomically
from tl_keras.short_forms import nearest

NEEDED = ("file", "bytes", "sha256", "agreement", "largest_difference", "single_ms", "images_per_second")  # of each row of the record
NUMBERS = ("bytes", "agreement", "single_ms", "images_per_second", "novelty_threshold")  # those of them that there are


def require_formats(names: Sequence[str]) -> None:
    """Refuse names of formats that there are not.

    Raises:
        ConfigError: with those that there are.
    """
    for name in names:
        if name not in FORMAT_NAMES:
            near = nearest(name, FORMAT_NAMES)
            hint = f" Did you mean '{near}'?" if near else ""
            raise ConfigError(f"--format: got '{name}', expected one of {', '.join(FORMAT_NAMES)}.{hint}")


def require_converters(kinds: Iterable[str]) -> None:
    """Refuse to export formats whose packages are not installed, before anything is computed.

    Raises:
        ConfigError: with the line that installs them.
    """
    require_packages("--format", [name for kind in kinds for name in EXPORT_FORMATS[kind].needs])


def read_exports(folder: Path) -> dict[str, dict[str, Any]]:
    """The exports of a run that agreed with its model and are there; see `read_record`."""
    return {name: row for name, row in read_record(folder).items() if (folder / EXPORT_FORMATS[name].file).exists()}


def read_record(folder: Path) -> dict[str, dict[str, Any]]:
    """The exports of a run that agreed with its model: format -> its row of `export.json`; none where that is not there.

    Args:
        folder: `export/` of the run.

    Raises:
        RunFolderError: the record is damaged.
    """
    path, mend = folder / EXPORT_RECORD, "Delete it, and export again."
    if not path.is_file():
        return {}
    with reading(path, "the record of exports", mend):  # which a stranger may have written
        found = read_json(path, "the record of exports", mend)["formats"]
        if not found.keys() <= EXPORT_FORMATS.keys():
            raise ValueError("it has formats that there are not")
        return {name: _row(row) for name, row in found.items()}


def _row(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the record as it is, once what it says of formats is known to be there.

    Raises:
        LookupError, ValueError, TypeError: it is not.
    """
    for key in NEEDED:
        row[key]
    numbers = [float(row[key]) for key in NUMBERS if row.get(key) is not None]
    if not np.isfinite(numbers).all() or not all(isinstance(digest, str) for digest in row["sha256"].values()):
        raise ValueError("it says of an export what no export says")
    return row


def files_in(target: Path) -> list[Path]:
    """The files of what was written: itself, or all that lie in a folder.

    Raises:
        OSError: one is a FIFO, a socket or a device.
    """
    found = [path for path in (target, *sorted(target.rglob("*"))) if not path.is_dir()]
    for path in found:
        require_no_special_file(path)
    return found


def hashes_of(target: Path) -> dict[str, str]:
    """The SHA-256 of each of the files of what was written, by their paths beside it."""
    return {file.relative_to(target.parent).as_posix(): sha256_of(file) for file in files_in(target)}


def sha256_of(file: Path) -> str:
    """The SHA-256 of a file."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def export_model(exported: Exported, target: Path, reference: Reference, bounds: Bounds, *, kind: str) -> Agreement:
    """Write a model and prove, in a process that has only the format's own runtime, that what was written agrees with it.

    Args:
        target: where the file or folder goes; one that lies there is replaced once the new one is proved.
        reference: what the model says of some images.
        kind: a key of `FORMATS`.

    Raises:
        ExportError: it could not be written or loaded, or takes none of the files although their kind is decoded; nothing is left in the
            target's place.
        ParityError: it differs more than the bounds allow; the same.
    """
    form, found = FORMATS[kind], list[Agreement]()

    def write(temporary: Path) -> None:
        try:
            form.write(exported, temporary)
        except ExportError as error:
            raise ExportError(f"{target}: {error}.") from error
        own = with_own_threshold(exported, form, temporary, name=str(target))
        if form.describe is not None:
            form.describe(own, temporary)
        found.append(compare(own, form, temporary, reference, name=str(target)))
        check(form, found[0], bounds)

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        clear_partial(target.parent)
        write_atomically(target, write)
    except OSError as error:
        raise ExportError(f"{target}: cannot be written ({error.strerror or error}).") from error
    return found[0]
