"""Arrays by image content, kept on disk between runs: shards that appear atomically, and are checked when they are read.

A collection is a folder of shards; each is one file, named by the hash of its own bytes and renamed into place, that
holds the ids of some images and one array row for each. So a killed process keeps every finished shard, two processes
can write one collection without a lock, and a damaged shard is found by its name. Machines without a common disk share collections
by `shared_store`. Knows neither networks nor pixels: `features` says what a row means.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_keras.cache import cache_folder
from tl_keras.data.file_ids import Ids, hash_file
from tl_keras.errors import StoreError
from tl_keras.partial import ABANDONED_S, clear_partial
from tl_keras.run_folder import write_atomically, write_json
from tl_keras.transfer.shared_store import SharedStore

ABOUT = "about.json"
SHARDS = "[!.]*.shard"  # not what is being written
OPEN_SHARDS = 8  # memory maps kept open: each takes a file descriptor, and memory for what was read

Values = NDArray[Any]


def feature_folder() -> Path:
    """Where features are stored for all runs: features/ in the cache, see `cache.cache_folder`."""
    return cache_folder() / "features"


def open_store(max_gb: float) -> "Store":
    """The store of all runs on this machine, and what it shares with others.

    Raises:
        ConfigError: see `SharedStore.of_environment`.
    """
    return Store(feature_folder(), max_gb, SharedStore.of_environment())


@dataclass(frozen=True)
class Shard:
    """One file of a collection: `ids` (m,) and where its array (m, ...) begins."""

    path: Path
    ids: Ids
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int


class Collection:
    """The rows of one kind that are on disk, such as one trunk's output for the plain view of images.

    Args:
        folder: where the shards lie; made when the first is written.
        about: what the rows are, for `describe`; the folder's name is the key, this is for people.
        send: is told of each shard that was written.
    """

    def __init__(self, folder: Path, about: dict[str, Any], send: Callable[[Path], None] = lambda path: None) -> None:
        self.folder = folder
        self.about = about
        self._send = send
        self.shards: list[Shard] = []
        self._known: set[str] = set()
        self._ids: Ids = np.empty(0, "S16")
        self._places = np.empty((0, 2), np.int32)
        self._new: list[tuple[int, Shard]] = []
        self.refresh()

    def refresh(self) -> None:
        """Read what lies in the folder and was not read yet; a shard whose bytes do not fit its name is removed."""
        files = [path for path in sorted(self.folder.glob(SHARDS)) if path.name not in self._known]
        with ThreadPoolExecutor() as pool:
            whole = list(pool.map(_is_whole, files))
        found = [_parse_shard(path) for path, good in zip(files, whole, strict=True) if good]
        self._add([shard for shard in found if shard is not None])
        if found:
            self._mark_used()

    def _mark_used(self) -> None:
        """The oldest are pruned first."""
        with suppress(OSError):  # pruned by another process while we look, or on a disk that can only be read
            if self.folder.is_dir() and not (self.folder / ABOUT).exists():
                write_json(self.folder / ABOUT, self.about)
            os.utime(self.folder / ABOUT)

    def _add(self, shards: Sequence[Shard]) -> None:
        """Know of shards; their ids are sorted in when somebody looks for one, for a pass only adds."""
        self._new += [(len(self.shards) + place, shard) for place, shard in enumerate(shards)]
        self.shards += shards
        self._known |= {shard.path.name for shard in shards}

    def _sort_in(self) -> None:
        if self._new:
            places = [np.stack([np.full(len(shard.ids), place), np.arange(len(shard.ids))], axis=1) for place, shard in self._new]
            ids = np.concatenate([self._ids, *(shard.ids for _, shard in self._new)])
            order = np.argsort(ids, kind="stable")
            self._ids, self._places = ids[order], np.concatenate([self._places, *places])[order].astype(np.int32)
            self._new = []

    def locate(self, ids: Ids) -> NDArray[np.int32]:
        """Find images: (n, 2) of shard and row, -1 where an image has no row."""
        self._sort_in()
        if not len(self._ids):
            return np.full((len(ids), 2), -1, np.int32)
        place = np.minimum(np.searchsorted(self._ids, ids), len(self._ids) - 1)
        return np.where((self._ids[place] == ids)[:, None], self._places[place], np.int32(-1))

    def has(self, ids: Ids) -> NDArray[np.bool_]:
        """Whether each image has its row: bool (n,)."""
        return self.locate(ids)[:, 0] >= 0

    def write(self, ids: Ids, values: Values) -> None:
        """Add rows as one shard, atomically.

        Args:
            ids: of m images.
            values: (m, ...), one row for each.

        Raises:
            StoreError: the disk is full, or the folder cannot be written; or the shard is there and could not be sent.
        """
        buffer = BytesIO()
        np.save(buffer, ids, allow_pickle=False)
        np.save(buffer, values, allow_pickle=False)
        path = self.folder / f"{hashlib.sha256(buffer.getbuffer()).hexdigest()}.shard"
        with _store_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            if not (self.folder / ABOUT).exists():
                write_json(self.folder / ABOUT, self.about)
            write_atomically(path, lambda temporary: temporary.write_bytes(buffer.getbuffer()))
        if path.name not in self._known:
            self._add([Shard(path, ids, values.shape, values.dtype, buffer.tell() - values.nbytes)])
        self._send(path)

    def read(self, ids: Ids) -> NDArray[np.float32]:
        """Rows of images that are all there, float32 (n, ...), in the order of `ids`."""
        return self.read_places(self.locate(ids))

    def read_places(self, places: NDArray[np.int32]) -> NDArray[np.float32]:
        """Rows by what `locate` returned."""
        if (places[:, 0] < 0).any():
            raise KeyError(f"{self.folder}: {(places[:, 0] < 0).sum()} images have no row")
        return read_shards(self.shards, places, self.row_shape)

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of one row; of a collection that is not empty."""
        return self.shards[0].shape[1:]


