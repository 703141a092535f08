"""Several finished runs, each compared with the best, for a page of their own.

Two runs at a time are in memory: the best, and the one that is compared with it. Of the others the answers are kept, without probabilities.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_keras import run_folder
from tl_keras.data.images import Decoding
from tl_keras.data.index import SPLIT_NAMES
from tl_keras.data.label_texts import SEPARATOR, text_of
from tl_keras.errors import RunFolderError
from tl_keras.evaluation import comparison
from tl_keras.evaluation.history import read_history
from tl_keras.evaluation.report.record import Gallery
from tl_keras.evaluation.report.side_by_side import APART, BETTER, UNTOLD, WORSE, Disputed, Side, Versus, render
from tl_keras.models.outputs import OUTPUTS
from tl_keras.progress import Progress
from tl_keras.run_folder import RunFolder
from tl_keras.tasks import SINGLE_LABEL
from tl_keras.trained_run import data_root_if_there, read_config
from tl_keras.workflows.compare import Tested, pair_of, read_tested, require_comparable, require_one_task, shared

SHOWN = 12  # images
MORE_FIGURES = ("log_loss", "rmse", "ece")  # beside that of the task
FINISHED = "Give the folder of a finished run."


@dataclass(frozen=True)
class Said:
    """What a run says of the n test images of the best.

    Attributes:
        texts: object (n,), None where the run was not asked.
        sure: float64 (n,), the probability of that; NaN where the task has none.
        change: float64 (n,), how far its loss is from that of the best; 0 where the answer is the same.
    """

    texts: NDArray[np.object_]
    sure: NDArray[np.float64]
    change: NDArray[np.float64]


def side_by_side(run_dirs: Sequence[Path | str], source: str | None, progress: Progress) -> str:
    """The page, as HTML.

    Args:
        run_dirs: two runs or more.
        source: where the images of the best lie now, if they have moved.

    Raises:
        RunFolderError: a run is not finished, was not measured on test, or a file of it is damaged; or they have other tasks or classes.
        DataError: there is nothing of that name at `source`.
    """
    sides = _best_first([_side(RunFolder.at(each)) for each in run_dirs])
    task = sides[0].config.data.task
    best = read_tested(RunFolder.at(sides[0].folder))
    compared, said = [sides[0]], [_own(best)]
    for side in sides[1:]:
        progress.line(f"compare {side.name} with {sides[0].name}")
        versus, found = _compare(best, read_tested(RunFolder.at(side.folder)))
        compared.append(replace(side, versus=versus))
        said.append(found)
    return render(compared, _disputed(best, said, [side.letter for side in sides], source, progress), task)


def _side(run: RunFolder) -> Side:
    metrics = run_folder.read_json(run / run_folder.METRICS, "the figures of a run", FINISHED)
    if "test" not in metrics:
        raise RunFolderError(f"{run.path}: was not measured on test, by which runs are put side by side. Measure it with evaluate.")
    config = read_config(run)
    with run_folder.reading(run / run_folder.METRICS, "the figures of a run", FINISHED):  # which a stranger may have written
        names = [name for name in (OUTPUTS[config.data.task].metric_name, *MORE_FIGURES) if name in metrics["test"]]
        ends = {name: metrics["test"][f"{name}_ci95"] for name in names if f"{name}_ci95" in metrics["test"]}
        seconds, weights = metrics.get("timing", {}).get("total_s"), metrics.get("parameters", {}).get("total")
        return Side(
            folder=run.path,
            config=config,
            mode=str(metrics["mode"]),
            backbone=str(metrics["backbone"]),
            figures={name: float(metrics["test"][name]) for name in (OUTPUTS[config.data.task].metric_name, *names)},
            ends={name: (float(low), float(high)) for name, (low, high) in ends.items()},
            weights=None if weights is None else int(weights),
            model_bytes=(run / run_folder.MODEL).stat().st_size,
            seconds=None if seconds is None else float(seconds),
            on_target=_on_target(metrics.get("target", {})),
            images={name: int(metrics["data"][name]) for name in SPLIT_NAMES} if "data" in metrics else {},
            history=read_history(run / run_folder.HISTORY),
        )


def _on_target(target: Mapping[str, Any]) -> tuple[float, float, float] | None:
    if "figures" not in target:
        return None
    found = target["figures"][target["method"]]
    low, high = found["accuracy_ci95"]
    return float(found["accuracy"]), float(low), float(high)


def _best_first(sides: Sequence[Side]) -> list[Side]:
    """The runs by the figure of their task, of equal ones the smaller first, with letters."""
    for side in sides[1:]:
        require_one_task(*((each.folder, each.config.data.task) for each in (sides[0], side)))
    output = OUTPUTS[sides[0].config.data.task]
    order = sorted(sides, key=lambda side: (-output.turned(output.val_metric, side.figures[output.metric_name]), side.model_bytes))
    return [replace(side, letter=letter) for side, letter in zip(order, ascii_uppercase, strict=False)]


def _own(best: Tested) -> Said:
    every = np.arange(len(best.rows))
    return Said(np.array(best.said, object), _sure(best, every), np.zeros(len(every)))


def _compare(best: Tested, other: Tested) -> tuple[Versus, Said]:
    require_comparable(best, other)
    num = len(best.rows)
    said = Said(np.full(num, None, object), np.full(num, np.nan), np.zeros(num))
    try:
        of_best, of_other = shared(best, other, Progress())
    except RunFolderError as error:
        return Versus(outcome=APART, why=str(error)), said
    pair = pair_of(best, other, of_best, of_other)
    said.texts[of_best] = [other.said[place] for place in of_other.tolist()]
    said.sure[of_best] = _sure(other, of_other)
    rows = np.array([row for row, _ in comparison.changes(pair)], np.int64)
    said.change[of_best[rows]] = np.abs(pair.b.losses - pair.a.losses)[rows]
    compared = comparison.compare(pair)
    outcome = {"A": WORSE, "B": BETTER, None: UNTOLD}[comparison.better_of(best.task, compared)]
    return Versus(outcome=outcome, images=len(of_best), found=compared), said


def _sure(run: Tested, places: NDArray[np.int64]) -> NDArray[np.float64]:
    """The probability of each decision; NaN where the task has none."""
    return run.sure[places] if run.task == SINGLE_LABEL else np.full(len(places), np.nan)


def _disputed(best: Tested, said: Sequence[Said], letters: Sequence[str], source: str | None, progress: Progress) -> list[Disputed]:
    change = np.max([each.change for each in said], axis=0)
    places = [place for place in np.argsort(-change, kind="stable")[:SHOWN].tolist() if change[place] > 0]
    root = data_root_if_there(best.config, best.run, progress, source)
    tested = best.index.take(np.flatnonzero(best.split == "test"))
    paths, true = {}, {}
    for place in places:
        row = int(best.rows[place])
        paths[place], true[place] = best.index.paths[row], text_of(best.index, row)
    addresses = Gallery(tested, root, Decoding.of(best.config.data)).addresses(list(paths.values()))
    return [
        Disputed(
            paths[place],
            addresses.get(paths[place], ""),
            true[place],
            [(letter, _told(each, place, true[place])) for letter, each in zip(letters, said, strict=True)],
        )
        for place in places
    ]


def _told(said: Said, place: int, true: str) -> str:
    """What a run says of an image, how sure it is, and whether that is right."""
    found, sure = said.texts[place], said.sure[place]
    if found is None:
        return "not asked"
    return (found.replace(SEPARATOR, ", ") or "none") + ("" if np.isnan(sure) else f" ({sure:.3f})") + ", right" * (found == true)
