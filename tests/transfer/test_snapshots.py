"""Snapshots: the whole classifier at each cycle's end, as val saw it, and the same after a kill wherever it comes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tl_keras.errors import RunFolderError
from tl_keras.progress import Progress
from tl_keras.run_folder import SNAPSHOTS, RunFolder
from tl_keras.transfer.checkpoints import weights_view
from tl_keras.transfer.finetune import finetune
from tl_keras.transfer.snapshots import LIST, KeepSnapshots, snapshots_of
from tl_keras.transfer.task import Task

MakeTask = Callable[..., Task]


def settings(lowest: str) -> dict[str, Any]:
    train = {"epochs": 5, "schedule": "cosine_restarts", "cycles": 3, "unfreeze_from": lowest, "ema": 0.8, "learning_rate": 3e-3}
    return {"data": {"augment": {"horizontal_flip": True}}, "features": {"views": 1}, "train": train}


@pytest.fixture(scope="module")
def tasks(make_lasting_task: MakeTask) -> dict[str, Task]:
    """Finetuned with restarts on pixels ('all'), and on stored activations ('stage3'). The weights of the classifier are lent."""
    made = {lowest: make_lasting_task(lowest, **settings(lowest)) for lowest in ("all", "stage3")}
    for task in made.values():
        finetune(task)
    return made


def lines(run: RunFolder) -> list[list[str]]:
    return [line.split(",") for line in (run / SNAPSHOTS / LIST).read_text().splitlines()]


def read(task: Task, file: Path) -> list[np.ndarray]:
    """The weights in a snapshot, whose place the task's classifier lends."""
    before = task.classifier.model.get_weights()
    weights_view(task.classifier.model).load_weights(file)
    found = task.classifier.model.get_weights()
    task.classifier.model.set_weights(before)
    return found


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("lowest", ["all", "stage3"], ids=["pixels", "stored activations"])
def test_each_snapshot_is_the_whole_classifier_that_val_saw(tasks: dict[str, Task], lowest: str) -> None:
    task = tasks[lowest]
    assert bool(task.tail) == (lowest == "stage3")
    history = [line.split(",") for line in (task.run / "history.csv").read_text().splitlines()[1:]]
    assert lines(task.run) == [
        ["snapshot", "epoch", "val_loss", "val_accuracy"],
        *([str(number), str(epoch), *history[epoch][4:6]] for number, epoch in ((1, 2), (2, 4), (3, 5))),
    ]
    pixels = task.data.pixels.read(task.data.rows("val")).astype(np.float32)
    targets = np.eye(2, dtype=np.float32)[task.data.labels("val")]
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    found = []
    for file in snapshots_of(task.run):
        task.classifier.model.set_weights([np.zeros_like(each) for each in task.classifier.model.get_weights()])
        weights_view(task.classifier.model).load_weights(file)
        found.append(float(loss(targets, task.classifier.model(pixels))))
    # Stored activations are of half the digits.
    assert found == pytest.approx([float(line[2]) for line in lines(task.run)[1:]], rel=1e-4 if lowest == "all" else 1e-2)
    assert len(set(found)) == 3


def test_snapshots_fit_the_model_that_is_saved(tasks: dict[str, Task], tmp_path: Path) -> None:
    task = tasks["stage3"]
    weights_view(task.classifier.model).save(tmp_path / "model.keras")
    model = keras.models.load_model(tmp_path / "model.keras", compile=False)
    for file in snapshots_of(task.run):
        model.load_weights(file)
        assert same(model.get_weights(), read(task, file))


class StopAt(Progress):
    """Ctrl-C as the line of some epoch of finetuning comes: its state is written, nothing else."""

    def __init__(self, epoch: int) -> None:
        self.start = f"finetune {epoch:>3}/"

    def line(self, text: str) -> None:
        if text.startswith(self.start):
            raise KeyboardInterrupt


@pytest.mark.slow
def test_killed_and_resumed_on_stored_activations_keeps_the_snapshots_of_the_whole(make_task: MakeTask, tasks: dict[str, Task]) -> None:
    """Every place where a kill may come is in test_phases."""
    whole, stopped = tasks["stage3"], make_task(progress=StopAt(4), **settings("stage3"))
    with pytest.raises(KeyboardInterrupt):
        finetune(stopped)
    assert len(snapshots_of(stopped.run)) == 1
    resumed = make_task(**settings("stage3"))
    finetune(resumed)
    assert lines(resumed.run) == lines(whole.run)
    for file, expected in zip(snapshots_of(resumed.run), snapshots_of(whole.run), strict=True):
        assert same(read(whole, file), read(whole, expected)), file.name


def test_snapshots_come_in_the_order_of_cycles(tmp_path: Path) -> None:
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    keep = KeepSnapshots(RunFolder(tmp_path), model, range(1, 12))
    for epoch in range(11):
        keep.on_epoch_end(epoch, {"val_loss": 1.0, "val_accuracy": epoch / 10})
    assert [file.name for file in snapshots_of(RunFolder(tmp_path))] == [f"{number}.weights.h5" for number in range(1, 12)]


def test_a_run_without_snapshots_has_none_and_a_lost_one_is_said(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert snapshots_of(run) == []
    (run / SNAPSHOTS).mkdir()
    (run / SNAPSHOTS / LIST).write_text("snapshot,epoch,val_loss,val_accuracy\n1,2,0.5,0.5\n")
    with pytest.raises(RunFolderError, match=r"1\.weights\.h5: is missing, and snapshots\.csv beside it names it\. Restore it"):
        snapshots_of(run)
