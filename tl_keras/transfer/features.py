"""What a frozen trunk makes of images, computed once.

The features lie in a file, read by memory map, so that their number is bounded by the disk. Their next stop is
`probe`; what the trunk is, `models` says.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tl_keras.config import AugmentConfig
from tl_keras.data.pipeline import Advance, Pixels, ordered_batches
from tl_keras.errors import TrainingError


def compute_features(
    trunk: keras.Model,
    pixels: Pixels,
    rows: NDArray[np.int64],
    file: Path,
    *,
    batch_size: int,
    views: int = 0,
    augment: AugmentConfig | None = None,
    seed: int = 0,
    advance: Advance | None = None,
) -> NDArray[np.float32]:
    """Run a trunk once over some images, and once over each augmented view of them, in inference mode.

    Args:
        trunk: pixels -> pooled features (b, d).
        rows: positions in `pixels`, (n,).
        file: the .npy file to hold the features.
        views: augmented views of each image, beside the plain one.

    Returns:
        float32 ((1 + views) * n, d), a memory map of `file`: the plain images in the order of `rows`, then each view.
    """
    labels = np.zeros(len(pixels.paths), np.int32)

    def batches() -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
        for view in range(views + 1):
            changed = augment if view else None
            yield from ordered_batches(pixels, rows, labels, 1, batch_size=batch_size, augment=changed, seed=seed, view=view)

    return run_model(trunk, batches(), (1 + views) * len(rows), file, advance)


def run_model(model: keras.Model, batches: Any, num: int, file: Path | None = None, advance: Advance | None = None) -> NDArray[np.float32]:
    """Run a model in inference mode over (images, targets) batches.

    Returns:
        float32 (num, d): a memory map of `file`, or an array where `file` is None.

    Raises:
        TrainingError: the model puts out a number that is not finite, as float16 does where it overflows.
    """
    spec = tf.TensorSpec((None, *model.input.shape[1:]), tf.float32)
    call = tf.function(lambda images: model(images, training=False), input_signature=[spec])
    shape = (num, *model.output.shape[1:])
    found: NDArray[np.float32] = np.empty(shape, np.float32) if file is None else np.lib.format.open_memmap(file, "w+", np.float32, shape)
    done = 0
    for images, _ in batches:
        part = call(images).numpy()
        if not np.isfinite(part).all():
            raise TrainingError(
                f"'{model.name}' puts out numbers that are not finite. Set runtime.precision=float32, or mend the weights it starts from."
            )
        found[done : done + len(part)] = part
        done += len(part)
        if advance is not None:
            advance(len(part))
    return found
