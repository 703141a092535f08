"""The logs for TensorBoard, read back with TensorBoard."""

from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tl_keras.evaluation.event_log import EventLog, single_figures, write_result
from tl_keras.run_folder import EVENTS, HISTORY, RunFolder, write_csv

Curves = dict[str, dict[str, list[tuple[int, float]]]]


def events(folder: Path) -> Curves:
    """What TensorBoard reads in each folder that has an event file: tag -> (step, value) in their order."""
    found: Curves = {}
    for file in sorted(folder.rglob("events.out.tfevents.*")):
        log = EventAccumulator(str(file.parent)).Reload()
        curves = {tag: [(each.step, each.value) for each in log.Scalars(tag)] for tag in log.Tags()["scalars"]}
        assert found.setdefault(str(file.parent.relative_to(folder)), curves) is curves, f"two files in {file.parent}"
    return found


def approximately(values: list[tuple[int, float]]) -> Any:
    return [(step, pytest.approx(value, rel=1e-6)) for step, value in values]  # an event holds float32


def test_a_log_has_a_folder_for_each_phase_in_which_train_and_val_share_their_names(tmp_path: Path) -> None:
    log = EventLog(RunFolder(tmp_path))
    log.epoch("head", 1, {"loss": 3.0, "val_loss": 4.0, "head_c": 0.5})
    log.epoch("finetune", 0, {"val_loss": 4.0})
    log.epoch("finetune", 1, {"loss": 2.0, "val_loss": 1.0, "learning_rate": 1e-4})
    assert events(tmp_path / EVENTS) == {
        "head/train": {"loss": [(1, 3.0)], "head_c": [(1, 0.5)]},
        "head/val": {"loss": [(1, 4.0)]},
        "finetune/train": {"loss": [(1, 2.0)], "learning_rate": approximately([(1, 1e-4)])},
        "finetune/val": {"loss": [(0, 4.0), (1, 1.0)]},
    }


def test_a_run_that_goes_on_has_each_epoch_once_and_leaves_other_phases_alone(tmp_path: Path) -> None:
    run, columns = RunFolder(tmp_path), ("phase", "epoch", "loss", "val_loss")
    before = EventLog(run)
    before.epoch("head", 1, {"loss": 7.0})
    for epoch in (1, 2, 3):
        before.epoch("finetune", epoch, {"loss": float(epoch), "val_loss": 10.0 * epoch})
    lines = [("head", 1, 7.0, ""), ("finetune", 1, 1.0, 10.0), ("finetune", 2, 2.0, 20.0)]
    write_csv(run / HISTORY, columns, [*lines, ("finetune", 3, 0.5, 0.25)])  # epoch 3 was done again
    EventLog(run).epoch("finetune", 3, {"loss": 0.5, "val_loss": 0.25})
    assert events(tmp_path / EVENTS) == {
        "head/train": {"loss": [(1, 7.0)]},
        "finetune/train": {"loss": [(1, 1.0), (2, 2.0), (3, 0.5)]},
        "finetune/val": {"loss": [(1, 10.0), (2, 20.0), (3, 0.25)]},
    }


def test_the_result_has_figures_with_their_intervals_and_the_settings_once(tmp_path: Path) -> None:
    metrics = {"seed": 0, "val": {"accuracy": 0.5}, "test": {"accuracy": 0.75, "accuracy_ci95": [0.5, 1.0], "per_class": {"a": {}}}}
    for _ in range(2):
        write_result(RunFolder(tmp_path), metrics, "mode: extract\nname: b\udcff\n")
    found = events(tmp_path / EVENTS)
    assert found["result/val"] == {"result/accuracy": [(0, 0.5)]}
    assert found["result/test"] == {"result/accuracy": [(0, 0.75)], "result/accuracy_low": [(0, 0.5)], "result/accuracy_high": [(0, 1.0)]}
    log = EventAccumulator(str(tmp_path / EVENTS / "result")).Reload()
    assert log.Tags()["tensors"] == ["config"]
    assert [each.tensor_proto.string_val[0].decode() for each in log.Tensors("config")] == ["```\nmode: extract\nname: b?\n```"]


def test_single_figures_are_numbers_and_the_ends_of_intervals() -> None:
    figures = {"mae": 2.0, "mae_ci95": [1.0, 3.0], "confusion_matrix": [[1, 2]], "per_class": {"a": {"recall": 1.0}}, "roc_auc": None}
    assert single_figures(figures) == {"mae": 2.0, "mae_low": 1.0, "mae_high": 3.0}
