"""A study: KerasTuner proposes, somebody else evaluates, and what was found survives a kill.

KerasTuner's oracles keep a study in a folder; here each of their files appears atomically, and a trial that ended is never run
again. Knows values and scores; `search` in the workflows knows what a trial is.
"""

import json
import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from keras_tuner import HyperParameters, Objective, Oracle, oracles, synchronized
from keras_tuner.engine import trial as engine
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from tl_keras.errors import RunFolderError, UserError
from tl_keras.interrupts import raise_noted
from tl_keras.models.outputs import OUTPUTS
from tl_keras.plain_yaml import cut
from tl_keras.run_folder import DAMAGED, write_text
from tl_keras.select.search.grid_order import spread
from tl_keras.select.search.space import Dimension, hyperparameters, settings_of

SEED_ZERO = 2**31 - 1  # KerasTuner takes 0 for "any"

DIRECTIONS = {name: direction for row in OUTPUTS.values() for name, direction in row.monitored.items()}
BUDGET = "tuner/epochs"  # KerasTuner's name for the share of a Hyperband trial
RANDOM_POINTS = 2000  # among which the Gaussian process chooses
WAIT_S = 0.5  # until an oracle that waits for other trials is asked again
LONGEST_ID = 9  # digits of a trial's number
MOST_DEATHS = 2  # of workers during one trial: such a trial would end them all, one after the other


@dataclass(frozen=True)
class Outcome:
    """One trial.

    Attributes:
        trial: its number in the study, as text.
        settings: values by the paths of settings.
        share: of the longest trial's epochs or images, in (0, 1]; below 1 for Hyperband's first rounds.
        metrics: what `evaluate` returned, and `seconds`; empty where it failed.
        cause: why it failed; None where it did not.
    """

    trial: str
    settings: dict[str, Any]
    share: float
    metrics: dict[str, float]
    cause: str | None


Evaluate = Callable[[str, dict[str, Any], float], Mapping[str, float]]  # trial, settings, share -> metrics


class ResumableOracleMixin:
    """Mixin for an oracle: atomic state files, a deadline, and retries of trials whose worker died.

    Attributes:
        until: `time.monotonic()` after which no trial begins.
        stopped: whether it has nothing more to propose.
    """

    until = math.inf
    stopped = False

    def save(self) -> None:
        """Write the oracle's state: a kill in the middle of it would end the study."""
        write_text(Path(self._get_oracle_fname()), json.dumps(self.get_state()))  # type: ignore[attr-defined]

    def _save_trial(self, trial: engine.Trial) -> None:
        write_text(Path(self._get_trial_dir(trial.trial_id)) / "trial.json", json.dumps(trial.get_state()))  # type: ignore[attr-defined]

    @synchronized
    def create_trial(self: Any, tuner_id: str) -> engine.Trial:
        """The next trial of a worker.

        Its status is STOPPED where there are no more, and IDLE where there may be: as long as others are at work, one of
        them may die and leave its trial.
        """
        if time.monotonic() >= self.until:
            self.tuner_ids.discard(tuner_id)
            return engine.Trial(HyperParameters(), "", engine.TrialStatus.STOPPED)
        trial = super().create_trial(tuner_id)  # type: ignore[misc]
        if trial.status == engine.TrialStatus.STOPPED:
            if self.ongoing_trials:
                self.tuner_ids.add(tuner_id)  # KerasTuner has let it go
                trial.status = engine.TrialStatus.IDLE
            else:
                self.stopped = True
        return trial

    @synchronized
    def requeue(self: Any, tuner_id: str, cause: str) -> engine.Trial | None:
        """Take back the trial of a worker that died; another will run it, unless it has ended workers before.

        Args:
            cause: what a trial that is FAILED for this says.

        Returns:
            The trial, as it is now; None where the worker had none.
        """
        self.tuner_ids.discard(tuner_id)
        trial = self.ongoing_trials.get(tuner_id)
        if trial is None:
            return None
        self._run_times[trial.trial_id] += 1
        if self._run_times[trial.trial_id] < MOST_DEATHS:
            del self.ongoing_trials[tuner_id]
            self._retry_queue.append(trial.trial_id)
            self.save()
        else:
            trial.status, trial.message = engine.TrialStatus.FAILED, cause
            self.end_trial(trial)
        return trial

    @synchronized
    def is_over(self: Any) -> bool:
        """Whether no trial runs and none will begin."""
        exhausted = self.stopped or (len(self.trials) >= self.max_trials and not self._retry_queue)
        return not self.ongoing_trials and (exhausted or time.monotonic() >= self.until)


