"""Whether a run's export is still what was written: every file against the SHA-256 in its record, and the signature by a public key."""

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tl_keras.advice import command
from tl_keras.deploy.export import read_record, sha256_of
from tl_keras.deploy.model_card import JSON, MARKDOWN
from tl_keras.deploy.signature import SIGNATURE, open_verifier, require_signed
from tl_keras.errors import DataError, RunFolderError
from tl_keras.progress import Progress
from tl_keras.run_folder import EXPORT, EXPORT_RECORD, RunFolder, read_json

CARD = (JSON, MARKDOWN)


def verify(run_dir: Path | str, *, public_key: Path | str | None = None, progress: Progress | None = None) -> dict[str, Any]:
    """Compare the files of a run's export with what its record says of them. Nothing of it is loaded or run.

    Args:
        public_key: a file with the public part of the key that the export has to be signed by; None looks at no signature.

    Returns:
        `folder`; `files`, how many were compared; `signed`, whether a signature was looked at and holds, None where nobody asked; and
        `wrong`, a line for each file that is missing, changed or one too many, and for a signature that does not hold.

    Raises:
        ConfigError: the key is none, or the packages that know signatures are not installed.
        RunFolderError: there is no export, or its record is damaged.
    """
    folder = RunFolder.at(run_dir) / EXPORT
    verifier = None if public_key is None else open_verifier(Path(public_key))
    record = read_record(folder)
    if not record:
        raise RunFolderError(f"{folder}: holds no export. Write one: {command('export', Path(run_dir))}.")
    expected = {name: digest for row in record.values() for name, digest in row["sha256"].items()}
    wrong = list(_differences(folder, expected)) + list(_differences_of_card(folder, record))
    signed = None
    if verifier is not None:
        try:
            require_signed(verifier, folder)
            signed = True
        except DataError as error:
            wrong.append(f"{folder / SIGNATURE}: {error}")
            signed = False
    return {"folder": str(folder), "files": len(expected), "signed": signed, "wrong": wrong}


def _differences(folder: Path, expected: Mapping[str, str]) -> Iterator[str]:
    found = dict(_entries(folder))
    for name, digest in expected.items():
        if name not in found:
            yield f"{folder / name}: is missing"
        elif found[name] and sha256_of(folder / name) != digest:
            yield f"{folder / name}: is not the file that was exported: its SHA-256 is another one"
    for name in (EXPORT_RECORD, *CARD):
        if name not in found:
            yield f"{folder / name}: is missing"
    for name, is_file in found.items():
        if not is_file:
            yield f"{folder / name}: is a link or a special file, and an export has none"
        elif name not in {*expected, EXPORT_RECORD, *CARD, SIGNATURE}:
            yield f"{folder / name}: is not a file of this export"


def _entries(folder: Path) -> Iterator[tuple[str, bool]]:
    """Whatever lies below a folder, but for folders: its path there, and whether it is a plain file. No link is followed."""
    for parent, folders, files in os.walk(folder):
        for path in (Path(parent, name) for name in sorted((*folders, *files))):
            mode = path.lstat().st_mode
            if not stat.S_ISDIR(mode):
                yield path.relative_to(folder).as_posix(), stat.S_ISREG(mode)


def _differences_of_card(folder: Path, record: Mapping[str, Any]) -> Iterator[str]:
    if (folder / JSON).is_file() and read_json(folder / JSON, "the card of a model", "Export again.").get("formats") != record:
        yield f"{folder / JSON}: tells of other files than {EXPORT_RECORD}"
