"""Images in, predictions out: a trained model run over paths, bytes or arrays, in order, in batches, with bounded memory.

Images are decoded in threads, a few batches ahead of the compiled graph. `predict` is made of it, and so can be whatever else asks a
model about images that no split knows.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain, compress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_keras.advice import command
from tl_keras.data.ahead import Ahead, Image, Loaded
from tl_keras.data.index import Index
from tl_keras.data.label_texts import COLUMNS, label_text, names_of
from tl_keras.data.pipeline import decoding_threads
from tl_keras.deploy.export import files_in, read_exports
from tl_keras.deploy.formats import FLOAT, FORMATS
from tl_keras.deploy.standalone_reader import batches, first_line
from tl_keras.errors import ConfigError, RunFolderError, UserError
from tl_keras.evaluation.conformal import prediction_sets
from tl_keras.evaluation.novelty_file import read_novelty
from tl_keras.export_formats import EXPORT_FORMATS, KERAS, SAVED_MODEL
from tl_keras.models.engines import compile_saved
from tl_keras.models.folded import has_finite_weights
from tl_keras.models.trust import files_of, graphs_in, require_safe
from tl_keras.packages import require_packages
from tl_keras.quiet import quiet
from tl_keras.run_folder import EXPORT
from tl_keras.runtime import restoring_process
from tl_keras.tasks import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from tl_keras.trained_run import TrainedRun


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image; one that does not decode has an `error` and nothing else.

    Attributes:
        path: its file, or what it is called where it has none.
        classes: the names of the model's classes; in a regression, that of the number.
        label: its class; where it may have several, those that were found, with ";" between them; or its number, as text.
        probability: of the class, where it has one.
        probabilities: class name -> probability; none in a regression.
        task: what the model was trained for, see `data.task`.
        labels: the classes that were found.
        value: its number, in a regression.
        novelty: how strange the image is to the model, larger is stranger, see `evaluation.novelty`; None of a run that has none, NaN of a
            file that does not decode.
        known: whether it is like the images of the classes; if not, it is likely none of them.
        accepted: where a precision was asked for, whether the answer is sure enough for it, see `evaluation.acceptance`; else None.
        prediction_set: where it was asked for, the classes that the image may have, see `evaluation.conformal`; else None.
    """

    path: str
    classes: tuple[str, ...]
    label: str = ""
    probability: float | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    task: str = SINGLE_LABEL
    labels: tuple[str, ...] = ()
    value: float | None = None
    novelty: float | None = None
    known: bool | None = None
    accepted: bool | None = None
    prediction_set: tuple[str, ...] | None = None


def as_json(found: Prediction, decision: str | None = None) -> dict[str, Any]:
    """What a model says of an image that it could read, for JSON.

    Args:
        decision: the key of what it decides; None for 'class', 'classes' or 'value', by the task.
    """
    decision = decision or COLUMNS[found.task]
    if found.task == REGRESSION:
        return {decision: float(found.label)}
    told: dict[str, Any] = {decision: found.labels if found.task == MULTI_LABEL else found.label}
    if found.task == SINGLE_LABEL:
        told["probability"] = found.probability
    if found.accepted is not None:
        told["accepted"] = found.accepted
    if found.novelty is not None:
        told |= {"novelty": found.novelty, "known": found.known}
    if found.prediction_set is not None:
        told["prediction_set"] = found.prediction_set
    return told | {"probabilities": found.probabilities}


