"""The phase of an adapted run: heads are solved on the stored features of both domains, and one of them, or their mean, is kept.

No label of the target is read here. Where there are any, they serve the table at the end of the run.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_keras.adaptations import ADABN, ADAPTATIONS, AUTO, SOURCE_ONLY
from tl_keras.errors import ConfigError, DataError
from tl_keras.models.classifier import unfreeze
from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.models.saved import read_weights, write_weights
from tl_keras.run_folder import ADAPTATION, CHECKPOINTS, HISTORY, reading, write_atomically, write_csv, write_json
from tl_keras.transfer.adapt.affine import Affine, MappedFeatures, sample
from tl_keras.transfer.adapt.choice import Candidate, judge_candidate, trusted
from tl_keras.transfer.adapt.measures import classwise_mmd, coral_distance, proxy_a_distance, squared_mmd
from tl_keras.transfer.adapt.plane import Plane, principal_plane
from tl_keras.transfer.adapt.problem import AdaptedHead, DomainProblem, mean_head, solve
from tl_keras.transfer.adapt.statistics import Statistics, norms, own_features, write_statistics
from tl_keras.transfer.adapt.target import Target, mixed_features
from tl_keras.transfer.adapt.weighting import likeness
from tl_keras.transfer.checkpoints import AGAIN, history_header
from tl_keras.transfer.features import FrozenFeatures
from tl_keras.transfer.frozen import POOLED
from tl_keras.transfer.head.probe import LinearProbe, Standardiser, chunks
from tl_keras.transfer.head.train import HEAD_WEIGHTS
from tl_keras.transfer.task import Task

MEASURED_ROWS = 1_000  # of each domain, between which distances are measured
ON_TARGET = "target.npz"  # beside the head's weights: what it and the head that was not adapted say of the target
PLANES = "planes.npz"  # likewise: both domains in a plane, before and after
STATISTICS = "statistics.npz"  # likewise: the BatchNorm statistics of the target, where the head is for those
FAR_APART = 1.0  # a proxy A-distance, of at most 2
LEAST_ACCURACY = 0.9  # on val of the source, of that with the backbone's own statistics
ON_IMAGES = "images"  # in that file: which images of the target the answers are for; no method has this name

Probabilities = NDArray[np.floating]
Matrix = NDArray[np.floating]
Rows = NDArray[np.int64]


@dataclass
class Adapted:
    """The outcome: every head with its scores, and which one is kept.

    Attributes:
        heads: by method, in the order in which they were solved.
        candidates: their scores, in the same order.
        kept: the method of the head that is kept.
        members: the methods whose mean it is, or itself.
        statistics: BatchNorm statistics that the kept head is for; None for those that the backbone has.
    """

    heads: dict[str, AdaptedHead]
    candidates: list[Candidate]
    kept: str = SOURCE_ONLY
    members: list[str] = field(default_factory=lambda: [SOURCE_ONLY])
    statistics: Statistics | None = None

    def add(self, method: str, head: AdaptedHead, judge: "Judge") -> Candidate:
        """Score one more head."""
        self.heads[method] = head
        self.candidates.append(judge(method, head))
        return self.candidates[-1]


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
        found = adapt_heads(task)
        _record(task, found, started)
        head = found.heads[found.kept].probe
        task.classifier.head.layers[-1].set_weights([head.kernel, head.bias])
        write_weights(done, task.classifier.head)
    with reading(done, "the weights of a head", AGAIN):
        read_weights(done, task.classifier.head)
    if (statistics := kept_statistics(task)) is not None:
        write_statistics(task.classifier.model, statistics)


def kept_statistics(task: Task) -> Statistics | None:
    """BatchNorm statistics of the target that the kept head is for; None for those that the backbone has."""
    path = task.run / CHECKPOINTS / STATISTICS
    if not path.is_file():
        return None
    with reading(path, "BatchNorm statistics", AGAIN), np.load(path) as found:
        return [found[name] for name in found.files]


def problem_of(task: Task, source: FrozenFeatures, target: Target) -> DomainProblem:
    """What heads are solved on."""
    index, rows = task.data.index, {split: task.data.rows(split) for split in ("train", "val")}
    weights = None if index.weights is None else index.weights[rows["train"]]
    train, val = ((source.stored(POOLED, own), index.labels[own]) for own in rows.values())  # of soft labels the class
    return DomainProblem(task.config, train, val, target.features, task.data.classes, weights)


def answers(head: LinearProbe, features: Any) -> Probabilities:
    """Probabilities (n, k) of a head for raw features (n, d)."""
    return SINGLE_LABEL.answers(head.logits(features))


class Judge:
    """Scores heads on the target, all on the same images, mixtures and likenesses.

    Args:
        target: its labels are not read.
        before: what scored the head that was not adapted, with which others are compared.
    """

    def __init__(self, task: Task, problem: DomainProblem, target: Target, before: "Judge | None" = None) -> None:
        self._problem = problem
        self._pairs, self._mixed = mixed_features(target, task.config.runtime.seed, task.progress)
        alike, val = likeness(problem.train[0], problem.target, problem.rng), problem.val[0]
        self._likeness = np.concatenate([alike(val[rows]) for rows in chunks(val)])
        self._before: NDArray[np.integer] | None = None if before is None else before._before

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


def adapt_heads(task: Task) -> Adapted:
    """Solve a head by each method that is asked for, and decide which is kept."""
    wanted, target = task.config.adapt.method, task.the_target
    problem = problem_of(task, task.the_frozen, target)
    judge, found = Judge(task, problem, target), Adapted({}, [])
    baseline = found.add(SOURCE_ONLY, solve(problem, SOURCE_ONLY), judge)
    first = 0
    if wanted == ADABN or (wanted == AUTO and _is_worth_own(task, found.heads[SOURCE_ONLY])):
        own, own_judge, statistics = own_problem(task, judge)
        candidate = found.add(ADABN, solve(own, ADABN), own_judge)
        if wanted == ADABN or _holds(found, baseline, candidate):
            problem, judge, first, found.statistics = own, own_judge, 1, statistics
    if wanted == AUTO:
        return _mean_of_trusted(task, problem, judge, found, first)
    if wanted not in found.heads:
        found.add(wanted, solve(problem, wanted), judge)
    found.kept, found.members = wanted, [wanted]
    return found


def own_problem(task: Task, judge: "Judge") -> tuple[DomainProblem, "Judge", Statistics]:
    """The domains as the backbone sees them with BatchNorm statistics of each, and the statistics of the target.

    Raises:
        ConfigError: the backbone has no BatchNorm that can be told.
    """
    target, rows = task.the_target, np.concatenate([task.data.rows("train"), task.data.rows("val")])
    if not norms(task.classifier.trunk):
        raise ConfigError(
            f"adapt.method: got '{ADABN}', but {task.config.model.backbone} has no BatchNorm layers of its own. Choose another method."
        )
    source, _ = own_features(task, task.the_frozen.pixels, task.data.rows("train"), np.sort(rows))
    frozen, statistics = own_features(task, target.pixels, target.rows, target.rows)
    seen = replace(target, frozen=frozen)
    problem = problem_of(task, source, seen)
    return problem, Judge(task, problem, seen, judge), statistics


def _is_worth_own(task: Task, before: AdaptedHead) -> bool:
    """Whether the domains are so far apart that statistics of each are worth two more passes over the images."""
    apart = distances(before)["proxy_a"]
    return bool(norms(task.classifier.trunk)) and apart is not None and apart >= FAR_APART


def _holds(found: Adapted, baseline: Candidate, own: Candidate) -> bool:
    """Whether other statistics cost the source little, and no predictions have collapsed."""
    accuracy, before = (found.heads[one.method].probe.val_metric for one in (own, baseline))
    return not own.collapsed and accuracy >= LEAST_ACCURACY * before


def _mean_of_trusted(task: Task, problem: DomainProblem, judge: "Judge", found: Adapted, first: int) -> Adapted:
    """The mean of the heads on the same features that can be trusted.

    Args:
        first: which head is the plain one on these features.
    """
    methods = [method for method in ADAPTATIONS if method not in (SOURCE_ONLY, ADABN)]
    with task.progress.bar("methods", len(methods)) as advance:
        for method in methods:
            found.add(method, solve(problem, method), judge)
            advance(1)
    plain = list(found.heads)[first]
    found.members = trusted([one for one in found.candidates if one.method == plain or one.method in methods])
    found.kept = found.members[0]
    if len(found.members) > 1:
        found.add(AUTO, mean_head(problem, [found.heads[method] for method in found.members]), judge)
        found.kept = AUTO
    return found


def _record(task: Task, found: Adapted, started: float) -> None:
    """Write what there is to tell of an adaptation, and what the kept head says of the target."""
    kept = found.candidates[list(found.heads).index(found.kept)]
    task.progress.line(f"adapt  {described(found)}")
    if kept.collapsed:
        task.progress.line(
            f"{kept.method} predicts {kept.classes:.1f} classes for the target, counted by their shares, and "
            f"{kept.classes_on_source:.1f} for the source: do not trust it unless the target's classes are that uneven"
        )
    if found.statistics is None and kept.forgets(found.candidates[0]):
        task.progress.line(
            f"{kept.method} has lost some of what the source taught: its log loss on val of the source is {kept.risk:.3g}, and that of "
            f"{SOURCE_ONLY} {found.candidates[0].risk:.3g}, images that look like the target counting most"
        )
    apart = {name: distances(found.heads[name]) for name in dict.fromkeys((SOURCE_ONLY, *found.members))}
    scores = [one.report() for one in found.candidates]
    write_json(task.run / ADAPTATION, {"method": found.kept, "members": found.members, "candidates": scores, "distances": apart})
    said: dict[str, Any] = {name: _answers_of(found.heads[name]) for name in dict.fromkeys((SOURCE_ONLY, found.kept))}
    said[ON_IMAGES] = task.the_target.known_by
    write_atomically(task.run / CHECKPOINTS / ON_TARGET, partial(_savez, said))
    planes = {f"{name} {part}": values for name, plane in planes_of(found).items() for part, values in vars(plane).items()}
    write_atomically(task.run / CHECKPOINTS / PLANES, partial(_savez, planes))
    if found.statistics is not None:
        named = {f"{place:04}": values for place, values in enumerate(found.statistics)}
        write_atomically(task.run / CHECKPOINTS / STATISTICS, partial(_savez, named))
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


def _answers_of(head: AdaptedHead) -> Probabilities:
    """What a head says of the target."""
    return answers(head.probe, head.domains.target)


def described(found: Adapted) -> str:
    """What was done, in a line."""
    if found.kept == AUTO:
        return f"the mean of {len(found.members)} heads: {', '.join(found.members)}"
    if found.kept == SOURCE_ONLY and len(found.heads) > 2:
        return "no method can be trusted here: the head that was not adapted is kept"
    return found.kept


def planes_of(found: Adapted) -> dict[str, Plane]:
    """Both domains in a plane as the head that was not adapted sees them, and as the kept one does where it sees other features.

    Of a mean of heads these are the features that all of them start from.
    """
    after = found.kept if found.kept != AUTO else SOURCE_ONLY if found.statistics is None else ADABN
    planes = {name: principal_plane(*_rows_seen(found.heads[name])[1::2]) for name in dict.fromkeys((SOURCE_ONLY, after))}
    before = planes[SOURCE_ONLY].target
    return {name: plane for name, plane in planes.items() if name == SOURCE_ONLY or not np.array_equal(plane.target, before)}


def read_planes(task: Task) -> dict[str, Plane]:
    """What `planes_of` said when heads were solved.

    Raises:
        UserError: the file is gone or damaged.
    """
    path = task.run / CHECKPOINTS / PLANES
    with reading(path, "the domains in a plane", AGAIN), np.load(path) as found:
        parts = {tuple(name.split()): found[name] for name in found.files}
    methods = dict.fromkeys(method for method, _ in parts)
    return {method: Plane(**{part: values for (own, part), values in parts.items() if own == method}) for method in methods}


def distances(head: AdaptedHead) -> dict[str, float | None]:
    """How far the domains are apart as a head sees them: on rows of each, standardised together once they are mapped.

    None is a distance that cannot be told, which JSON has no number for.
    """
    rows, source, places, target = _rows_seen(head)
    said, rng = SINGLE_LABEL.decide(_answers_of(head))[places], head.domains.rng
    found = {
        "mmd": squared_mmd(source, target),
        "coral": coral_distance(source, target),
        "proxy_a": proxy_a_distance(source, target, rng),
        "classwise_mmd": classwise_mmd(source, target, np.asarray(head.domains.train[1])[rows], said),
    }
    return {name: value if np.isfinite(value) else None for name, value in found.items()}


def _rows_seen(head: AdaptedHead) -> tuple[Rows, Matrix, Rows, Matrix]:
    """At most MEASURED_ROWS rows of the source and of the target as a head sees them, each after their positions."""
    problem = head.domains
    rng, (of_source, of_target) = problem.rng, head.maps or _as_they_are(problem)
    rows, source = sample(MappedFeatures(problem.train[0], of_source), MEASURED_ROWS, rng)
    places, target = sample(MappedFeatures(problem.target, of_target), MEASURED_ROWS, rng)
    own = Standardiser.fit(np.concatenate([source, target]))
    return rows, own(source), places, own(target)


def _as_they_are(problem: DomainProblem) -> Sequence[Affine]:
    return [Affine.identity(problem.target.shape[1])] * 2