def read_shards(shards: Sequence[Shard], places: NDArray[np.int32], row_shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Rows (n, ...) from shards, by the number of the shard and the row in it, (n, 2)."""
    out = np.empty((len(places), *row_shape), np.float32)
    for number in np.unique(places[:, 0]):
        chosen, shard = np.flatnonzero(places[:, 0] == number), _map_shard(shards[number])
        first, last = chosen[0], chosen[-1]
        if last - first + 1 == len(chosen) and shard.dtype == out.dtype:  # most often: copied once, not twice
            np.take(shard, places[chosen, 1], axis=0, out=out[first : last + 1], mode="clip")  # 'raise' would copy once more
        else:
            out[chosen] = shard[places[chosen, 1]]
    return out


def _is_whole(path: Path) -> bool:
    """Whether a shard's bytes fit its name; one that is damaged is removed, and its rows are computed again."""
    try:
        if hash_file(path) == path.stem:
            return True
    except OSError:  # another process has just removed it, or the disk does not give it
        return False
    with suppress(OSError):  # a disk that is only read keeps it
        path.unlink()
    return False


@contextmanager
def _store_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{folder}: features cannot be kept here ({error.strerror}). Free the disk, or set TL_KERAS_CACHE to a folder that "
            "you may write to."
        ) from error


def _parse_shard(path: Path) -> Shard | None:
    """What a file holds; None where it is gone.

    NumPy reads a header with `ast.literal_eval`, which Python 3.11 may fail at while another thread uses `ast` too, as
    TensorFlow does when it traces (python/cpython#106905). So this runs in the thread that traces, never in a pool.
    """
    try:
        with path.open("rb") as file:
            ids = np.load(file, allow_pickle=False)
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            return Shard(path, ids, shape, dtype, file.tell())
    except OSError:  # another process has just removed it, or the disk does not give it
        return None


def _map_shard(shard: Shard) -> Values:
    return _map_file(shard.path, shard.offset, shard.shape, shard.dtype)


