"""Classifying files with a run's model."""

import csv
import glob
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from tl_keras.data import images
from tl_keras.data.depth import tell_depth
from tl_keras.data.pipeline import row_batches
from tl_keras.errors import BadImageError, DataError
from tl_keras.evaluation.metrics import softmax
from tl_keras.progress import Progress
from tl_keras.run_folder import write_whole
from tl_keras.workflows.trained import ADVICE, Trained, open_run


@dataclass(frozen=True)
class Prediction:
    """What a model says of one file; a file that does not decode has an `error` and nothing else.

    Attributes:
        probabilities: class name -> probability.
    """

    path: str
    classes: tuple[str, ...]
    label: str = ""
    probability: float = 0.0
    probabilities: dict[str, float] = field(default_factory=dict)
    error: str | None = None


def find_images(patterns: Sequence[str]) -> list[Path]:
    """Files, folders (searched for images) and globs, in the order given.

    Raises:
        DataError: nothing was given, or something given matches no file.
    """
    if not patterns:
        raise DataError("no images given. Add files, folders or globs: --mode predict --run-dir RUN photo.jpg 'folder/*.png'.")
    found: list[Path] = []
    for pattern in patterns:
        path = Path(pattern).expanduser()
        if path.is_dir():
            matches = sorted(entry for entry in path.rglob("*") if _is_image(entry, path))
        else:
            matches = [path] if path.is_file() else sorted(map(Path, glob.glob(str(path), recursive=True)))
        if not matches:
            raise DataError(f"{pattern}: no such file, or no images in it.")
        found += matches
    return found


def _is_image(path: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return not hidden and path.suffix.lower() in images.IMAGE_SUFFIXES and path.is_file()


def predict(run_dir: Path | str, patterns: Sequence[str], *, progress: Progress | None = None) -> Iterator[Prediction]:
    """Classify files with a run's model, one `Prediction` each, in order; a bad file does not end it."""
    progress = progress or Progress()
    files = find_images(patterns)
    trained = open_run(run_dir)
    tell_depth(files, trained.config.data.bit_depth, progress, ADVICE)
    with progress.bar("predict", len(files)) as advance:
        for rows in row_batches(np.arange(len(files)), trained.config.train.batch_size):
            batch = [files[row] for row in rows]
            yield from _predict_batch(trained, batch)
            advance(len(batch))


def _predict_batch(trained: Trained, files: Sequence[Path]) -> list[Prediction]:
    loaded: list[NDArray[np.uint8] | str] = []
    for file in files:
        try:
            loaded.append(images.load(file, trained.image_size, trained.config.data.resize, images.Decoding.of(trained.config.data)))
        except BadImageError as error:
            loaded.append(str(error))
    good = [pixels for pixels in loaded if not isinstance(pixels, str)]
    logits = trained.model(np.stack(good).astype(np.float32), training=False).numpy() if good else ()
    answers = iter(softmax(np.asarray(logits))) if good else iter(())
    return [_prediction(file, item, answers, trained.index.classes) for file, item in zip(files, loaded, strict=True)]


def _prediction(file: Path, item: NDArray[np.uint8] | str, answers: Iterator[NDArray[np.float64]], classes: tuple[str, ...]) -> Prediction:
    if isinstance(item, str):
        return Prediction(str(file), classes, error=item)
    values = next(answers)
    best = int(values.argmax())
    by_name = dict(zip(classes, map(float, values), strict=True))
    return Prediction(str(file), classes, classes[best], float(values[best]), by_name)


def write_predictions(target: Path | TextIO, predictions: Iterable[Prediction]) -> dict[str, int]:
    """Write predictions as they come: JSON lines where `target` ends in .jsonl, else CSV.

    A CSV line holds path, class, probability, error and a column per class; a bad file has only path and error.

    Returns:
        How many files there were ('all') and how many could not be read ('bad').
    """
    if not isinstance(target, Path):
        return _write_csv(target, predictions)
    counts: dict[str, int] = {}

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            counts.update((_write_json_lines if target.suffix == ".jsonl" else _write_csv)(file, predictions))

    write_whole(target, write)
    return counts


def _write_json_lines(file: TextIO, predictions: Iterable[Prediction]) -> dict[str, int]:
    counts = {"all": 0, "bad": 0}
    for found in predictions:
        _count(counts, found)
        line = {"path": found.path, "error": found.error} if found.error else _as_json(found)
        file.write(json.dumps(line, ensure_ascii=False) + "\n")
    return counts


def _as_json(found: Prediction) -> dict[str, Any]:
    return {
        "path": found.path,
        "class": found.label,
        "probability": found.probability,
        "probabilities": found.probabilities,
    }


def _write_csv(file: TextIO, predictions: Iterable[Prediction]) -> dict[str, int]:
    counts = {"all": 0, "bad": 0}
    writer = csv.writer(file, lineterminator="\n")
    for found in predictions:
        if not counts["all"]:
            writer.writerow(["path", "class", "probability", "error", *(f"p_{name}" for name in found.classes)])
        _count(counts, found)
        if found.error:
            writer.writerow([found.path, "", "", found.error, *("" for _ in found.classes)])
        else:
            values = (f"{value:.6f}" for value in found.probabilities.values())
            writer.writerow([found.path, found.label, f"{found.probability:.6f}", "", *values])
    return counts


def _count(counts: dict[str, int], found: Prediction) -> None:
    counts["all"] += 1
    counts["bad"] += found.error is not None
