"""From files and splits to tf.data: pixels decoded once, batches in a known order, augmentation after the cache.

`Pixels` owns where evaluation pixels come from; `train_batches` and `ordered_batches` own order and batching. What the
pixels are is defined in `images`, what augmentation does in `augment`. The next stop is a model.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tl_keras.config import AugmentConfig
from tl_keras.data import augment as augmentation
from tl_keras.data import images
from tl_keras.data.draws import draw
from tl_keras.data.file_ids import ID_BYTES, Ids, file_id, hash_files
from tl_keras.data.mixing import Mix
from tl_keras.data.orders import Order, shuffled
from tl_keras.data.python_reader import python_reader
from tl_keras.data.shares import Shares, as_written, loaded
from tl_keras.errors import BadImageError, DataError, LostImageError
from tl_keras.models.outputs import Labels
from tl_keras.progress import Progress
from tl_keras.run_folder import naming
from tl_keras.runtime import threads_in_force

Advance = Callable[[int], None]  # told how many images were just done
Targets = Callable[[Any], Any]  # labels (b, ...) -> targets float32 (b, k); see `models.outputs`

_DECODED_AT_ONCE = 1024  # files queued for the threads: the queue takes about a kilobyte for each


def decoding_threads() -> ThreadPoolExecutor:
    """Threads that decode images: two for each of TensorFlow's, of which one waits for its file."""
    return ThreadPoolExecutor(2 * threads_in_force(), thread_name_prefix="decode")


class Pixels:
    """The evaluation pixels of n files: uint8 (n, h, w, 3), decoded when they are read, and kept on disk where they fit.

    Args:
        paths: the n files.
        image_size: (height, width) in pixels.
        resize: 'crop', 'letterbox' or 'stretch'; see `images.resize`.
        cache_file: where to keep decoded pixels; None decodes at each read.
        decoding: what the settings say of decoding.

    Attributes:
        bad: position -> reason, of files that were found not to decode.
        good: bool (n,), files that are known to decode.
        ids: (n,) what each file's content is known by, after `identify`.
        failed: why `read` failed first, where it did.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        image_size: tuple[int, int],
        resize: str,
        cache_file: Path | None = None,
        decoding: images.Decoding = images.DEFAULT,
    ) -> None:
        self.paths = paths
        self.shape = (*image_size, 3)
        self.resize = resize
        self.decoding = decoding
        self.bad: dict[int, str] = {}
        self.good = np.zeros(len(paths), bool)
        self.ids: Ids = np.empty(0, f"S{ID_BYTES}")
        self.failed: DataError | None = None
        self._pool = decoding_threads()
        self._cached = np.zeros(len(paths), bool)
        self._cache: NDArray[np.uint8] | None = None
        if cache_file is not None:
            self.keep(cache_file)

    def keep(self, cache_file: Path) -> None:
        """Write pixels that are decoded from now on to a file, and read them from there.

        Raises:
            OSError: the disk is full: it is asked for all of the room now, because a memory map that does not get it ends the process.
        """
        with naming(cache_file):
            self._cache = np.lib.format.open_memmap(cache_file, "w+", np.uint8, (len(self.paths), *self.shape))
            if hasattr(os, "posix_fallocate"):
                with cache_file.open("r+b") as file:
                    os.posix_fallocate(file.fileno(), 0, cache_file.stat().st_size)

    def identify(self, progress: Progress, known: Ids | None = None) -> None:
        """Read every file once for its content's id, unless somebody has just done so."""
        if known is not None:
            self.ids = known
            return
        with progress.bar("read files", len(self.paths)) as advance:
            self.ids = hash_files(self.paths, advance)

    def decode_all(self, advance: Advance | None = None) -> None:
        """Decode every file of which it is not known whether it does, once: fill the cache, and note the `bad`."""
        unknown = np.flatnonzero(~self.good)
        for rows in row_batches(unknown[~np.isin(unknown, list(self.bad))], _DECODED_AT_ONCE):
            for _ in self._pool.map(self._decode_one, rows.tolist()):
                if advance is not None:
                    advance(1)

    def _decode_one(self, row: int) -> NDArray[np.uint8] | None:
        try:
            pixels = self._load(row)
            if len(self.ids) and file_id(self.paths[row]) != self.ids[row]:
                raise BadImageError(f"{self.paths[row]}: changed while it was read. Start again")
            return pixels
        except BadImageError as error:
            self.bad[row] = str(error)
            return None

    def _load(self, row: int) -> NDArray[np.uint8]:
        if self._cache is not None and self._cached[row]:
            return np.asarray(self._cache[row])
        pixels = images.load(self.paths[row], (self.shape[0], self.shape[1]), self.resize, self.decoding)
        self.good[row] = True
        if self._cache is not None:
            self._cache[row] = pixels
            self._cached[row] = True
        return pixels

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the pixels of some files, uint8 (b, h, w, 3)."""
        if self._cache is not None and self._cached[rows].all():
            return np.asarray(self._cache[rows])
        try:
            return np.stack(list(self._pool.map(self._load, rows)))
        except DataError as error:
            self.failed = self.failed or error
            raise

    @contextmanager
    def named_failures(self, advice: str) -> Iterator[None]:
        """Let a `read` that fails within tf.data, of which TensorFlow makes an error of its own, be told as what it was.

        Raises:
            LostImageError: an image cannot be read any more; `advice` says what to do.
            DataError: another failure of `read`.
        """
        try:
            yield
        except tf.errors.OpError as error:
            if self.failed is None:
                raise
            if not isinstance(self.failed, BadImageError):
                raise self.failed from error
            raise LostImageError(f"{str(self.failed).rstrip('.')}, though it could be read before. {advice}") from error

    def read_good(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Return those of some files that decode, and their pixels; the others are noted in `bad`."""
        found = list(self._pool.map(self._decode_one, rows.tolist()))
        kept = [pixels for pixels in found if pixels is not None]
        good = rows[[pixels is not None for pixels in found]]
        return good, np.stack(kept) if kept else np.empty((0, *self.shape), np.uint8)


