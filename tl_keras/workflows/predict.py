"""Classifying files with a run's model."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TextIO

import numpy as np

from tl_keras.config import Config
from tl_keras.data.ahead import Ahead
from tl_keras.data.depth import tell_depth
from tl_keras.data.label_texts import COLUMNS, PROBABILITY, SEPARATOR
from tl_keras.data.patterns import find_images
from tl_keras.data.pipeline import decoding_threads
from tl_keras.data.sources.addresses import is_address
from tl_keras.data.sources.remote import Copy, fetch_files
from tl_keras.data.walk import left_out_lines
from tl_keras.deploy.export import require_formats
from tl_keras.deploy.predictor import ExportedPredictor, Prediction, Predictor, as_json
from tl_keras.errors import ConfigError, RunFolderError
from tl_keras.evaluation.acceptance import accepting_above, is_accepted, on_test, steps
from tl_keras.evaluation.acceptance import least_images as least_to_accept
from tl_keras.evaluation.conformal import COVERAGE, class_thresholds, least_images
from tl_keras.evaluation.prediction_file import Predictions, read_predictions
from tl_keras.models.saved import read_classes
from tl_keras.partial import clear_partial
from tl_keras.progress import Progress
from tl_keras.run_folder import MODEL, PREDICTIONS, VAL_PREDICTIONS, CsvWriter, RunFolder, json_text, open_text, reading, write_atomically
from tl_keras.runtime import restoring_process
from tl_keras.tasks import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from tl_keras.trained_run import ADVICE, open_run, read_config
from tl_keras.transfer.build import image_size_of

SET = "prediction_set"  # of a file


def predict(
    run_dir: Path | str,
    patterns: Sequence[str],
    *,
    coverage: float | None = None,
    min_precision: float | None = None,
    formats: Sequence[str] = (),
    progress: Progress | None = None,
) -> Iterator[Prediction]:
    """Classify files with a run's model, one `Prediction` each, in order; a bad file does not end it.

    Args:
        coverage: the share of images, in (0, 1), in whose `prediction_set` the true class shall be; None makes no sets.
        min_precision: the share of answers that are `accepted`, in (0, 1), that shall be right; None accepts and refuses none.
        formats: the export that answers in place of the model, at most one.

    Raises:
        ConfigError: the coverage or the precision is none, needs more images of val than there were, or val does not show it.
        RunFolderError: there is no such run, or nothing in it that these follow from.
    """
    progress, run = progress or Progress(), RunFolder.at(run_dir)
    thresholds = None if coverage is None else read_thresholds(run, coverage)
    above = None if min_precision is None else accepted_above(run, min_precision, progress)
    require_formats(formats)
    if len(formats) > 1:
        raise ConfigError(f"--format: got {' and '.join(formats)}; predict takes one. Give one of them.")
    files, copies = find_files(patterns, progress)
    with restoring_process():
        batches = _begin(run_dir, files, formats, thresholds, progress)
    with progress.bar("predict", len(files)) as advance:
        while True:
            with restoring_process():  # not while the caller has the predictions
                batch = next(batches, None)
            if batch is None:
                break
            yield from (_accepted(as_asked(found, copies), above) for found in batch)
            advance(len(batch))


def find_files(patterns: Sequence[str], progress: Progress) -> tuple[list[Path], list[Copy]]:
    """The image files that words mean, those at addresses fetched; and the copies of these, which know what the files are called there.

    Raises:
        DataError: a word means nothing.
    """
    copies = {word: fetch_files(word, progress) for word in patterns if is_address(word)}
    with ExitStack() as told:
        for copy in copies.values():
            told.enter_context(copy.telling_of_address())
        files, left_out = find_images([str(copies[word].path) if word in copies else word for word in patterns])
    for kind, number in (each for copy in copies.values() for each in copy.kinds_left_out()):
        left_out.setdefault(kind, Counter())[""] += number
    for line in left_out_lines(left_out):
        progress.line(line)
    return files, list(copies.values())


def as_asked(found: Prediction, copies: Iterable[Copy]) -> Prediction:
    """A prediction for a file at an address under the name that it has there."""
    for copy in copies:
        found = replace(found, path=copy.named(found.path), error=None if found.error is None else copy.named(found.error))
    return found


def read_thresholds(run: RunFolder, coverage: float) -> dict[str, float]:
    """The probability from which on each class is in the set of an image.

    Raises:
        ConfigError: the coverage is not between 0 and 1, or needs more images of val than there were.
        RunFolderError: the run has other labels than one class an image, or kept nothing of val.
    """
    found = read_val(run, "--coverage", coverage, 0.9)
    if len(found.labels) < least_images(coverage):
        raise ConfigError(
            f"--coverage: got {coverage:g}, which needs {least_images(coverage)} images of val; the run had {len(found.labels)}. "
            "Give a lower one."
        )
    thresholds = class_thresholds(found.probabilities, found.labels, coverage)
    return dict(zip(found.classes, thresholds.tolist(), strict=True))


def thresholds_if_any(run: RunFolder) -> dict[str, float] | None:
    """Those of the coverage that runs are measured at; None of a run that they do not follow from, or that had too few images of val.

    Raises:
        RunFolderError: what the run kept of val is damaged.
    """
    if not _has_val(read_config(run.require_model())) or not (run / VAL_PREDICTIONS).is_file():
        return None
    is_enough = len(read_val(run, "--coverage", COVERAGE, COVERAGE).labels) >= least_images(COVERAGE)
    return read_thresholds(run, COVERAGE) if is_enough else None


def accepted_above(run: RunFolder, precision: float, progress: Progress) -> float:
    """The probability above which an answer is accepted; what came of it on test is told.

    Raises:
        ConfigError: the precision is not between 0 and 1, needs more images of val than there were, or val does not show it.
        RunFolderError: see `read_val`.
    """
    found = read_val(run, "--min-precision", precision, 0.95)
    least, num = least_to_accept(precision), len(found.labels)
    if num < least:
        raise ConfigError(
            f"--min-precision: got {precision:g}, which needs {least} images of val, or more if some are answered wrong; the run had "
            f"{num}. Give a lower one, or train with more images of val."
        )
    sure = found.sureness
    if (above := accepting_above(*sure, precision)) is None:
        first = steps(*sure, precision)
        raise ConfigError(
            f"--min-precision: got {precision:g}, which val does not show: of the {first.taken[0]} images that the model is the surest of, "
            f"it answers {first.wrong[0]} wrong. Give a lower one."
        )
    told = "all answers are accepted" if above == 0 else f"answers with a probability above {above:g} are accepted"
    if (path := run / PREDICTIONS).is_file():
        with reading(path, "predictions for test", "Restore it, or train again."):
            test = on_test(*read_predictions(path).sureness, above)
        told += f"; of test, that is {test['accepted']:.1%} of the images"
        told += f", of which {test['right']:.1%} are answered right" if "right" in test else ""
    progress.line(told)
    return above


def read_val(run: RunFolder, option: str, share: float, example: float) -> Predictions:
    """What a run said of val, from which an option follows.

    Raises:
        ConfigError: the value of the option is no share.
        RunFolderError: the run has other labels than one class an image, its val is of another domain, or nothing of val is kept.
    """
    if not 0 < share < 1:
        raise ConfigError(f"{option}: got {share:g}, expected a share between 0 and 1, such as {example:g}.")
    config, path = read_config(run.require_model()), run / VAL_PREDICTIONS
    if not _has_val(config):
        kind = "for another domain than that of its val" if config.is_adapted else f"with data.task={config.data.task}"
        raise RunFolderError(f"{run.path}: a run {kind} has nothing that {option} could follow from. Leave it out.")
    if not path.is_file():
        raise RunFolderError(f"{path}: is missing, and {option} follows from it. Train again, or leave {option} out.")
    with reading(path, "predictions for val", "Restore it, or train again."):
        found = read_predictions(path)
        if (classes := read_classes(run / MODEL)) is not None and set(classes) != set(found.classes):
            raise ValueError("it has other classes than the model")
    return found


def _has_val(config: Config) -> bool:
    """Whether a run is of a kind of which val tells something of one image."""
    return config.data.task == SINGLE_LABEL and not config.is_adapted


def _accepted(found: Prediction, above: float | None) -> Prediction:
    if above is None:
        return found
    return replace(found, accepted=found.probability is not None and bool(is_accepted(np.array(found.probability), above)))


def _begin(
    run_dir: Path | str, files: Sequence[Path], formats: Sequence[str], thresholds: dict[str, float] | None, progress: Progress
) -> Iterator[list[Prediction]]:
    """Decode the first files while the model is read, where the run's settings say to which size."""
    config = read_config(RunFolder.at(run_dir).require_model())
    known = config.data.image_size is not None
    ahead = Ahead(files, image_size_of(config), config.data, decoding_threads()) if known else None
    try:
        trained = open_run(run_dir)
        predictor = ExportedPredictor(trained, formats[0], thresholds) if formats else Predictor(trained, thresholds)
        tell_depth(files, config.data.bit_depth, progress, ADVICE)
    except BaseException:
        if ahead is not None:
            ahead.close()
        raise
    if ahead is not None and ahead.image_size == trained.image_size:
        return predictor.decoded(ahead)
    return predictor.batches(files)


