"""Supervises workers: collects the results of trials, requeues the trials of dead workers, and reports what it waits for.

Knows a served study and processes; who prints and who writes files is told to it.
"""

import time
from collections.abc import Callable
from typing import Any

from tl_keras.errors import UserError
from tl_keras.select.search.local_workers import Death, LocalWorkers
from tl_keras.select.search.rpc import POLL_S, QUIET_S, Chief

LEAVE_S = 10.0  # that local workers have to end by themselves once there are no more trials


def supervise(chief: Chief, team: LocalWorkers, on_trial_end: Callable[[Any, str], None], say: Callable[[str], None], *, how: str) -> None:
    """Stay until no trial runs and none will begin.

    Args:
        team: the local workers, perhaps none.
        on_trial_end: called with each trial that ended, and its worker.
        say: takes a line about what happens beside.
        how: the command that goes on with the search.

    Raises:
        UserError: there were local workers, all have gone, and no other has come.
    """
    last, news = "", time.monotonic()
    while True:
        alive, over = len(team), chief.is_over()  # before the rest is looked at: what is true now has left its traces already
        for trial, worker in chief.ended(0 if over else POLL_S):
            on_trial_end(trial, worker)
            news = time.monotonic()
        for line in chief.told():
            say(line)
        if over:
            team.wait(LEAVE_S)
            return
        deaths = team.deaths()
        for death in deaths:
            say(after_death(chief, death))
            last = f" ({death})"
        if team.names and not alive and not deaths and not chief.is_over() and not chief.remote_workers(team.names):
            raise UserError(f"the last worker died{last}. The trials that ended are kept; continue with: python {how}")
        ongoing = chief.ongoing()
        if time.monotonic() - news > QUIET_S and not ongoing.keys() & set(team.names):
            say(waiting_for(ongoing))
            news = time.monotonic()


def after_death(chief: Chief, death: Death) -> str:
    """Take back the trial of a worker that died, and say what becomes of it."""
    trial = chief.requeue(death.name, f"workers died during it, the last: {death}")
    if trial is None:
        return f"{death.name} died ({death})"
    fate = "which has failed now" if trial.status == "FAILED" else "which another will run"
    return f"{death.name} died ({death}) during trial {trial.trial_id}, {fate}"


def waiting_for(ongoing: dict[str, tuple[str, float]]) -> str:
    """One line for a chief that has heard nothing for a while."""
    if not ongoing:
        return "no worker has asked for a trial: start one, as docs/search-cluster.md shows"
    each = ", ".join(f"{worker} (trial {trial}, for {seconds / 60:.0f} min)" for worker, (trial, seconds) in ongoing.items())
    return f"waiting for {each}. A worker that died is started again under its name, or stop here and continue with --resume"
