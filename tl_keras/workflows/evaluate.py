"""Measuring a run's model again, on its own test split or on other labelled images."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_keras import run_folder
from tl_keras.data import dataset, splits
from tl_keras.data.dataset import ImageData
from tl_keras.data.depth import tell_depth
from tl_keras.data.file_ids import Ids
from tl_keras.data.images import Decoding
from tl_keras.data.index import SPLIT_NAMES, Index
from tl_keras.data.sources import open_labelled, place_of
from tl_keras.data.walk import left_out_lines
from tl_keras.errors import DataError
from tl_keras.evaluation.bounds import missed, require_bounds
from tl_keras.evaluation.robustness import robustness
from tl_keras.evaluation.scoring import Clock, draw_errors, measure, on_engine, score_pixels, write_predictions
from tl_keras.evaluation.slices import outcomes, slices
from tl_keras.links import require_no_way_out
from tl_keras.models.classifier import count_parameters
from tl_keras.partial import clear_partial, partial_folder
from tl_keras.progress import Progress
from tl_keras.runtime import restoring_process
from tl_keras.trained_run import ADVICE, NO_CONTENT, TrainedRun, data_root, open_run

LEARNED_FROM = ("train", "val")  # splits on which a model has been fitted or chosen
UNKNOWN = ""  # the split of an image that is none of the run's
MOST_NAMED = 10  # classes in a line


@restoring_process()
def evaluate(
    run_dir: Path | str,
    *,
    source: str | None = None,
    min_accuracy: float | None = None,
    max_ece: float | None = None,
    corrupt: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure a run's model again: on its own test split, or on other labelled images.

    Args:
        source: a folder of class folders, of which some may be missing; or what else `data.source` may be. Of folders train, val and
            test the last alone is read. Images that the run has learned from are known by their content and left out, so that its own
            data in another place gives its test split. None reads that where the run found it.
        min_accuracy: what the accuracy has to reach, in [0, 1].
        max_ece: what the calibration error may be at most, likewise.
        corrupt: also measure it on the images made worse, see `evaluation.robustness`.

    Returns:
        What `evaluations/N/evaluation.json` in the run folder holds: the fields of `metrics.json` that apply; `missed`, a line for each
        bound that is not kept; `slices`, see `evaluation.slices`; with `corrupt`, `robustness`; and `folder`, where it is.

    Raises:
        ConfigError: a bound that no model of this task can be held to.
        DataError: images are missing, were replaced, do not decode, or belong to classes that the model does not know.
        RunFolderError: it holds no trained model, or its evaluations are a link to another folder.
    """
    clock, progress = Clock(), progress or Progress()
    require_no_way_out(Path(run_dir), run_folder.EVALUATIONS)
    trained = open_run(run_dir)
    bounds = {"min_accuracy": min_accuracy, "max_ece": max_ece}
    require_bounds(bounds, trained.index.output.task)
    with _scratch(trained.run / run_folder.EVALUATIONS) as scratch:
        data, counts = _evaluation_data(trained, source, scratch, progress)
        rows = data.rows("test")
        with progress.bar("evaluate test", len(rows)) as advance, data.pixels.named_failures("Put it back, then evaluate again."):
            call = on_engine(trained.model, trained.config.runtime.engine)
            answers = score_pixels(trained.model, data, rows, trained.config.train.batch_size, advance, call)
        worse = robustness(trained.model, data, trained.config.train.batch_size, progress, call) if corrupt else []
    figures = measure(data, "test", answers)
    result = {
        "mode": "evaluate",
        "task": data.output.task,
        "backbone": trained.backbone,
        "seed": trained.config.runtime.seed,
        "source": place_of(trained.config.data.source if source is None else source, data.index.root),
        "data": {"test": len(rows), "classes": len(data.classes), "skipped": len(data.pixels.bad), **counts},
        "parameters": count_parameters(trained.model),
        "test": figures,
        "slices": _slices(trained, data, answers, progress),
        "missed": missed(figures, bounds),
        **({"robustness": worse} if corrupt else {}),
        "timing": clock.timing(),
    }
    return {**result, "folder": str(_write(trained, data, answers, result))}


def _slices(trained: TrainedRun, data: ImageData, answers: NDArray[np.float64], progress: Progress) -> dict[str, Any]:
    """How good the model is on parts of the images."""
    found = outcomes(data.output, answers, data.learned("test"))
    return slices(data.index.take(data.rows("test")), data.index.root, Decoding.of(trained.config.data), data.output.task, found, progress)


def _write(trained: TrainedRun, data: ImageData, answers: NDArray[np.float64], result: dict[str, Any]) -> Path:
    """Write an evaluation beside those before it."""

    def write(folder: Path) -> None:
        write_predictions(folder / run_folder.PREDICTIONS, data, data.rows("test"), answers)
        draw_errors(folder, data, result["test"], answers, data.index.root.name)
        if data.pixels.bad:
            run_folder.write_csv(folder / run_folder.BAD_IMAGES, ("path", "reason"), dataset.bad_rows(data.pixels.bad, data.index))
        run_folder.write_json(folder / run_folder.EVALUATION, result)

    return run_folder.write_numbered(trained.run / run_folder.EVALUATIONS, write)


@contextmanager
def _scratch(evaluations: Path) -> Iterator[Path]:
    """A folder for decoded pixels that is this evaluation's own, for there may be several; where the evaluations of a run lie, so
    that a run folder that can only be read is refused before anything is measured.
    """
    is_new = not evaluations.exists()
    with run_folder.naming(evaluations):
        evaluations.mkdir(exist_ok=True)
    clear_partial(evaluations)
    try:
        with run_folder.naming(evaluations), partial_folder(evaluations) as folder:
            yield folder
    except BaseException:
        if is_new:
            run_folder.remove_empty((evaluations,))
        raise


