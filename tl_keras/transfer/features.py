"""Outputs of a frozen trunk for images, computed once for all runs.

For each image and view only what the store lacks is computed: the image is decoded once, each view of it goes through
the trunk once, and every output is written as shards. The key of a row is the trunk's fingerprint, the image contract,
the view, and the image's content, so nothing is served stale and a renamed file is not a new image. The rows are read
back by `probe`, `head` and `finetune` as `StoredFeatures`.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tl_keras.config import AugmentConfig
from tl_keras.data import augment as augmentation
from tl_keras.data.draws import draw
from tl_keras.data.file_ids import Ids, numbers
from tl_keras.data.pipeline import Pixels, row_batches
from tl_keras.models.engines import TENSORFLOW, openvino_version
from tl_keras.progress import Progress
from tl_keras.transfer.store import Collection, Shard, Store, read_shards
from tl_keras.transfer.trunk import BATCH_SIZE, Trunk

SHARD_ROWS = 256  # a killed run loses the images of one shard
CHUNK_BYTES = 64 * 2**20  # of pixels or of one output at once
VIEW_SEED = 0  # views belong to the store, not to a run: runs that differ in their seed share them
FLOAT16_ERROR = 1e-3  # relative, root mean square: float16 where it is not worse, which overflow and tiny numbers are

Rows = NDArray[np.int64]
Lacks = dict[tuple[str, int], NDArray[np.bool_]]  # output and view -> which of all images have to be computed, (n,)


@dataclass(frozen=True)
class Computed:
    """Some images in one view, computed.

    Attributes:
        num: of images that went through the trunk.
        outputs: name -> the ids (m,) and rows (m, ...) that are to be stored.
    """

    view: int
    num: int
    outputs: dict[str, tuple[Ids, NDArray[Any]]]


def names_of(lacks: Lacks) -> list[str]:
    """The outputs that are lacking."""
    return list(dict.fromkeys(name for name, _ in lacks))


def by_view(lacks: Lacks) -> list[NDArray[np.bool_]]:
    """For each view, which images have to go through the trunk, bool (n,)."""
    views = range(1 + max(view for _, view in lacks))
    return [np.any([mask for (_, each), mask in lacks.items() if each == view], axis=0) for view in views]


def rows_of(lacks: Lacks) -> Rows:
    """The images of which something is lacking."""
    return np.flatnonzero(np.any(list(lacks.values()), axis=0))


def how_often(lacks: Lacks) -> int:
    """How often an image has to go through the trunk."""
    return int(np.sum(by_view(lacks)))


class StoredFeatures:
    """Rows of features on disk, read by slices or by positions: float32 (n, ...), like an array that is not in memory.

    Args:
        parts: collections and the ids of the images to take from each, one after the other.
    """

    def __init__(self, parts: Sequence[tuple[Collection, Ids]]) -> None:
        self._collections = [collection for collection, _ in parts]
        self._part = np.repeat(np.arange(len(parts)), [len(ids) for _, ids in parts])
        self._places = np.concatenate([collection.locate(ids) for collection, ids in parts])
        self.shape = (len(self._part), *self._collections[0].row_shape)

    def __len__(self) -> int:
        return len(self._part)

    def __getitem__(self, rows: slice | Rows) -> NDArray[np.float32]:
        part, places = self._part[rows], self._places[rows]
        numbers = np.unique(part)
        if len(numbers) == 1:
            return self._collections[numbers[0]].read_places(places)
        out = np.empty((len(part), *self.shape[1:]), np.float32)
        for number in numbers:
            chosen = part == number
            out[chosen] = self._collections[number].read_places(places[chosen])
        return out

    def slice(self, rows: slice) -> "ShardRows":
        """Some rows in a row, for another process that sees the same disk."""
        part, places = self._part[rows], self._places[rows].copy()
        shards: list[Shard] = []
        for number in np.unique(part):
            mine, all_shards = part == number, self._collections[number].shards
            used, places[mine, 0] = np.unique(places[mine, 0], return_inverse=True)
            places[mine, 0] += len(shards)
            shards += [replace(all_shards[each], ids=np.empty(0, "S16")) for each in used]
        return ShardRows(tuple(shards), places, self.shape[1:])


@dataclass(frozen=True)
class ShardRows:
    """Rows of features as `StoredFeatures`, by their files: `places` (n, 2) are numbers of shards, and rows in them."""

    shards: tuple[Shard, ...]
    places: NDArray[np.int32]
    row_shape: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, ...)."""
        return len(self.places), *self.row_shape

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, rows: slice) -> NDArray[np.float32]:
        return read_shards(self.shards, self.places[rows], self.row_shape)


