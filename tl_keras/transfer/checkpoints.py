"""What a phase saves as it goes: its state for --resume, its best weights, its history.

Every epoch ends in this order: the state's weights, a snapshot where a cycle ends, the best weights, and last `<phase>.json`,
whose epoch numbers name them. A run killed in between continues from the epoch before, whose files are all still there. In a long epoch
the state is written on the way too, and `<phase>.json` has the step then.
"""

import csv
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from tl_keras.errors import TrainingError
from tl_keras.models.outputs import PLAIN_LOSS, SINGLE_LABEL, Output
from tl_keras.models.saved import read_more, read_weights, write_weights
from tl_keras.progress import Progress
from tl_keras.run_folder import naming, reading, write_atomically, write_csv, write_json
from tl_keras.runtime import building_as, on_devices
from tl_keras.tasks import figure_text
from tl_keras.transfer.replicas import assign_on_each, is_due

TIE = 0.02  # relative: losses on val that differ by less are as good as each other
OF_DEVICE = 2**24  # times the number of a device, added to the count of draws, of which Keras takes what is left of 2**31 - 2
AGAIN = "Restore it, or train again in another --run-dir."


@dataclass
class PhaseState:
    """How far a phase has come.

    Attributes:
        epoch: epochs done.
        step: steps done of the epoch after these, where the state was written in the middle of it.
        best_epoch: the best of them, 1-based; 0 before the first is done, and as long as none beats the weights that the
            phase began with, where these count (`Phase.start`).
        best: the monitored value of the best epoch, or of the weights that the phase began with.
        leading: the best monitored value of the epochs that are better than what the phase began with.
        trained: the best monitored value of any epoch that was trained.
        waited: epochs since that one.
        done: whether the phase is over, by its last epoch or by patience.
    """

    epoch: int = 0
    best_epoch: int = 0
    best: float | None = None
    leading: float | None = None
    trained: float | None = None
    waited: int = 0
    done: bool = False
    step: int = 0


class PhaseFiles:
    """The checkpoint files of one phase in a run's `checkpoints/` folder."""

    def __init__(self, folder: Path, phase: str) -> None:
        self.folder, self.phase = folder, phase

    def best(self, epoch: int) -> Path:
        """The weights of a best epoch, without the optimiser's."""
        return self.folder / f"{self.phase}.best{epoch}.weights.h5"

    def state(self, epoch: int, step: int = 0) -> Path:
        """The weights and the optimiser's state after some epoch and so many steps of the next one."""
        return self.folder / f"{self.phase}.epoch{epoch}{f'.step{step}' if step else ''}.weights.h5"

    def read(self) -> PhaseState:
        """The state as far as it was written; a fresh one where none was."""
        file = self.folder / f"{self.phase}.json"
        if not file.is_file():
            return PhaseState()
        with reading(file, "the state of a phase", AGAIN):
            return _checked(PhaseState(**json.loads(file.read_text(encoding="utf-8"))))

    def load(self, model: keras.Model, weights: Path) -> None:
        """Load weights that were written here.

        Raises:
            RunFolderError: they are gone, damaged or of another network.
        """
        with reading(weights, "the weights of this phase", AGAIN):
            read_weights(weights, model)

    def read_more(self, epoch: int, step: int) -> list[NDArray[Any]]:
        """What `SaveState` wrote beside the weights within an epoch.

        Raises:
            RunFolderError: as `load`.
        """
        with reading(self.state(epoch, step), "the weights of this phase", AGAIN):
            return read_more(self.state(epoch, step))

    def write(self, state: PhaseState) -> None:
        """Commit a state: from here on it is what --resume goes on from."""
        write_json(self.folder / f"{self.phase}.json", asdict(state))
        kept = {self.state(state.epoch, state.step), self.best(state.best_epoch)}
        for old in set(self.folder.glob(f"{self.phase}.*.weights.h5")) - kept:
            old.unlink()


def _checked(state: PhaseState) -> PhaseState:
    """The same, or TypeError where a value is of another type: it would be noticed hours later."""
    counts = (state.epoch, state.step, state.best_epoch, state.waited)
    values = (state.best, state.leading, state.trained)
    whole = all(type(count) is int and count >= 0 for count in counts) and state.best_epoch <= state.epoch
    if not whole or any(type(value) not in (float, int, type(None)) for value in values) or type(state.done) is not bool:
        raise TypeError("it is not the state of a phase")
    return state


