"""The files of a phase and its history, without training anything."""

import csv
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tl_keras.errors import RunFolderError
from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.progress import Progress
from tl_keras.transfer import checkpoints
from tl_keras.transfer.checkpoints import (
    Bar,
    History,
    KeepBest,
    KeyDropout,
    Monitor,
    PhaseFiles,
    PhaseState,
    StopInTime,
    history_header,
    weights_view,
)

HEADER = history_header(SINGLE_LABEL)


def model_of_one() -> keras.Model:
    inputs = keras.Input((2,))
    return keras.Model(inputs, keras.layers.Dense(1, name="dense")(inputs))


def test_state_survives_the_file(tmp_path: Path) -> None:
    files, state = PhaseFiles(tmp_path, "head"), PhaseState(epoch=3, best_epoch=2, best=0.25, waited=1, done=True)
    assert files.read() == PhaseState()
    files.write(state)
    assert files.read() == state


def test_commit_keeps_its_own_two_files_and_those_of_others(tmp_path: Path) -> None:
    mine = ["head.epoch1.weights.h5", "head.epoch2.weights.h5", "head.best1.weights.h5", "head.best2.weights.h5"]
    others = ["head.weights.h5", "finetune.epoch1.weights.h5"]
    for name in mine + others:
        (tmp_path / name).touch()
    PhaseFiles(tmp_path, "head").write(PhaseState(epoch=2, best_epoch=1))
    assert {path.name for path in tmp_path.iterdir()} == {mine[1], mine[2], *others, "head.json"}


@pytest.mark.parametrize(
    ("monitor", "values", "start", "best", "waited"),
    [
        ("val_loss", [3, 1, 1, 2], None, 3, 2),
        ("val_loss", [3, 1, 1.015, 1.03], None, 3, 2),
        ("val_loss", [3, 1, 1.015, 0.99], 1.01, 4, 0),
        ("val_loss", [3, 1, 1.015, 2], 1.01, 2, 2),  # what is worse than the beginning is not kept
        ("val_loss", [3, 1, 1, 2], 0.5, 0, 2),
        ("val_accuracy", [0.1, 0.9, 0.9, 0.89], None, 3, 2),
        ("val_accuracy", [0.1, 0.9, 0.9, 0.89], 0.9, 0, 2),
    ],
)
def test_best_epoch_is_the_last_of_those_that_are_as_good(
    tmp_path: Path, monitor: str, values: list[float], start: float | None, best: int, waited: int
) -> None:
    state = PhaseState(best=start)
    begun = None if start is None else {"val_accuracy": 1.0, monitor: start}
    keep = KeepBest(PhaseFiles(tmp_path, "head"), state, Monitor.on_val(SINGLE_LABEL, monitor), patience=2, start=begun)
    keep.set_model(model_of_one())
    keep.set_params({"epochs": 4})
    for epoch, value in enumerate(values):
        assert not state.done
        keep.on_epoch_end(epoch, {"loss": 1.0, "val_loss": 1.0, "val_accuracy": 0.5, monitor: value})
    trained = min(values) if monitor == "val_loss" else max(values)
    assert (state.epoch, state.best_epoch, state.best, state.trained) == (4, best, values[best - 1] if best else start, trained)
    assert (state.leading, state.waited, state.done) == (trained if best else None, waited, True)
    assert bool(getattr(keep.model, "stop_training", False)) is (waited == 2)
    assert [path.name for path in tmp_path.glob("*.h5")] == [f"head.best{best}.weights.h5"][: 1 if best else 0]


