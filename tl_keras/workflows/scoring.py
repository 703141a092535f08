"""Running a model over a split and measuring it: what training and evaluation share."""

import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tl_keras.data.dataset import ImageData
from tl_keras.data.pipeline import Advance, ordered_batches
from tl_keras.errors import TrainingError
from tl_keras.evaluate.metrics import classification_metrics, softmax
from tl_keras.progress import Progress
from tl_keras.transfer.feeds import Feed


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


def score(feed: Feed, data: ImageData, split: str, progress: Progress) -> NDArray[np.float64]:
    """Probabilities float64 (n, k) of the images of a split, in the order of `data.rows(split)`."""
    num = len(data.rows(split))
    with progress.bar(f"evaluate {split}", num) as advance:
        return softmax(run_model(feed.model, feed.ordered(split), num, advance))


def score_pixels(
    model: keras.Model, data: ImageData, rows: NDArray[np.int64], batch_size: int, advance: Advance | None = None
) -> NDArray[np.float64]:
    """Probabilities float64 (n, k) of some images, from their pixels."""
    return softmax(
        run_model(
            model, ordered_batches(data.pixels, rows, data.index.labels, len(data.classes), batch_size=batch_size), len(rows), advance
        )
    )


def run_model(model: keras.Model, batches: Any, num: int, advance: Advance | None = None) -> NDArray[np.float32]:
    """Run a model in inference mode over (inputs, targets) batches: logits float32 (num, k).

    Raises:
        TrainingError: the model puts out a number that is not finite, as float16 does where it overflows.
    """
    call = tf.function(lambda inputs: model(inputs, training=False), reduce_retracing=True)
    found = np.empty((num, *model.output.shape[1:]), np.float32)
    done = 0
    for inputs, _ in batches:
        part = call(inputs).numpy()
        if not np.isfinite(part).all():
            raise TrainingError(
                f"'{model.name}' puts out numbers that are not finite. Set runtime.precision=float32, or mend the weights it starts from."
            )
        found[done : done + len(part)] = part
        done += len(part)
        if advance is not None:
            advance(len(part))
    return found


def measure(data: ImageData, split: str, probabilities: NDArray[np.float64]) -> dict[str, Any]:
    """The figures of one split; see `evaluate.metrics`."""
    return classification_metrics(probabilities, data.labels(split), data.classes)