@dataclass
class Written:
    """What was written of predictions.

    Attributes:
        files: how many there were.
        bad: how many of them could not be read.
        by_class: class name -> files in which it was found, for every class of the model; none in a regression.
        lowest: of the numbers, in a regression.
        highest: likewise.
    """

    files: int = 0
    bad: int = 0
    by_class: dict[str, int] = field(default_factory=dict)
    lowest: float = math.inf
    highest: float = -math.inf

    def count(self, found: Prediction) -> None:
        """Take note of one more."""
        self.files += 1
        if found.task != REGRESSION:
            self.by_class = self.by_class or dict.fromkeys(found.classes, 0)
        if found.error is not None:
            self.bad += 1
        elif found.value is not None:
            self.lowest, self.highest = min(self.lowest, found.value), max(self.highest, found.value)
        elif found.task == SINGLE_LABEL:
            self.by_class[found.label] += 1
        for label in found.labels if found.task == MULTI_LABEL else ():
            self.by_class[label] += 1


def write_predictions(target: Path | TextIO, predictions: Iterable[Prediction]) -> Written:
    """Write predictions as they come: JSON lines where `target` ends in .jsonl, else CSV.

    A CSV line holds path, predicted class, probability, error and a column per class; where an image may have several classes, those that
    were found, and no probability but those of the columns; in a regression the number. A bad file has only path and error.

    Args:
        target: a file, which appears atomically; or one that is open, which must take names that are not UTF-8 (`errors`).
    """
    written = Written()
    if not isinstance(target, Path):
        _write_csv(target, predictions, written)
        return written

    def write(temporary: Path) -> None:
        with open_text(temporary, "w") as file:
            (_write_json_lines if target.suffix == ".jsonl" else _write_csv)(file, predictions, written)

    clear_partial(target.parent)
    write_atomically(target, write)
    return written


