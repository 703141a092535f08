"""What the answers of a model rest on: maps of images, the training images nearest to them, and a check that the maps are its own."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_keras import run_folder
from tl_keras.data import images
from tl_keras.data.depth import tell_depth
from tl_keras.data.file_ids import file_id
from tl_keras.deploy.predictor import Prediction, Predictor
from tl_keras.errors import BadImageError, ConfigError, DataError, UserError
from tl_keras.evaluation.explain.explainer import Explainer, Map
from tl_keras.evaluation.explain.methods import METHODS
from tl_keras.evaluation.explain.neighbours import Neighbour, References, open_references
from tl_keras.evaluation.explain.overlay import heat, overlay, peak
from tl_keras.evaluation.explain.picture import Panel, draw_explanation
from tl_keras.evaluation.explain.sanity import ALL, MOST_ALIKE, alikeness
from tl_keras.evaluation.pictures import shown_name
from tl_keras.evaluation.scoring import Clock
from tl_keras.explanations import GRAD_CAM, METHOD_NAMES, NEIGHBOURS, require_options
from tl_keras.links import require_no_way_out
from tl_keras.partial import clear_partial
from tl_keras.progress import Progress
from tl_keras.runtime import restoring_process
from tl_keras.short_forms import nearest
from tl_keras.tasks import MULTI_LABEL, REGRESSION
from tl_keras.trained_run import ADVICE, TrainedRun, data_root, open_run
from tl_keras.workflows.predict import as_asked, find_files

MOST_LABELS = 4  # of an image with several: the most probable
CHECKED = 3  # images whose maps are compared with those of random weights
AT_ONCE = 8  # images whose maps are made together
LONGEST_NAME = 40  # characters of a file's name in that of its picture


@restoring_process()
def explain(
    run_dir: Path | str,
    patterns: Sequence[str],
    *,
    method: str | None = None,
    label: str | None = None,
    neighbours: int | None = None,
    source: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Show what the answers of a run's model rest on: a picture of each image, with its maps and the training images nearest to it.

    Args:
        patterns: files, folders and globs of images.
        method: a key of `METHODS`; by default the first.
        label: the class that is explained; None explains what the model answers.
        neighbours: how many training images are shown, 0 to `MOST_NEIGHBOURS`; by default `NEIGHBOURS`.
        source: where the run's images lie now, if they have moved.

    Returns:
        What `explanations/N/explanations.json` in the run folder holds; and `folder`, where it is.

    Raises:
        ConfigError: there is no such method or class, or the method does not suit the model.
        DataError: there are no such files.
        RunFolderError: there is no such run.
        UserError: no file could be read.
    """
    clock, progress = Clock(), progress or Progress()
    method, neighbours = method or METHOD_NAMES[0], NEIGHBOURS if neighbours is None else neighbours
    require_options(method, neighbours)
    require_no_way_out(Path(run_dir), run_folder.EXPLANATIONS)
    files, copies = find_files(patterns, progress)
    trained = open_run(run_dir)
    asker = Asker(trained, method, None if label is None else column_of(trained, label))
    tell_depth(files, trained.config.data.bit_depth, progress, ADVICE)
    references = find_references(trained, source, progress) if neighbours else None
    result: dict[str, Any] = {
        "mode": "explain",
        "task": trained.index.output.task,
        "backbone": trained.backbone,
        "method": method,
        "images": [],
    }

    def write(folder: Path) -> None:
        with progress.bar("explain", len(files)) as advance:
            for number, (file, found) in enumerate(zip(files, asker.explained(files), strict=True), start=1):
                shown = replace(found, prediction=as_asked(found.prediction, copies))
                near = [] if references is None or found.pixels is None else references.nearest(found.pixels, file_id(file), neighbours)
                result["images"].append(_written(folder, number, shown, near, references, trained))
                advance(1)
        if not asker.checked:
            raise UserError(f"none of {len(files)} files could be read. The first: {result['images'][0]['error']}.")
        result["alikeness"] = asker.alikeness()
        result["timing"] = clock.timing()
        run_folder.write_json(folder / run_folder.EXPLANATION, result)

    parent = trained.run / run_folder.EXPLANATIONS
    is_new = not parent.exists()
    clear_partial(parent)
    try:
        folder = run_folder.write_numbered(parent, write)
    except BaseException:
        if is_new:
            run_folder.remove_empty((parent,))
        raise
    return {**result, "folder": str(folder)}


