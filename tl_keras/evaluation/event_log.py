"""What TensorBoard shows of a run: its curves as they grow, and its figures and settings in the end.

An event file only grows, as TensorBoard, which follows it, expects; so each phase has a folder of its own, which is begun anew where a
run that was interrupted does an epoch again.
"""

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tl_keras.evaluation.history import figures_of, read_history
from tl_keras.run_folder import EVENTS, HISTORY, RunFolder, naming

RESULT = "result"  # the folder beside those of the phases
MEASURED = ("val", "test")


class EventLog:
    """The log of a run's epochs: a folder for each phase, in it `train` and `val`, whose figures lie over each other.

    Args:
        run: its history.csv has the epochs that were done before.
    """

    def __init__(self, run: RunFolder) -> None:
        self._run = run
        self._begun = set[str]()

    def epoch(self, phase: str, number: int, figures: Mapping[str, float]) -> None:
        """Add the figures of an epoch, by the columns of history.csv; where it is the first here, those before it too."""
        folder = self._run / EVENTS / phase
        if phase not in self._begun:
            shutil.rmtree(folder, ignore_errors=True)
            for row in read_history(self._run / HISTORY):
                if row["phase"] == phase and int(row["epoch"]) < number:
                    self._write(folder, int(row["epoch"]), figures_of(row))
            self._begun.add(phase)
        self._write(folder, number, figures)

    def _write(self, folder: Path, number: int, figures: Mapping[str, float]) -> None:
        on_val = {name.removeprefix("val_"): value for name, value in figures.items() if name.startswith("val_")}
        on_train = {name: value for name, value in figures.items() if not name.startswith("val_")}
        for split, found in (("train", on_train), ("val", on_val)):
            if found:  # epoch 0 has nothing of train
                write_scalars(folder / split, number, found)


def write_result(run: RunFolder, metrics: Mapping[str, Any], settings: str) -> None:
    """Write what a run came to: the figures of each split, the ends of their intervals among them, and its settings in YAML."""
    folder = run / EVENTS / RESULT
    shutil.rmtree(folder, ignore_errors=True)
    for split in MEASURED:
        if split in metrics:
            write_scalars(folder / split, 0, {f"{RESULT}/{name}": value for name, value in single_figures(metrics[split]).items()})
    write_note(folder, "config", f"```\n{settings}```")


def single_figures(figures: Mapping[str, Any]) -> dict[str, float]:
    """The figures of a split that are one number each, and the ends of their intervals: `accuracy`, `accuracy_low`, `accuracy_high`."""
    found: dict[str, float] = {}
    for name, value in figures.items():
        if name.endswith("_ci95"):
            figure = name.removesuffix("_ci95")
            found |= {f"{figure}_low": value[0], f"{figure}_high": value[1]}
        elif isinstance(value, int | float):
            found[name] = value
    return found


def write_scalars(folder: Path, step: int, figures: Mapping[str, float]) -> None:
    """Append numbers of one step to the event file of a folder."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    values = [Summary.Value(tag=name, simple_value=value) for name, value in figures.items()]
    _append(folder, step=step, summary=Summary(value=values))


def write_note(folder: Path, name: str, text: str) -> None:
    """Append Markdown to the event file of a folder."""
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.types_pb2 import DT_STRING

    shown_as = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    tensor = TensorProto(dtype=DT_STRING, string_val=[text.encode("utf-8", "replace")])
    _append(folder, step=0, summary=Summary(value=[Summary.Value(tag=name, metadata=shown_as, tensor=tensor)]))


def _append(folder: Path, **event: Any) -> None:
    """Append an event to the one event file of a folder; TensorFlow's own writer would hold it open, and would hide a full disk."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    now = time.time()
    known = next(folder.glob("events.out.tfevents.*"), None)
    events = [] if known else [Event(wall_time=now, file_version="brain.Event:2")]
    file = known or folder / f"events.out.tfevents.{now:.0f}.tl_keras"
    with naming(file):
        folder.mkdir(parents=True, exist_ok=True)
        with file.open("ab") as opened:
            records = RecordWriter(opened)
            for each in (*events, Event(wall_time=now, **event)):
                records.write(each.SerializeToString())
