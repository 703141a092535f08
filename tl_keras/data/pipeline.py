"""From files and splits to tf.data: pixels decoded once, batches in a known order, augmentation after the cache.

`Pixels` owns where evaluation pixels come from; `train_batches` and `eval_batches` own order and batching. What the
pixels are is defined in `images`, what augmentation does in `augment`. The next stop is a model.
"""

import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tl_keras.config import AugmentConfig
from tl_keras.data import augment as augmentation
from tl_keras.data import images
from tl_keras.errors import BadImageError, DataError

Advance = Callable[[int], None]  # told how many images were just done


class Pixels:
    """The evaluation pixels of n files: uint8 (n, h, w, 3), on disk while they fit, else decoded at each read.

    Args:
        paths: the n files.
        image_size: (height, width) in pixels.
        resize: 'crop', 'letterbox' or 'stretch'; see `images.fit`.
        cache_file: where to keep decoded pixels; None decodes at each read.
    """

    def __init__(self, paths: list[Path], image_size: tuple[int, int], resize: str, cache_file: Path | None = None) -> None:
        self.paths = paths
        self.shape = (*image_size, 3)
        self.resize = resize
        self.bad: dict[int, str] = {}
        self._pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="decode")
        self._cache: NDArray[np.uint8] | None = None
        if cache_file is not None:
            self._cache = np.lib.format.open_memmap(cache_file, "w+", np.uint8, (len(paths), *self.shape))

    def decode_all(self, advance: Advance | None = None) -> None:
        """Decode every file once: fill the cache, and note in `bad` (position -> reason) those that do not decode."""
        for done in self._pool.map(self._decode_one, range(len(self.paths))):
            if advance is not None:
                advance(done)

    def _decode_one(self, row: int) -> int:
        try:
            pixels = self._load(row)
            if self._cache is not None:
                self._cache[row] = pixels
        except BadImageError as error:
            self.bad[row] = str(error)
        return 1

    def _load(self, row: int) -> NDArray[np.uint8]:
        return images.load(self.paths[row], (self.shape[0], self.shape[1]), self.resize)

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the pixels of some files, uint8 (b, h, w, 3)."""
        if self._cache is not None:
            return np.asarray(self._cache[rows])
        return np.stack(list(self._pool.map(self._load, rows)))

    @property
    def num_bytes(self) -> int:
        """Bytes of all pixels, decoded."""
        return len(self.paths) * int(np.prod(self.shape))


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
        raise DataError(f"{first}{more}. Mend or remove it, or set data.on_bad_image=skip.")
    if len(bad) > max_bad_fraction * num_images:
        raise DataError(
            f"{len(bad)} of {num_images} images do not decode, more than data.max_bad_fraction={max_bad_fraction:g}. First: {first}."
        )


def _read(pixels: Pixels, rows: tf.Tensor) -> tf.Tensor:
    batch = tf.numpy_function(pixels.read, [rows], tf.uint8, stateful=False)
    batch.set_shape((None, *pixels.shape))
    return batch


def train_batches(
    pixels: Pixels,
    rows: NDArray[np.int64],
    labels: NDArray[np.int32],
    class_weights: NDArray[np.float32],
    *,
    batch_size: int,
    augment: AugmentConfig,
    seed: int,
    first_epoch: int = 0,
) -> Any:
    """Shuffled, augmented batches, epoch after epoch without end.

    The order depends on (seed, epoch), the augmentation of an image on (seed, epoch, its row): both are the same in
    every run and in a run that was continued. The last batch of an epoch is smaller, never dropped.

    Args:
        rows: positions in `pixels`, (n,).
        labels: int32 of all files; `labels[rows]` are used.
        class_weights: float32 (k,), the weight of each class in the loss.

    Returns:
        A tf.data.Dataset of (float32 (b, h, w, 3) in 0..255, one-hot float32 (b, k), weights float32 (b,)).
    """
    num = len(rows)
    rows_t, labels_t, weights_t = (
        tf.constant(rows, tf.int64),
        tf.constant(labels[rows], tf.int32),
        tf.constant(class_weights),
    )
    plain = augmentation.is_identity(augment)

    def one_epoch(epoch: tf.Tensor) -> Any:
        order = tf.random.experimental.stateless_shuffle(tf.range(num, dtype=tf.int64), seed=tf.stack([tf.constant(seed, tf.int64), epoch]))
        dataset = tf.data.Dataset.from_tensor_slices(order)
        if not plain:
            return dataset.map(lambda i: (i, augmentation.draw(augment, seed, epoch, rows_t[i]))).batch(batch_size)
        return dataset.map(lambda i: (i, tf.zeros((0,)))).batch(batch_size)

    def load(order: tf.Tensor, draws: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        batch = _read(pixels, tf.gather(rows_t, order))
        if not plain:
            batch = augmentation.augment_batch(augment, batch, draws)
        label = tf.gather(labels_t, order)
        return tf.cast(batch, tf.float32), tf.one_hot(label, len(class_weights)), tf.gather(weights_t, label)

    epochs = tf.data.Dataset.range(first_epoch, np.iinfo(np.int32).max).flat_map(one_epoch)
    return epochs.map(load, num_parallel_calls=2, deterministic=True).prefetch(2)


def ordered_batches(
    pixels: Pixels,
    rows: NDArray[np.int64],
    labels: NDArray[np.int32],
    num_classes: int,
    *,
    batch_size: int,
    augment: AugmentConfig | None = None,
    seed: int = 0,
    view: int = 0,
) -> Any:
    """Every image once, in the order of `rows`, the last batch included: for evaluation, and for features.

    Args:
        augment: None for evaluation pixels, else the augmentation of which `view` numbers the draw.

    Returns:
        A tf.data.Dataset of (float32 (b, h, w, 3) in 0..255, one-hot float32 (b, k)).
    """

    def load(batch_rows: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        batch = _read(pixels, batch_rows)
        if augment is not None:
            draws = tf.map_fn(lambda row: augmentation.draw(augment, seed, view_t, row), batch_rows, fn_output_signature=tf.float32)
            batch = augmentation.augment_batch(augment, batch, draws)
        return tf.cast(batch, tf.float32), tf.one_hot(label, num_classes)

    view_t = tf.constant(view, tf.int64)
    dataset = tf.data.Dataset.from_tensor_slices((rows.astype(np.int64), labels[rows])).batch(batch_size)
    return dataset.map(load, num_parallel_calls=2, deterministic=True).prefetch(2)


def row_batches(rows: NDArray[np.int64], batch_size: int) -> Iterable[NDArray[np.int64]]:
    """Cut `rows` into consecutive batches, the last one included."""
    return (rows[start : start + batch_size] for start in range(0, len(rows), batch_size))
