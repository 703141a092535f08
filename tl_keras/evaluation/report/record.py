"""What a report is made of: a finished run's folder, read back, and small copies of its images where these still lie."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from sys import intern
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_keras import run_folder
from tl_keras.adaptations import ADABN, SOURCE_ONLY, TRAINED
from tl_keras.config import Config
from tl_keras.config_file import without_allowance
from tl_keras.data import splits
from tl_keras.data.images import Decoding
from tl_keras.data.index import Index
from tl_keras.data.label_texts import PROBABILITY, SEPARATOR
from tl_keras.errors import RunFolderError
from tl_keras.evaluation.explain.small import SmallMaps
from tl_keras.evaluation.history import read_history
from tl_keras.evaluation.slices import slices
from tl_keras.evaluation.thumbnails import thumbnails
from tl_keras.models.outputs import OUTPUTS, Output
from tl_keras.progress import Progress
from tl_keras.run_folder import RunFolder
from tl_keras.tasks import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from tl_keras.transfer.adapt.choice import Candidate

MEND = "Restore it, or train again in another --run-dir."
LEAST = 5e-7  # a probability that predictions.csv rounds to 0


@dataclass(frozen=True)
class Answers:
    """What the model says of the n images of test, as predictions.csv has it.

    Attributes:
        paths: of the images, below the data folder.
        true: their labels, as texts.
        said: the decisions, as texts.
        loss: float64 (n,), how wrong each answer is: minus the logarithm of the true class' probability, in nats; with several labels the
            mean of it over the classes; of a number the absolute error.
        confidence: float64 (n,), the probability of the class that is decided for; empty with another task.
    """

    paths: tuple[str, ...]
    true: tuple[str, ...]
    said: tuple[str, ...]
    loss: NDArray[np.float64]
    confidence: NDArray[np.float64]

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """Whether each decision is the label, bool (n,)."""
        return np.array([true == said for true, said in zip(self.true, self.said, strict=True)], bool)

    @cached_property
    def numbers(self) -> NDArray[np.float64]:
        """Of numbers: what is right, and what the model says, (2, n)."""
        return np.array([self.true, self.said], np.float64)


@dataclass(frozen=True)
class Gallery:
    """Small copies of a run's images of test.

    Attributes:
        index: the images, at their paths below `root`, which is None where nobody knows where they lie now.
        decoding: as the run has it.
        maps: what makes maps of them; None where the model is not there, or is not one for such maps.
    """

    index: Index
    root: Path | None
    decoding: Decoding
    maps: SmallMaps | None = None

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {path: row for row, path in enumerate(self.index.paths)}

    def addresses(self, paths: Sequence[str]) -> dict[str, str]:
        """Of each path the address of a small copy; none of one that is not the run's, is gone, was replaced or does not decode."""
        there = self._there(paths)
        made = thumbnails(list(there.values()), self.decoding)
        return {path: address for path, address in zip(there, made, strict=True) if address}

    def map_addresses(self, said: Mapping[str, str]) -> dict[str, str]:
        """The same of maps, which say what each answer rests on.

        Args:
            said: of each path the model's answer as text.
        """
        if self.maps is None:
            return {}
        there = self._there(said)
        made = self.maps.addresses({file: said[path] for path, file in there.items()})
        return {path: made[file] for path, file in there.items() if file in made}

    def _there(self, paths: Iterable[str]) -> dict[str, Path]:
        """Of each path its file, where that is still the image that the run saw."""
        known = [path for path in dict.fromkeys(paths) if path in self._rows]
        if self.root is None or not known:
            return {}
        index = replace(self.index.take(np.array([self._rows[path] for path in known])), root=self.root)
        found = index.identify(Progress())
        same = found != b"" if index.ids is None else found == index.ids
        return {path: self.root / path for path, is_same in zip(known, same, strict=True) if is_same}


@dataclass(frozen=True)
class Export:
    """A format that a run was exported in, as export.json has it.

    Attributes:
        file: in `export/`.
        agreement: the share of images that it and the model give the same classes; None of numbers.
        difference: the largest of a probability, or of a number in standard deviations.
        single_ms: what one image takes.
    """

    name: str
    file: str
    bytes: int
    agreement: float | None
    difference: float
    single_ms: float
    images_per_second: float


