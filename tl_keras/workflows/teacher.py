"""Knowledge distillation: a run learns from the answers of another one, its teacher, to the training images.

The teacher is asked once, about each image as it is: an augmented view is taught what the teacher says of the whole. Its answer is mixed
into the label, which for a temperature of 1 is the loss of Hinton et al. 2015 (arXiv:1503.02531, sec. 2).
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tl_keras import run_folder
from tl_keras.config import Config
from tl_keras.data import splits
from tl_keras.data.index import Index
from tl_keras.deploy.predictor import Predictor
from tl_keras.errors import DataError, RunFolderError
from tl_keras.run_folder import CHECKPOINTS, RunFolder
from tl_keras.setting_users import CHOOSING
from tl_keras.tasks import SINGLE_LABEL
from tl_keras.trained_run import open_run, read_config
from tl_keras.transfer.checkpoints import AGAIN
from tl_keras.transfer.task import Task
from tl_keras.workflows.evaluate import LEARNED_FROM, own_splits

ANSWERS = "teacher.npy"  # among the checkpoints: a run that goes on learns from the same


def require_teacher(config: Config, index: Index, run: RunFolder) -> None:
    """Refuse what cannot teach these classes, before anything is computed; a run that goes on has the answers already.

    Raises:
        RunFolderError: it is no run, or has other classes.
    """
    folder = _teacher_of(config)
    if folder is None or (run / CHECKPOINTS / ANSWERS).is_file():
        return
    teacher = RunFolder.at(folder).require_model()
    task = read_config(teacher).data.task
    if task != SINGLE_LABEL:
        raise RunFolderError(f"train.teacher: {teacher.path} was trained with data.task={task}, expected {SINGLE_LABEL}.")
    classes = splits.read_splits(teacher / run_folder.SPLITS, Path())[0].classes
    if set(classes) != set(index.classes):
        raise RunFolderError(
            f"train.teacher: {teacher.path} knows the classes {', '.join(sorted(classes))}, expected those of the images: "
            f"{', '.join(index.classes)}."
        )


def taught(task: Task) -> Task:
    """The task with the answers of its teacher, if it has one; a run that goes on has them already.

    Raises:
        RunFolderError: the teacher has learned from images by which this run is chosen or tested.
        DataError: an image does not decode any more.
    """
    folder = _teacher_of(task.config)
    if folder is None:
        return task
    file = task.run / CHECKPOINTS / ANSWERS
    if not file.is_file():
        file.parent.mkdir(exist_ok=True)
        answers = _answers(task, folder)
        run_folder.write_atomically(file, lambda temporary: np.save(temporary, answers))
    with run_folder.reading(file, "the answers of a teacher", AGAIN):
        found: NDArray[np.float32] = np.load(file)
        if found.shape != (len(task.data.rows("train")), len(task.data.classes)):
            raise ValueError("they are those to other images")
    return replace(task, teacher=found)


def _teacher_of(config: Config) -> str | None:
    """The teacher's folder; None where there is none, or the mode does not use it, as where a file has it."""
    return config.train.teacher if config.mode in CHOOSING else None


def _answers(task: Task, teacher: str) -> NDArray[np.float32]:
    """The teacher's probabilities for each training image, float32 (n, k), in the order of this run's classes."""
    trained, data = open_run(teacher), task.data
    _require_strange(task, trained.index, trained.split, teacher)
    files, rows = data.index.files, data.rows("train")
    found = np.empty((len(rows), len(data.classes)), np.float32)
    with task.progress.bar("ask the teacher", len(rows)) as advance:
        for place, each in enumerate(Predictor(trained)([files[row] for row in rows])):
            if each.error is not None:
                raise DataError(each.error)
            found[place] = [each.probabilities[name] for name in data.classes]
            advance(1)
    decided = data.output.decide(found)
    right = float((decided == data.labels("train")).mean())
    task.progress.line(f"teacher: {teacher} is right about {right:.1%} of the {len(rows)} training images")
    return found


def _require_strange(task: Task, known: Index, split: NDArray[np.str_], teacher: str) -> None:
    """Refuse a teacher that has learned from images of val or test: its answers would carry them into training."""
    if known.ids is None:
        raise RunFolderError(f"train.teacher: {teacher} does not record which images it learned from. Train it again.")
    index, own = task.data.index, task.data.split
    theirs = np.array(own_splits(known, split, index, task.data.pixels.ids))
    leaks = {"test": np.isin(theirs, LEARNED_FROM), "val": theirs == "train"}
    for name, leaked in leaks.items():
        if num := int((leaked & (own == name)).sum()):
            raise RunFolderError(
                f"train.teacher: {teacher} has learned from {num} of the {len(task.data.rows(name))} images of {name}. "
                "Train it on the same --data with the same splits."
            )
