"""Opening files that users name, on the disk, in an archive or in a shard; nothing but a regular file is read.

Every place that opens an image goes through here. It imports nothing heavy.
"""

import os
from pathlib import Path
from typing import BinaryIO

from tl_keras.data import archives
from tl_keras.data.descriptors import open_descriptor
from tl_keras.data.shards import opened as shards

SPECIAL = "special"  # what a FIFO, socket or device is counted as where files are left out; endings of files begin with a dot


def special_files(number: int) -> str:
    """Some files that are not regular, in words."""
    return "1 FIFO, socket or device" if number == 1 else f"{number} FIFOs, sockets or devices"


def open_regular(path: Path | str) -> BinaryIO:
    """Open a regular file for reading, unbuffered, be it one of an archive or a shard.

    Raises:
        OSError: it cannot be opened, or is not a regular file; `strerror` says why.
        DataError: it lies in an archive that is refused.
    """
    image = shards.find(path)
    if image is not None:
        return image.open()
    inside = archives.locate(path)
    if inside is not None and inside[1]:
        return archives.opened(inside[0]).open(inside[1])
    return os.fdopen(open_descriptor(path), "rb", buffering=0)


def size_of(file: BinaryIO) -> int:
    """The size in bytes of a file that `open_regular` opened; it is at its beginning afterwards."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return size