class Random(ResumableOracleMixin, oracles.RandomSearchOracle):
    """Values at random."""


class Grid(ResumableOracleMixin, Oracle):
    """Every combination once, in an order that is spread over the whole grid from the first trials on (see `grid_order`).

    Numbers without a step have ten values. What comes next follows from the trials that there are: neither a kill nor the order
    in which workers end theirs changes it, and nothing of it needs to be kept.
    """

    _coming: Iterator[dict[str, Any]] | None = None

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Propose the next combination."""
        self._coming = self._coming or self._left()
        values = next(self._coming, None)
        return {"status": engine.TrialStatus.STOPPED if values is None else engine.TrialStatus.RUNNING, "values": values}

    def has_more(self) -> bool:
        """Whether combinations are left."""
        return next(self._left(), None) is not None

    def _left(self) -> Iterator[dict[str, Any]]:
        """The combinations that no trial has yet, with the values of those settings alone that count."""
        space = self.get_space()
        choices = {each.name: list(each.values) for each in space.space}
        seen = {_key(trial.hyperparameters.values, choices) for trial in self.trials.values()}
        for places in spread([len(values) for values in choices.values()], self.seed):
            space.values = {}
            for each, place in zip(space.space, places, strict=True):  # a parent comes before what depends on it
                if space.is_active(each):
                    space.values[each.name] = choices[each.name][place]
            key = _key(space.values, choices)
            if key not in seen:
                seen.add(key)
                yield dict(space.values)


def _key(values: Mapping[str, Any], names: Iterable[str]) -> tuple[Any, ...]:
    return tuple(values.get(name) for name in names)


class Bayesian(ResumableOracleMixin, oracles.BayesianOptimizationOracle):
    """Where a Gaussian process expects the best.

    KerasTuner looks for that point with 50 descents, a point at a time, which takes a second a trial; here it is the
    best of so many random ones, judged at once.
    """

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Propose the values of the next trial, at random while there are few."""
        completed = [trial for trial in self.trials.values() if trial.status == "COMPLETED"]
        if len(completed) < 3 * len(self.hyperparameters.space):
            proposed: dict[str, Any] = self._random_populate_space()
            return proposed
        with threadpool_limits(1, user_api="blas"):  # matrices of a hundred rows
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # of a start that came to no end: the best of three is taken
                self.gpr.fit(*self._vectorize_trials())
            bounds = self._get_hp_bounds()
            draws = np.random.default_rng([self.seed, int(trial_id)])  # the same for this trial after a kill
            points = draws.uniform(bounds[:, 0], bounds[:, 1], (RANDOM_POINTS, len(bounds)))
            mean, deviation = self.gpr.predict(points, return_std=True)
        for point in points[np.argsort(mean - self.beta * deviation)]:
            values = self._vector_to_values(point)
            if not self._duplicate(values):
                return {"status": engine.TrialStatus.RUNNING, "values": values}
        return {"status": engine.TrialStatus.STOPPED}

    def _make_gpr(self) -> Any:
        gpr = super()._make_gpr()
        gpr.n_restarts_optimizer = 2
        return gpr


class Hyperband(ResumableOracleMixin, oracles.HyperbandOracle):
    """Many short trials, of which the best go on (Li et al. 2018, arXiv:1603.06560)."""