@lru_cache(OPEN_SHARDS)
def _map_file(path: Path, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Values:
    return np.memmap(path, dtype, "r", offset, shape)


class Store:
    """All collections below one folder, and the limit on their size.

    Args:
        root: the folder, made when the first shard is written.
        max_gb: GB of all collections together.
        shared: what other machines store too, which is brought here before a collection is read.

    Attributes:
        num_computed: how often an image has gone through a trunk so far, each view counted.
    """

    def __init__(self, root: Path, max_gb: float, shared: SharedStore | None = None) -> None:
        self.root = root
        self.max_gb = max_gb
        self.shared = shared
        self.num_computed = 0
        self._opened: dict[str, Collection] = {}
        clear_partial(root)

    def open(self, key: str, about: dict[str, Any]) -> Collection:
        """Open the collection of a key; it may be empty. It is read, and its hashes are checked, once."""
        if key not in self._opened:
            clear_partial(self.root / key)
            self._exchange(self.root / key)
            given = () if self.shared is None else (self.shared.send,)
            self._opened[key] = Collection(self.root / key, about, *given)
        return self._opened[key]

    def refresh(self) -> None:
        """Look for what other processes and machines have stored since in the collections that are open."""
        for collection in self._opened.values():
            self._exchange(collection.folder)
            collection.refresh()

    def _exchange(self, folder: Path) -> None:
        if self.shared is not None:
            self.shared.exchange(folder, self.require_room)

    def room(self) -> int:
        """Bytes that may be added: under the limit, and under nine tenths of the free disk."""
        folder = next(parent for parent in (self.root, *self.root.parents) if parent.is_dir())
        return int(min(self.max_gb * 1e9 - sum(each.bytes for each in describe(self.root)), 0.9 * shutil.disk_usage(folder).free))

    def require_room(self, needed: int) -> None:
        """Raise StoreError where `needed` more bytes have no room, before any is written."""
        room = self.room()
        if needed > room:
            raise StoreError(
                f"{self.root}: {needed / 1e9:.2f} GB of features are needed and {max(0, room) / 1e9:.2f} GB are free under "
                f"features.max_gb={self.max_gb:g} and on the disk. Raise it, free the disk, or take features.stages=last."
                + self._pruning(needed - room)
            )

    def _pruning(self, missing: int) -> str:
        """The command that removes `missing` bytes of what is stored, as a sentence."""
        stored = sum(each.bytes for each in describe(self.root))
        left = max(0, stored - missing) // 10_000_000 / 100
        how_much = f"--max-gb {left:g}" if left else "--all"
        return f" To remove features that were stored before: tl-keras cache prune {how_much}." if stored else ""


@dataclass(frozen=True)
class Stored:
    """One collection as `tl-keras cache list` shows it: its folder, `about`, rows, bytes, and seconds since its last use."""

    folder: Path
    about: dict[str, Any]
    rows: int
    bytes: int
    idle_s: float


def describe(root: Path) -> list[Stored]:
    """The collections below a folder, the longest unused first."""
    found = (_describe_one(folder) for folder in sorted(root.glob("*/")) if (folder / ABOUT).is_file())
    return sorted((each for each in found if each is not None), key=lambda each: -each.idle_s)


def _describe_one(folder: Path) -> Stored | None:
    try:
        shards = list(folder.glob(SHARDS))
        rows, num_bytes = sum(_count_rows(path) for path in shards), sum(path.stat().st_size for path in shards)
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        return Stored(folder, about, rows, num_bytes, time.time() - (folder / ABOUT).stat().st_mtime)
    except (OSError, ValueError):  # pruned by another process while we look, or damaged
        return None


def _count_rows(path: Path) -> int:
    try:
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
            return int(np.lib.format.read_array_header_1_0(file)[0][0])
    except ValueError:  # damaged; whoever opens the collection removes it
        return 0


def prune(root: Path, *, older_than_s: float = 0.0, max_bytes: float = 0) -> Iterator[Stored]:
    """Remove the longest unused collections until all take at most `max_bytes`; what killed processes left goes too.

    A run that is learning from a removed collection ends with an error; prune between runs.

    Args:
        older_than_s: only collections unused for so many seconds.

    Yields:
        Each collection that was removed.
    """
    clear_partial(root, "**/")
    for leftover in root.glob("*/.*"):  # of older versions
        with suppress(OSError):  # its process has just renamed it
            if leftover.is_file() and time.time() - leftover.stat().st_mtime > ABANDONED_S:
                leftover.unlink()
    stored = describe(root)
    left = sum(each.bytes for each in stored)
    for each in stored:
        if (left > max_bytes or not each.bytes) and each.idle_s >= older_than_s:
            shutil.rmtree(each.folder, ignore_errors=True)
            if not each.folder.exists():
                left -= each.bytes
                yield each
