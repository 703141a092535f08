"""Reading a shard for the first time: its table of contents, which is kept."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import randrange

import numpy as np

from tl_keras.data.file_ids import ID_BYTES, id_of
from tl_keras.data.read_at import PlacedFile
from tl_keras.data.shards import opened
from tl_keras.data.shards.array_record import array_record_samples
from tl_keras.data.shards.contents import Contents, format_of, read_table, table_file, table_folder, write_table
from tl_keras.data.shards.sample import Sample
from tl_keras.data.shards.tfrecord import tfrecord_samples
from tl_keras.data.shards.webdataset import webdataset_samples
from tl_keras.data.texts import TextList
from tl_keras.errors import DataError
from tl_keras.partial import clear_partial
from tl_keras.progress import Progress

Samples = Callable[[PlacedFile, int], Iterator[Sample]]
SAMPLES: dict[str, Samples] = {
    "webdataset": webdataset_samples,
    "tfrecord": tfrecord_samples,
    "array_record": array_record_samples,
}


def read_shards(shards: Sequence[Path], progress: Progress) -> None:
    """Read those shards of which no table is kept, once, and keep theirs.

    Processes that begin together begin at different shards, and take the tables that others have made meanwhile.

    Raises:
        DataError: a shard is damaged, holds no labelled image, or its table cannot be kept.
        OSError: a shard cannot be read.
    """
    new = [shard for shard in shards if not _table_of(shard).is_file()]
    if not new:
        return
    clear_partial(table_folder())
    with progress.bar("index shards", sum(shard.stat().st_size for shard in new) // 10**6) as advance:
        done, first = 0, randrange(len(new))
        for shard in (*new[first:], *new[:first]):
            contents_of(shard)
            done += shard.stat().st_size
            advance(done // 10**6)
            done %= 10**6


def contents_of(shard: Path) -> Contents:
    """The table of a shard, which is read where none is kept; see `read_shards`."""
    file = _table_of(shard)
    found = read_table(file)
    if found is None:
        found = _read(shard)
        try:
            write_table(file, found)
        except OSError as error:
            raise DataError(
                f"{file.parent}: what {shard} holds cannot be kept here ({error.strerror}). Set TL_KERAS_CACHE to a folder that you may "
                "write to."
            ) from error
        opened.forget()
    return found


def _table_of(shard: Path) -> Path:
    status = shard.stat()
    return table_file(str(shard), status.st_size, status.st_mtime_ns)


def _read(shard: Path) -> Contents:
    names, labels = TextList(), TextList(shared=True)
    places: list[tuple[int, int]] = []
    ids = bytearray()
    num_unlabelled = 0
    file = PlacedFile(str(shard))
    try:
        for sample in SAMPLES[format_of(shard.name) or ""](file, shard.stat().st_size):
            if sample.label is None:
                num_unlabelled += 1
                continue
            names.append(sample.name)
            labels.append(sample.label)
            places.append((sample.start, sample.size))
            ids += id_of(sample.image).ljust(ID_BYTES, b"\0")
    except ValueError as error:
        raise DataError(f"{shard}: cannot be read as a shard: {error}. Mend it, or take it away.") from error
    starts, sizes = np.array(places, np.int64).reshape(-1, 2).T
    packed = names.texts()
    by_name = np.array(sorted(range(len(packed)), key=list(packed).__getitem__), np.int32)
    content = np.frombuffer(bytes(ids), f"S{ID_BYTES}")
    return Contents(packed, by_name, starts.copy(), sizes.copy(), labels.texts(), content, num_unlabelled)