@pytest.mark.parametrize(
    ("losses", "accuracies", "best"),
    [
        ([0.6, 0.4, 0.39, 0.395], [0.7, 0.8, 0.91, 0.92], 4),  # right more often than the head, of a higher loss
        ([0.36, 0.4, 0.45, 0.44], [0.8, 0.92, 0.91, 0.9], 2),  # of those that are, the lowest loss; the first is worse in both
        ([0.6, 0.4, 0.39, 0.38], [0.7, 0.8, 0.9, 0.9], 0),  # equal is not better
        ([0.6, 0.34, 0.4, 0.45], [0.7, 0.8, 0.95, 0.95], 2),
    ],
)
def test_an_epoch_may_beat_the_beginning_by_accuracy(tmp_path: Path, losses: list[float], accuracies: list[float], best: int) -> None:
    state = PhaseState(best=0.35)
    loss, accuracy = (Monitor.on_val(SINGLE_LABEL, name) for name in ("val_loss", "val_accuracy"))
    begun = {"val_loss": 0.35, "val_accuracy": 0.9}
    keep = KeepBest(PhaseFiles(tmp_path, "finetune"), state, loss, None, start=begun, also=[accuracy])
    keep.set_model(model_of_one())
    keep.set_params({"epochs": 4})
    for epoch, (loss, accuracy) in enumerate(zip(losses, accuracies, strict=True)):
        keep.on_epoch_end(epoch, {"val_loss": loss, "val_accuracy": accuracy})
    assert (state.best_epoch, state.best) == (best, losses[best - 1] if best else 0.35)
    assert [path.name for path in tmp_path.glob("*.h5")] == [f"finetune.best{best}.weights.h5"][: 1 if best else 0]


def test_epochs_that_are_passed_over_count_neither_as_best_nor_for_patience(tmp_path: Path) -> None:
    state, loss = PhaseState(), Monitor.on_val(SINGLE_LABEL, "val_loss")
    keep = KeepBest(PhaseFiles(tmp_path, "finetune"), state, loss, patience=1, passed_over=3)
    keep.set_model(model_of_one())
    keep.set_params({"epochs": 9})
    seen = []
    for epoch, value in enumerate([0.1, 0.2, 0.3, 0.9, 0.8, 0.85]):
        keep.on_epoch_end(epoch, {"val_loss": value, "val_accuracy": 0.5})
        seen.append((state.best_epoch, state.waited, state.done))
    assert seen == [(0, 0, False), (0, 0, False), (0, 0, False), (4, 0, False), (5, 0, False), (5, 1, True)]


