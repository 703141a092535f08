"""The chief of a search: hands its trials out to processes of this machine and of others."""

import os
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tensorflow as tf

from tl_keras import run_folder
from tl_keras.config import Config
from tl_keras.cores import usable_cpus
from tl_keras.errors import ConfigError
from tl_keras.progress import Progress
from tl_keras.run_folder import RunFolder
from tl_keras.select.search.local_workers import LocalWorkers, visible_gpus, worker_environment
from tl_keras.select.search.oracles import Outcome, outcome_of, outcomes
from tl_keras.select.search.role import HAS_UNIX_SOCKETS, LOCALHOST, TUNER_ID, UNIX, Address, Role, role_in
from tl_keras.select.search.rpc import Chief
from tl_keras.select.search.space import Dimension
from tl_keras.select.search.study_files import keep_best, open_wanted, tell_what_is_left, tell_what_is_there, told, trials_bar, write_trials
from tl_keras.select.search.supervise import supervise

LOGS = "workers"  # what each worker of this machine wrote


def chief_role(workers: int) -> Role | None:
    """Where this process serves trials; None where it runs them itself.

    Raises:
        ConfigError: it is a worker, or the number of workers is none.
    """
    if workers < 0:
        raise ConfigError(f"workers: got {workers}, expected an integer >= 1, or 0 for none.")
    role = role_in(os.environ)
    if role is not None and not role.is_chief:
        raise ConfigError(f"{TUNER_ID}: '{role.name}' is a worker's name, and this is a chief's work: a chief has 'chief' in its name.")
    return role or (Role("chief", Address(LOCALHOST, 0)) if workers else None)


@contextmanager
def private_address(role: Role) -> Iterator[Address]:
    """Where a chief serves: where the environment says, else a socket in a folder that only this user can open."""
    if role_in(os.environ) is not None or not HAS_UNIX_SOCKETS:
        yield role.address
        return
    with tempfile.TemporaryDirectory(prefix="tl_keras-") as folder:  # its mode is 0700; below the run it could be too long for a socket
        yield Address(f"{UNIX}{folder}/chief", 0)


def hand_out_trials(
    config: Config, space: Sequence[Dimension], study: Path, chief: Chief, workers: int, run: RunFolder, progress: Progress
) -> list[Outcome]:
    """As `run_trials`, by workers: some that are started here, and those that come from elsewhere."""
    wanted, oracle = config.search, open_wanted(study, config, space)
    command = [sys.executable, "-m", "tl_keras.run", "--mode", "search", "--run-dir", str(run.path), "--resume"]
    names_begin = "worker" if role_in(os.environ) is None else "local"  # those from elsewhere may well be called worker1

    def ended() -> list[Outcome]:
        return chief.read(lambda: outcomes(oracle, space, wanted.max_epochs))

    def on_trial_end(trial: Any, worker: str) -> None:
        progress.line(f"{told(outcome_of(trial, space, wanted.max_epochs), wanted.objective)}  {worker}")
        keep_best(run, ended(), wanted.objective, wanted.keep_models)
        advance(1)

    tell_what_is_there(outcomes(oracle, space, wanted.max_epochs), config, progress)
    chief.open(oracle, study.name)
    try:
        with LocalWorkers(command, run / LOGS) as team:
            for number in range(0 if chief.is_over() else workers):
                role = Role(f"{names_begin}{number + 1}", chief.address)
                team.start(role.name, role.variables() | share_of_machine(config, number, workers))
            if len(team):
                progress.line(f"chief at {chief.address}, with {len(team)} workers on this machine; they take a while to start")
            else:
                progress.line(f"chief at {chief.address}: start the workers on the other machines")
            with trials_bar(progress, ended(), wanted) as advance:
                supervise(chief, team, on_trial_end, progress.line, how=shlex.join(command[1:]))
    finally:
        write_trials(run / run_folder.TRIALS, outcomes(oracle, space, wanted.max_epochs), space, config.data.task)
    tell_what_is_left(oracle, config, progress)
    return outcomes(oracle, space, wanted.max_epochs)


def share_of_machine(config: Config, number: int, workers: int) -> dict[str, str]:
    """The environment that gives a worker of this machine its part of cores and GPUs."""
    gpus = visible_gpus(len(tf.config.list_physical_devices("GPU")), os.environ.get("CUDA_VISIBLE_DEVICES"))
    return worker_environment(number, workers, cpus=usable_cpus(), threads=config.runtime.threads, gpus=gpus)
