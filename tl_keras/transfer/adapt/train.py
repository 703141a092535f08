"""The phase of an adapted run: heads are solved on the stored features of both domains, and one of them is kept.

No label of the target is read here. Where there are any, they serve the table at the end of the run.
"""

import time
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_keras.adaptations import ADAPTATIONS, AUTO, SOURCE_ONLY
from tl_keras.models.classifier import unfreeze
from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.models.saved import read_weights, write_weights
from tl_keras.run_folder import ADAPTATION, CHECKPOINTS, HISTORY, reading, write_csv, write_json
from tl_keras.transfer.adapt.affine import MappedFeatures, sample
from tl_keras.transfer.adapt.choice import Candidate, choose, judge_candidate
from tl_keras.transfer.adapt.measures import classwise_mmd, coral_distance, proxy_a_distance, squared_mmd
from tl_keras.transfer.adapt.problem import AdaptedHead, DomainProblem, solve
from tl_keras.transfer.adapt.target import Target, mixed_features
from tl_keras.transfer.adapt.weighting import likeness
from tl_keras.transfer.checkpoints import AGAIN, history_header
from tl_keras.transfer.head.probe import LinearProbe, Standardiser
from tl_keras.transfer.head.train import HEAD_WEIGHTS
from tl_keras.transfer.task import Task

MEASURED_ROWS = 1_000  # of each domain, between which distances are measured
ON_TARGET = "target.npz"  # beside the head's weights: what it and the head that was not adapted say of the target

Probabilities = NDArray[np.floating]


def adapt(task: Task) -> None:
    """Solve heads for the target domain and keep one; a run that did so before is continued from the result."""
    unfreeze(task.classifier, None, freeze_batchnorm=True)
    task.tell_parameters("head")
    (task.run / CHECKPOINTS).mkdir(exist_ok=True)
    done = task.run / CHECKPOINTS / HEAD_WEIGHTS
    if not done.is_file():
        _adapt(task)
        write_weights(done, task.classifier.head)
    with reading(done, "the weights of a head", AGAIN):
        read_weights(done, task.classifier.head)


def _adapt(task: Task) -> None:
    started, target = time.perf_counter(), task.the_target
    problem = problem_of(task, target)
    wanted = task.config.adapt.method
    others = [name for name in ADAPTATIONS if name != SOURCE_ONLY] if wanted == AUTO else [wanted] if wanted != SOURCE_ONLY else []
    judge = Judge(task, problem, target)
    heads: dict[str, AdaptedHead] = {}
    candidates: list[Candidate] = []
    with task.progress.bar("methods", 1 + len(others)) as advance:
        for method in (SOURCE_ONLY, *others):
            heads[method] = solve(problem, method)
            candidates.append(judge(method, heads[method]))
            advance(1)
    chosen, why = choose(candidates) if wanted == AUTO else (candidates[-1], "adapt.method says so")
    if chosen.collapsed:
        task.progress.line(
            f"{chosen.method} predicts {chosen.classes:.1f} classes for the target, counted by their shares, and "
            f"{chosen.classes_on_source:.1f} for the source: do not trust it unless the target's classes are that uneven"
        )
    task.progress.line(f"adapt  {chosen.method}: {why}")
    kept = heads[chosen.method]
    _record(task, problem, heads, candidates, chosen, why)
    said: Any = {name: answers(heads[name].probe, target.features) for name in dict.fromkeys((SOURCE_ONLY, chosen.method))}
    np.savez(task.run / CHECKPOINTS / ON_TARGET, **said)
    line = ("adapt", 1, "", "", f"{kept.probe.val_loss:.6g}", f"{kept.probe.val_metric:.6g}", "", f"{time.perf_counter() - started:.2f}")
    write_csv(task.run / HISTORY, history_header(task.data.output), [line])
    task.classifier.head.layers[-1].set_weights([kept.probe.kernel, kept.probe.bias])


def problem_of(task: Task, target: Target) -> DomainProblem:
    """What heads are solved on."""
    source, train, val = task.head_problem, task.data.rows("train"), task.data.rows("val")
    weights = None if source.weights is None else source.weights[train]
    return DomainProblem(task.config, source.pair(train), source.pair(val), target.features, task.data.classes, weights)


def answers(head: LinearProbe, features: Any) -> Probabilities:
    """Probabilities (n, k) of a head for raw features (n, d)."""
    return SINGLE_LABEL.answers(head.logits(features))


class Judge:
    """Scores heads on the target, all on the same images, mixtures and likenesses.

    Args:
        target: its labels are not read.
    """

    def __init__(self, task: Task, problem: DomainProblem, target: Target) -> None:
        self._problem = problem
        self._pairs, self._mixed = mixed_features(target, task.config.runtime.seed, task.progress)
        like = likeness(problem.train[0], problem.target, problem.rng)
        self._val = problem.val[0][slice(None)]
        self._likeness = like(self._val)
        self._before: NDArray[np.integer] | None = None

    def __call__(self, method: str, head: AdaptedHead) -> Candidate:
        on_target, on_val = answers(head.probe, self._problem.target), answers(head.on_source, self._val)
        labels = self._problem.val[1]
        losses = -np.log(np.maximum(on_val[np.arange(len(labels)), labels], 1e-30))
        found = judge_candidate(method, on_target, answers(head.probe, self._mixed), self._pairs, on_val, losses, self._likeness)
        said = SINGLE_LABEL.decide(on_target)
        self._before = said if self._before is None else self._before
        return replace(found, agreement=float((said == self._before).mean()))


def _record(
    task: Task, problem: DomainProblem, heads: dict[str, AdaptedHead], candidates: list[Candidate], chosen: Candidate, why: str
) -> None:
    report = {
        "method": chosen.method,
        "why": why,
        "candidates": [one.report() for one in candidates],
        "distances": {"before": distances(problem, heads[SOURCE_ONLY]), "after": distances(problem, heads[chosen.method])},
    }
    write_json(task.run / ADAPTATION, report)


def distances(problem: DomainProblem, head: AdaptedHead) -> dict[str, float]:
    """How far the domains are apart as a head sees them: on rows of each, standardised together once they are mapped."""
    rng = problem.rng
    rows, source = sample(MappedFeatures(problem.train[0], head.source), MEASURED_ROWS, rng)
    _, target = sample(MappedFeatures(problem.target, head.target), MEASURED_ROWS, rng)
    _, raw = sample(problem.target, MEASURED_ROWS, problem.rng)
    own = Standardiser.fit(np.concatenate([source, target]))
    source, target = own(source), own(target)
    return {
        "mmd": squared_mmd(source, target),
        "coral": coral_distance(source, target),
        "proxy_a": proxy_a_distance(source, target, rng),
        "classwise_mmd": classwise_mmd(source, target, np.asarray(problem.train[1])[rows], SINGLE_LABEL.decide(answers(head.probe, raw))),
    }
