"""A search of hyperparameters: a study in a run folder, its trials, and the best of them trained and tested once."""

import hashlib
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from tl_keras import __version__
from tl_keras import run_folder as names
from tl_keras.config import Config
from tl_keras.config_file import to_yaml, with_settings
from tl_keras.data.sources import Index, open_source
from tl_keras.errors import RunFolderError, UserError
from tl_keras.progress import Progress
from tl_keras.run_folder import RunFolder
from tl_keras.select.space import Dimension, read_space
from tl_keras.select.study import DIRECTIONS, Outcome, best, importance, open_study, outcomes, run_study
from tl_keras.select.trial import HeadTrials
from tl_keras.select.trials_picture import draw_trials, write_hparams
from tl_keras.transfer.head import solves_exactly
from tl_keras.workflows.rank import with_best_backbone
from tl_keras.workflows.setting_up import environment, set_up, undone_on_failure
from tl_keras.workflows.train import train
from tl_keras.workflows.trained import read_config

DEFAULT_SPACES: dict[str, dict[str, Any]] = {
    "extract": {
        "features.stages": {"choice": ["last", "all"]},
        "features.selection": {"choice": ["none", "head2toe"]},
        "features.keep": {"float": [0.02, 0.6], "log": True, "when": {"features.selection": "head2toe"}},
        "train.head_penalty": {"float": [1e-5, 10.0], "log": True},
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
TRIALS = "trials"  # a folder for each trial that is a training
BASELINE = "default"  # the trial of the configuration as it stands


def search(config: Config, run_dir: Path, *, resume: bool = False, progress: Progress | None = None) -> dict[str, Any]:
    """Try settings of `search.space` by their score on val, and train the best as an ordinary run in `best/`.

    Args:
        config: `mode` is 'search'; ignored where `resume` reads the run's own.
        run_dir: the folder to make, or to continue.
        resume: go on with an interrupted search; trials that ended are not run again.

    Returns:
        What search.json holds: `settings` and `score` of the best, the `baseline`'s score, how many trials there were and
        failed, the `importance` of each setting, and `metrics`, those of the winner's run.

    Raises:
        UserError: anything that the user can mend; a folder made for it is gone again.
    """
    progress, run = progress or Progress(), RunFolder(run_dir)
    if resume:
        config = read_config(require_unfinished(run))
    set_up(config.runtime)
    space = read_space(DEFAULT_SPACES[config.search.trial] if config.search.space is None else config.search.space)
    with undone_on_failure(run, resume=resume):
        index = open_source(config.data)
        config = with_best_backbone(config, index, run, progress)
        study = study_folder(run, config, space, index)
        names.write_text(run / names.CONFIG, to_yaml(config))
        names.write_json(run / names.ENVIRONMENT, environment())
        trials = Trials(config, index, run, progress)
        baseline = trials(BASELINE, {}, 1.0)
    found = run_trials(config, space, study, trials, run, progress)
    return finish(config, space, found, baseline, run, progress)


class Trials:
    """Evaluates settings: a head on stored features where it can be solved, else a training of its own.

    A training that ends the memory of the machine is tried again with half the batch.
    """

    def __init__(self, config: Config, index: Index, run: RunFolder, progress: Progress) -> None:
        self._config, self._run, self._progress = config, run, progress
        self._heads = HeadTrials(index, Progress())

    def __call__(self, trial: str, settings: Mapping[str, Any], share: float) -> dict[str, float]:
        """Return `val_loss` and `val_accuracy` of the configuration with these settings."""
        kind = self._config.search.trial
        config = with_settings(self._config, settings, "search.space").model_copy(update={"mode": kind})
        if kind == "extract" and solves_exactly(config):
            return self._heads(config, share)
        metrics = self._train(config, RunFolder(self._run / TRIALS / trial), share)
        return {"val_loss": metrics["val"]["log_loss"], "val_accuracy": metrics["val"]["accuracy"]}

    def _train(self, config: Config, folder: RunFolder, share: float) -> dict[str, Any]:
        if (folder / names.METRICS).is_file():  # it ended, and the study was killed before it knew
            found: dict[str, Any] = json.loads((folder / names.METRICS).read_text(encoding="utf-8"))
            return found
        if share < 1:
            epochs = max(1, round(share * self._config.search.max_epochs))
            config = config.model_copy(update={"train": config.train.model_copy(update={"epochs": epochs})})
        while True:
            shutil.rmtree(folder.path, ignore_errors=True)
            try:
                return train(config, folder.path, scored=("val",))
            except tf.errors.ResourceExhaustedError:
                if config.train.batch_size == 1:
                    raise UserError("memory does not hold a batch of one image.") from None
                half = config.train.batch_size // 2
                self._progress.line(f"memory does not hold batches of {config.train.batch_size}: this trial goes on with {half}")
                config = config.model_copy(update={"train": config.train.model_copy(update={"batch_size": half})})


def run_trials(
    config: Config, space: Sequence[Dimension], study: Path, trials: Trials, run: RunFolder, progress: Progress
) -> list[Outcome]:
    """Run what is left of a study, and return all that is known of it."""
    wanted = config.search
    oracle = open_study(
        study,
        wanted.tuner,
        space,
        objective=wanted.objective,
        max_trials=wanted.max_trials,
        max_epochs=wanted.max_epochs,
        seed=config.runtime.seed,
    )
    until = time.monotonic() + (float("inf") if wanted.max_minutes is None else 60 * wanted.max_minutes)

    def tell(outcome: Outcome) -> None:
        told = outcome.cause or f"{wanted.objective} {outcome.metrics[wanted.objective]:.4f}"
        progress.line(f"trial {outcome.trial}  {told}  {outcome.settings}")
        keep_best(run, outcomes(oracle, space, wanted.max_epochs), wanted.objective, wanted.keep_models)

    try:
        run_study(oracle, space, trials, tell, tuner_id="tuner0", max_epochs=wanted.max_epochs, until=until)
    finally:
        write_trials(run / names.TRIALS, outcomes(oracle, space, wanted.max_epochs), space)
    return outcomes(oracle, space, wanted.max_epochs)


def finish(
    config: Config, space: Sequence[Dimension], found: Sequence[Outcome], baseline: Mapping[str, float], run: RunFolder, progress: Progress
) -> dict[str, Any]:
    """Choose, train the winner as an ordinary run, and write what was found."""
    wanted = config.search
    ranked = best(found, wanted.objective)
    if not ranked:
        causes = sorted({each.cause for each in found if each.cause})
        raise UserError(f"{run.path}: none of {len(found)} trials came to its end" + (f": {causes[0]}" if causes else "."))
    sign = 1.0 if DIRECTIONS[wanted.objective] == "min" else -1.0
    beaten = sign * ranked[0].metrics[wanted.objective] < sign * baseline[wanted.objective]
    settings = ranked[0].settings if beaten else {}
    if not beaten:
        progress.line("no trial is better on val than the configuration as it stands, which is trained")
    winner = with_settings(config, settings, "search.space").model_copy(update={"mode": wanted.trial})
    folder = RunFolder(run / names.BEST)
    if not folder.is_finished:
        shutil.rmtree(folder.path, ignore_errors=True)
        train(winner, folder.path, progress=progress)
    draw_trials(run / names.TRIALS_PICTURE, found, space, wanted.objective)
    write_hparams(run / "tensorboard", found)
    result = {
        "settings": settings,
        "objective": wanted.objective,
        "score": ranked[0].metrics[wanted.objective] if beaten else baseline[wanted.objective],
        "baseline": dict(baseline),
        "trials": len(found),
        "failed": sum(each.cause is not None for each in found),
        "importance": importance(found, space, wanted.objective),
        "metrics": json.loads((folder / names.METRICS).read_text(encoding="utf-8")),
    }
    names.write_json(run / names.SEARCH, result)
    return result


def study_folder(run: RunFolder, config: Config, space: Sequence[Dimension], index: Index) -> Path:
    """The folder of the study of this space, data and version of the code.

    Raises:
        RunFolderError: the run folder holds a study of another one.
    """
    endings = {"max_trials", "max_minutes", "keep_models"}
    about = config.model_dump(mode="json", exclude={"search": endings})
    digest = hashlib.sha256(json.dumps([__version__, about, [repr(each) for each in space]], sort_keys=True).encode())
    digest.update("\n".join(index.paths).encode())
    folder = run / f"study-{digest.hexdigest()[:12]}"
    others = [path.name for path in run.path.glob("study-*") if path != folder]
    if others:
        raise RunFolderError(
            f"{run.path}: holds {others[0]}, a study of another space, of other images or of another version. Give another --run-dir."
        )
    folder.mkdir(exist_ok=True)
    return folder


def require_unfinished(run: RunFolder) -> RunFolder:
    """Return this folder, or raise RunFolderError when no interrupted search lies in it."""
    if not (run / names.CONFIG).is_file() or not list(run.path.glob("study-*")):
        raise RunFolderError(f"{run.path}: holds no interrupted search to resume. Start one without --resume.")
    if (run / names.SEARCH).is_file():
        raise RunFolderError(f"{run.path}: this search is finished; there is nothing to resume. Give another --run-dir.")
    return run


def keep_best(run: RunFolder, found: Sequence[Outcome], objective: str, keep: int) -> None:
    """Remove models, snapshots and checkpoints of trials other than the best; their figures stay."""
    kept = {each.trial for each in best(found, objective)[:keep]}
    for folder in (run / TRIALS).glob("*"):
        shutil.rmtree(folder / names.CHECKPOINTS, ignore_errors=True)
        if folder.name not in kept:
            (folder / names.MODEL).unlink(missing_ok=True)
            shutil.rmtree(folder / names.SNAPSHOTS, ignore_errors=True)


def write_trials(file: Path, found: Sequence[Outcome], space: Sequence[Dimension]) -> None:
    """Write trials.csv: a line per trial that ended, with the cause where it failed."""
    header = ("trial", "val_loss", "val_accuracy", "seconds", "share", *(each.path for each in space), "cause")
    lines = (
        (
            each.trial,
            *(f"{each.metrics[name]:.6g}" if name in each.metrics else "" for name in ("val_loss", "val_accuracy", "seconds")),
            f"{each.share:.4g}",
            *(each.settings.get(dimension.path, "") for dimension in space),
            each.cause or "",
        )
        for each in found
    )
    names.write_csv(file, header, lines)
