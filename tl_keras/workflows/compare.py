"""Two finished runs on the test images that both have: which one is better, and where they differ.

No model is read and no image: what a run said of its test images lies in predictions.csv, and what they are in splits.csv.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_keras import run_folder
from tl_keras.config import Config
from tl_keras.data import splits
from tl_keras.data.index import SPLIT_NAMES, Index
from tl_keras.data.label_texts import SEPARATOR, has_of, numbers_of, text_of
from tl_keras.errors import ConfigError, RunFolderError
from tl_keras.evaluation import comparison
from tl_keras.evaluation.comparison import Answers, Pair, losses_of
from tl_keras.evaluation.prediction_file import Table, read_parts
from tl_keras.partial import clear_partial
from tl_keras.progress import Progress
from tl_keras.run_folder import CsvWriter, RunFolder, json_text, open_text
from tl_keras.runtime import restoring_process
from tl_keras.tasks import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from tl_keras.trained_run import NO_CONTENT, read_config, relabelled

MEND = "Restore it, or train again in another --run-dir."
LEARNED_FROM = SPLIT_NAMES[:2]


@dataclass(frozen=True)
class Tested:
    """A run, and what its model said of its n test images.

    Attributes:
        about: its folder, its mode and its backbone.
        index: the images of all splits.
        split: of each of them.
        rows: int64 (n,), the test images as rows of `index`, whose classes are sorted.
        said: the decision on each of `rows`, as text.
        answers: the same with what is compared.
        sure: float64 (n,), the probability of each decision; empty but with one class an image.
    """

    run: RunFolder
    config: Config
    about: dict[str, str]
    index: Index
    split: NDArray[np.str_]
    rows: NDArray[np.int64]
    said: list[str]
    answers: Answers
    sure: NDArray[np.float64]

    @property
    def task(self) -> str:
        """The task of the run."""
        return self.index.output.task

    def keys(self, rows: Iterable[int], *, by_content: bool) -> list[bytes | str]:
        """What some images of `index` are known by."""
        known: Sequence[bytes | str] = self.index.ids.tolist() if by_content and self.index.ids is not None else self.index.paths
        return [known[row] for row in rows]


@restoring_process()
def compare(run_dir: Path | str, *, against: Path | str, progress: Progress | None = None) -> dict[str, Any]:
    """Compare two finished runs, A and B, on the test images that both have and that neither has learned from.

    Images are the same where their content is, whatever their names and folders. The images themselves are not needed.

    Args:
        run_dir: the folder of A.
        against: the folder of B.

    Returns:
        What `comparison.compare` returns, and `task`; `a` and `b`, what the runs are; `images`, how many were compared; `verdict`, a
        sentence; with one class an image `per_class`; and `changed`, a row for each image of which the two say something else.

    Raises:
        ConfigError: the two are one run.
        RunFolderError: a run was not measured on test, a file of it is damaged, or the two cannot be compared: other tasks, classes or
            labels, or no test image in common that neither has learned from.
    """
    progress = progress or Progress()
    if Path(run_dir).resolve() == Path(against).resolve():
        raise ConfigError(f"compare: got {run_dir} twice, expected the folders of two runs.")
    a, b = read_tested(RunFolder.at(run_dir)), read_tested(RunFolder.at(against))
    require_comparable(a, b)
    of_a, of_b = shared(a, b, progress)
    pair = pair_of(a, b, of_a, of_b)
    found = comparison.compare(pair)
    return {
        "mode": "compare",
        "task": a.task,
        "a": a.about,
        "b": b.about,
        "images": len(of_a),
        **found,
        **({"per_class": comparison.per_class(pair, a.index.classes)} if a.task == SINGLE_LABEL else {}),
        "verdict": comparison.verdict(a.task, found, len(of_a)),
        "changed": [_changed(a, b, int(of_a[row]), int(of_b[row]), kind) for row, kind in comparison.changes(pair)],
    }


def pair_of(a: Tested, b: Tested, of_a: NDArray[np.int64], of_b: NDArray[np.int64]) -> Pair:
    """What two runs say of the images that `shared` has found."""
    return Pair(a.task, a.index.learned[a.rows[of_a]], a.answers.at(of_a), b.answers.at(of_b), len(a.index.classes))


def read_tested(run: RunFolder) -> Tested:
    """Read what a run said of its test images.

    Raises:
        RunFolderError: it is not finished, was not measured on test, or a file of it is damaged.
    """
    metrics = run_folder.read_json(run / run_folder.METRICS, "the figures of a run", "Give the folder of a finished run.")
    path = run / run_folder.PREDICTIONS
    if "test" not in metrics or not path.is_file():
        raise RunFolderError(f"{run.path}: was not measured on test ({run_folder.PREDICTIONS} is missing). Train it again.")
    with run_folder.reading(run / run_folder.METRICS, "the figures of a run", "Give the folder of a finished run."):
        about = {"run_dir": str(run.path), **{name: str(metrics[name]) for name in ("mode", "backbone")}}
    index, split = splits.read_splits(run / run_folder.SPLITS, Path())
    with run_folder.reading(path, "a table of predictions", MEND):
        parts = read_parts(path)
        first = next(parts)
        index = relabelled(run, index, tuple(sorted(first.classes))) if first.classes else index
        row_of = {name: row for row, name in enumerate(index.paths)}
        read = [_answered(index, row_of, part) for part in chain([first], parts)]
        rows, decisions, losses, probabilities, sure = (np.concatenate(each) for each in zip(*(each for each, _ in read), strict=True))
        if not np.array_equal(np.sort(rows), np.flatnonzero(split == "test")):
            raise ValueError("it is not of the test images of this run")
    said = [text for _, texts in read for text in texts]
    return Tested(run, read_config(run), about, index, split, rows, said, Answers(decisions, losses, probabilities), sure)


def _answered(index: Index, row_of: Mapping[str, int], part: Table) -> tuple[tuple[NDArray[Any], ...], list[str]]:
    """What is compared of a part of a table: rows of `index`, decisions, losses, probabilities and sureness of `Tested`; and its texts.

    Raises:
        ValueError, LookupError: it is not of the images of `index`, or a decision is none.
    """
    rows = np.array([row_of[name] for name in part.paths], np.int64)
    if [text_of(index, row) for row in rows.tolist()] != part.true:
        raise ValueError("it is not of the test images of this run")
    order = sorted(range(len(part.classes)), key=lambda place: part.classes[place])
    task, probabilities = index.output.task, part.probabilities[:, order]
    decisions = _decisions(task, part.said, [part.classes[place] for place in order])
    losses = losses_of(task, index.learned[rows], decisions, probabilities)
    if task != SINGLE_LABEL:
        return (rows, decisions, losses, probabilities, np.empty(0)), part.said
    sure = np.take_along_axis(probabilities, decisions[:, None], axis=1)[:, 0]
    return (rows, decisions, losses, np.empty((len(rows), 0)), sure), part.said


def _decisions(task: str, said: Sequence[str], classes: Sequence[str]) -> NDArray[Any]:
    """Decisions that are written as texts."""
    if task == REGRESSION:
        return numbers_of(said).astype(np.float64)
    if task == MULTI_LABEL:
        return has_of([text.split(SEPARATOR) if text else [] for text in said], classes)
    number = {name: place for place, name in enumerate(classes)}
    return np.array([number[name] for name in said], np.int64)


def require_comparable(a: Tested, b: Tested) -> None:
    """Raise RunFolderError where two runs have other tasks or classes."""
    require_one_task((a.run.path, a.task), (b.run.path, b.task))
    mine, theirs = set(a.index.classes), set(b.index.classes)
    if mine != theirs:
        name = min(mine ^ theirs)
        one, other = (a, b) if name in mine else (b, a)
        raise RunFolderError(
            f"{b.run.path}: knows other classes than {a.run.path}: '{name}' is one of {len(one.index.classes)} classes of "
            f"{one.run.path}, and not of {other.run.path}. Give runs with the same classes."
        )


def require_one_task(a: tuple[Path, str], b: tuple[Path, str]) -> None:
    """Raise RunFolderError where two runs, of each its folder and its task, have other tasks."""
    if a[1] != b[1]:
        raise RunFolderError(
            f"{b[0]}: was trained with data.task={b[1]}, and {a[0]} with {a[1]}; they have no figure in common. Give runs of one task."
        )


def shared(a: Tested, b: Tested, progress: Progress) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The test images that both runs have, and that neither has learned from: their places in `rows` of each.

    Copies of one content are paired one by one.

    Raises:
        RunFolderError: there are none, they have other labels, or they are known by their paths alone and lay in different places.
    """
    by_content = a.index.ids is not None and b.index.ids is not None
    if not by_content:
        require_one_place(a, b)
        progress.line(NO_CONTENT)
    learned = {key for run in (a, b) for key in run.keys(np.flatnonzero(np.isin(run.split, LEARNED_FROM)).tolist(), by_content=by_content)}
    keys = [run.keys(run.rows.tolist(), by_content=by_content) for run in (a, b)]
    places = [_by_key(run, each, learned) for run, each in zip((a, b), keys, strict=True)]
    pairs = [(place, other) for key, mine in places[0].items() for place, other in zip(mine, places[1].get(key, ()), strict=False)]
    require_labels(a, b, places)
    if not pairs:
        unseen = sum(each in learned for each in keys[0])
        raise RunFolderError(
            f"{b.run.path}: has no test image in common with {a.run.path} that neither has learned from ({unseen} of {len(keys[0])} test "
            "images of the latter are learned from). Train both on the same --data with the same settings in data."
        )
    of_a, of_b = np.array(sorted(pairs), np.int64).T
    _tell(len(of_a), keys, learned, progress)
    return of_a, of_b


