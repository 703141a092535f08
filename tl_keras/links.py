"""Symbolic links in a run folder that lead out of it: whatever is written or removed through one is not the run's own."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from tl_keras.errors import RunFolderError

IN_PLACE = (".claim", ".log")  # how files end that are written where they lie; all others are replaced, link or not


def require_no_way_out(folder: Path, *parts: str) -> None:
    """Refuse a folder with a link that would be written through; one to a file that is only read or replaced does no harm.

    Args:
        folder: of a run.
        parts: names in it that are written to; all where there are none.

    Raises:
        RunFolderError: there is such a link, to somewhere outside of the folder.
    """
    whole = folder.resolve()
    for link in _links(folder, parts):
        target = _target(link)
        if (target is None or not target.is_file() or link.name.endswith(IN_PLACE)) and not (target and target.is_relative_to(whole)):
            raise RunFolderError(
                f"{link}: is a symbolic link to {os.readlink(link)}, which is not in this run folder: nothing is written or removed "
                "there. Put what it leads to in its place, or remove it."
            )


def _links(folder: Path, parts: Collection[str]) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):  # which follows none
        for path in (Path(parent, name) for name in (*folders, *files)):
            if path.is_symlink() and (not parts or path.relative_to(folder).parts[0] in parts):
                yield path


def _target(link: Path) -> Path | None:
    """Where a link leads; None for one that leads back to itself."""
    try:
        return link.resolve()
    except (OSError, RuntimeError):
        return None
