"""Snapshots: the weights that training has come to each time its rate has fallen to 0, kept for an ensemble or a soup.

One training with restarts gives as many models as it has cycles (Huang et al. 2017, Snapshot Ensembles, arXiv:1704.00109).
What becomes of them, this does not know; who does asks `snapshots_of`.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from tl_keras.errors import RunFolderError
from tl_keras.models.outputs import SINGLE_LABEL, Output
from tl_keras.models.saved import write_weights
from tl_keras.run_folder import SNAPSHOTS, RunFolder, reading, write_csv
from tl_keras.transfer.checkpoints import weights_view

LIST = "snapshots.csv"


class KeepSnapshots(keras.callbacks.Callback):
    """Write the weights of a whole classifier at the end of each cycle, and then a line of snapshots.csv, its commit.

    Comes after EMA weights are swapped in and before the epoch is committed: what is killed in between is done again, and
    written again the same.

    Args:
        run: gets `snapshots/1.weights.h5`, `2.weights.h5`, ... and `snapshots/snapshots.csv`.
        whole: the classifier, of which the model that is fitted may be the part that trains.
        ends: the epochs, 1-based and rising, with which the cycles end.
        output: what the outputs of the classifier mean.
    """

    def __init__(self, run: RunFolder, whole: keras.Model, ends: Sequence[int], output: Output = SINGLE_LABEL) -> None:
        super().__init__()
        self.header = ("snapshot", "epoch", *output.monitored)
        self.folder, self.whole, self.ends = run / SNAPSHOTS, whole, list(ends)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if epoch + 1 not in self.ends:
            return
        number, logs = self.ends.index(epoch + 1) + 1, logs or {}
        self.folder.mkdir(exist_ok=True)
        write_weights(self.folder / _name(number), weights_view(self.whole))
        figures = [f"{float(logs[name]):.6g}" for name in self.header[2:]]
        write_csv(self.folder / LIST, self.header, [*_lines(self.folder)[: number - 1], [str(number), str(epoch + 1), *figures]])


def snapshots_of(run: RunFolder) -> list[Path]:
    """The weights files of a run's snapshots, in the order of the cycles; none where it kept none.

    Each is for the network of the run's `model.keras`, which takes it by `load_weights`. The lines of
    `snapshots/snapshots.csv` are in the same order.

    Raises:
        RunFolderError: one that snapshots.csv names is gone.
    """
    with reading(run / SNAPSHOTS / LIST, "a list of snapshots", "Restore it, or train again."):
        files = [run / SNAPSHOTS / _name(int(line[0])) for line in _lines(run / SNAPSHOTS)]
    for file in files:
        if not file.is_file():
            raise RunFolderError(f"{file}: is missing, and {LIST} beside it names it. Restore it, or train again.")
    return files


def _name(number: int) -> str:
    return f"{number}.weights.h5"


def _lines(folder: Path) -> list[list[str]]:
    """The lines of snapshots.csv below its header."""
    if not (folder / LIST).is_file():
        return []
    with (folder / LIST).open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))[1:]
