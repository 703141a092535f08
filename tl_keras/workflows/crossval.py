"""Cross-validation: the figures of a configuration with their spread, from folds of train and val; test stays unseen."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tl_keras import run_folder
from tl_keras.config import Config
from tl_keras.data import dataset
from tl_keras.data.file_ids import to_hex
from tl_keras.data.index import Index
from tl_keras.data.label_texts import COLUMNS, label_text
from tl_keras.data.splits import CONTENT, GROUP, outside_test
from tl_keras.errors import ConfigError, RunFolderError
from tl_keras.evaluation.intervals import corrected
from tl_keras.evaluation.metrics import SUMMARY
from tl_keras.evaluation.scoring import answer_cells, answer_columns
from tl_keras.progress import Progress
from tl_keras.run_folder import RunFolder
from tl_keras.runtime import restoring_process, set_up
from tl_keras.select.crossval.folds import Fold
from tl_keras.select.crossval.heads import (
    Answer,
    compute_features,
    cut_folds,
    figures_of,
    held_out_ratio,
    solve_fold,
    summary,
)
from tl_keras.tasks import figure_text
from tl_keras.trained_run import read_config, read_output, require_asked_for, write_config
from tl_keras.transfer.build import image_size_of
from tl_keras.transfer.head.problem import solves_exactly
from tl_keras.workflows.rank import with_best_backbone
from tl_keras.workflows.setting_up import environment, open_images, tell_shrunk, working_in
from tl_keras.workflows.train import train

FOLD_RUNS = "folds"  # a run folder for each fold, where each is a training run of its own


@restoring_process()
def crossval(config: Config, run_dir: Path | str, *, resume: bool = False, progress: Progress | None = None) -> dict[str, Any]:
    """Train on every fold of train and val, and say how good that is on what was held out.

    Args:
        config: `mode` is 'crossval'; ignored where `resume` reads the run's own.
        run_dir: the folder to make, or to continue.
        resume: go on with an interrupted cross-validation; folds that were finished are kept.

    Returns:
        What crossval.json holds: `summary` of each figure, and `folds`, the figures of each.

    Raises:
        UserError: anything that the user can mend; a folder made for it is gone again.
    """
    progress, run = progress or Progress(), RunFolder.at(run_dir)
    if resume:
        config = read_config(run.require_unfinished("crossval"))
        require_asked_for(config, run)
    set_up(config.runtime)
    other_run = None if config.crossval.against is None else RunFolder(Path(config.crossval.against).expanduser())
    other = None if other_run is None else read_other(other_run, config.data.task)
    whole = open_images(config.data, progress, None if resume else run)
    tell_shrunk(config, whole, progress)
    with working_in(run, resume=resume) as keep:
        config = with_best_backbone(config, whole, run, progress)
        config, index, answer = answering(config, whole, run, progress)
        folds = cut_folds(config, index)
        check_folds(run / run_folder.FOLDS, index, folds)
        if other_run is not None:
            check_folds(other_run / run_folder.FOLDS, index, folds)
        write_config(run, config.replace("mode", "crossval"))
        run_folder.write_json(run / run_folder.ENVIRONMENT, environment())
        keep()
        answers = []
        with progress.bar("folds", len(folds)) as advance:
            for fold in folds:
                answers.append(answer(fold))
                name, figure = next(iter(figures_of(answers[-1], index).items()))
                progress.line(f"fold {fold.name}  {name} {figure_text(name, figure)} on {len(fold.held_out)} images")
                advance(1)
        write_answers(run / run_folder.OUT_OF_FOLD, index, answers)
        result = result_of(config, index, answers)
        if other is not None:
            result["against"] = compare(result, other)
        run_folder.write_json(run / run_folder.CROSSVAL, result)
        return result


def answering(config: Config, whole: Index, run: RunFolder, progress: Progress) -> tuple[Config, Index, Callable[[Fold], Answer]]:
    """Read the images, and settle how a fold is answered: by a head on stored features, or by a training run of its own.

    Returns:
        The configuration, the images outside test that folds are cut from, and what answers a fold of them.
    """
    if config.crossval.training == "extract" and solves_exactly(config):
        opened, rows = compute_features(config, whole, progress)
        return opened.config, whole.take(rows), lambda fold: solve_fold(opened.config, opened.problem, rows, fold)
    pixels = dataset.open_pixels(whole, config.data, image_size_of(config))
    index = whole.take(outside_test(dataset.decode_and_cut(whole, config.data, pixels, progress)))
    return config, index, lambda fold: train_fold(config, index, run, fold, progress)


def result_of(config: Config, index: Index, answers: Sequence[Answer]) -> dict[str, Any]:
    """What crossval.json holds of the answers to all folds."""
    return {
        "training": config.crossval.training,
        "backbone": config.model.backbone,
        "images": len(index.paths),
        "held_out_ratio": held_out_ratio(answers),
        "summary": summary(answers, index),
        "folds": [{"fold": answer.fold.name, **figures_of(answer, index)} for answer in answers],
    }


def check_folds(file: Path, index: Index, folds: Sequence[Fold]) -> None:
    """Write folds.csv, or find the same folds in it: a line per image, with the fold of each repeat that holds it out, and its content.

    Where there are groups, its group is the last column.

    Args:
        index: with ids.

    Raises:
        RunFolderError: it holds other images or folds.
    """
    if index.ids is None:
        raise ValueError("the images of folds are known by their ids, and these have none.")
    held_out = np.zeros((len(index.paths), max(fold.repeat for fold in folds)), np.int64)
    for fold in folds:
        held_out[fold.held_out, fold.repeat - 1] = fold.number
    header = ["path", *(f"repeat{number + 1}" for number in range(held_out.shape[1])), CONTENT]
    rows = zip(index.paths, held_out.tolist(), index.ids.tolist(), strict=True)
    lines = [[path, *map(str, numbers), to_hex(content)] for path, numbers, content in rows]
    without_content = [line[:-1] for line in (header, *lines)]  # as older versions wrote it
    if index.groups is not None:
        header.append(GROUP)
        lines = [[*line, group] for line, group in zip(lines, index.groups, strict=True)]
    if not file.is_file():
        run_folder.write_csv(file, header, lines)
        return
    with run_folder.reading(file, "a table of folds", "Restore it, or give another --run-dir."), run_folder.open_text(file) as known:
        found = list(run_folder.read_csv(known))
    if found not in ([header, *lines], without_content):
        raise RunFolderError(
            f"{file}: these folds are of other images, or were cut differently. Use the same --data and settings of data and crossval."
        )


def train_fold(config: Config, index: Index, run: RunFolder, fold: Fold, progress: Progress) -> Answer:
    """Train a run of its own on a fold, or go on with it, or take what it left when it was finished."""
    folder = RunFolder(run / FOLD_RUNS / fold.name)
    if not folder.is_finished:
        split = np.full(len(index.paths), "train")
        split[fold.val], split[fold.held_out] = "val", "test"
        started = (folder / run_folder.SPLITS).is_file() and (folder / run_folder.CONFIG).is_file()
        if not started:
            shutil.rmtree(folder.path, ignore_errors=True)
        own = config.replace("mode", config.crossval.training).replace("data.per_class", None)  # the folds were cut from few already
        train(own, folder.path, resume=started, progress=progress, index=replace(index, given=split.tolist()), pictures=False)
    return read_answer(folder, index, fold)


def read_answer(folder: RunFolder, index: Index, fold: Fold) -> Answer:
    """The predictions of a fold's run for the images held out; those that did not decode are held out of the figures too."""
    path = folder / run_folder.PREDICTIONS
    with run_folder.reading(path, "a table of predictions", f"Remove {folder.path}, and --resume."), run_folder.open_text(path) as file:
        header, *rows = run_folder.read_csv(file)
        lines = {line["path"]: line for line in (dict(zip(header, row, strict=True)) for row in rows)}
        held_out = np.array([row for row in fold.held_out if index.paths[row] in lines], np.int64)
        decision, *columns = answer_columns(index.output, index.classes)
        columns = columns or [decision]
        values = np.array([[float(lines[index.paths[row]][column]) for column in columns] for row in held_out])
    return Answer(replace(fold, held_out=held_out), values, read_output(folder, index))