@dataclass(frozen=True)
class Monitor:
    """A figure that chooses an epoch.

    Attributes:
        name: among the logs of an epoch.
        title: what messages call it.
        direction: 'min' or 'max', which of it is better.
    """

    name: str
    title: str
    direction: str

    @classmethod
    def on_val(cls, output: Output, name: str) -> "Monitor":
        """One of the figures of `Output.monitored`."""
        return cls(name, f"val {output.titles[name]}", output.monitored[name])

    def is_better(self, value: float, other: float | None) -> bool:
        """Whether one value is better than another, or the first."""
        return other is None or (value > other if self.direction == "max" else value < other)

    def is_as_good(self, value: float, best: float | None) -> bool:
        """Whether a value is the best, or no worse than by chance: of losses those within `TIE`."""
        if best is None or self.direction == "max":
            return best is None or value >= best
        return value <= best * (1 + TIE * (self.name == "val_loss"))


def weights_view(model: keras.Model) -> keras.Model:
    """The same layers without the optimiser, so that saving it saves weights only."""
    with building_as(model):
        return keras.Model(model.input, model.output, name=model.name)


class SaveState(keras.callbacks.Callback):
    """Write the weights and the optimiser's state after each epoch, and every few minutes of a long one.

    Within an epoch, the sums that its figures on train are made of are written too, and how often each layer has drawn: so it ends as if
    it had never stopped. Comes after `KeyDropout`, and before EMA weights are swapped in.

    Args:
        state: how far the phase has come.
        minutes: between two writes within an epoch.
    """

    def __init__(self, files: PhaseFiles, state: PhaseState, minutes: float) -> None:
        super().__init__()
        self.files, self.state, self.seconds = files, state, 60 * minutes
        self.written = 0.0
        self.sums: list[NDArray[Any]] = []

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.written = time.monotonic()
        if not self.state.step:
            return
        generators = _generators(self.model)
        drawn = self.files.read_more(epoch, self.state.step)
        for generator in generators:
            go_on_drawing(generator, drawn.pop(0))
        self.sums = drawn

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        metrics = self.model.metrics_variables
        with on_devices():
            for total, before in zip(metrics, self.sums, strict=self.sums != []):
                total.assign(before + keras.ops.convert_to_numpy(total))
        self.sums = []
        if batch + 1 < self.params["steps"] and is_due(batch + 1, time.monotonic() - self.written >= self.seconds):
            self._write(batch + 1, metrics)

    def _write(self, step: int, metrics: Sequence[Any]) -> None:
        self.state.step = step
        drawn = [generator.state for generator in _generators(self.model)]
        with on_devices():
            more = [keras.ops.convert_to_numpy(each) for each in (*drawn, *metrics)]
        write_weights(self.files.state(self.state.epoch, step), self.model, more)
        self.files.write(self.state)
        self.written = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        write_weights(self.files.state(epoch + 1), self.model)


class CheckFinite(keras.callbacks.Callback):
    """Stop a training run whose loss is not finite; comes before anything that keeps its weights as a result."""

    def __init__(self, phase: str) -> None:
        super().__init__()
        self.phase = phase

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = logs or {}
        for name in ("loss", "val_loss"):  # whatever is monitored: an accuracy stays finite when the weights do not
            if not math.isfinite(logs[name]):
                rate = "head_learning_rate" if self.phase == "head" else "learning_rate"
                raise TrainingError(f"{self.phase} epoch {epoch + 1}: {name} is {logs[name]}. Lower train.{rate}, or set train.clip_norm.")


class PlainLossOfVal(keras.callbacks.Callback):
    """Let `val_loss` be the plain loss of val, whatever training lowers; comes before all that read it.

    The loss that training lowers may be smoothed, focal or squared, and its values do not compare with those of the head,
    of metrics.json or of another run. So the plain loss (log loss with the labels as they are, every image counting the same; in
    a regression the squared error) is what is shown, what history.csv has, and what `train.monitor: val_loss` chooses the best epoch by.
    """

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is not None:  # one dictionary, which all callbacks are handed
            logs["val_loss"] = logs[f"val_{PLAIN_LOSS}"]


class Watch(keras.callbacks.Callback):
    """Measure a figure that is not of val after each epoch; comes before all that read it.

    Args:
        monitor: whose name it gets among the logs.
        measure: what measures it, of the weights as they are.
    """

    def __init__(self, monitor: Monitor, measure: Callable[[], float]) -> None:
        super().__init__()
        self.monitor, self.measure = monitor, measure

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is not None:
            logs[self.monitor.name] = self.measure()