def open_study(
    folder: Path,
    tuner: str,
    space: Sequence[Dimension],
    *,
    objective: str,
    max_trials: int,
    max_epochs: int,
    seed: int,
    until: float = math.inf,
) -> Any:
    """Begin a study in a folder, or go on with the one that lies there.

    Args:
        folder: made where it is missing; whoever calls has checked that a study in it is of this space.
        tuner: 'random', 'grid', 'bayesian' or 'hyperband'.
        objective: what `SearchConfig.objective` may be.
        max_trials: at most; Hyperband has its own number where that is smaller.
        max_epochs: of Hyperband's longest trials.
        seed: at least 0; 0 is a seed like others.
        until: `time.monotonic()` after which no trial begins.
    """
    common: dict[str, Any] = {
        "objective": Objective(objective, DIRECTIONS[objective]),
        "hyperparameters": hyperparameters(space),
        "tune_new_entries": False,
        "allow_new_entries": False,
        "max_consecutive_failed_trials": max_trials + 1,  # a failed trial says so and is not a reason to stop
        "seed": seed or SEED_ZERO,
    }
    oracle: Any
    if tuner == "hyperband":
        oracle = Hyperband(max_epochs=max_epochs, hyperband_iterations=None, **common)
        oracle.max_trials = max_trials
    else:
        oracle = {"random": Random, "grid": Grid, "bayesian": Bayesian}[tuner](max_trials=max_trials, **common)
    oracle.verbose, oracle.until = 0, until
    oracle._set_project_dir(str(folder.parent), folder.name)
    if (folder / "oracle.json").exists():
        reload(oracle, folder, lambda trial: outcome_of(trial, space, max_epochs))
    return oracle


def require_trial_id(name: object) -> None:
    """Refuse what is not a trial's number: folders are made and removed by it, and it may come from a stranger's file or chief.

    Raises:
        UserError: it is not a number.
    """
    if not (isinstance(name, str) and name.isascii() and name.isdecimal() and len(name) <= LONGEST_ID):
        raise UserError(f"{cut(repr(name))} is not the number of a trial.")


def reload(oracle: Any, folder: Path, outcome: Callable[[engine.Trial], Outcome]) -> None:
    """Read a study back from its folder; of trials that had begun, those are run again that had not ended.

    Args:
        outcome: of a trial that has ended; fails where the trial is not of this study's space.

    Raises:
        RunFolderError: its files are damaged, or not what a study writes.
    """
    try:
        oracle.reload()
        _check(oracle, folder, outcome)
    except (*DAMAGED, UserError, tf.errors.OpError) as error:  # KerasTuner reads through TensorFlow
        raise RunFolderError(
            f"{folder}: this study is damaged ({cut(str(error).partition(chr(10))[0])}). Start the search again in another --run-dir."
        ) from error
    ended = [name for name in oracle._retry_queue if oracle.trials[name].status in ("COMPLETED", "FAILED")]
    oracle._retry_queue = [name for name in oracle._retry_queue if name not in ended]
    oracle.end_order += [name for name in ended if name not in oracle.end_order]
    # TensorFlow lists files with several threads, in any order; what a Gaussian process finds depends on that of its rows
    oracle.trials = {name: oracle.trials[name] for name in sorted(oracle.trials, key=int)}


def _check(oracle: Any, folder: Path, outcome: Callable[[engine.Trial], Outcome]) -> None:
    """Compare what was read of a study with what it must be."""
    for name in (*oracle.trials, *oracle.start_order, *oracle.end_order, *oracle._retry_queue, *oracle._run_times):
        require_trial_id(name)
        if oracle.trials[name].trial_id != name or not (folder / f"trial_{name}" / "trial.json").is_file():
            raise UserError(f"trial {name} is not in the folder of its number")
    for trial in oracle.trials.values():
        engine.TrialStatus.to_proto(trial.status)  # which knows all that there are
        if trial.status in ("COMPLETED", "FAILED"):
            outcome(trial)
        if trial.status == "COMPLETED":
            float(trial.metrics.get_best_value(oracle.objective.name))


def run_study(
    oracle: Any,
    space: Sequence[Dimension],
    evaluate: Evaluate,
    on_trial_end: Callable[[Outcome], None],
    *,
    tuner_id: str,
    max_epochs: int,
) -> None:
    """Run trials until the oracle has no more.

    Args:
        oracle: of this process, or what stands for that of the chief.
        evaluate: runs one trial; a UserError or a metric that is not finite fails the trial and not the study.
        on_trial_end: called with each outcome.
        tuner_id: a name for this process among those that work on the study.
    """
    while True:
        trial = oracle.create_trial(tuner_id)
        if trial.status == engine.TrialStatus.STOPPED:
            return
        if trial.status == engine.TrialStatus.IDLE:
            time.sleep(WAIT_S)
            continue
        on_trial_end(run_trial(oracle, trial, space, evaluate, max_epochs))


