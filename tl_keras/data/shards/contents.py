"""The table of contents of a shard: for each image its name, its place, its label and what its content is known by.

It is kept as plain arrays, one after the other in one file of the cache, known by the shard's path, size and time of change: a shard
that has changed has no table. Some 60 bytes for an image with a short name, of which the names and labels are `Texts`.
"""

import hashlib
import os
import re
from bisect import bisect_left
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tl_keras.cache import cache_folder
from tl_keras.data.texts import Texts
from tl_keras.run_folder import write_atomically

FORMATS = {  # the first whose expression a file's name ends in, in any case
    "webdataset": r"\.tar",
    "array_record": r"\.array_?record(-\d+-of-\d+)?",
    "tfrecord": r"\.tfrecords?(-\d+-of-\d+)?|-\d{5}-of-\d{5}",
}
COMPRESSED = r"\.(gz|gzip|zlib|bz2|xz|zst|zstd|lz4)"
INSIDE = re.compile(f"({'|'.join(FORMATS.values())})(?=/)", re.IGNORECASE)  # where in a path of an image its shard ends
_ENDS = {name: re.compile(f"({end})$", re.IGNORECASE) for name, end in FORMATS.items()}
_COMPRESSED_END = re.compile(f"({'|'.join(FORMATS.values())})({COMPRESSED})$|\\.t(gz|xz|bz2?|zst)$", re.IGNORECASE)
_HASH_BYTES = 32  # SHA-256 of the rest, at the beginning of the file
_VERSION = 3  # of tables: others are read anew


class Contents(NamedTuple):
    """The n images of a shard, in the order in which they lie there.

    Attributes:
        names: of the images in the shard.
        by_name: their positions in the order of their names, int32 (n,).
        starts: where each begins, or the number of its record, int64 (n,).
        sizes: bytes of each, int64 (n,).
        labels: of the images, see `Sample`.
        ids: of their contents, see `file_ids`, (n,).
        num_unlabelled: images of the shard that have no label, and are not among the n.
    """

    names: Texts
    by_name: NDArray[np.int32]
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    labels: Texts
    ids: NDArray[np.bytes_]
    num_unlabelled: int

    def row_of(self, name: str) -> int | None:
        """The position of an image; None where there is none of that name."""
        place = bisect_left(self.by_name, name, key=self.names.__getitem__)
        row = int(self.by_name[place]) if place < len(self.by_name) else -1
        return row if row >= 0 and self.names[row] == name else None


def format_of(name: str) -> str | None:
    """The row of `FORMATS` that a file is of by its name; None where it is no shard."""
    return next((kind for kind, end in _ENDS.items() if end.search(name)), None)


def is_compressed(name: str) -> bool:
    """Whether a file is a shard that was compressed as a whole, by its name."""
    return _COMPRESSED_END.search(name) is not None


def shard_numbers(paths: Sequence[str]) -> NDArray[np.int64] | None:
    """The number of each image's shard, int64 (n,), by the paths of the images; None where one does not lie in a shard."""
    numbers: dict[str, int] = {}
    found = np.empty(len(paths), np.int64)
    for row, path in enumerate(paths):
        end = INSIDE.search(path)
        if end is None:
            return None
        found[row] = numbers.setdefault(path[: end.end()], len(numbers))
    return found


def table_folder() -> Path:
    """Where all tables are kept."""
    return cache_folder() / "shards"


def table_file(shard: str, size: int, changed_ns: int) -> Path:
    """Where the table of a shard is kept that has this size and time of change."""
    known_by = f"{_VERSION}\n{os.path.abspath(shard)}\n{size}\n{changed_ns}"
    return table_folder() / f"{hashlib.sha256(known_by.encode(errors='surrogateescape')).hexdigest()[:32]}.table"


def write_table(file: Path, contents: Contents) -> None:
    """Keep a table, atomically.

    Raises:
        OSError: it cannot be written.
    """
    buffer = BytesIO()
    for column in _arrays(contents):
        np.save(buffer, column, allow_pickle=False)
    file.parent.mkdir(parents=True, exist_ok=True)
    content = buffer.getvalue()
    write_atomically(file, lambda temporary: temporary.write_bytes(hashlib.sha256(content).digest() + content))


def _arrays(contents: Contents) -> list[NDArray[Any]]:
    names, labels = contents.names.arrays(), contents.labels.arrays()
    numbers = (contents.by_name, contents.starts, contents.sizes, contents.ids, np.array(contents.num_unlabelled))
    return [*names, *labels, *numbers]


def read_table(file: Path) -> Contents | None:
    """A table as it was kept; None where there is none, or its bytes are not those that were written: images would be taken for others."""
    try:
        content = file.read_bytes()
    except OSError:
        return None
    if hashlib.sha256(content[_HASH_BYTES:]).digest() != content[:_HASH_BYTES]:
        return None
    opened = BytesIO(content[_HASH_BYTES:])
    columns = [np.load(opened, allow_pickle=False) for _ in range(11)]
    by_name, starts, sizes, ids, num_unlabelled = columns[6:]
    return Contents(Texts(*columns[:3]), by_name, starts, sizes, Texts(*columns[3:6]), ids, int(num_unlabelled))