class FrozenFeatures:
    """The outputs of one trunk for the images of one run, in the plain view and in augmented ones.

    Args:
        store: where they are kept.
        trunk: what computes them.
        pixels: the images, identified.
        augment: what makes view 1, 2, ... of an image.
        about: what people call the trunk, for `tl-keras cache list`.
        fingerprints: of the trunk, where they are known.

    Attributes:
        fingerprints: what each output is computed by, see `Trunk.fingerprints`.
    """

    def __init__(
        self,
        store: Store,
        trunk: Trunk,
        pixels: Pixels,
        augment: AugmentConfig,
        about: dict[str, Any],
        fingerprints: dict[str, str] | None = None,
    ) -> None:
        self.store, self.trunk, self.pixels, self.ids = store, trunk, pixels, pixels.ids
        self._augment = augment
        self._about = about
        self.fingerprints = fingerprints or trunk.fingerprints()

    def collection(self, output: str, view: int) -> Collection:
        """The rows of one output for one view; 0 is the plain one."""
        about = {**self._about, "output": output, "view": view, "image_size": list(self.pixels.shape[:2])}
        return self.store.open(self.key(output, view), about)

    def key(self, output: str, view: int) -> str:
        """What the rows of one output for one view are known by: a hash of all that their numbers follow from, but for the image."""
        contract: dict[str, Any] = {
            "pixels": self.pixels.decoding.contract,
            "size": self.pixels.shape[:2],
            "resize": self.pixels.resize,
            "features": self.fingerprints[output],
        }
        if self.trunk.engine != TENSORFLOW:  # its numbers differ, in the sixth digit or in the third
            contract |= {"engine": f"{self.trunk.engine} {openvino_version()}"}
        if view:
            augment = self._augment.model_dump(exclude={"policy"})  # which is values of the other settings
            contract |= {"view": view, "views": augmentation.CONTRACT, "seed": VIEW_SEED, "augment": augment}
        return hashlib.sha256(json.dumps(contract, sort_keys=True).encode()).hexdigest()[:32]

    def only(self, names: Iterable[str]) -> "FrozenFeatures":
        """Some of the outputs: what is needed for the others alone is not computed."""
        trunk = self.trunk.only(names)
        return self if trunk is self.trunk else FrozenFeatures(self.store, trunk, self.pixels, self._augment, self._about)

    def of(self, pixels: Pixels) -> "FrozenFeatures":
        """The same of other images, which are identified."""
        return FrozenFeatures(self.store, self.trunk, pixels, self._augment, self._about, self.fingerprints)

    def on(self, engine: str) -> "FrozenFeatures":
        """The same computed by another engine, in rows of their own."""
        trunk = self.trunk.on(engine)
        return (
            self if trunk is self.trunk else FrozenFeatures(self.store, trunk, self.pixels, self._augment, self._about, self.fingerprints)
        )

    def stored(self, output: str, rows: Rows, num_views: int = 0) -> StoredFeatures:
        """What was computed: the plain view of all `rows`, then view 1 of all of them, and so on."""
        return StoredFeatures([(self.collection(output, view), self.ids[rows]) for view in range(num_views + 1)])

    def missing(self, output: str, view: int, rows: Rows) -> Rows:
        """Those of some rows whose output is not in the store."""
        return rows[~self.collection(output, view).has(self.ids[rows])]

    def count_missing(self, wanted: Sequence[Rows]) -> int:
        """How often an image would go through the trunk in `compute`."""
        return sum(max(len(self.missing(name, view, rows)) for name in self.trunk.shapes) for view, rows in enumerate(wanted))

    def bytes_missing(self, wanted: Sequence[Rows]) -> int:
        """Bytes on disk that `compute` would add, where float16 holds what it may hold."""
        return sum(
            len(self.missing(name, view, rows)) * row_bytes(shape)
            for view, rows in enumerate(wanted)
            for name, shape in self.trunk.shapes.items()
        )

    def compute(self, wanted: Sequence[Rows], progress: Progress, check: Callable[[], None]) -> None:
        """Compute what is missing; files that do not decode are noted in `pixels.bad`.

        Args:
            wanted: for each view, the rows that need it.
            check: called after each chunk, to stop where too many files are bad.

        Raises:
            StoreError: there is no room for it.
        """
        lacks = self.lacks(wanted)
        if not lacks:
            check()
            return
        self.store.require_room(self.bytes_missing(wanted))
        trunk = self.trunk.only(names_of(lacks))
        with progress.bar("features", how_often(lacks)) as advance:
            for good, pixels in self._chunks(rows_of(lacks), trunk):
                for each in self.computed(trunk, good, pixels, lacks):
                    self.keep(each)
                    advance(each.num)
                check()
        self._note_equal_bad_files()
        check()

    def lacks(self, wanted: Sequence[Rows]) -> Lacks:
        """What the store lacks of what is wanted, each content once; which images it has shows which decode."""
        lacks = {(name, view): self._mask(self.missing(name, view, rows)) for view, rows in enumerate(wanted) for name in self.trunk.shapes}
        self._mark_good(wanted)
        names = {name for (name, _), mask in lacks.items() if mask.any()}
        return {(name, view): mask for (name, view), mask in lacks.items() if name in names}

    def computed(self, trunk: Trunk, good: Rows, pixels: NDArray[np.uint8], lacks: Lacks) -> Iterator[Computed]:
        """What the store lacks of some images, view after view.

        Args:
            trunk: of the outputs that are lacking.
            good: the images, and `pixels`, uint8 (m, h, w, 3), of each.
        """
        for view, needed in enumerate(by_view(lacks)):
            chosen = needed[good]
            taken = good[chosen]
            if not len(taken):
                continue
            seen = pixels[chosen]
            outputs = trunk(seen if view == 0 else self._view(seen, taken, view))
            new = {name: lacks[name, view][taken] for name in outputs}
            yield Computed(
                view,
                len(taken),
                {name: (self.ids[taken[mask]], compact(outputs[name][mask])) for name, mask in new.items() if mask.any()},
            )

    def keep(self, found: Computed) -> None:
        """Write what was computed, each output as one shard.

        Raises:
            StoreError: see `Collection.write`.
        """
        for name, (ids, values) in found.outputs.items():
            self.collection(name, found.view).write(ids, values)
        self.store.num_computed += found.num

    def _note_equal_bad_files(self) -> None:
        """What is equal to a file that does not decode does not either; each gets its own reason."""
        bad = [row for row in self.pixels.bad if self.ids[row] != b""]
        if bad:
            self.pixels.read_good(np.setdiff1d(np.flatnonzero(np.isin(self.ids, self.ids[bad])), bad))

    def _mask(self, rows: Rows) -> NDArray[np.bool_]:
        """One row for each content, and each that cannot be read (decoding will say why), as bool (n,)."""
        mask, ids = np.zeros(len(self.ids), bool), self.ids[rows]
        mask[rows[np.unique(ids, return_index=True)[1]]] = True
        mask[rows[ids == b""]] = True
        return mask

    def _mark_good(self, wanted: Sequence[Rows]) -> None:
        """An image that has features has been decoded, under this contract."""
        for name in self.trunk.shapes:
            self.pixels.good[wanted[0]] |= self.collection(name, 0).has(self.ids[wanted[0]])

    def chunk_rows(self, names: Iterable[str]) -> int:
        """How many images go through the trunk of some outputs at once, and into one shard."""
        largest = max(int(np.prod(self.pixels.shape)), *(4 * int(np.prod(self.trunk.shapes[name])) for name in names))
        return max(BATCH_SIZE, min(SHARD_ROWS, CHUNK_BYTES // largest // BATCH_SIZE * BATCH_SIZE))

    def _chunks(self, rows: Rows, trunk: Trunk) -> Iterator[tuple[Rows, NDArray[np.uint8]]]:
        """Decoded chunks, the next one being decoded while one is used, and the first while the trunk is folded."""
        num = self.chunk_rows(trunk.shapes)
        with ThreadPoolExecutor(1) as ahead:
            waiting: Any = None
            for chunk in row_batches(rows, num):
                coming = ahead.submit(self.pixels.read_good, chunk)
                trunk.fold()
                if waiting is not None:
                    yield waiting.result()
                waiting = coming
            if waiting is not None:
                yield waiting.result()

    def _view(self, seen: NDArray[np.uint8], rows: Rows, view: int) -> NDArray[np.uint8]:
        """One random view of each image; it depends on the image's content and the view's number alone.

        Not on its company either: the last batch is filled up, because TensorFlow rounds what is left over of a batch in another way.
        """
        number, augmented = numbers(self.ids[rows]), _augmented(self._augment)
        filled = np.resize(np.arange(len(rows)), -len(rows) % BATCH_SIZE + len(rows))
        parts = (filled[start : start + BATCH_SIZE] for start in range(0, len(filled), BATCH_SIZE))
        view_number = tf.constant(view, tf.int64)
        return np.concatenate([augmented(seen[part], number[part], view_number).numpy() for part in parts])[: len(rows)]


@cache
def _augmented(augment: AugmentConfig) -> Any:
    @tf.function(autograph=False, reduce_retracing=True)
    def view(images: tf.Tensor, number: tf.Tensor, view: tf.Tensor) -> tf.Tensor:
        draws = tf.map_fn(lambda each: draw(VIEW_SEED, view, each), number, fn_output_signature=tf.float32)
        return augmentation.augment_batch(augment, images, draws)

    return view


def row_bytes(shape: tuple[int, ...]) -> int:
    """Bytes of one stored row: see `compact`."""
    return int(np.prod(shape)) * (2 if len(shape) > 1 else 4)


def compact(values: NDArray[np.float32]) -> NDArray[Any]:
    """Feature maps (n, h, w, c) as float16 where that loses nothing that matters; vectors (n, d) stay float32."""
    if values.ndim == 2:
        return values
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
        error, norm = np.sqrt(np.mean((half - values) ** 2)), np.sqrt(np.mean(values**2))
    holds = bool(np.isfinite(half).all()) and float(error) <= FLOAT16_ERROR * float(norm)
    return half if holds else values