class Predictor:
    """A run's model, ready to be asked about images.

    Not for several threads at once: each call runs its own batches, and all share one graph and one pool of decoding threads.

    Args:
        trained: a run read back; its settings say how images are decoded and resized.
        thresholds: the probability from which on each class is in the `prediction_set` of an image; None makes no sets.
    """

    def __init__(self, trained: TrainedRun, thresholds: Mapping[str, float] | None = None) -> None:
        self.trained, self.thresholds = trained, thresholds
        self.novelty = read_novelty(trained.run, trained.model)
        self._pool = decoding_threads()
        self._run: Callable[[NDArray[np.uint8]], NDArray[np.float32]] | None = None

    def __call__(self, given: Iterable[Image]) -> Iterator[Prediction]:
        """Classify images.

        Args:
            given: files by their paths, the bytes of files, or decoded RGB images, uint8 (h, w, 3); read a few batches ahead. An image
                without a path is called "images[N]" by its place.

        Yields:
            One `Prediction` for each, in order.

        Raises:
            DataError: there is too little memory to decode an image.
            RunFolderError: the model outputs a number that is not finite.
        """
        return chain.from_iterable(self.batches(given))

    def batches(self, given: Iterable[Image]) -> Iterator[list[Prediction]]:
        """The same, a batch at a time as it is done."""
        yield from self.decoded(Ahead(given, self.trained.image_size, self.trained.config.data, self._pool))

    def decoded(self, ahead: Ahead) -> Iterator[list[Prediction]]:
        """The same of images whose decoding has begun, at the model's size."""
        try:
            self.compile()
            for batch in ahead.batches():
                yield self._predict(*zip(*batch, strict=True))
        finally:
            ahead.close()

    def compile(self) -> None:
        """Build the graph, once; otherwise the first batch does.

        Raises:
            RunFolderError: the model has a weight that is not finite.
        """
        if self._run is None:
            model = self.trained.model
            if not has_finite_weights(model):
                raise self._not_finite()
            with restoring_process():
                watched = model if self.novelty is None else self.novelty.watched(model)
                self._run = compile_saved(watched, self.trained.config.runtime.engine)

    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The logits, float32 (b, k), to pixels, uint8 (b, h, w, 3) of the model's size."""
        return self.outputs(pixels)[0]

    def outputs(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Run the graph.

        Args:
            pixels: uint8 (b, h, w, 3) of the model's size.

        Returns:
            Logits, float32 (b, k), and the novelty, float32 (b,), of a run that has one.
        """
        self.compile()
        assert self._run is not None
        found = self._run(pixels)
        if not np.isfinite(found).all():
            raise self._not_finite()
        return (found, None) if self.novelty is None else (found[:, :-1], found[:, -1])

    def answers(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float32] | None]:
        """The same, with what the logits mean: probabilities or numbers, (b, k)."""
        logits, novelty = self.outputs(pixels)
        return self.trained.index.output.answers(logits), novelty

    def _predict(self, names: Sequence[str], loaded: Sequence[Loaded]) -> list[Prediction]:
        good = [pixels for pixels in loaded if not isinstance(pixels, str)]
        index, told = self.trained.index, iter(self.told(np.stack(good)) if good else ())
        bad = Prediction("", index.classes, task=index.output.task, novelty=None if self.novelty is None else math.nan)
        bad = bad if self.thresholds is None else replace(bad, prediction_set=())
        return [
            replace(bad, path=name, error=item) if isinstance(item, str) else replace(next(told), path=name)
            for name, item in zip(names, loaded, strict=True)
        ]

    def told(self, pixels: NDArray[np.uint8]) -> list[Prediction]:
        """What is told of each image, uint8 (b, h, w, 3) of the model's size, without its name."""
        answers, novelty = self.answers(pixels)
        found = [self._with_set(_prediction(self.trained.index, values)) for values in answers]
        if self.novelty is None or novelty is None:
            return found
        known = self.novelty.is_known(novelty).tolist()
        return [replace(each, novelty=own, known=is_known) for each, own, is_known in zip(found, novelty.tolist(), known, strict=True)]

    def _with_set(self, found: Prediction) -> Prediction:
        if self.thresholds is None:
            return found
        names, least = list(self.thresholds), np.array(list(self.thresholds.values()))
        inside = prediction_sets(np.array([found.probabilities[name] for name in names]), least)
        return replace(found, prediction_set=tuple(compress(names, inside)))

    def _not_finite(self) -> RunFolderError:
        return RunFolderError(f"{self.trained.run.path}: its model outputs numbers that are not finite. Train again.")


class ExportedPredictor(Predictor):
    """The same, by what was exported of the run in place of its model, with the novelty threshold of its own where it has one.

    Args:
        kind: a key of `FORMATS`.
        thresholds: see `Predictor`.

    Raises:
        ConfigError: there is no such export, or its runtime is not installed.
        BackboneError: its SavedModel does more than compute.
        RunFolderError: it does not load, or the record of exports is damaged.
    """

    def __init__(self, trained: TrainedRun, kind: str, thresholds: Mapping[str, float] | None = None) -> None:
        super().__init__(trained, thresholds)
        own = read_exports(trained.run / EXPORT).get(kind, {}).get("novelty_threshold")
        if self.novelty is not None and own is not None:
            self.novelty = replace(self.novelty, threshold=own)
        self._file = file = trained.run / EXPORT / EXPORT_FORMATS[kind].file
        if not file.exists():
            raise ConfigError(f"--format: {file} is not there. Write it: {command('export', trained.run.path, '--format', kind)}.")
        require_packages("--format", FORMATS[kind].runtime)
        with naming_broken(file):
            files_in(file)  # which refuses those whose opening would wait for ever
            for files in [files_of(file)] if kind == SAVED_MODEL else graphs_in(file) if kind == KERAS else []:
                require_safe(str(file), files)
        with restoring_process(), naming_broken(file), quiet():  # LiteRT tells on standard error what it computes with, when it first does
            self._answer = FORMATS[kind].answer(str(file))[FLOAT]
            self.answers(np.zeros((1, *trained.image_size, 3), np.uint8))

    def compile(self) -> None:
        """Nothing: it is."""

    def answers(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float32] | None]:
        """What the export answers.

        Raises:
            RunFolderError: it does not, or what no export of this run does.
        """
        with naming_broken(self._file):
            found = np.concatenate([self._answer(part) for part in batches(pixels)])
        num = len(self.trained.index.classes)
        if found.shape not in ((len(pixels), num), (len(pixels), num + 1)):
            raise RunFolderError(f"{self._file}: tells other outputs than the model of this run. Export it again.")
        if not np.isfinite(found).all():
            raise self._not_finite()
        return found[:, :num].astype(np.float64), found[:, num] if found.shape[1] > num else None


@contextmanager
def naming_broken(file: Path) -> Iterator[None]:
    """Tell in one line that an exported file does not load or answer, whatever its runtime raises; what is refused is told as it is."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # each runtime has kinds of its own
        raise RunFolderError(f"{file}: does not load or answer ({first_line(error)}). Export it again.") from error


def _prediction(index: Index, values: NDArray[np.float64]) -> Prediction:
    output, classes = index.output, index.classes
    decision = output.decide(values)
    label = label_text(output, decision, classes)
    if output.task == REGRESSION:
        return Prediction("", classes, label, task=output.task, value=float(decision))
    found = Prediction("", classes, label, probabilities=dict(zip(classes, map(float, values), strict=True)), task=output.task)
    if output.task == SINGLE_LABEL:
        return replace(found, labels=(label,), probability=float(values.max()))
    return replace(found, labels=tuple(names_of(decision, classes)))
