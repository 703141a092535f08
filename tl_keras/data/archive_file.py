"""A file inside of an archive, opened for reading: its bytes as they lie there, or inflated.

It never yields more bytes than it declares, and its checksum is compared once all of them have been read. `archives` makes these.
"""

import errno
import io
import os
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

ReadAt = Callable[[int, int], bytes]  # (offset, number of bytes) -> exactly so many; OSError where the archive ends before

PLAIN, STORED, DEFLATED = range(3)  # how a file lies in an archive: as it is, or behind a header of zip, as it is or deflated
NO_CHECKSUM = -1
_HEADER_BYTES, _SIGNATURE = 30, b"PK\3\4"  # of a file in a zip archive; its name and an extra field follow
_INPUT_BYTES, _OUTPUT_BYTES = 2**18, 2**22  # of the inflater at a time


class Member(NamedTuple):
    """Where a file lies in an archive.

    Attributes:
        start: of its bytes, or of the header in front of them; in bytes from the beginning of the archive.
        packed: the bytes that it takes there.
        size: the bytes that it has.
        checksum: CRC-32 of these, or `NO_CHECKSUM`.
        form: `PLAIN`, `STORED` or `DEFLATED`.
    """

    start: int
    packed: int
    size: int
    checksum: int
    form: int


class MemberFile(io.RawIOBase):
    """A file of an archive, opened for reading. Not for several threads at once; each opens its own.

    Args:
        path: what errors call it.

    Raises:
        OSError: the archive is damaged there; `strerror` says how. So do `read` and `readinto`.
    """

    def __init__(self, read_at: ReadAt, member: Member, path: str) -> None:
        start = member.start if member.form == PLAIN else _behind_header(read_at, member.start, path)
        self._take = _Inflater(read_at, start, member.packed, path).read if member.form == DEFLATED else _taker(read_at, start)
        self._member, self._path = member, path
        self._at = 0
        self._summed, self._sum = 0, 0  # of how many bytes from the beginning, and their CRC-32

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True; of a deflated file, going back is paid for by inflating it again."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place; from the end of the file, this is how its size is found out."""
        place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._member.size}[whence]
        if place < 0:
            raise ValueError(f"offset={offset} leads before the beginning of the file")
        self._at = place
        return place

    def tell(self) -> int:
        """Where the next byte comes from."""
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes, fewer only at the end."""
        left = max(0, self._member.size - self._at)
        data = self._take(self._at, left if size is None or size < 0 else min(size, left))
        self._check(data)
        self._at += len(data)
        return data

    def readall(self) -> bytes:
        """All that is left."""
        return self.read()

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer, as far as there are bytes."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _check(self, data: bytes) -> None:
        """Compare the checksum as soon as all bytes have come, one after the other from the beginning."""
        if self._at == 0:
            self._summed, self._sum = 0, 0
        if self._member.checksum == NO_CHECKSUM or self._at != self._summed:
            return
        self._sum = zlib.crc32(data, self._sum)
        self._summed += len(data)
        if self._summed == self._member.size and self._sum != self._member.checksum:
            raise damaged("its checksum is wrong", self._path)


def damaged(why: str, path: str) -> OSError:
    """The error of a file whose place in the archive does not hold what it should."""
    return OSError(errno.EIO, why, path)


def _behind_header(read_at: ReadAt, start: int, path: str) -> int:
    """Where the bytes of a file in a zip archive begin."""
    header = read_at(start, _HEADER_BYTES)
    if not header.startswith(_SIGNATURE):
        raise damaged("the archive does not hold it where it says", path)
    return start + _HEADER_BYTES + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")


def _taker(read_at: ReadAt, start: int) -> ReadAt:
    return lambda offset, size: read_at(start + offset, size)


class _Inflater:
    """Reads deflated bytes from any place: forwards from where it is, else from the beginning again."""

    def __init__(self, read_at: ReadAt, start: int, packed: int, path: str) -> None:
        self._read_at, self._start, self._packed, self._path = read_at, start, packed, path
        self._rewind()

    def _rewind(self) -> None:
        self._at = 0  # bytes that came out
        self._used = 0  # bytes that went in
        self._input = b""
        self._zlib = zlib.decompressobj(-zlib.MAX_WBITS)

    def read(self, offset: int, size: int) -> bytes:
        """Exactly `size` bytes from `offset` on."""
        if offset < self._at:
            self._rewind()
        while self._at < offset:
            self._next(offset - self._at)
        found = io.BytesIO()  # which gives its bytes away without a copy
        while found.tell() < size:
            found.write(self._next(size - found.tell()))
        return found.getvalue()

    def _next(self, most: int) -> bytes:
        """Some more bytes, at least one and at most so many."""
        data = b""
        while not data:
            if not self._input:
                self._input = self._more()
            try:
                data = self._zlib.decompress(self._input, min(most, _OUTPUT_BYTES))
            except zlib.error:
                raise damaged("it does not inflate", self._path) from None
            self._input = self._zlib.unconsumed_tail
            if not data and self._zlib.eof:
                raise damaged("it is shorter than it says", self._path)
        self._at += len(data)
        return data

    def _more(self) -> bytes:
        size = min(_INPUT_BYTES, self._packed - self._used)
        if size <= 0:
            raise damaged("it is shorter than it says", self._path)
        self._used += size
        return self._read_at(self._start + self._used - size, size)