@dataclass(frozen=True, kw_only=True)
class Record:
    """A run that was measured on test.

    Attributes:
        metrics: what metrics.json holds, or is going to hold.
        index: the images of all splits, without their folder.
        split: of each image.
        bad: the path of each file that was skipped, and why.
        history: the lines of history.csv.
        environment: what environment.json holds.
        exports: the formats that it was exported in.
        domain: which domain figures of test and answers are of: 'source' or 'target', where the model was adapted.
    """

    run: RunFolder
    config: Config
    metrics: Mapping[str, Any]
    index: Index
    split: NDArray[np.str_]
    answers: Answers
    gallery: Gallery
    bad: Sequence[Sequence[str]]
    history: Sequence[Mapping[str, str]]
    environment: Mapping[str, Any]
    exports: Sequence[Export]
    domain: str = ""

    @property
    def task(self) -> str:
        """The task of the run."""
        return self.index.output.task

    @property
    def output(self) -> Output:
        """What the names of its figures are."""
        return OUTPUTS[self.task]

    @property
    def where(self) -> str:
        """What titles add where there are two domains."""
        return f" ({self.domain} domain)" if self.domain else ""

    @property
    def is_for_target_alone(self) -> bool:
        """Whether the model was adapted in a way that spoils it for images of the source."""
        target, wanted = self.metrics.get("target"), self.config.adapt.method
        if target is None:
            return False
        tried = {one["method"]: Candidate.read(one) for one in target["candidates"]}
        return ADABN in tried and (wanted in (ADABN, *TRAINED) or tried[ADABN].holds(tried[SOURCE_ONLY]))

    @cached_property
    def judged(self) -> "Record | None":
        """What says how the model does on the images that it is for: the run itself, or the target of an adapted one, without photos.

        Where the target has no labels, test images of the source; None where the model is not for these.
        """
        target = self.metrics.get("target")
        if target is None:
            return self
        if "figures" not in target:
            return None if self.is_for_target_alone else self
        answers = read_target_answers(self.run / run_folder.TARGET_PREDICTIONS)
        gallery = replace(self.gallery, root=None)
        test = {**self.metrics, "test": target["figures"][target["method"]]}
        return replace(self, metrics=test, answers=answers, gallery=gallery, domain="target")

    @property
    def test(self) -> Mapping[str, Any]:
        """The figures of test."""
        found: Mapping[str, Any] = self.metrics["test"]
        return found

    @cached_property
    def slices(self) -> dict[str, Any]:
        """How good it is on parts of the test images, see `slices.slices`."""
        answers, gallery = self.answers, self.gallery
        place_of = {path: place for place, path in enumerate(answers.paths)}
        rows = np.array([row for row, path in enumerate(gallery.index.paths) if path in place_of], np.int64)
        places = [place_of[gallery.index.paths[row]] for row in rows.tolist()]
        outcomes = answers.loss[places] if self.task == REGRESSION else answers.right[places]
        return slices(gallery.index.take(rows), gallery.root, gallery.decoding, self.task, outcomes, Progress())

    def counts(self, split: str) -> NDArray[np.int64]:
        """How many images of a split each class has, (k,)."""
        return self.index.sizes(self.split == split)


def read_record(run: RunFolder, config: Config, metrics: Mapping[str, Any], root: Path | None, maps: SmallMaps | None = None) -> Record:
    """Read a run's folder.

    Args:
        config: of the run; what it allows is not shown, as `from_run` does not take it from a folder.
        metrics: of the run.
        root: the folder that the paths of its images are relative to; None where that is not known.
        maps: what makes maps of them, if anything does.

    Raises:
        RunFolderError: it was not measured on test, or a file is missing or damaged.
    """
    if "test" not in metrics:
        raise RunFolderError(f"{run.path}: was not measured on test, which a report is about. Measure it with evaluate.")
    index, split = splits.read_splits(run / run_folder.SPLITS, Path())
    return Record(
        run=run,
        config=without_allowance(config),
        metrics=metrics,
        index=index,
        split=split,
        answers=read_answers(run / run_folder.PREDICTIONS, index.output.task),
        gallery=Gallery(index.take(np.flatnonzero(split == "test")), root, Decoding.of(config.data), maps),
        bad=_read_bad(run / run_folder.BAD_IMAGES),
        history=read_history(run / run_folder.HISTORY),
        environment=_read_environment(run / run_folder.ENVIRONMENT),
        exports=_read_exports(run / run_folder.EXPORT),
        domain="source" if "target" in metrics else "",
    )


