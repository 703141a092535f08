"""The identity of an image file: the hash of its bytes, whatever its name and folder."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tl_keras.data.formats import HEAD_BYTES, image_format
from tl_keras.data.regular import open_regular, size_of
from tl_keras.data.shards import opened as shards

Ids = NDArray[np.bytes_]  # (n,) of 16 bytes each; b"" for a file that cannot be read

ID_BYTES = 16
_READ_BYTES = 4 * 2**20
_HASHED_AT_ONCE = 1024  # files queued for the threads


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    return _hash(path, images_only=False)


def _hash(path: Path, *, images_only: bool) -> str:
    digest = hashlib.sha256()
    with open_regular(path) as file:
        chunk = file.read(_READ_BYTES)
        while chunk:
            digest.update(chunk)
            if images_only and len(chunk) == _READ_BYTES and image_format(chunk[:HEAD_BYTES]) is None:
                digest.update(b"%d" % size_of(file))
                break
            images_only = False  # the first bytes have decided
            chunk = file.read(_READ_BYTES)
    return digest.hexdigest()


def hash_files(paths: Sequence[Path], advance: Callable[[int], None] | None = None) -> Ids:
    """The id of each file: the first 16 bytes of its SHA-256."""
    ids = np.empty(len(paths), f"S{ID_BYTES}")
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(paths), _HASHED_AT_ONCE):
            part = list(pool.map(file_id, paths[start : start + _HASHED_AT_ONCE]))
            ids[start : start + len(part)] = part
            if advance is not None:
                advance(len(part))
    return ids


def id_of(image: bytes) -> bytes:
    """The id of an image file that is in memory, as `file_id` has it."""
    return hashlib.sha256(image).digest()[:ID_BYTES].rstrip(b"\0")


def file_id(path: Path) -> bytes:
    """The id of one file as an array of ids holds it, zero bytes at its end dropped; b"" where it cannot be read.

    Of a file that is not an image only the beginning and the size count: it may be of any size, and none of it is used. Of an image
    in a shard it was found when the shard was read.
    """
    in_shard = shards.find(path)
    if in_shard is not None:
        return in_shard.content_id
    try:
        return bytes.fromhex(_hash(path, images_only=True))[:ID_BYTES].rstrip(b"\0")
    except OSError:
        return b""


def numbers(ids: Ids) -> NDArray[np.int64]:
    """A number in [0, 2**32) from each id, for the random draws of an image: (n,)."""
    return np.ascontiguousarray(ids).view("<u4").reshape(len(ids), -1)[:, 0].astype(np.int64)


def to_hex(content: bytes) -> str:
    """One id as text, 32 hexadecimal digits."""
    return content.ljust(ID_BYTES, b"\0").hex()


class IdList:
    """Ids that come one after the other, as texts that `to_hex` made."""

    def __init__(self) -> None:
        self._content = bytearray()

    def append(self, text: str) -> None:
        """Add one at the end.

        Raises:
            ValueError: it is not 32 hexadecimal digits.
        """
        content = bytes.fromhex(text)
        if len(content) != ID_BYTES:
            raise ValueError(f"'{text}' is not an id of {ID_BYTES} bytes")
        self._content += content

    def ids(self) -> Ids:
        """All that came so far, (n,); nothing may come after."""
        return np.frombuffer(self._content, f"S{ID_BYTES}")