def run_trial(oracle: Any, trial: Any, space: Sequence[Dimension], evaluate: Evaluate, max_epochs: int) -> Outcome:
    """Evaluate one trial and report it to the oracle."""
    settings, share = settings_of(trial.hyperparameters.values, space), share_of(trial.hyperparameters, max_epochs)
    started, cause, metrics = time.perf_counter(), None, {}
    try:
        found = evaluate(trial.trial_id, settings, share)
        if not all(np.isfinite(value) for value in found.values()):
            raise UserError("its loss is not a finite number.")
        metrics = {**found, "seconds": time.perf_counter() - started}
    except UserError as error:
        raise_noted()  # an interrupt is not a failure of the trial
        cause = str(error)
    if cause is None:
        oracle.update_trial(trial.trial_id, metrics)
        trial.status = engine.TrialStatus.COMPLETED
    else:
        trial.status, trial.message = engine.TrialStatus.FAILED, cause
    oracle.end_trial(trial)
    return Outcome(trial.trial_id, settings, share, metrics, cause)


def settings_text(settings: Mapping[str, Any]) -> str:
    """Settings for a line, numbers with four digits."""
    texts = {name: f"{value:.4g}" if isinstance(value, float) else str(value) for name, value in settings.items()}
    return "  ".join(f"{name}={text}" for name, text in texts.items()) or "none changed"


def share_of(values: HyperParameters, max_epochs: int) -> float:
    """The share of a trial's full length that it is to have: below 1 where Hyperband begins short."""
    return float(values.values.get(BUDGET, max_epochs)) / max_epochs


def outcomes(oracle: Any, space: Sequence[Dimension], max_epochs: int) -> list[Outcome]:
    """Every trial of a study that has ended, in the order in which they began."""
    trials = (oracle.trials[name] for name in oracle.start_order)
    return [outcome_of(trial, space, max_epochs) for trial in trials if trial.status in ("COMPLETED", "FAILED")]


def outcome_of(trial: engine.Trial, space: Sequence[Dimension], max_epochs: int) -> Outcome:
    """What is known of a trial that has ended."""
    failed = trial.status == "FAILED"
    metrics = {} if failed else {metric: trial.metrics.get_best_value(metric) for metric in trial.metrics.metrics}
    settings, share = settings_of(trial.hyperparameters.values, space), share_of(trial.hyperparameters, max_epochs)
    return Outcome(trial.trial_id, settings, share, metrics, trial.message if failed else None)


def best(found: Sequence[Outcome], objective: str) -> list[Outcome]:
    """The trials of full length that did not fail, the best first."""
    sign = 1.0 if DIRECTIONS[objective] == "min" else -1.0
    whole = [each for each in found if each.cause is None and each.share == 1]
    return sorted(whole, key=lambda each: sign * each.metrics[objective])


def importance(found: Sequence[Outcome], space: Sequence[Dimension], objective: str) -> dict[str, float]:
    """How much of the scores' variation a forest puts down to each setting: shares that sum to 1, or to 0 where none varies.

    A rough guide: it knows the trials that there were, not the space.
    """
    from sklearn.ensemble import RandomForestRegressor

    done = [each for each in found if each.cause is None]
    if len({each.metrics[objective] for each in done}) < 2:
        return {each.path: 0.0 for each in space}
    columns = [[position(each.settings.get(one.path), one) for each in done] for one in space]
    forest = RandomForestRegressor(200, random_state=0).fit(np.transpose(columns), [each.metrics[objective] for each in done])
    return {one.path: float(share) for one, share in zip(space, forest.feature_importances_, strict=True)}


def position(value: Any, dimension: Dimension) -> float:
    """A value as a number: a choice by its place, -1 where the dimension did not count."""
    if value is None and None not in dimension.values:
        return -1.0
    return float(dimension.values.index(value)) if dimension.kind == "choice" else float(value)