def _evaluation_data(trained: TrainedRun, source: str | None, scratch: Path, progress: Progress) -> tuple[ImageData, dict[str, int]]:
    """The images to be measured, and how many of them, and of those left out, are of which split of the run."""
    config = trained.config.data if source is None else trained.config.data.replace("source", source)
    if source is None:
        index, counts = _own_test(trained, progress), Counter({"test": _num(trained, "test")})
    else:
        found = open_labelled(config, trained.index.classes, progress)
        for line in (*found.notes, *left_out_lines(found.ignored)):
            progress.line(line)
        index, counts = _unseen(trained, replace(found, output=trained.index.output), progress)
    _tell(trained, index, place_of(config.source, index.root), counts, progress)
    tell_depth(index.files, config.bit_depth, progress, ADVICE)
    pixels = dataset.open_pixels(index, config, trained.image_size)
    dataset.keep_pixels(pixels, config, scratch)
    left_out = sum(counts[name] for name in LEARNED_FROM)
    dataset.decode(pixels, config, progress, num_beside=left_out)  # training took the folder as a whole, and so does this
    if pixels.bad:
        progress.line(dataset.skipped_line(len(pixels.bad), len(index.paths) + left_out))
    split = np.full(len(index.paths), "test", dtype="<U5")
    split[list(pixels.bad)] = splits.UNUSED
    if not (split == "test").any():
        raise DataError(f"{index.root}: none of its {len(split)} images decodes. First: {pixels.bad[0]}.")
    named = {"own_test": counts["test"], "others": counts[UNKNOWN], "left_out": left_out}
    return ImageData(index, pixels, split), named


def _num(trained: TrainedRun, split: str) -> int:
    return int((trained.split == split).sum())


def _own_test(trained: TrainedRun, progress: Progress) -> Index:
    """The run's test images where it found them; none may be missing or another image, else the figures would be of other images."""
    index = trained.images("test", data_root(trained.config, trained.run, progress))
    index.require_unchanged(index.identify(progress), "test images of the run")
    return index


def _unseen(trained: TrainedRun, found: Index, progress: Progress) -> tuple[Index, Counter[str]]:
    """Those of some images that a run has not learned from, and how many images are of which of its splits, or of none.

    Raises:
        DataError: there are none.
    """
    if trained.index.ids is None:
        own = _own_by_name(trained, found)
    else:
        own = own_splits(trained.index, trained.split, found, found.identify(progress))
    counts = Counter(own)
    rows = np.flatnonzero([split not in LEARNED_FROM for split in own])
    if not len(rows):
        told = " and ".join(f"{counts[name]} of {name}" for name in LEARNED_FROM if counts[name])
        raise DataError(
            f"{found.root}: the run has learned from all {len(own)} images there ({told}), so they say nothing about new images. "
            "Give images that it has not seen."
        )
    return found.take(rows), counts


def own_splits(known: Index, split: Sequence[str] | NDArray[np.str_], found: Index, ids: Ids) -> list[str]:
    """Which split of a run each of some images belongs to, by content; `UNKNOWN` for those that are none of its own.

    Of an image that the run had twice, a file at one of its paths belongs where that path does; elsewhere it counts as learned from
    where any copy was.

    Args:
        known: the run's images, with their ids.
        split: of each of them.
        found: other files.
        ids: of their content, (len(found.paths),).
    """
    if known.ids is None:
        raise ValueError("the run's images have no ids; they are known by name only.")
    at_path = {path: (content, str(name)) for path, content, name in zip(known.paths, known.ids.tolist(), split, strict=True)}
    by_content: dict[bytes, str] = {}
    for name in reversed(SPLIT_NAMES):  # train last, and with it the say
        by_content.update((content, name) for content, own in at_path.values() if own == name)
    answers = []
    for path, content in zip(found.paths, ids.tolist(), strict=True):
        here = at_path.get(path)
        answers.append(here[1] if here is not None and here[0] == content else by_content.get(content, UNKNOWN))
    return answers


def _own_by_name(trained: TrainedRun, found: Index) -> list[str]:
    """The same for a run of an older version, which knows no content: where half of the names are its own, the images are."""
    split_of = dict(zip(trained.index.paths, trained.split.tolist(), strict=True))
    known = sum(path in split_of for path in found.paths)
    if 2 * known < len(found.paths):  # names alone may coincide now and then
        return [UNKNOWN] * len(found.paths)
    return [split_of.get(path, UNKNOWN) for path in found.paths]


def _tell(trained: TrainedRun, index: Index, place: str, counts: Counter[str], progress: Progress) -> None:
    """Say what is measured, and what is left out."""
    if trained.index.ids is None:
        progress.line(NO_CONTENT)
    parts = [f"{counts['test']} of the run's {_num(trained, 'test')} test images"] * bool(counts["test"])
    parts += [f"{counts[UNKNOWN]} image{'s' * (counts[UNKNOWN] != 1)} new to the run"] * bool(counts[UNKNOWN])
    progress.line(f"{place}: measured on {' and '.join(parts)}")
    if left := " and ".join(f"{counts[name]} of {name}" for name in LEARNED_FROM if counts[name]):
        progress.line(f"left out, because the run has learned from them: {left}")
    empty = [index.classes[label] for label in np.flatnonzero(index.sizes(np.arange(len(index.paths))) == 0)]
    if empty:
        named = ", ".join(empty[:MOST_NAMED]) + (f" and {len(empty) - MOST_NAMED} more" if len(empty) > MOST_NAMED else "")
        rest = len(index.classes) - len(empty)
        progress.line(f"no image of {named}; macro figures are means over the other {'class' if rest == 1 else f'{rest} classes'}")