def fits(num_images: int, image_size: tuple[int, int], folder: Path, cache_gb: float) -> bool:
    """Whether decoded pixels fit into `data.cache_gb` and into nine tenths of the free disk."""
    needed = num_images * image_size[0] * image_size[1] * 3
    return needed <= cache_gb * 1e9 and needed <= 0.9 * shutil.disk_usage(folder).free


def check_bad(bad: dict[int, str], num_images: int, *, on_bad_image: str, max_bad_fraction: float) -> None:
    """Raise DataError when files that do not decode are not to be skipped, or are too many to skip."""
    if not bad:
        return
    first = bad[min(bad)]
    if on_bad_image == "error":
        more = f" ({len(bad) - 1} more)" if len(bad) > 1 else ""
        raise DataError(f"{first}{more}. Repair or remove it, or set data.on_bad_image=skip.")
    if len(bad) > max_bad_fraction * num_images:
        raise DataError(
            f"{len(bad)} of {num_images} images do not decode, more than data.max_bad_fraction={max_bad_fraction:g}. First: {first}. "
            "Mend or remove them, or train with a larger data.max_bad_fraction."
        )


def _reader(pixels: Pixels) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function of rows int64 (b,) that reads their pixels inside a graph: uint8 (b, h, w, 3)."""
    read = python_reader(pixels.read, tf.uint8)
    return lambda rows: tf.ensure_shape(read(rows), (None, *pixels.shape))


def _with_draws(order: Any, augment: AugmentConfig | None, seed: int, epoch: tf.Tensor) -> Any:
    """A dataset of (place, number of the view) -> (place, the random numbers of the view), which are empty without augmentation."""
    if augment is None or augmentation.is_identity(augment):
        return order.map(as_written(lambda place, number: (place, tf.zeros((0,)))))
    return order.map(as_written(lambda place, number: (place, draw(seed, epoch, number))))


def train_batches(
    pixels: Pixels,
    rows: NDArray[np.int64],
    labels: Labels,
    weights: NDArray[np.float32],
    targets: Targets,
    *,
    batch_size: int,
    augment: AugmentConfig,
    seed: int,
    mix: Mix | None = None,
    order: Order | None = None,
    first_epoch: int = 0,
    first_step: int = 0,
    shares: Shares | None = None,
) -> Any:
    """Shuffled, augmented batches, epoch after epoch without end.

    The order depends on (seed, epoch), the augmentation of an image on (seed, epoch, the number of its view), mixing on (seed,
    epoch, step): all are the same in every run and in a run that was continued, which does not know files that did not
    decode any more. The last batch of an epoch is smaller, never dropped.

    Args:
        rows: positions in `pixels`, (n,).
        labels: of all files; `labels[rows]` are used.
        weights: float32 (n,), of each of these images in the loss.
        targets: what a model learns from labels.
        mix: what blends the images of a batch; None leaves them apart.
        order: which images an epoch shows; None for each once.
        first_epoch: the epoch, from 0, that it begins with.
        first_step: the batch of that epoch, from 0.
        shares: which shares of the batches are read here; None for whole batches.

    Returns:
        A tf.data.Dataset of (float32 (b, h, w, 3) in 0..255, targets float32 (b, k), weights float32 (b,)), and of shares as
        `Shares.loaded` says.
    """
    shown = shuffled(len(rows)) if order is None else order
    rows_t, labels_t, weights_t = (tf.constant(rows, tf.int64), tf.constant(labels[rows]), tf.constant(weights))

    @as_written
    def one_epoch(epoch: tf.Tensor) -> Any:
        views = tf.data.Dataset.from_tensor_slices(shown(seed, epoch))
        return _with_draws(views, augment, seed, epoch).batch(batch_size).enumerate(epoch * 2**32)

    read = _reader(pixels)

    @as_written
    def load(number: tf.Tensor, batch: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        places, draws = batch
        images = augmentation.augment_batch(augment, read(tf.gather(rows_t, places)), draws)
        found = tf.cast(images, tf.float32), targets(tf.gather(labels_t, places)), tf.gather(weights_t, places)
        return found if mix is None else mix(number, found)

    epochs = tf.data.Dataset.range(first_epoch, np.iinfo(np.int32).max).flat_map(one_epoch).skip(first_step)
    return without_tuning(loaded(epochs, load, shares))


def ordered_batches(pixels: Pixels, rows: NDArray[np.int64], labels: Labels, targets: Targets, *, batch_size: int) -> Any:
    """Every image once, in the order of `rows`, the last batch included: for evaluation.

    Args:
        rows: positions in `pixels`, (n,).
        labels: of all files; `labels[rows]` are used.
        targets: what a model learns from labels.

    Returns:
        A tf.data.Dataset of (float32 (b, h, w, 3) in 0..255, targets float32 (b, k)).
    """
    rows_t, labels_t = tf.constant(rows, tf.int64), tf.constant(labels[rows])
    read = _reader(pixels)

    @as_written
    def load(place: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        batch = read(tf.gather(rows_t, place))
        return tf.cast(batch, tf.float32), targets(tf.gather(labels_t, place))

    places = tf.data.Dataset.range(len(rows)).batch(batch_size)
    return without_tuning(places.map(load, num_parallel_calls=2, deterministic=True).prefetch(2))


def without_tuning(batches: Any) -> Any:
    """The same data set without a thread that tunes it: our numbers of threads and batches ahead are fixed.

    When an iterator is deleted, it waits for that thread, which now and then misses that it should end and sleeps on, longer the longer
    it has run: for a minute at most, in which nothing happens.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.with_options(options)


def row_batches(rows: NDArray[np.int64], batch_size: int) -> Iterable[NDArray[np.int64]]:
    """Cut `rows` into consecutive batches, the last one included."""
    return (rows[start : start + batch_size] for start in range(0, len(rows), batch_size))
