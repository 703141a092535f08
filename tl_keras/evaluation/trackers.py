"""Experiment trackers: what MLflow and Weights & Biases hear of a training run, each by its own package, an extra of this one.

A run is worth more than its record elsewhere: a tracker that fails while the run goes on is told in a line, and asked no more.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from tl_keras.config import Config
from tl_keras.config_file import used_settings
from tl_keras.errors import ConfigError, RunFolderError, first_line
from tl_keras.evaluation.event_log import MEASURED, single_figures
from tl_keras.progress import Progress
from tl_keras.run_folder import BEST, CONFIG, CONFUSION, CURVES, HISTORY, METRICS, REPORT, TRACKER, RunFolder, read_json, write_json

FILES = (CONFIG, METRICS, HISTORY, REPORT, CURVES, CONFUSION)  # those of the run folder that a tracker gets
LAST_S = 60.0  # seconds that the end of a run may take to reach Weights & Biases; without a limit it waits for its server for ever
TRIES, MOST_TRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3"  # of a call: a quarter of a minute; MLflow's own seven take four minutes


class Tracker(Protocol):
    """A run as a tracker knows it.

    Attributes:
        id: its name there, by which a run that was interrupted goes on.
    """

    id: str

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Take the settings of a new run, by their paths."""

    def epoch(self, phase: str, number: int, figures: Mapping[str, float]) -> None:
        """Take the figures of an epoch."""

    def finish(self, figures: Mapping[str, float], files: list[Path]) -> None:
        """Take the figures of the end, such as `test/accuracy`, and files."""

    def end(self, *, ok: bool) -> None:
        """Close the run."""


@contextmanager
def few_tries() -> Iterator[None]:
    """Let MLflow try a call that its server does not answer a few times only, where the user has not said how often."""
    said = TRIES in os.environ
    os.environ.setdefault(TRIES, MOST_TRIES)
    try:
        yield
    finally:
        if not said:
            del os.environ[TRIES]


class Mlflow:
    """A run of MLflow; where it goes is said by MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME.

    Args:
        known: the run that goes on; None for a new one.
        title: the name of a new run.
    """

    @few_tries()
    def __init__(self, known: str | None, title: str) -> None:
        import mlflow

        self._mlflow = mlflow
        self.id: str = mlflow.start_run(run_id=known, run_name=title, nested=True).info.run_id  # nested: within a run of the user's, if any

    @few_tries()
    def begin(self, settings: Mapping[str, Any]) -> None:
        self._mlflow.log_params(dict(settings), run_id=self.id)

    @few_tries()
    def epoch(self, phase: str, number: int, figures: Mapping[str, float]) -> None:
        named = {f"{phase}/{name}": value for name, value in figures.items()}
        self._mlflow.log_metrics(named, step=number, run_id=self.id)

    @few_tries()
    def finish(self, figures: Mapping[str, float], files: list[Path]) -> None:
        self._mlflow.log_metrics(dict(figures), run_id=self.id)
        for file in files:
            self._mlflow.log_artifact(str(file), run_id=self.id)

    @few_tries()
    def end(self, *, ok: bool) -> None:
        active = self._mlflow.active_run()
        if active is not None and active.info.run_id == self.id:  # not one of the user's
            self._mlflow.end_run("FINISHED" if ok else "FAILED")


class Wandb:
    """A run of Weights & Biases; where it goes is said by WANDB_PROJECT, WANDB_MODE and its other variables. Arguments as `Mlflow`."""

    def __init__(self, known: str | None, title: str) -> None:
        import wandb

        own = {} if known is None else {"id": known, "resume": "allow"}
        settings = wandb.Settings(console="off", quiet=True, finish_timeout=LAST_S, finish_timeout_raises=True)
        self._wandb, self._phases = wandb, set[str]()
        self._run = wandb.init(name=title, reinit="create_new", settings=settings, **own)
        self.id: str = self._run.id

    def begin(self, settings: Mapping[str, Any]) -> None:
        self._run.config.update(dict(settings))

    def epoch(self, phase: str, number: int, figures: Mapping[str, float]) -> None:
        if phase not in self._phases:
            self._run.define_metric(f"{phase}/*", step_metric=f"{phase}/epoch")  # its own steps never go back
            self._phases.add(phase)
        self._run.log({f"{phase}/epoch": number} | {f"{phase}/{name}": value for name, value in figures.items()})

    def finish(self, figures: Mapping[str, float], files: list[Path]) -> None:
        self._run.summary.update(dict(figures))
        folder = self._wandb.Artifact(f"run-{self.id}", type="run-folder")
        for file in files:
            folder.add_file(str(file))
        self._run.log_artifact(folder)

    def end(self, *, ok: bool) -> None:
        self._run.finish(exit_code=0 if ok else 1)