def column_of(trained: TrainedRun, label: str) -> int:
    """The output of a model for a class.

    Raises:
        ConfigError: there is no such class.
    """
    classes = trained.index.classes
    if trained.index.output.task == REGRESSION:
        raise ConfigError("--label: the model answers with a number and has no classes. Remove it.")
    if label not in classes:
        near = nearest(label, classes)
        raise ConfigError(f"--label: got '{label}', expected one of {', '.join(classes)}." + (f" Did you mean '{near}'?" if near else ""))
    return classes.index(label)


def find_references(trained: TrainedRun, source: str | None, progress: Progress) -> References | None:
    """The training images to look for neighbours in; None, and a line that says why, where there are none."""
    try:
        found = open_references(trained, data_root(trained.config, trained.run, progress, source), progress)
    except DataError as error:
        if source is not None:
            raise
        found = str(error)
    if isinstance(found, str):
        progress.line(f"no nearest training images: {found.rstrip('.')}")
        return None
    return found


@dataclass(frozen=True)
class Found:
    """One image, explained; of one that does not decode there is the prediction, with its error, alone.

    Attributes:
        pixels: as the model sees it.
        maps: name of a class, or of the number -> its map.
    """

    prediction: Prediction
    pixels: NDArray[np.uint8] | None
    maps: dict[str, Map]


class Asker:
    """Asks a run's model about images, a few at a time, and keeps some for the check.

    Args:
        column: the output that is explained; None explains what the model answers.

    Raises:
        ConfigError: the method does not suit the model.
    """

    def __init__(self, trained: TrainedRun, method: str, column: int | None) -> None:
        self.trained, self.method, self.column = trained, METHODS[method], column
        self.predictor = Predictor(trained)
        stages = trained.stages if method == GRAD_CAM else {}
        self.explainer = Explainer(trained.model, trained.index.output, stages, self.predictor.logits)
        if method == GRAD_CAM:
            self.explainer.feature_map  # noqa: B018
        self.checked: list[tuple[NDArray[np.uint8], int, Map]] = []

    def explained(self, files: Sequence[Path]) -> Iterator[Found]:
        """The images of some files, in order."""
        waiting = iter(files)
        while chunk := list(islice(waiting, AT_ONCE)):
            yield from self._chunk(chunk)

    def _chunk(self, files: Sequence[Path]) -> Iterator[Found]:
        loaded = [self._load(file) for file in files]
        good = {row: each for row, each in enumerate(loaded) if not isinstance(each, str)}
        predictions = self.predictor(list(good.values()))
        answers = [
            replace(next(predictions), path=str(file)) if row in good else self._unread(file, str(loaded[row]))
            for row, file in enumerate(files)
        ]
        wanted = [(row, column) for row, answer in enumerate(answers) for column in self._columns(answer)]
        columns = [column for _, column in wanted]
        maps = self.method(self.explainer, np.stack([good[row] for row, _ in wanted]), columns) if wanted else []
        own: dict[int, dict[str, Map]] = {}
        for (row, column), found in zip(wanted, maps, strict=True):
            own.setdefault(row, {})[self.trained.index.classes[column]] = found
            if len(self.checked) < CHECKED:
                self.checked.append((good[row], column, found))
        for row, answer in enumerate(answers):
            yield Found(answer, good.get(row), own.get(row, {}))

    def _unread(self, file: Path, error: str) -> Prediction:
        return Prediction(str(file), self.trained.index.classes, error=error, task=self.trained.index.output.task)

    def _load(self, file: Path) -> NDArray[np.uint8] | str:
        config = self.trained.config.data
        try:
            return images.load(file, self.trained.image_size, config.resize, images.Decoding.of(config))
        except BadImageError as error:
            return str(error)

    def _columns(self, answer: Prediction) -> list[int]:
        """The outputs of an image that are explained; of several classes those that were found, or the most probable one."""
        if answer.error is not None:
            return []
        if self.column is not None:
            return [self.column]
        if answer.task == REGRESSION:
            return [0]
        by_chance = sorted(answer.probabilities, key=lambda name: -answer.probabilities[name])
        names = [name for name in by_chance if name in answer.labels][:MOST_LABELS] or by_chance[:1]
        return [answer.classes.index(name) for name in names]

    def alikeness(self) -> dict[str, float]:
        """How alike the maps of the first images are to those of random weights, see `sanity.alikeness`."""
        pixels, columns, maps = zip(*self.checked, strict=True)
        return alikeness(self.explainer, self.method, np.stack(pixels), columns, maps)


