"""A worker of a search: evaluates trials for a chief elsewhere, and leaves the results with it."""

import os
from pathlib import Path

from tl_keras import run_folder
from tl_keras.config import AUTO, Config
from tl_keras.data.sources import open_source
from tl_keras.errors import ConfigError, RunFolderError
from tl_keras.links import require_no_way_out
from tl_keras.progress import Progress
from tl_keras.run_folder import RunFolder
from tl_keras.runtime import restoring_process, set_up
from tl_keras.select.search.local_workers import end_with_chief
from tl_keras.select.search.oracles import Outcome, run_study
from tl_keras.select.search.role import ORACLE_IP, ORACLE_PORT, TUNER_ID, role_in
from tl_keras.select.search.rpc import CHIEF_WAIT_S, connect
from tl_keras.select.search.space import read_space
from tl_keras.select.search.study_files import TRIAL_RUNS, keep_best, space_of, study_digest, told
from tl_keras.trained_run import read_config, require_asked_for
from tl_keras.workflows.search import Trials


@restoring_process()
def work(config: Config, run_dir: Path | str, *, resume: bool = False, progress: Progress | None = None) -> int:
    """Evaluate trials for the chief that the environment names, until there are no more.

    Args:
        config: `mode` is 'search', and all but the data's place equals the chief's; ignored where `resume` reads it.
        run_dir: where the training runs of trials are, in `trials/`: a folder of this worker's own, or the chief's.
        resume: `run_dir` is the chief's, and has the configuration.

    Returns:
        How many trials this worker evaluated.

    Raises:
        UserError: the environment names no worker, nobody serves there, the chief has other settings or images, or it went away.
    """
    progress, run, role = progress or Progress(), RunFolder.at(run_dir), role_in(os.environ)
    if role is None or role.is_chief:
        raise ConfigError(f"a worker needs {TUNER_ID} (without 'chief' in it), {ORACLE_IP} and {ORACLE_PORT} in its environment.")
    end_with_chief()
    if resume:
        require_no_way_out(run.path)
        config = read_config(run.require_unfinished("search"))
        require_asked_for(config, run)
    elif config.model.backbone == AUTO:
        raise ConfigError(
            "model.backbone: got 'auto', which the chief ranks. Give this worker the chief's folder, with --resume --run-dir."
        )
    else:
        require_own(run)
    set_up(config.runtime)
    space, wanted, done = read_space(space_of(config)), config.search, list[Outcome]()
    index = open_source(config.data, progress).identified(progress)

    def on_trial_end(outcome: Outcome) -> None:
        done.append(outcome)
        progress.line(told(outcome, wanted.objective))
        keep_best(run, done, wanted.objective, wanted.keep_models)

    trials = Trials(config, index, run, progress)
    progress.line(f"{role.name} asks the chief at {role.address} for trials, and waits for it up to {CHIEF_WAIT_S:.0f} s")
    with connect(role.address, role.name, study_digest(config, space, index)) as oracle:
        progress.line(f"{role.name} works for the chief at {role.address}")
        run_study(oracle, space, trials, on_trial_end, tuner_id=role.name, max_epochs=wanted.max_epochs)
    progress.line(f"no more trials; {len(done)} of them ran here")
    return len(done)


def require_own(run: RunFolder) -> None:
    """Raise RunFolderError where a folder holds something that no worker has left there."""
    others = [path.name for path in run.path.glob("*") if path.name != TRIAL_RUNS]
    if others:
        mend = (
            "Add --resume where it is the chief's, else give another --run-dir."
            if run_folder.CONFIG in others
            else "Give another --run-dir."
        )
        raise RunFolderError(f"{run.path}: holds {others[0]}, which does not belong to a worker. {mend}")
