"""Files and folders, wherever they lie: on the disk, or inside of an archive, which is a folder here.

The few questions that the package asks of paths to images. Files are opened by `regular`.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tl_keras.data import archives
from tl_keras.data.shards import opened as shards

Identity = tuple[int | str, ...]  # of a folder, whichever way leads to it: device and inode, or archive and name


class Entry(Protocol):
    """What lies in a folder, as `os.scandir` tells it."""

    @property
    def name(self) -> str:
        """Its name in the folder."""

    @property
    def path(self) -> str:
        """The folder's path, and the name."""

    def is_dir(self) -> bool:
        """Whether it is a folder, or a link to one."""

    def is_file(self) -> bool:
        """Whether it is a regular file, or a link to one."""


@dataclass(frozen=True, slots=True)
class Archived:
    """An `Entry` of a folder in an archive."""

    name: str
    path: str
    is_folder: bool

    def is_dir(self) -> bool:
        """Whether it is a folder."""
        return self.is_folder

    def is_file(self) -> bool:
        """Whether it is a file, be it one that cannot be opened."""
        return not self.is_folder


def scandir(folder: Path | str) -> Iterator[Entry]:
    """What lies in a folder, in no order.

    Raises:
        OSError: it is none, or cannot be read.
        DataError: it is an archive that is refused.
    """
    inside = archives.locate(folder)
    if inside is None:
        with os.scandir(folder) as entries:
            yield from entries
        return
    archive, name = inside
    for each, found in archives.opened(archive).folder(name).items():
        yield Archived(each, f"{os.fspath(folder)}/{each}", not isinstance(found, int))


def is_folder(path: Path | str) -> bool:
    """Whether there is a folder or an archive at a path, or a folder in an archive."""
    inside = archives.locate(path)
    return os.path.isdir(path) if inside is None else not inside[1] or isinstance(_found(*inside), dict)


def is_file(path: Path | str) -> bool:
    """Whether there is a file at a path, other than an archive."""
    if shards.find(path) is not None:
        return True
    inside = archives.locate(path)
    return os.path.isfile(path) if inside is None else inside[1] != "" and isinstance(_found(*inside), int)


def exists(path: Path | str) -> bool:
    """Whether there is anything at a path, or a broken link."""
    if shards.find(path) is not None:
        return True
    inside = archives.locate(path)
    return os.path.lexists(path) if inside is None else not inside[1] or _found(*inside) is not None


def _found(archive: str, name: str) -> int | archives.Folder | None:
    return archives.opened(archive).at(name)


def identity(folder: Path | str) -> Identity:
    """What tells a folder from others, whichever links lead to it.

    Raises:
        OSError: there is none.
    """
    inside = archives.locate(folder)
    if inside is not None:
        return inside
    status = os.stat(folder)
    return status.st_dev, status.st_ino