class StopInTime(keras.callbacks.Callback):
    """Stop after the epoch whose successor would end too late, if that takes as long as the longest so far.

    Args:
        minutes: that all epochs may take.
    """

    def __init__(self, phase: str, minutes: float, progress: Progress) -> None:
        super().__init__()
        self.phase, self.seconds, self.progress = phase, 60 * minutes, progress
        self.begun = self.epoch_begun = 0.0
        self.longest = 0.0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.begun = time.perf_counter()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.epoch_begun = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        now = time.perf_counter()
        self.longest = max(self.longest, now - self.epoch_begun)
        if epoch + 1 < self.params["epochs"] and now - self.begun + self.longest > self.seconds:
            self.model.stop_training = True
            self.progress.line(
                f"{self.phase}: stops after epoch {epoch + 1} of {self.params['epochs']}: its {self.seconds / 60:g} minutes are up"
            )


class KeepBest(keras.callbacks.Callback):
    """Write the weights of the best epoch, stop when none gets better, and commit the epoch.

    The best is the last epoch whose monitored value is as good as the best value of any: equal for an accuracy, and for a loss at
    most `TIE` above the lowest. So small a difference is chance on a val of hundreds of images, and of epochs that val cannot tell
    apart the later, at a lower rate, generalises better (flowers, three seeds: 0.930, 0.930 and 0.935 on test, where the lowest log
    loss gives 0.920, 0.905 and 0.935, and the lowest smoothed loss 0.925, 0.925 and 0.935).
    Where what the phase began with counts (`start`), an epoch has to be better than that: by the monitored value or by the metric. A
    head that was solved has the lowest log loss that it can have, and weights that learned smoothed labels have not, even where they
    are right more often.

    Patience counts the epochs without a better value among those that were trained: the first epochs, at a high rate, may well be
    worse than what the phase began with, and get better all the same.

    Args:
        monitor: what chooses.
        start: figures of the weights that the phase began with; None where these are not worth keeping.
        also: further figures, by which an epoch may be better than the start instead.
        passed_over: the first epochs, which are not chosen whatever they reach.
    """

    def __init__(
        self,
        files: PhaseFiles,
        state: PhaseState,
        monitor: Monitor,
        patience: int | None,
        start: Mapping[str, float] | None = None,
        also: Sequence[Monitor] = (),
        passed_over: int = 0,
    ) -> None:
        super().__init__()
        self.passed_over = passed_over
        self.files, self.state, self.monitor, self.patience, self.start, self.also = files, state, monitor, patience, start, also

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs, monitor, state = logs or {}, self.monitor, self.state
        value = float(logs[monitor.name])
        state.epoch, state.step = epoch + 1, 0
        counts = state.epoch > self.passed_over
        if counts and monitor.is_better(value, state.trained):
            state.trained, state.waited = value, 0
        else:
            state.waited += counts
        if counts and self._beats_start(logs) and monitor.is_as_good(value, state.leading):
            state.best, state.best_epoch = value, epoch + 1
            if monitor.is_better(value, state.leading):
                state.leading = value
            write_weights(self.files.best(epoch + 1), weights_view(self.model))
        enough = self.patience is not None and state.waited >= self.patience
        if enough:
            self.model.stop_training = True
        state.done = enough or epoch + 1 == self.params["epochs"] or bool(getattr(self.model, "stop_training", False))
        self.files.write(state)

    def _beats_start(self, logs: Mapping[str, Any]) -> bool:
        if self.start is None:
            return True
        return any(each.is_better(float(logs[each.name]), self.start[each.name]) for each in (self.monitor, *self.also))


class KeyDropout(keras.callbacks.Callback):
    """Key the draws of dropout by (seed, step, device), so that a continued run draws what the whole one would."""

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        for generator in _generators(self.model):
            seed = keras.ops.convert_to_numpy(generator.state)[0]
            go_on_drawing(generator, np.array([seed, epoch * self.params["steps"]], generator.state.dtype))


def go_on_drawing(generator: Any, state: NDArray[Any]) -> None:
    """Let a generator go on from the state that the first device's is in, on each device in a way of its own.

    Args:
        state: seed and count of draws, integers (2,).
    """
    assign_on_each(generator.state, lambda device: state + np.array([0, device * OF_DEVICE], state.dtype))


def _generators(model: keras.Model) -> list[Any]:
    """What the layers of a model draw with, whose counts Keras keeps out of every checkpoint."""
    found = (getattr(layer, "seed_generator", None) for layer in model._flatten_layers())
    return [generator for generator in found if generator is not None]