def _written(
    folder: Path, number: int, found: Found, near: Sequence[Neighbour], references: References | None, trained: TrainedRun
) -> dict[str, Any]:
    """Draw the picture of an image; its part of explanations.json."""
    answer = found.prediction
    if found.pixels is None:
        return {"path": answer.path, "error": answer.error}
    size, task = found.pixels.shape[:2], answer.task
    heats = {name: heat(each, (size[0], size[1]), task) for name, each in found.maps.items()}
    shown = [Panel(f"for {_called(answer, name)}", overlay(found.pixels, each)) for name, each in heats.items()]
    beside = [Panel(f"train: {shown_name(each.label)}\nlikeness {each.cosine:.2f}", _photo(each, references, trained)) for each in near]
    picture = f"{number:04}-{_plain(Path(answer.path).stem)}.png"
    draw_explanation(
        folder / picture, f"{Path(answer.path).name}: {_said(answer)}", [Panel("as the model sees it", found.pixels), *shown], beside
    )
    return {
        "path": answer.path,
        "picture": picture,
        "label": answer.label,
        "probability": answer.probability,
        "explained": [{"name": name, "peak": _as_list(peak(each, task))} for name, each in found.maps.items()],
        "nearest": [asdict(each) for each in near],
    }


def _as_list(place: tuple[float, float] | None) -> list[float] | None:
    return None if place is None else list(place)  # as JSON gives it back


def _plain(name: str) -> str:
    """A name that every system takes for a file's."""
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in name[:LONGEST_NAME])


def _photo(near: Neighbour, references: References | None, trained: TrainedRun) -> NDArray[np.uint8]:
    assert references is not None
    config = trained.config.data
    return images.load(references.index.root / near.path, trained.image_size, config.resize, images.Decoding.of(config))


def _said(answer: Prediction) -> str:
    if answer.task == MULTI_LABEL:
        return ", ".join(f"{name} {answer.probabilities[name]:.2f}" for name in answer.labels) or "no class"
    return answer.label if answer.probability is None else f"{answer.label} {answer.probability:.2f}"


def _called(answer: Prediction, name: str) -> str:
    chance = answer.probabilities.get(name)
    return shown_name(name) if chance is None else f"{shown_name(name)} ({chance:.2f})"


def line_of(found: dict[str, float]) -> str:
    """What `alikeness` says, in words."""
    told = ", ".join(
        f"{value:.2f} with random weights in {'the head' if which != ALL else 'the whole network'}" for which, value in found.items()
    )
    verdict = "the maps are the model's" if found[ALL] < MOST_ALIKE else "the maps hardly depend on the model, and say little about it"
    return f"rank correlation of the maps {told}: {verdict}"
