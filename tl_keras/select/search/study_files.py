"""The study of a search: its identity, its folder, and what is kept and written of its trials."""

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tl_keras import __version__, run_folder
from tl_keras.config import Config, SearchConfig
from tl_keras.data.index import Index
from tl_keras.errors import RunFolderError
from tl_keras.progress import Progress
from tl_keras.run_folder import RunFolder
from tl_keras.select.search.oracles import Grid, Outcome, best, open_study, settings_text
from tl_keras.select.search.space import Dimension
from tl_keras.tasks import MULTI_LABEL, REGRESSION, SINGLE_LABEL, TASKS, figure_text

DEFAULT_SPACES: dict[str, dict[str, Any]] = {
    "extract": {
        "features.stages": {"choice": ["last", "all"]},
        "features.selection": {"choice": ["none", "head2toe"]},
        "features.keep": {"float": [0.02, 0.6], "log": True, "when": {"features.selection": "head2toe"}},
        "train.head_c": {"float": [1e-5, 10.0], "log": True},
        "train.class_weights": {"choice": ["none", "balanced"]},
    },
    "finetune": {
        "train.learning_rate": {"float": [1e-4, 3e-3], "log": True},
        "train.layer_decay": {"choice": [0.6, 0.8, 1.0]},
        "train.weight_decay": {"float": [1e-4, 0.1], "log": True},
        "train.label_smoothing": {"choice": [0.0, 0.1, 0.2]},
        "model.dropout": {"choice": [0.0, 0.2, 0.5]},
    },
}
OF_SELECTION = {"features.selection", "features.keep"}
OF_ONE_CLASS = OF_SELECTION | {"train.class_weights"}
NOT_IN = {  # what has no effect with a task
    SINGLE_LABEL: set[str](),
    MULTI_LABEL: OF_ONE_CLASS,
    REGRESSION: OF_ONE_CLASS | {"train.head_c", "train.label_smoothing"},
}
TRIAL_RUNS = "trials"  # a folder for each trial that is a training run
TRIAL_SECTIONS = ("data", "model", "features", "train", "search", "runtime")  # of a configuration: what trials depend on
BASELINE = "default"  # the trial of the configuration as it stands


def space_of(config: Config) -> dict[str, Any]:
    """The declared space, or the one that suits what a trial does."""
    if config.search.space is not None:
        return config.search.space
    idle = NOT_IN[config.data.task] | (OF_SELECTION if config.data.has_weights else set())
    return {path: values for path, values in DEFAULT_SPACES[config.search.trial].items() if path not in idle}


def open_wanted(study: Path, config: Config, space: Sequence[Dimension]) -> Any:
    """The oracle of a study, whose time runs from now."""
    wanted = config.search
    return open_study(
        study,
        wanted.tuner,
        space,
        objective=wanted.objective,
        max_trials=wanted.max_trials,
        max_epochs=wanted.max_epochs,
        seed=config.runtime.seed,
        until=time.monotonic() + (math.inf if wanted.max_minutes is None else 60 * wanted.max_minutes),
    )


def tell_what_is_there(found: Sequence[Outcome], config: Config, progress: Progress) -> None:
    """Say how far a study has come before it goes on."""
    if found:
        progress.line(f"{len(found)} of at most {config.search.max_trials} trials had already ended and are not run again")


@contextmanager
def trials_bar(progress: Progress, found: Sequence[Outcome], wanted: SearchConfig) -> Iterator[Callable[[int], None]]:
    """A bar that is told of each trial that ends, and has those that ended before; hyperband and a grid may end before it does."""
    with progress.bar("trials", wanted.max_trials) as advance:
        advance(len(found))
        yield advance


def tell_what_is_left(oracle: Any, config: Config, progress: Progress) -> None:
    """Say where a grid was not gone through to its end."""
    most = config.search.max_trials
    if isinstance(oracle, Grid) and len(oracle.trials) >= most and oracle.has_more():
        progress.line(f"search.max_trials={most} ended the grid before all combinations were tried; those that were are spread over it")


def study_digest(config: Config, space: Sequence[Dimension], index: Index) -> str:
    """The identity of a study: space, settings, images and version; not their paths, which differ between machines.

    Images are known by their content, their paths below the data's folder and their labels, a backbone's file by its name.

    Args:
        index: with ids.
    """
    left_out = {
        "data": {"source", "download", "download_timeout_s", "cache_gb"},
        "features": {"max_gb"},
        "runtime": {"threads"},
        "search": {"max_trials", "max_minutes", "keep_models"},  # where it ends, and what it leaves
    }
    about = config.model_dump(mode="json", include=set(TRIAL_SECTIONS), exclude=left_out)
    about["model"] |= {name: file_name(about["model"][name]) for name in ("backbone", "weights")}
    digest = hashlib.sha256(json.dumps([__version__, about, [repr(each) for each in space]], sort_keys=True).encode())
    given = None if index.given is None else list(index.given)
    digest.update(json.dumps([index.classes, list(index.paths), index.labels.tolist(), given]).encode())
    digest.update(b"" if index.shares is None else index.shares.tobytes())
    digest.update(b"" if index.ids is None else index.ids.tobytes())
    return f"study-{digest.hexdigest()[:12]}"


def file_name(value: str) -> str:
    """The last part of what is a path on this machine; anything else as it is."""
    path = Path(value).expanduser()
    return path.name if path.exists() else value


def study_folder(run: RunFolder, study: str) -> Path:
    """The folder of a study, which is named after its digest.

    Raises:
        RunFolderError: the run folder holds a study of another space, of other data or of another version.
    """
    folder = run / study
    others = [path.name for path in run.path.glob("study-*") if path != folder]
    if others:
        raise RunFolderError(
            f"{run.path}: holds {others[0]}, a study of another space, of other images or of another version. Give another --run-dir."
        )
    folder.mkdir(exist_ok=True)
    return folder


def told(outcome: Outcome, objective: str) -> str:
    """One line for a trial that ended."""
    score = outcome.cause or f"{objective} {figure_text(objective, outcome.metrics[objective])}"
    return f"trial {outcome.trial}  {score}  {settings_text(outcome.settings)}"


def keep_best(run: RunFolder, found: Sequence[Outcome], objective: str, keep: int) -> None:
    """Remove models, snapshots and checkpoints of trials that ended, other than the best; their figures stay."""
    kept = {each.trial for each in best(found, objective)[:keep]}
    for name in (BASELINE, *(each.trial for each in found)):  # others may be at work
        folder = run / TRIAL_RUNS / name
        shutil.rmtree(folder / run_folder.CHECKPOINTS, ignore_errors=True)
        if name not in kept:
            (folder / run_folder.MODEL).unlink(missing_ok=True)
            shutil.rmtree(folder / run_folder.SNAPSHOTS, ignore_errors=True)


def write_trials(file: Path, found: Sequence[Outcome], space: Sequence[Dimension], task: str = SINGLE_LABEL) -> None:
    """Write trials.csv: a line per trial that ended, with the cause where it failed."""
    figures = (*TASKS[task].monitored, "seconds")
    header = ("trial", *figures, "share", *(each.path for each in space), "cause")
    lines = (
        (
            each.trial,
            *(f"{each.metrics[name]:.6g}" if name in each.metrics else "" for name in figures),
            f"{each.share:.4g}",
            *(each.settings.get(dimension.path, "") for dimension in space),
            each.cause or "",
        )
        for each in found
    )
    run_folder.write_csv(file, header, lines)