def _by_key(run: Tested, keys: Sequence[bytes | str], learned: set[bytes | str]) -> dict[tuple[bytes | str, str], list[int]]:
    """The places of the test images by content and label, without those that were learned from."""
    found = defaultdict(list)
    for place, (key, row) in enumerate(zip(keys, run.rows.tolist(), strict=True)):
        if key not in learned:
            found[key, text_of(run.index, row)].append(place)
    return found


def require_one_place(a: Tested, b: Tested) -> None:
    """Raise RunFolderError where paths are all that images are known by, and do not mean the same images."""
    source, other = (run.config.data.source for run in (a, b))
    if source != other:
        raise RunFolderError(
            f"{b.run.path}: learned from images in {other}, and {a.run.path} from those in {source}; files of the same names may be other "
            "images, and a run of an older version did not record their content. Train it again."
        )


def require_labels(a: Tested, b: Tested, places: Sequence[dict[tuple[bytes | str, str], list[int]]]) -> None:
    """Raise RunFolderError where the runs hold other labels of a shared test image to be right."""
    mine, theirs = ({key: (label, found[0]) for (key, label), found in each.items()} for each in places)
    for key in (key for key in mine if key in theirs):
        (label, place), (other, other_place) = mine[key], theirs[key]
        rows = (a.index, a.rows[place]), (b.index, b.rows[other_place])
        differ = label != other and not ((key, other) in places[0] and (key, label) in places[1])
        if differ:
            raise _other_labels(a, b, f"another label of {_path(b, other_place)} ('{other}')", f" ('{label}')")
        if not _equal(*(None if each.shares is None else each.shares[row] for each, row in rows)):
            raise _other_labels(a, b, f"other shares of the classes in {_path(b, other_place)}", "")


