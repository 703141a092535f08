"""Running a model over a split and measuring it, for training and evaluation."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tl_keras import run_folder
from tl_keras.data.dataset import ImageData
from tl_keras.data.label_texts import COLUMNS, PROBABILITY, label_text
from tl_keras.data.pipeline import Advance, ordered_batches
from tl_keras.errors import TrainingError
from tl_keras.evaluation.acceptance import DIGITS, accepting_on_test
from tl_keras.evaluation.conformal import sets_on_test
from tl_keras.evaluation.metrics import figures_of
from tl_keras.evaluation.pictures import draw_average_precision, draw_confusion, draw_scatter
from tl_keras.models.engines import compile_saved
from tl_keras.models.outputs import SINGLE_LABEL as SINGLE
from tl_keras.models.outputs import Output
from tl_keras.progress import Progress
from tl_keras.run_folder import RunFolder
from tl_keras.tasks import REGRESSION, SINGLE_LABEL
from tl_keras.transfer.feeds import Feed

AGREEMENT_IMAGES = 4
AGREEMENT_GPU = 3e-2  # largest difference of an answer where convolutions are computed in TensorFloat-32


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


def score(feed: Feed, data: ImageData, split: str, progress: Progress, call: Any = None) -> NDArray[np.float32]:
    """Logits float32 (n, k) to the images of a split, in the order of `data.rows(split)`; see `run_model`."""
    num = len(data.rows(split))
    with progress.bar(f"evaluate {split}", num) as advance:
        return run_model(feed.model, feed.ordered(split), num, advance, call)


def score_pixels(
    model: keras.Model,
    data: ImageData,
    rows: NDArray[np.int64],
    batch_size: int,
    advance: Advance | None = None,
    call: Any = None,
) -> NDArray[np.float64]:
    """Answers float64 (n, ..., k) to some images, from their pixels; see `run_model`."""
    batches = ordered_batches(data.pixels, rows, data.index.labels, lambda labels: labels, batch_size=batch_size)
    return data.output.answers(run_model(model, batches, len(rows), advance, call))


def inference(model: keras.Model) -> Any:
    """A model in inference mode as one graph, which stays valid when its weights change."""
    return tf.function(lambda inputs: model(inputs, training=False), autograph=False, reduce_retracing=True)


def on_engine(model: keras.Model, engine: str) -> Any:
    """A finished model as it is now, on the engine of its run; see `engines.compile_saved`."""
    run = compile_saved(model, engine)
    return lambda inputs: run(inputs.numpy().astype(np.uint8))


def run_model(model: keras.Model, batches: Any, num: int, advance: Advance | None = None, call: Any = None) -> NDArray[np.float32]:
    """Run a model in inference mode over (inputs, targets) batches: logits float32 (num, ..., k).

    Args:
        call: what `inference` or `on_engine` made of the model.

    Raises:
        TrainingError: the model outputs a number that is not finite, as float16 does where it overflows.
    """
    call = call or inference(model)
    found = np.empty((num, *model.output.shape[1:]), np.float32)
    done = 0
    for inputs, _ in batches:
        part = np.asarray(call(inputs))
        if not np.isfinite(part).all():
            raise TrainingError(
                f"'{model.name}' outputs numbers that are not finite. Set runtime.precision=float32, or repair the weights it starts from."
            )
        found[done : done + len(part)] = part
        done += len(part)
        if advance is not None:
            advance(len(part))
    return found


def measure(data: ImageData, split: str, answers: NDArray[np.float64]) -> dict[str, Any]:
    """The figures of one split; see `evaluation.metrics`."""
    return figures_of(data.output, answers, data.learned(split), data.classes)


def check_agreement(
    data: ImageData, model: keras.Model, answers: NDArray[np.float64], allowed: float, places: NDArray[np.int64] | None = None
) -> dict[str, Any]:
    """Compare the model that is saved, from pixels, with the answers to val that came from stored outputs.

    Args:
        model: float32 pixels (b, h, w, 3) -> logits (b, k).
        answers: (n, k), in the order of `data.rows("val")`.
        allowed: largest difference of an answer (see `num_apart` of the output), where convolutions are computed in float32.
        places: the images of val to compare on, as positions in `answers`; None for some that are evenly spaced.

    Raises:
        RuntimeError: they differ by more than the precision of what was stored explains.
    """
    if places is None:
        places = np.linspace(0, len(answers) - 1, min(AGREEMENT_IMAGES, len(answers))).astype(np.int64)
    pixels = data.pixels.read(data.rows("val")[places])
    again = data.output.answers(model(pixels.astype(np.float32), training=False).numpy())
    worst = data.output.num_apart(again, answers[places])
    allowed = AGREEMENT_GPU if tf.config.list_physical_devices("GPU") else allowed
    if not worst <= allowed:
        raise RuntimeError(f"model.keras and the stored features disagree: answers differ by {worst:.1e}, more than {allowed:.0e}")
    return {"images": len(places), "largest_difference": worst}


def choices_of_val(
    val: NDArray[np.float64], val_labels: NDArray[np.integer], test: NDArray[np.float64], test_labels: NDArray[np.integer]
) -> dict[str, Any]:
    """For metrics.json, how what `predict` can choose on val does on test: prediction sets, and answers that are accepted.

    Args:
        val: probabilities (n, k), to images that the model has not learned from.
        val_labels: int (n,).
        test: probabilities (m, k).
        test_labels: int (m,).
    """
    sure = ((each.max(axis=1), SINGLE.is_right(each, labels)) for each, labels in ((val, val_labels), (test, test_labels)))
    return {**sets_on_test(val, val_labels, test, test_labels), "accepting": accepting_on_test(*sure)}


def write_predictions(path: Path, data: ImageData, rows: NDArray[np.int64], answers: NDArray[np.float64]) -> None:
    """Write a CSV line for each of some images: its path, what is right, and what the model says; see `answer_columns`."""
    output, classes, labels = data.output, data.classes, data.index.labels
    decision, *probabilities = answer_columns(output, classes)
    single = output.task == SINGLE_LABEL
    header = ("path", f"true_{COLUMNS[output.task]}", decision, *(["probability"] if single else []), *probabilities)

    def line(row: int, values: NDArray[np.float64]) -> list[str]:
        decision, *probabilities = answer_cells(output, values, classes)
        best = [f"{values.max():.{DIGITS}f}"] if single else []
        return [data.index.paths[row], label_text(output, labels[row], classes), decision, *best, *probabilities]

    run_folder.write_csv(path, header, (line(row, values) for row, values in zip(rows, answers, strict=True)))


def draw_errors(folder: RunFolder | Path, data: ImageData, figures: Mapping[str, Any], answers: NDArray[np.float64], title: str) -> None:
    """Draw what a model gets wrong on the images of test into a folder: the picture of the task.

    Args:
        figures: what `measure` made of the answers.
        answers: (n, k), in the order of `data.rows("test")`.
        title: what was measured.
    """
    if data.output.task == SINGLE_LABEL:
        draw_confusion(folder / run_folder.CONFUSION, figures["confusion_matrix"], data.classes, title)
    elif data.output.task == REGRESSION:
        draw_scatter(folder / run_folder.SCATTER, data.labels("test"), answers[:, 0], data.classes[0], title)
    else:
        draw_average_precision(folder / run_folder.AVERAGE_PRECISION, figures["per_class"], title)


def answer_columns(output: Output, classes: Sequence[str]) -> tuple[str, ...]:
    """The names of the columns that tell an answer: the decision, and of classes their probabilities."""
    return (f"predicted_{COLUMNS[output.task]}", *(f"{PROBABILITY}{name}" for name in classes if output.task != REGRESSION))


def answer_cells(output: Output, values: NDArray[np.float64], classes: Sequence[str]) -> list[str]:
    """The cells of `answer_columns` for the answer to one image, (k,)."""
    decision = label_text(output, output.decide(values), classes)
    return [decision, *(f"{value:.{DIGITS}f}" for value in values if output.task != REGRESSION)]


def write_class_names(path: Path, classes: Sequence[str]) -> None:
    """Write classes.txt: a name a line, in the order of the model's outputs; a line break in a name is written as backslash and n."""
    run_folder.write_text(path, "".join(name.replace("\n", "\\n") + "\n" for name in classes))