def write_answers(file: Path, index: Index, answers: Sequence[Answer]) -> None:
    """Write out_of_fold.csv: for each repeat every image, with the prediction of the fold that held it out."""
    output, classes = index.output, index.classes
    header = ("repeat", "fold", "path", f"true_{COLUMNS[output.task]}", *answer_columns(output, classes))

    def lines() -> Iterator[Sequence[Any]]:
        for answer in answers:
            for row, values in zip(answer.fold.held_out, answer.values, strict=True):
                known = label_text(output, index.labels[row], classes)
                yield (answer.fold.repeat, answer.fold.number, index.paths[row], known, *answer_cells(answer.output, values, classes))

    run_folder.write_csv(file, header, lines())


def compare(result: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Each figure's mean difference to another cross-validation on the same folds, with its corrected 95 % interval."""
    pairs = list(zip(result["folds"], other["folds"], strict=True))
    found = {}
    for name in result["summary"]:
        differences = [mine[name] - theirs[name] for mine, theirs in pairs]
        found[name] = {"mean": float(np.mean(differences)), "ci95": list(corrected(differences, result["held_out_ratio"]))}
    return {"backbone": other["backbone"], "training": other["training"], "differences": found}


def read_other(run: RunFolder, task: str) -> dict[str, Any]:
    """What another cross-validation found.

    Raises:
        RunFolderError: the folder holds no finished one with its folds.
        ConfigError: it is of another task.
    """
    if not (run / run_folder.CROSSVAL).is_file():
        raise RunFolderError(f"crossval.against: {run.path} holds no finished cross-validation. Give the folder of one.")
    mend = "Give another folder as crossval.against."
    found = run_folder.read_json(run / run_folder.CROSSVAL, "the result of a cross-validation", mend)
    with run_folder.reading(run / run_folder.CROSSVAL, "the result of a cross-validation", mend):
        figures = [float(fold[name]) for fold in found["folds"] for name in found["summary"]]
        _ = figures, found["backbone"], found["training"]
    if not (run / run_folder.FOLDS).is_file():
        raise RunFolderError(f"{run / run_folder.FOLDS}: is missing, by which folds are compared. Restore it. {mend}")
    if SUMMARY[task][0] not in found["summary"]:
        raise ConfigError(f"crossval.against: {run.path} is not of data.task={task}: it has no {SUMMARY[task][0]}. {mend}")
    return found