class History(keras.callbacks.Callback):
    """Append a line to history.csv and report one line after each epoch; the learning rate in it is that of the last step.

    Args:
        first_epoch: epochs that were done before.
        start: `val_loss` and the metric on val of the weights that the phase begins with, which become the line of epoch 0: it has
            no loss, no rate and no seconds, for nothing was trained. None where they do not count.
        mixes: whether images are mixed: of an image that is 60 % rose no answer is right or wrong, so there is no metric on train.
        output: what the outputs of the model mean.
    """

    def __init__(
        self,
        file: Path,
        phase: str,
        epochs: int,
        first_epoch: int,
        progress: Progress,
        start: Mapping[str, float] | None = None,
        *,
        mixes: bool = False,
        output: Output = SINGLE_LABEL,
    ) -> None:
        super().__init__()
        self.mixes, self.output = mixes, output
        self.file, self.phase, self.epochs, self.progress = file, phase, epochs, progress
        self.started, self.rate = 0.0, 0.0
        _keep_lines_before(file, phase, first_epoch, history_header(output))
        if start is not None and first_epoch == 0:
            on_val = (start["val_loss"], start[output.val_metric])
            self._append(0, None, None, *on_val, None, None)
            told = f"val {self._figures(*on_val)}"
            self.progress.line(f"{self._numbered(0)}  the head before finetuning  {told}")

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.started = time.perf_counter()

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if batch + 1 == self.params["steps"]:  # at the end of the epoch the optimizer has the next step's, at a restart the peak
            self.rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs, seconds = logs or {}, time.perf_counter() - self.started
        loss, metric, *on_val = (float(logs[name]) for name in self.output.history)
        self._append(epoch + 1, loss, None if self.mixes else metric, *on_val, self.rate, round(seconds, 2))
        on_train = f"loss {loss:.4f} (mixed)" if self.mixes else self._figures(loss, metric)
        told = f"{on_train}  val {self._figures(*on_val)}"
        self.progress.line(f"{self._numbered(epoch + 1)}  {told}  {seconds:.1f} s")  # 80 columns at most

    def _figures(self, loss: float, metric: float) -> str:
        return f"loss {loss:.4f} {self.output.metric_short} {figure_text(self.output.metric_name, metric)}"

    def _numbered(self, epoch: int) -> str:
        return f"{self.phase} {epoch:>3}/{self.epochs}"

    def _append(self, epoch: int, *values: float | None) -> None:
        with naming(self.file), self.file.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerow([self.phase, epoch, *map(_figure, values)])
        figures = dict(zip(history_header(self.output)[2:], values, strict=True))
        self.progress.epoch(self.phase, epoch, {name: value for name, value in figures.items() if value is not None})


def history_header(output: Output) -> tuple[str, ...]:
    """The columns of history.csv."""
    return ("phase", "epoch", *output.history, "learning_rate", "seconds")


def write_only_epoch(file: Path, phase: str, figures: Mapping[str, float], output: Output, progress: Progress) -> None:
    """Write history.csv with the one line of a phase that is solved, and report it.

    Args:
        figures: by the columns of history.csv, and by further ones.
    """
    header = dict.fromkeys((*history_header(output), *figures))
    write_csv(file, tuple(header), [(phase, 1, *(_figure(figures.get(name)) for name in list(header)[2:]))])
    progress.epoch(phase, 1, figures)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _keep_lines_before(file: Path, phase: str, first_epoch: int, expected: tuple[str, ...]) -> None:
    """Start history.csv, or drop the lines of epochs that a continued run does again."""
    lines = [list(expected)]
    if file.is_file():
        with reading(file, "the history of a run", AGAIN), file.open(newline="", encoding="utf-8") as old:
            header, *found = csv.reader(old)
            if tuple(header) != expected:
                raise ValueError(f"its first line is {','.join(header)[:80]}")
            lines += [line for line in found if len(line) == len(header) and _stays(line, phase, first_epoch)]  # a kill may have torn one

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as new:
            csv.writer(new, lineterminator="\n").writerows(lines)

    write_atomically(file, write)


def _stays(line: list[str], phase: str, first_epoch: int) -> bool:
    name, epoch, *figures = line
    _ = [float(figure) for figure in figures if figure]  # the curves are drawn of them, at the very end
    number = int(epoch)
    return name != phase or 0 <= number <= first_epoch != 0  # a phase that begins writes its epoch 0 itself


class Bar(keras.callbacks.Callback):
    """Move a progress bar one step a batch; the bar of an epoch ends with it."""

    def __init__(self, phase: str, steps: int, progress: Progress) -> None:
        super().__init__()
        self.phase, self.steps, self.progress = phase, steps, progress
        self.seen = 0
        self.bar: Any = None
        self.advance: Any = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.seen = 0
        self.bar = self.progress.bar(f"{self.phase} epoch {epoch + 1}", self.steps)
        self.advance = self.bar.__enter__()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.advance(batch + 1 - self.seen)  # an epoch that is continued does not begin with its first step
        self.seen = batch + 1

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.close()

    def close(self) -> None:
        """End the bar, also after an interrupt."""
        if self.bar is not None:
            self.bar.__exit__(None, None, None)
            self.bar = None