def _path(run: Tested, place: int) -> str:
    return run.index.paths[run.rows[place]]


def _equal(one: NDArray[np.float32] | None, other: NDArray[np.float32] | None) -> bool:
    return one is other if one is None or other is None else np.array_equal(one, other)


def _other_labels(a: Tested, b: Tested, theirs: str, mine: str) -> RunFolderError:
    return RunFolderError(
        f"{b.run.path}: was measured with {theirs} than {a.run.path}{mine}; of two truths neither is a measure for both. "
        "Train both with the same labels."
    )


def _tell(num: int, keys: Sequence[Sequence[bytes | str]], learned: set[bytes | str], progress: Progress) -> None:
    """Say what is compared, and what is left out."""
    progress.line(f"compared on {num:,} test images that both have")
    for name, each in zip("AB", keys, strict=True):
        seen = sum(key in learned for key in each)
        counts = Counter({"that a run has learned from": seen, "that the other does not have in test": len(each) - seen - num})
        if told := " and ".join(f"{number:,} {why}" for why, number in counts.items() if number):
            progress.line(f"left out of the {len(each):,} test images of {name}: {told}")


def _changed(a: Tested, b: Tested, place: int, other: int, kind: str) -> dict[str, Any]:
    """One image of which the two say something else."""
    row: dict[str, Any] = {"path": _path(a, place), "path_b": _path(b, other), "true": text_of(a.index, int(a.rows[place]))}
    for name, run, mine in (("a", a, place), ("b", b, other)):
        row[name] = run.said[mine]
        if run.task == SINGLE_LABEL:
            row[f"{name}_probability"] = float(run.sure[mine])
    return row | {"change": kind}


def write_changed(path: Path, changed: Sequence[dict[str, Any]], task: str) -> None:
    """Write the images that changed, atomically: JSON lines where the file ends in .jsonl, else CSV."""
    sure = ("a_probability", "b_probability") if task == SINGLE_LABEL else ()
    columns = ["path", "path_b", "true", "a", "b", *sure, "change"]

    def write(temporary: Path) -> None:
        with open_text(temporary, "w") as file:
            if path.suffix == ".jsonl":
                file.writelines(json_text(row) + "\n" for row in changed)
                return
            writer = CsvWriter(file)
            writer.writerow(columns)
            writer.writerows([row[name] for name in columns] for row in changed)

    clear_partial(path.parent)
    run_folder.write_atomically(path, write)