@pytest.mark.parametrize(("seconds", "stops"), [([20, 20, 19], None), ([20, 21, 9], 2), ([61], 1)], ids=["fits", "would not fit", "over"])
def test_a_phase_stops_while_the_next_epoch_would_still_end_in_time(
    tmp_path: Path, seconds: list[int], stops: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, told, state = 0.0, list[str](), PhaseState()
    progress = Progress()
    progress.line = told.append
    monkeypatch.setattr(checkpoints.time, "perf_counter", lambda: now)
    limit, keep = StopInTime("mcc", 1, progress), KeepBest(PhaseFiles(tmp_path, "mcc"), state, Monitor("figure", "figure", "max"), None)
    for callback in (limit, keep):
        callback.set_model(model_of_one())
        callback.set_params({"epochs": 3})
    keep.set_model(limit.model)
    limit.on_train_begin()
    for epoch, taken in enumerate(seconds):
        limit.on_epoch_begin(epoch)
        now += taken
        for callback in (limit, keep):
            callback.on_epoch_end(epoch, {"figure": 1.0})
        assert bool(getattr(limit.model, "stop_training", False)) is (epoch + 1 == stops)
        if epoch + 1 == stops:
            break
    assert told == ([] if stops is None else [f"mcc: stops after epoch {stops} of 3: its 1 minutes are up"])
    assert state.done is (stops is not None or len(seconds) == 3)


def test_history_keeps_other_phases_and_epochs_done(tmp_path: Path) -> None:
    file = tmp_path / "history.csv"
    lines = [[phase, str(epoch), *"123456"] for phase in ("head", "finetune") for epoch in (1, 2, 3)]
    with file.open("w", newline="") as out:
        csv.writer(out, lineterminator="\n").writerows([HEADER, *lines, ["finetune", "4", "0."]])
    History(file, "finetune", 9, first_epoch=2, progress=Progress())
    with file.open(newline="") as read:
        assert list(csv.reader(read)) == [list(HEADER), *lines[:5]]


@pytest.mark.parametrize("mixes", [False, True])
def test_history_has_no_accuracy_on_mixed_images(tmp_path: Path, mixes: bool) -> None:
    told: list[str] = []
    progress = Progress()
    progress.line = told.append
    history = History(tmp_path / "history.csv", "finetune", 9, first_epoch=0, progress=progress, mixes=mixes)
    history.on_epoch_end(0, {"loss": 1.25, "accuracy": 0.5, "val_loss": 0.75, "val_accuracy": 0.875})
    _, line = (tmp_path / "history.csv").read_text().splitlines()
    assert line.startswith("finetune,1,1.25,,0.75,0.875," if mixes else "finetune,1,1.25,0.5,0.75,0.875,")
    shown = "loss 1.2500 (mixed)  val loss" if mixes else "loss 1.2500 acc 0.5000  val loss"
    assert shown in told[0]
    History(tmp_path / "history.csv", "finetune", 9, first_epoch=1, progress=Progress(), mixes=mixes)  # a continued run reads it


@pytest.mark.parametrize(
    "spoil",
    [
        lambda lines: [*lines, *lines],  # twice in one another's place
        lambda lines: lines[1:],  # without its header
        lambda lines: [*lines[:2], lines[2].replace("5", "x"), *lines[3:]],
        lambda lines: [],
    ],
)
def test_a_damaged_history_is_told_before_anything_is_trained(tmp_path: Path, spoil: Any) -> None:
    file = tmp_path / "history.csv"
    lines = [",".join(HEADER), *(f"head,{epoch},1,2,3,4,5,6" for epoch in (1, 2, 3))]
    file.write_text("".join(f"{line}\n" for line in spoil(lines)))
    with pytest.raises(RunFolderError, match=r"history\.csv: is damaged, or is not the history of a run\. "):
        History(file, "finetune", 9, first_epoch=2, progress=Progress())


def test_dropout_draws_by_epoch() -> None:
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dropout(0.5, seed=3)])
    key = KeyDropout()
    key.set_model(model)
    key.set_params({"steps": 2})
    x = np.ones((4, 8), "float32")

    def draw(epoch: int) -> Any:
        key.on_epoch_begin(epoch)
        return [np.asarray(model(x, training=True)) for _ in range(2)]

    zero, one, again = draw(0), draw(1), draw(0)
    assert all(np.array_equal(a, b) for a, b in zip(zero, again, strict=True))
    assert not np.array_equal(zero[0], zero[1])
    assert not np.array_equal(zero[0], one[0])


def test_view_of_a_compiled_model_saves_no_optimizer(tmp_path: Path) -> None:
    model = model_of_one()
    model.compile("adam", "mse", run_eagerly=True)
    model.fit(np.ones((2, 2)), np.ones((2, 1)), verbose=0)
    whole, view = tmp_path / "a.weights.h5", tmp_path / "b.weights.h5"
    model.save_weights(whole)
    weights_view(model).save_weights(view)
    assert view.stat().st_size < whole.stat().st_size
    fresh = keras.models.clone_model(model)
    weights_view(fresh).load_weights(view)
    assert all(np.array_equal(a, b) for a, b in zip(fresh.get_weights(), model.get_weights(), strict=True))


def test_bar_ends_before_validation_and_only_once() -> None:
    told: list[Any] = []

    class Listening(Progress):
        def bar(self, title: str, total: int) -> Any:
            told.append((title, total))
            return self

        def __enter__(self) -> Any:
            return told.append

        def __exit__(self, *_: object) -> None:
            told.append("end")

    bar = Bar("finetune", 2, Listening())
    bar.on_epoch_begin(1)
    bar.on_train_batch_end(0)
    bar.on_train_batch_end(1)
    bar.on_test_begin()
    bar.close()
    assert told == [("finetune epoch 2", 2), 1, 1, "end"]
