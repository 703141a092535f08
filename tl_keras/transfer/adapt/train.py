"""The phase of an adapted run: heads are solved on the stored features of both domains, and one of them, or their mean, is kept.

No label of the target is read here. Where there are any, they serve the table at the end of the run.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_keras.adaptations import ADAPTATIONS, AUTO, SOURCE_ONLY
from tl_keras.errors import DataError
from tl_keras.models.classifier import unfreeze
from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.models.saved import read_weights, write_weights
from tl_keras.run_folder import ADAPTATION, CHECKPOINTS, HISTORY, reading, write_atomically, write_csv, write_json
from tl_keras.transfer.adapt.affine import Affine, MappedFeatures, sample
from tl_keras.transfer.adapt.choice import Candidate, judge_candidate, trusted
from tl_keras.transfer.adapt.measures import classwise_mmd, coral_distance, proxy_a_distance, squared_mmd
from tl_keras.transfer.adapt.problem import AdaptedHead, DomainProblem, mean_head, solve
from tl_keras.transfer.adapt.target import Target, mixed_features
from tl_keras.transfer.adapt.weighting import likeness
from tl_keras.transfer.checkpoints import AGAIN, history_header
from tl_keras.transfer.head.probe import LinearProbe, Standardiser, chunks
from tl_keras.transfer.head.train import HEAD_WEIGHTS
from tl_keras.transfer.task import Task

MEASURED_ROWS = 1_000  # of each domain, between which distances are measured
ON_TARGET = "target.npz"  # beside the head's weights: what it and the head that was not adapted say of the target
ON_IMAGES = "images"  # in that file: which images of the target the answers are for; no method has this name

Probabilities = NDArray[np.floating]


@dataclass(frozen=True)
class Adapted:
    """The outcome: every head with its scores, and which one is kept.

    Attributes:
        heads: by method, in the order in which they were solved.
        candidates: their scores, in the same order.
        kept: the method of the head that is kept.
        members: the methods whose mean it is, or itself.
    """

    heads: dict[str, AdaptedHead]
    candidates: list[Candidate]
    kept: str
    members: list[str]


def adapt(task: Task) -> None:
    """Solve heads for the target domain and keep one; a run that did so before is continued from the result."""
    unfreeze(task.classifier, None, freeze_batchnorm=True)
    task.tell_parameters("head")
    (task.run / CHECKPOINTS).mkdir(exist_ok=True)
    done = task.run / CHECKPOINTS / HEAD_WEIGHTS
    if done.is_file():
        read_answers(task, task.the_target)  # a target that has changed meanwhile is said now
    else:
        started = time.perf_counter()
        problem = problem_of(task, task.the_target)
        found = adapt_heads(problem, Judge(task, problem, task.the_target), task)
        _record(task, problem, found, started)
        head = found.heads[found.kept].probe
        task.classifier.head.layers[-1].set_weights([head.kernel, head.bias])
        write_weights(done, task.classifier.head)
    with reading(done, "the weights of a head", AGAIN):
        read_weights(done, task.classifier.head)


def problem_of(task: Task, target: Target) -> DomainProblem:
    """What heads are solved on."""
    source, index = task.head_problem, task.data.index
    weights = None if index.weights is None else index.weights[task.data.rows("train")]
    train, val = ((source.pair(task.data.rows(split))[0], task.data.labels(split)) for split in ("train", "val"))  # of soft ones the class
    return DomainProblem(task.config, train, val, target.features, task.data.classes, weights)


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
        alike, val = likeness(problem.train[0], problem.target, problem.rng), problem.val[0]
        self._likeness = np.concatenate([alike(val[rows]) for rows in chunks(val)])
        self._before: NDArray[np.integer] | None = None

    def __call__(self, method: str, head: AdaptedHead) -> Candidate:
        """The scores of a head; the first that is judged is the one that was not adapted."""
        (val, labels), on_target = self._problem.val, answers(head.probe, self._problem.target)
        logits = head.on_source.logits(val)
        losses = SINGLE_LABEL.plain_losses(logits, labels)
        on_val, on_mixed = SINGLE_LABEL.answers(logits), answers(head.probe, self._mixed)
        said = SINGLE_LABEL.decide(on_target)
        self._before = said if self._before is None else self._before
        found = judge_candidate(method, on_target, on_mixed, self._pairs, on_val, losses, self._likeness)
        return replace(found, agreement=float((said == self._before).mean()))


def adapt_heads(problem: DomainProblem, judge: Judge, task: Task) -> Adapted:
    """Solve a head by each method that is asked for, and decide which is kept."""
    wanted = task.config.adapt.method
    methods = tuple(ADAPTATIONS) if wanted == AUTO else tuple(dict.fromkeys((SOURCE_ONLY, wanted)))
    heads: dict[str, AdaptedHead] = {}
    candidates: list[Candidate] = []
    with task.progress.bar("methods", len(methods)) as advance:
        for method in methods:
            heads[method] = solve(problem, method)
            candidates.append(judge(method, heads[method]))
            advance(1)
    if wanted != AUTO:
        return Adapted(heads, candidates, wanted, [wanted])
    members = trusted(candidates)
    if len(members) == 1:
        return Adapted(heads, candidates, members[0], members)
    heads[AUTO] = mean_head(problem, [heads[method] for method in members])
    candidates.append(judge(AUTO, heads[AUTO]))
    return Adapted(heads, candidates, AUTO, members)


def _record(task: Task, problem: DomainProblem, found: Adapted, started: float) -> None:
    """Write what there is to tell of an adaptation, and what the kept head says of the target."""
    kept = found.candidates[list(found.heads).index(found.kept)]
    task.progress.line(f"adapt  {described(found)}")
    if kept.collapsed:
        task.progress.line(
            f"{kept.method} predicts {kept.classes:.1f} classes for the target, counted by their shares, and "
            f"{kept.classes_on_source:.1f} for the source: do not trust it unless the target's classes are that uneven"
        )
    if kept.forgets(found.candidates[0]):
        task.progress.line(
            f"{kept.method} has lost some of what the source taught: its log loss on val of the source is {kept.risk:.3g}, and that of "
            f"{SOURCE_ONLY} {found.candidates[0].risk:.3g}, images that look like the target counting most"
        )
    apart = {name: distances(problem, found.heads[name]) for name in dict.fromkeys((SOURCE_ONLY, *found.members))}
    scores = [one.report() for one in found.candidates]
    write_json(task.run / ADAPTATION, {"method": found.kept, "members": found.members, "candidates": scores, "distances": apart})
    said: dict[str, Any] = {name: answers(found.heads[name].probe, problem.target) for name in dict.fromkeys((SOURCE_ONLY, found.kept))}
    said[ON_IMAGES] = task.the_target.known_by
    write_atomically(task.run / CHECKPOINTS / ON_TARGET, partial(_savez, said))
    probe = found.heads[found.kept].probe
    seconds = time.perf_counter() - started
    line = ("adapt", 1, "", "", f"{probe.val_loss:.6g}", f"{probe.val_metric:.6g}", "", f"{seconds:.2f}")
    write_csv(task.run / HISTORY, history_header(task.data.output), [line])


def _savez(arrays: dict[str, Any], path: Path) -> None:
    with open(path, "wb") as file:  # of a path it would make another name
        np.savez(file, **arrays)


def read_answers(task: Task, target: Target) -> dict[str, Any]:
    """Probabilities (m, k) for the target of the head that is kept and of the one that was not adapted, by their methods.

    Raises:
        DataError: the images are no longer those that the answers are for.
        UserError: the file is gone or damaged.
    """
    path = task.run / CHECKPOINTS / ON_TARGET
    with reading(path, "the answers for the target", AGAIN), np.load(path) as found:
        said = {name: found[name] for name in found.files}
    if str(said.pop(ON_IMAGES)) != target.known_by:
        raise DataError(
            f"{target.index.root}: the images of the target are not those that this run was adapted to. Put them back, or start a new run."
        )
    return said


def described(found: Adapted) -> str:
    """What was done, in a line."""
    if found.kept == AUTO:
        return f"the mean of {len(found.members)} heads: {', '.join(found.members)}"
    if found.kept == SOURCE_ONLY and len(found.heads) > 2:
        return "no method can be trusted here: the head that was not adapted is kept"
    return found.kept


def distances(problem: DomainProblem, head: AdaptedHead) -> dict[str, float | None]:
    """How far the domains are apart as a head sees them: on rows of each, standardised together once they are mapped.

    None is a distance that cannot be told, which JSON has no number for.
    """
    rng, (of_source, of_target) = problem.rng, head.maps or _as_they_are(problem)
    rows, source = sample(MappedFeatures(problem.train[0], of_source), MEASURED_ROWS, rng)
    places, target = sample(MappedFeatures(problem.target, of_target), MEASURED_ROWS, rng)
    said = SINGLE_LABEL.decide(answers(head.probe, problem.target))[places]
    own = Standardiser.fit(np.concatenate([source, target]))
    source, target = own(source), own(target)
    found = {
        "mmd": squared_mmd(source, target),
        "coral": coral_distance(source, target),
        "proxy_a": proxy_a_distance(source, target, rng),
        "classwise_mmd": classwise_mmd(source, target, np.asarray(problem.train[1])[rows], said),
    }
    return {name: value if np.isfinite(value) else None for name, value in found.items()}


def _as_they_are(problem: DomainProblem) -> Sequence[Affine]:
    return [Affine.identity(problem.target.shape[1])] * 2
