"""Running a model over a split and measuring it: what training and evaluation share."""

import time
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from tl_keras.data.dataset import ImageData
from tl_keras.data.pipeline import ordered_batches
from tl_keras.evaluate.metrics import classification_metrics, softmax
from tl_keras.progress import Progress
from tl_keras.transfer.features import run_model


class Clock:
    """Wall-clock seconds by name: laps, and their total."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self.started = self.last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Note the seconds since the last lap."""
        now = time.perf_counter()
        self.laps[name], self.last = round(now - self.last, 3), now

    def timing(self) -> dict[str, float]:
        """`total_s` first, then each lap."""
        return {"total_s": round(time.perf_counter() - self.started, 3), **self.laps}


def score(model: keras.Model, data: ImageData, split: str, batch_size: int, progress: Progress) -> NDArray[np.float64]:
    """Probabilities float64 (n, k) of the images of a split, in the order of `data.rows(split)`."""
    rows = data.rows(split)
    batches = ordered_batches(data.pixels, rows, data.index.labels, len(data.classes), batch_size=batch_size)
    with progress.bar(f"evaluate {split}", len(rows)) as advance:
        return softmax(run_model(model, batches, len(rows), advance=advance))


def measure(data: ImageData, split: str, probabilities: NDArray[np.float64]) -> dict[str, Any]:
    """The figures of one split; see `evaluate.metrics`."""
    return classification_metrics(probabilities, data.labels(split), data.classes)
