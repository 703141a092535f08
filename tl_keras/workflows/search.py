"""A search of hyperparameters: a study in a run folder, its trials, and the best of them trained and tested once."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from operator import attrgetter
from pathlib import Path
from typing import Any

import tensorflow as tf

from tl_keras import run_folder
from tl_keras.config import Config
from tl_keras.config_file import with_settings
from tl_keras.data.index import Index
from tl_keras.errors import RunFolderError, UserError
from tl_keras.models.outputs import OUTPUTS
from tl_keras.progress import BarsOnly, Progress
from tl_keras.run_folder import RunFolder
from tl_keras.runtime import restoring_process, set_up
from tl_keras.select.search.chief import chief_role, hand_out_trials, private_address
from tl_keras.select.search.head_trials import HeadTrials
from tl_keras.select.search.oracles import DIRECTIONS, Outcome, best, importance, outcomes, run_study
from tl_keras.select.search.plot import draw_trials, write_hparams
from tl_keras.select.search.rpc import serve
from tl_keras.select.search.space import Dimension, read_space
from tl_keras.select.search.study_files import (
    BASELINE,
    TRIAL_RUNS,
    keep_best,
    open_wanted,
    space_of,
    study_digest,
    study_folder,
    tell_what_is_left,
    tell_what_is_there,
    told,
    trials_bar,
    write_trials,
)
from tl_keras.tasks import SINGLE_LABEL, figure_text
from tl_keras.trained_run import read_config, require_asked_for, write_config
from tl_keras.transfer.head.problem import solves_exactly
from tl_keras.transfer.memory import TooLittleMemoryError
from tl_keras.workflows.rank import with_best_backbone
from tl_keras.workflows.setting_up import environment, open_images, tell_shrunk, working_in
from tl_keras.workflows.train import train

ASKED = "trial.json"  # settings and share of a trial that is a training run, once it ended


@restoring_process()
def search(
    config: Config, run_dir: Path | str, *, resume: bool = False, workers: int = 0, progress: Progress | None = None
) -> dict[str, Any]:
    """Try settings of `search.space` by their score on val, and train the best as an ordinary run in `best/`.

    Where the environment names this process a chief (see `select.search.role`), workers of other machines take part.

    Args:
        config: `mode` is 'search'; ignored where `resume` reads the run's own.
        run_dir: the folder to make, or to continue.
        resume: go on with an interrupted search; trials that ended are not run again.
        workers: processes to start on this machine for the trials; 0: they run in this one, unless it is a chief.

    Returns:
        What search.json holds: `settings` and `score` of the best, the `baseline`'s score, how many trials there were and
        failed, the `importance` of each setting, and `metrics`, those of the winner's run.

    Raises:
        UserError: anything that the user can mend; a folder made for it is gone again.
    """
    progress, run, role = progress or Progress(), RunFolder.at(run_dir), chief_role(workers)
    run.require_utf8("KerasTuner")
    if resume:
        config = read_config(run.require_unfinished("search"))
        require_asked_for(config, run)
    with ExitStack() as stack:
        with ExitStack() as served:
            chief = None  # a port that is taken is told before all else
            if role is not None:
                chief = served.enter_context(serve(served.enter_context(private_address(role))))
            set_up(config.runtime)
            space = read_space(space_of(config))
            index = open_images(config.data, progress, None if resume else run)
            tell_shrunk(config, index, progress)
            keep = stack.enter_context(working_in(run, resume=resume))
            config = with_best_backbone(config, index, run, progress)
            study = study_folder(run, study_digest(config, space, index))
            write_config(run, config)
            run_folder.write_json(run / run_folder.ENVIRONMENT, environment())
            trials = Trials(config, index, run, progress)
            with progress.bar("the settings as they stand", 1):  # a finetuning takes minutes
                baseline = trials(BASELINE, {}, 1.0)
            objective = config.search.objective
            progress.line(
                f"as it stands  {objective} {figure_text(objective, baseline[objective])}, the baseline that the trials should beat"
            )
            keep()
            if chief is None:
                found = run_trials(config, space, study, trials, run, progress)
            else:
                found = hand_out_trials(config, space, study, chief, workers, run, progress)
        return finish(config, index, space, found, baseline, run, progress)


class Trials:
    """Evaluates settings: a head on stored features where it can be solved, else a training run of its own.

    A training run for which the machine has too little memory is tried again with half the batch.
    """

    def __init__(self, config: Config, index: Index, run: RunFolder, progress: Progress) -> None:
        self._config, self._run, self._progress = config.replace("runtime.tracker", "none"), run, progress  # it gets the best alone
        self._heads = HeadTrials(index, BarsOnly(progress))  # a pass over the images takes a while; what it says, each trial would

    def __call__(self, trial: str, settings: Mapping[str, Any], share: float) -> dict[str, float]:
        """Return `val_loss` and the metric on val of the configuration with these settings."""
        kind = self._config.search.trial
        config = with_settings(self._config, settings, "search.space").replace("mode", kind)
        if kind == "extract" and solves_exactly(config):
            return self._heads(config, share)
        return scores(self._train(config, RunFolder(self._run / TRIAL_RUNS / trial), settings, share))

    def _train(self, config: Config, folder: RunFolder, settings: Mapping[str, Any], share: float) -> dict[str, Any]:
        asked = {"settings": dict(settings), "share": share}
        metrics = read_record(folder / run_folder.METRICS)
        if scores(metrics) and read_record(folder / ASKED) == asked:  # it ended, and the study did not hear of it
            return metrics
        if share < 1:
            epochs = max(1, round(share * self._config.search.max_epochs))
            config = config.replace("train.epochs", epochs)
        while True:
            shutil.rmtree(folder.path, ignore_errors=True)
            try:
                metrics = train(config, folder.path, scored=("val",))
                run_folder.write_json(folder / ASKED, asked)
                return metrics
            except (tf.errors.ResourceExhaustedError, TooLittleMemoryError) as error:
                if isinstance(error, TooLittleMemoryError) and not error.by_step:
                    raise  # a smaller batch would not help
                if config.train.batch_size == 1:
                    raise UserError("there is not enough memory for a batch of one image.") from None
                half = config.train.batch_size // 2
                self._progress.line(
                    f"there is not enough memory for batches of {config.train.batch_size}: this trial continues with {half}"
                )
                config = config.replace("train.batch_size", half)


def scores(metrics: Mapping[str, Any]) -> dict[str, float]:
    """What trials are compared by; empty where a record has none."""
    try:
        found = OUTPUTS[metrics.get("task", SINGLE_LABEL)].scores(metrics["val"])
    except (KeyError, TypeError):
        return {}
    return found if all(isinstance(value, float | int) for value in found.values()) else {}


def run_trials(
    config: Config, space: Sequence[Dimension], study: Path, trials: Trials, run: RunFolder, progress: Progress
) -> list[Outcome]:
    """Run what is left of a study, and return all that is known of it."""
    wanted, oracle = config.search, open_wanted(study, config, space)
    tell_what_is_there(outcomes(oracle, space, wanted.max_epochs), config, progress)

    def on_trial_end(outcome: Outcome) -> None:
        progress.line(told(outcome, wanted.objective))
        keep_best(run, outcomes(oracle, space, wanted.max_epochs), wanted.objective, wanted.keep_models)
        advance(1)

    try:
        with trials_bar(progress, outcomes(oracle, space, wanted.max_epochs), wanted) as advance:
            run_study(oracle, space, trials, on_trial_end, tuner_id="tuner0", max_epochs=wanted.max_epochs)
    finally:
        write_trials(run / run_folder.TRIALS, outcomes(oracle, space, wanted.max_epochs), space, config.data.task)
    tell_what_is_left(oracle, config, progress)
    return outcomes(oracle, space, wanted.max_epochs)


def finish(
    config: Config,
    index: Index,
    space: Sequence[Dimension],
    found: Sequence[Outcome],
    baseline: Mapping[str, float],
    run: RunFolder,
    progress: Progress,
) -> dict[str, Any]:
    """Choose, train the winner as an ordinary run, and write what was found."""
    wanted = config.search
    ranked = best(found, wanted.objective)
    if not ranked and all(each.cause is not None for each in found):
        causes = sorted({each.cause for each in found if each.cause})
        raise UserError(f"{run.path}: none of {len(found)} trials finished" + (f": {causes[0]}" if causes else "."))
    sign = 1.0 if DIRECTIONS[wanted.objective] == "min" else -1.0
    beaten = bool(ranked) and sign * ranked[0].metrics[wanted.objective] < sign * baseline[wanted.objective]
    settings = ranked[0].settings if beaten else {}
    if not ranked:
        progress.line("no trial came to its full length, so the initial settings are used; raise search.max_trials or search.max_minutes")
    elif not beaten:
        progress.line("no trial is better on val than the initial settings, which are used")
    winner = with_settings(config, settings, "search.space").replace("mode", wanted.trial)
    folder = RunFolder(run / run_folder.BEST)
    if not (folder.is_finished and has_settings(folder, winner, settings)):  # before it went on, another trial may have been the best
        progress.line(f"the best on val is trained as an ordinary run in {folder.path}")
        shutil.rmtree(folder.path, ignore_errors=True)
        train(winner, folder.path, progress=progress, index=index)
    weights = importance(found, space, wanted.objective)
    draw_trials(run / run_folder.TRIALS_PICTURE, found, space, wanted.objective, weights)
    write_hparams(run / "tensorboard", found)
    result = {
        "settings": settings,
        "objective": wanted.objective,
        "score": ranked[0].metrics[wanted.objective] if beaten else baseline[wanted.objective],
        "baseline": dict(baseline),
        "trials": len(found),
        "failed": sum(each.cause is not None for each in found),
        "importance": weights,
        "metrics": run_folder.read_json(folder / run_folder.METRICS, "the metrics of a run", f"Remove {folder.path}, and --resume."),
    }
    run_folder.write_json(run / run_folder.SEARCH, result)
    return result


def has_settings(run: RunFolder, wanted: Config, paths: Iterable[str]) -> bool:
    """Whether a finished run was trained with the same values of some settings as a configuration has."""
    config = read_config(run)
    return all(attrgetter(path)(config) == attrgetter(path)(wanted) for path in paths)


def read_record(file: Path) -> dict[str, Any]:
    """What a trial left; empty where it left nothing, or nothing whole, so that it runs again."""
    try:
        return run_folder.read_json(file, "the record of a trial", "")
    except RunFolderError:
        return {}