TRACKERS: dict[str, Callable[[str | None, str], Tracker]] = {"mlflow": Mlflow, "wandb": Wandb}  # by package too


def require_tracker(name: str) -> None:
    """Raise ConfigError where the package of a tracker is not installed."""
    if name in TRACKERS and getattr(find_spec(name), "origin", None) is None:  # the folder wandb/ that its runs leave is no package
        raise ConfigError(f"runtime.tracker: got '{name}', which is not installed. Install it: pip install {name}. Or set none.")


class Record:
    """What a tracker gets of a run: nothing, where there is none, or once it has failed.

    Args:
        is_new: whether the run is new there.
    """

    def __init__(self, tracker: Tracker | None, name: str, run: RunFolder, progress: Progress, *, is_new: bool) -> None:
        self._tracker, self._name, self._run, self._progress, self._is_new = tracker, name, run, progress, is_new

    def begin(self, config: Config) -> None:
        """Hand over the settings of a run that is new there."""
        if self._is_new:
            self._try(lambda tracker: tracker.begin(used_settings(config)))

    def epoch(self, phase: str, number: int, figures: Mapping[str, float]) -> None:
        """Hand over the figures of an epoch, by the columns of history.csv."""
        self._try(lambda tracker: tracker.epoch(phase, number, figures))

    def finish(self, metrics: Mapping[str, Any]) -> None:
        """Hand over what a run came to, `metrics` being what metrics.json holds, and the files of its folder that `FILES` names."""
        splits = {split: single_figures(metrics[split]) for split in MEASURED if split in metrics}
        figures = {f"{split}/{name}": value for split, found in splits.items() for name, value in found.items()}
        files = [self._run / name for name in FILES if (self._run / name).is_file()]
        self._try(lambda tracker: tracker.finish(figures, files))

    def end(self, *, ok: bool) -> None:
        """Close the run there."""
        self._try(lambda tracker: tracker.end(ok=ok))

    def _try(self, tell: Callable[[Tracker], None]) -> None:
        if self._tracker is None:
            return
        try:
            tell(self._tracker)
        except Exception as error:  # of the kinds of its HTTP library, its server, its disk
            failed, self._tracker = self._tracker, None
            self._progress.line(without(self._name, error))
            with suppress(Exception):
                failed.end(ok=False)  # or what the user logs next would go there


def without(name: str, error: Exception) -> str:
    """A line for a run that goes on without its tracker."""
    return f"runtime.tracker: {name} failed ({first_line(error)}); the run goes on, and {name} gets no more of it"


@contextmanager
def tracking(config: Config, run: RunFolder, progress: Progress, *, resume: bool) -> Iterator[Record]:
    """Begin the record of a run with `runtime.tracker`, or go on with it, and close it in the end.

    Raises:
        ConfigError: the tracker does not take a new run. One that goes on does so without.
    """
    name, file = config.runtime.tracker, run / TRACKER
    known = _known(file, name) if resume else None
    try:
        tracker = _opened(name, known, run)
    except Exception as error:  # as above
        if not resume:
            raise _not_begun(name, error) from error
        tracker = None
        progress.line(without(name, error))
    if tracker is not None:
        write_json(file, {"tracker": name, "run": tracker.id})
    record = Record(tracker, name, run, progress, is_new=known is None)
    try:
        yield record
    except BaseException:
        record.end(ok=False)
        raise
    record.end(ok=True)


def _not_begun(name: str, error: Exception) -> ConfigError:
    if isinstance(error, ConfigError):
        return error
    return ConfigError(f"runtime.tracker: {name} does not take this run ({first_line(error)}). Mend that, or set none.")


def _known(file: Path, name: str) -> str | None:
    """What a run that goes on is called by its tracker; None where it is not known there."""
    try:
        found = read_json(file, "the record of a tracker", "")
    except RunFolderError:
        return None
    return found["run"] if found.get("tracker") == name and isinstance(found.get("run"), str) else None


def _opened(name: str, known: str | None, run: RunFolder) -> Tracker | None:
    if name not in TRACKERS:
        return None
    require_tracker(name)
    path = run.path.resolve()
    title = f"{path.parent.name}/{path.name}" if path.name == BEST else path.name  # of which each search has one
    return TRACKERS[name](known, title)
