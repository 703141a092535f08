"""Archives as folders: a .zip or plain .tar file is read in place, and each file in it has a path: '/x/photos.zip/cat/0.png'.

The table of contents is read once for each archive and process, and again where the archive has changed. Then each file is read by its
place, from any thread, without unpacking. An archive may come from a stranger: see `Archive` for the names that are refused.

`regular` opens files here and `places` lists folders; what the folders mean is for `sources` to say.
"""

import errno
import os
import re
import threading
from array import array
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Union, cast

from tl_keras.data.archive_file import Member, MemberFile
from tl_keras.data.archive_tables import Listed, Table, tar_table, zip_table
from tl_keras.data.read_at import PlacedFile
from tl_keras.errors import DataError

READERS: dict[str, Table] = {".zip": zip_table, ".tar": tar_table}
LARGEST = 2_800_000_000  # bytes: no image under the highest data.max_megapixels, 700, has more
DEEPEST = 64  # folders in one another
_END = re.compile(r"\.(zip|tar)(?=/|$)", re.IGNORECASE)
_KEPT = 8  # archives whose tables stay in memory
_READING = threading.Lock()  # of tables: several threads that need one wait for the first

Folder = dict[str, Union[int, "Folder"]]  # name -> the number of a file, or a folder


class Archive:
    """An open archive: its folders, and where the bytes of each file lie.

    Raises:
        DataError: it is damaged, or holds a name that leads out of it, two files of one name, or folders in more than `DEEPEST` others.
        OSError: it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._file = PlacedFile(path)
        self._top: Folder = {}
        self._numbers = array("q")  # as many for each file as a `Member` has: a tuple would take five times as much memory
        self._troubles: dict[int, str] = {}
        for listed in READERS[os.path.splitext(path)[1].lower()](path, self._file.descriptor):
            self._add(listed)

    def _add(self, listed: Listed) -> None:
        *above, name = self._parts(listed.name) or [""]
        folder = self._top
        for part in above:
            folder = self._subfolder(folder, part, listed.name)
        if listed.member is None:
            if name:
                self._subfolder(folder, name, listed.name)
            return
        if not name or name in folder:
            raise self._twice(listed.name)
        number = len(self._numbers) // len(listed.member)
        folder[name] = number
        self._numbers.extend(listed.member)
        if listed.trouble:
            self._troubles[number] = listed.trouble

    def _parts(self, name: str) -> list[str]:
        parts = name.split("/")
        strange = name.startswith("/") or "\0" in name or (os.name == "nt" and (":" in name or "\\" in name))
        if strange or ".." in parts:
            raise DataError(f"{self.path}: holds the file {name!a}, which would lie outside of it. Write the archive again without it.")
        if len(parts) > DEEPEST:
            raise DataError(f"{self.path}: has folders in more than {DEEPEST} others ({name[:40]!a}...). Write it again with fewer.")
        return [part for part in parts if part not in ("", ".")]

    def _subfolder(self, folder: Folder, name: str, listed: str) -> Folder:
        found = folder.setdefault(name, {})
        if isinstance(found, int):
            raise self._twice(listed)
        return found

    def _twice(self, name: str) -> DataError:
        return DataError(f"{self.path}: holds {name!a} twice, so that which one counts is not known. Write the archive again.")

    def at(self, name: str) -> int | Folder | None:
        """What there is at a place: the number of a file, a folder, or nothing.

        Args:
            name: of folders and a file, divided by '/'; '' for the archive as a whole.
        """
        found: int | Folder | None = self._top
        for part in name.split("/") if name else ():
            found = found.get(part) if isinstance(found, Mapping) else None
        return found

    def folder(self, name: str) -> Folder:
        """The files and folders in a folder.

        Raises:
            OSError: there is none.
        """
        found = self.at(name)
        if isinstance(found, Mapping):
            return found
        number = errno.ENOENT if found is None else errno.ENOTDIR
        raise OSError(number, os.strerror(number), f"{self.path}/{name}")

    def files(self) -> Iterator[tuple[str, Member, str]]:
        """Each file: its name, where it lies, and why it cannot be opened ('' where it can be)."""
        folders = [("", self._top)]
        while folders:
            above, folder = folders.pop()
            for name, found in folder.items():
                if isinstance(found, int):
                    yield f"{above}{name}", self._member(found), self._troubles.get(found, "")
                else:
                    folders.append((f"{above}{name}/", found))

    def _member(self, number: int) -> Member:
        width = len(Member._fields)
        return Member(*self._numbers[number * width : (number + 1) * width])

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading.

        Raises:
            OSError: there is none, or it cannot be read; `strerror` says why.
        """
        found, path = self.at(name), f"{self.path}/{name}"
        if not isinstance(found, int):
            number = errno.ENOENT if found is None else errno.EISDIR
            raise OSError(number, os.strerror(number), path)
        if found in self._troubles:
            raise OSError(errno.EINVAL, self._troubles[found], path)
        member = self._member(found)
        if member.size > LARGEST:
            raise OSError(errno.EFBIG, f"it says to have {member.size:,} bytes, more than any image", path)
        return cast(BinaryIO, MemberFile(self._file.read_at, member, path))


def locate(path: Path | str) -> tuple[str, str] | None:
    """The archive that a path leads to or into, and the name inside of it, '' for the archive itself; None for any other path.

    The archive is not opened, and whether it holds such a name is not looked at.
    """
    text = os.fspath(path).replace(os.sep, "/")
    for end in _END.finditer(text):
        archive = text[: end.end()]
        if os.path.isfile(archive):  # else a folder of that name
            return archive, text[end.end() + 1 :].strip("/")
    return None


def inside_of(name: str) -> tuple[str, str]:
    """A name up to the first part that may be an archive, and what follows: the whole name and '' where there is none.

    For names that are not of this disk; nothing is looked at.
    """
    end = _END.search(name)
    return (name[: end.end()], name[end.end() :].strip("/")) if end else (name, "")


def opened(path: str) -> Archive:
    """The archive that a path leads to, which is read once.

    Raises:
        DataError: it is damaged or refused; see `Archive`.
        OSError: it cannot be opened.
    """
    status = os.stat(path)
    with _READING:
        return _read(path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=_KEPT)
def _read(path: str, *version: int) -> Archive:
    return Archive(path)