def _write_json_lines(file: TextIO, predictions: Iterable[Prediction], written: Written) -> None:
    for found in predictions:
        written.count(found)
        line = {"path": found.path, "error": found.error} if found.error else {"path": found.path} | as_json(found, _decision(found))
        file.write(json_text(line) + "\n")


def _decision(found: Prediction) -> str:
    return f"predicted_{COLUMNS[found.task]}"


def _write_csv(file: TextIO, predictions: Iterable[Prediction], written: Written) -> None:
    writer, columns = CsvWriter(file), dict[str, Callable[[Prediction], str]]()
    for found in predictions:
        if not written.files:
            columns = _columns(found)
            writer.writerow(columns)
        written.count(found)
        writer.writerow([text(found) for text in columns.values()])


def _columns(found: Prediction) -> dict[str, Callable[[Prediction], str]]:
    """The names of the columns of a table of predictions like this -> the text of a cell."""
    columns: dict[str, Callable[[Prediction], str]] = {"path": lambda each: each.path, _decision(found): lambda each: each.label}
    if found.task == SINGLE_LABEL:
        columns["probability"] = lambda each: "" if each.probability is None else f"{each.probability:.6f}"
    if found.accepted is not None:
        columns["accepted"] = lambda each: str(bool(each.accepted)).lower()
    if found.novelty is not None:
        columns["novelty"] = lambda each: "" if each.error else f"{each.novelty:.6f}"
        columns["known"] = lambda each: "" if each.known is None else str(each.known).lower()
    if found.prediction_set is not None:
        columns[SET] = lambda each: SEPARATOR.join(each.prediction_set or ())
    columns["error"] = lambda each: each.error or ""
    for name in () if found.task == REGRESSION else found.classes:
        columns[f"{PROBABILITY}{name}"] = lambda each, name=name: f"{each.probabilities[name]:.6f}" if each.probabilities else ""  # type: ignore[misc]
    return columns
