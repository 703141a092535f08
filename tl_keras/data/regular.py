"""Opening files that users name, so that nothing but a regular file is read: a FIFO waits for ever, and a device may do anything.

Every place that opens an image goes through here; a path may lead into an archive. It imports nothing heavy.
"""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from tl_keras.data import archives

SPECIAL = "special"  # what a FIFO, socket or device is counted as where files are left out; endings of files begin with a dot

_KINDS = ((stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"))
_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"))


def special_files(number: int) -> str:
    """Some files that are not regular, in words."""
    return "1 FIFO, socket or device" if number == 1 else f"{number} FIFOs, sockets or devices"


def open_regular(path: Path | str) -> BinaryIO:
    """Open a regular file for reading, unbuffered, be it one of an archive.

    It is looked at before it is opened, since opening alone may wait or have effects, and again afterwards, in case it was replaced.

    Raises:
        OSError: it cannot be opened, or is not a regular file; `strerror` says why.
        DataError: it lies in an archive that is refused.
    """
    inside = archives.locate(path)
    if inside is not None and inside[1]:
        return archives.opened(inside[0]).open(inside[1])
    _require_regular(os.stat(path), path)
    descriptor = os.open(path, _FLAGS)
    try:
        _require_regular(os.fstat(descriptor), path)
        return os.fdopen(descriptor, "rb", buffering=0)
    except BaseException:
        os.close(descriptor)
        raise


def size_of(file: BinaryIO) -> int:
    """The size in bytes of a file that `open_regular` opened; it is at its beginning afterwards."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return size


def _require_regular(status: os.stat_result, path: Path | str) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    kind = next((name for is_kind, name in _KINDS if is_kind(status.st_mode)), "something else")
    raise OSError(errno.EINVAL, f"{kind}, not a regular file", str(path))
