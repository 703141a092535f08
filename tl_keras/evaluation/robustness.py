"""How much worse a model does on images that are made worse."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tl_keras.data.dataset import ImageData
from tl_keras.data.pipeline import decoding_threads, row_batches
from tl_keras.evaluation.corruptions import CORRUPTIONS, STRENGTHS, Corruption
from tl_keras.evaluation.scoring import measure, run_model
from tl_keras.progress import Progress


def robustness(model: keras.Model, data: ImageData, batch_size: int, progress: Progress, call: Any) -> list[dict[str, Any]]:
    """The figure of the task on test under each corruption, at each strength; all images are read once for each.

    The pixels that the model sees are made worse, after they were resized, and always in the same way.

    Args:
        call: what `scoring.on_engine` made of the model.

    Returns:
        A row for each: `corruption`, its name in `CORRUPTIONS`; `strength`; the figure by its name, and its `..._ci95`.
    """
    rows, found = data.rows("test"), []
    name = data.output.metric_name
    with progress.bar("corrupt test", len(rows) * len(CORRUPTIONS) * len(STRENGTHS)) as advance:
        for kind, corruption in CORRUPTIONS.items():
            for strength in STRENGTHS:
                batches = corrupted_batches(data, rows, corruption, strength, batch_size)
                figures = measure(data, "test", data.output.answers(run_model(model, batches, len(rows), advance, call)))
                found.append({"corruption": kind, "strength": strength} | {key: figures[key] for key in (name, f"{name}_ci95")})
    return found


def corrupted_batches(
    data: ImageData, rows: NDArray[np.int64], corruption: Corruption, strength: int, batch_size: int
) -> Iterator[tuple[Any, None]]:
    """Some images made worse: (float32 (b, h, w, 3) in 0..255, None) batches; a row is the seed of its noise."""
    with decoding_threads() as pool:
        for part in row_batches(rows, batch_size):
            worse = pool.map(lambda image, row: corruption(image, strength, row), data.pixels.read(part), part.tolist())
            yield tf.constant(np.stack(list(worse)), tf.float32), None