def read_answers(path: Path, task: str) -> Answers:
    """Read a run's predictions.csv, line by line.

    Raises:
        RunFolderError: it is missing or damaged, or of another task.
    """
    with run_folder.reading(path, "a table of predictions", MEND), run_folder.open_text(path) as file:
        lines = run_folder.read_csv(file)
        header = next(lines)
        loss_of = _LOSSES[task]
        columns = {name.removeprefix(PROBABILITY): place for place, name in enumerate(header) if name.startswith(PROBABILITY)}
        found = list(_answers(lines, columns, loss_of, surest=task == SINGLE_LABEL))
    paths, true, said, loss, confidence = zip(*found, strict=True) if found else ((),) * 5
    return Answers(paths, true, said, np.array(loss, np.float64), np.array(confidence, np.float64))


def read_target_answers(path: Path) -> Answers:
    """Read the labelled images of an adapted run's target_predictions.csv, where only the probability of the answer is known.

    Returns:
        The loss of a wrong answer is the least that it can be: minus the logarithm of what is left beside the answer's probability.

    Raises:
        RunFolderError: it is missing or damaged.
    """
    with run_folder.reading(path, "a table of predictions", MEND), run_folder.open_text(path) as file:
        lines = run_folder.read_csv(file)
        next(lines)
        found = [(path, intern(true), intern(said), float(sure)) for path, true, said, sure, _ in lines if true]
        paths, true, said, sure = zip(*found, strict=True)
    confidence = np.array(sure, np.float64)
    of_truth = np.where(np.array(true) == np.array(said), confidence, 1 - confidence)
    return Answers(paths, true, said, -np.log(np.maximum(of_truth, LEAST)), confidence)


def _answers(lines: Iterator[list[str]], columns: Mapping[str, int], loss_of: Any, *, surest: bool) -> Iterator[tuple[Any, ...]]:
    for line in lines:
        path, true, said = line[0], intern(line[1]), intern(line[2])
        yield path, true, said, loss_of(line, columns), float(line[3]) if surest else np.nan


def _loss_of_class(line: Sequence[str], columns: Mapping[str, int]) -> float:
    return -float(np.log(max(float(line[columns[line[1]]]), LEAST)))


def _loss_of_classes(line: Sequence[str], columns: Mapping[str, int]) -> float:
    begin = len(line) - len(columns)  # classes are the last columns
    chances, has = np.array(line[begin:], np.float64), np.zeros(len(columns), bool)
    has[[columns[name] - begin for name in line[1].split(SEPARATOR) if line[1]]] = True
    return -float(np.log(np.maximum(np.where(has, chances, 1 - chances), LEAST)).mean())


def _loss_of_number(line: Sequence[str], columns: Mapping[str, int]) -> float:
    return abs(float(line[2]) - float(line[1]))


_LOSSES = {SINGLE_LABEL: _loss_of_class, MULTI_LABEL: _loss_of_classes, REGRESSION: _loss_of_number}


def _read_bad(path: Path) -> list[list[str]]:
    if not path.is_file():
        return []
    with run_folder.reading(path, "a table of images that were skipped", MEND), run_folder.open_text(path) as file:
        return list(run_folder.read_csv(file))[1:]


def _read_exports(folder: Path) -> tuple[Export, ...]:
    path = folder / run_folder.EXPORT_RECORD
    if not path.is_file():
        return ()
    mend = "Export again."
    with run_folder.reading(path, "the record of exports", mend):  # which a stranger may have written
        found = run_folder.read_json(path, "the record of exports", mend)["formats"]
        return tuple(
            Export(
                str(name),
                str(row["file"]),
                int(row["bytes"]),
                None if row["agreement"] is None else float(row["agreement"]),
                max(map(float, row["largest_difference"].values())),
                float(row["single_ms"]),
                float(row["images_per_second"]),
            )
            for name, row in found.items()
        )


def _read_environment(path: Path) -> dict[str, Any]:
    return run_folder.read_json(path, "the versions of a run", MEND) if path.is_file() else {}
