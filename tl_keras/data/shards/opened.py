"""An image of a shard by its path, `SHARD/NAME`: opened for reading at its place, or what its content is known by.

Only shards that were read before (`reading`) are known here: what they hold is looked up in their tables. Few are open at a time.
"""

import os
import stat
import threading
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from tl_keras.data.archive_file import NO_CHECKSUM, PLAIN, Member, MemberFile
from tl_keras.data.read_at import PlacedFile
from tl_keras.data.shards import array_record
from tl_keras.data.shards.contents import INSIDE, Contents, format_of, read_table, table_file

_OPEN = 128  # shards: a table of ten thousand images takes a megabyte, and each shard a descriptor
_READING = threading.Lock()  # of tables: several threads that need one wait for the first


class Image(NamedTuple):
    """An image of a shard: its position there."""

    shard: "OpenShard"
    row: int
    path: str

    def open(self) -> BinaryIO:
        """Its bytes, as a file.

        Raises:
            OSError: they cannot be read.
        """
        return self.shard.open(self.row, self.path)

    @property
    def content_id(self) -> bytes:
        """What its content was known by when the shard was read, which has not changed since."""
        return bytes(self.shard.contents.ids[self.row])


class OpenShard:
    """A shard with its table.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: str, contents: Contents) -> None:
        self.contents = contents
        self._file = None if format_of(path) == "array_record" else PlacedFile(path)
        self._records = None if self._file is not None else array_record.open_records(path)

    def open(self, row: int, path: str) -> BinaryIO:
        """The bytes of one of its images, as a file."""
        start, size = int(self.contents.starts[row]), int(self.contents.sizes[row])
        if self._records is not None:
            return array_record.open_image(self._records, start, path)
        assert self._file is not None
        return cast(BinaryIO, MemberFile(self._file.read_at, Member(start, size, size, NO_CHECKSUM, PLAIN), path))


def find(path: Path | str) -> Image | None:
    """The image of a shard that a path leads to; None where it is no such path, or the shard was not read yet or has changed."""
    text = os.fspath(path).replace(os.sep, "/")
    for end in INSIDE.finditer(text):
        shard = text[: end.end()]
        try:
            status = os.stat(shard)
        except OSError:
            return None
        if stat.S_ISREG(status.st_mode):
            with _READING:
                opened = _opened(shard, status.st_size, status.st_mtime_ns)
            row = None if opened is None else opened.contents.row_of(text[end.end() + 1 :])
            return None if opened is None or row is None else Image(opened, row, text)
    return None


def forget() -> None:
    """Look anew for tables that were not there."""
    _opened.cache_clear()


@lru_cache(maxsize=_OPEN)
def _opened(shard: str, size: int, changed_ns: int) -> OpenShard | None:
    contents = read_table(table_file(shard, size, changed_ns))
    return None if contents is None else OpenShard(shard, contents)
