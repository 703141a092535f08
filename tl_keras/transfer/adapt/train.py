"""The phases of an adapted run: heads are solved on the stored features of both domains, and one of them, or their mean, is kept. Then the
network is trained on both domains, where the method does that.

No label of the target is read here. Where there are any, they serve the table at the end of the run.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tl_keras.adaptations import ADABN, ADAPTATIONS, AUTO, SELF_TRAINING, SOURCE_ONLY, TRAINED
from tl_keras.errors import ConfigError
from tl_keras.models.classifier import unfreeze
from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.models.saved import read_weights, write_weights
from tl_keras.run_folder import ADAPTATION, CHECKPOINTS, HISTORY, reading, write_json
from tl_keras.transfer.adapt.affine import Affine, MappedFeatures, sample
from tl_keras.transfer.adapt.choice import Candidate, trusted
from tl_keras.transfer.adapt.judge import Judge, answers, problem_of
from tl_keras.transfer.adapt.measures import classwise_mmd, coral_distance, proxy_a_distance, squared_mmd
from tl_keras.transfer.adapt.network import Domains, see, train_network
from tl_keras.transfer.adapt.plane import Plane, principal_plane
from tl_keras.transfer.adapt.problem import AdaptedHead, DomainProblem, mean_head, measured_head, solve
from tl_keras.transfer.adapt.record import (
    OF_SOURCE,
    OF_TARGET,
    read_adaptation,
    read_answers,
    read_planes,
    read_statistics_of,
    write_answers,
    write_planes,
    write_statistics_of,
)
from tl_keras.transfer.adapt.statistics import Statistics, features_of_domains, norms, own_statistics, write_statistics
from tl_keras.transfer.adapt.target import Target
from tl_keras.transfer.checkpoints import AGAIN, write_only_epoch
from tl_keras.transfer.head.probe import LinearProbe, Standardiser
from tl_keras.transfer.head.train import HEAD_WEIGHTS
from tl_keras.transfer.task import Task

MEASURED_ROWS = 1_000  # of each domain, between which distances are measured
START = "start.weights.h5"  # beside the weights of the head: that from which the network is trained, where it is
FAR_APART = 1.0  # a proxy A-distance, of at most 2

Matrix = NDArray[np.floating]
Rows = NDArray[np.int64]


@dataclass
class Adapted:
    """The outcome: every head with its scores, and which one is kept.

    Attributes:
        judge: scores heads, on the features that the kept one is for.
        heads: by method, in the order in which they were solved.
        candidates: their scores, in the same order.
        kept: the method of the head that is kept.
        members: the methods whose mean it is, or itself.
        distances: between the domains as the head that was not adapted sees them, by its method.
        statistics: BatchNorm statistics of source and target that the kept head is for; None for those that the backbone has.
        trains: whether the network is to be trained after that, from the plain head on these statistics.
    """

    judge: Judge
    heads: dict[str, AdaptedHead] = field(default_factory=dict)
    candidates: list[Candidate] = field(default_factory=list)
    kept: str = SOURCE_ONLY
    members: list[str] = field(default_factory=lambda: [SOURCE_ONLY])
    distances: dict[str, dict[str, float | None]] = field(default_factory=dict)
    statistics: tuple[Statistics, Statistics] | None = None
    trains: bool = False

    def add(self, method: str, head: AdaptedHead, judge: Judge | None = None) -> Candidate:
        """Score one more head, by its own judge where that is not yet the one of all."""
        self.heads[method] = head
        self.candidates.append((judge or self.judge)(method, head))
        return self.candidates[-1]

    def solve(self, method: str) -> Candidate:
        """Solve one more head on the same features, and score it."""
        return self.add(method, solve(self.judge.problem, method))


def adapt(task: Task) -> None:
    """Solve heads for the target domain, keep one, and train the network where the method does; what is done is not done again."""
    unfreeze(task.classifier, None, freeze_batchnorm=True)
    task.tell_parameters("head")
    (task.run / CHECKPOINTS).mkdir(exist_ok=True)
    done, head = task.run / CHECKPOINTS / HEAD_WEIGHTS, task.classifier.head
    if done.is_file():
        read_answers(task, task.the_target)  # a target that has changed meanwhile is said now
    else:
        started = time.perf_counter()
        found = adapt_heads(task)
        _record(task, found, started)
        if found.trains:
            _write_head(task, found.heads[ADABN if found.statistics else SOURCE_ONLY], START)
        _write_head(task, found.heads[found.kept], HEAD_WEIGHTS)
    with reading(done, "the weights of a head", AGAIN):
        read_weights(done, head)
    if (statistics := read_statistics_of(task, OF_TARGET)) is not None:
        write_statistics(task.classifier.model, statistics)
    if (task.run / CHECKPOINTS / START).is_file():
        adapt_network(task)


def changes_backbone(task: Task) -> bool:
    """Whether the backbone is no longer the one whose features are stored."""
    return any((task.run / CHECKPOINTS / name).is_file() for name in (OF_TARGET, START))


def _write_head(task: Task, head: AdaptedHead, name: str) -> None:
    task.classifier.head.layers[-1].set_weights([head.probe.kernel, head.probe.bias])
    write_weights(task.run / CHECKPOINTS / name, task.classifier.head)


def adapt_network(task: Task) -> None:
    """Train the network on both domains; `auto` goes back to what there was before where the result cannot be trusted."""
    wanted, model, head = task.config.adapt.method, task.classifier.model, task.classifier.head
    method = TRAINED[0] if wanted == AUTO else wanted
    before, start = model.get_weights(), task.run / CHECKPOINTS / START
    with reading(start, "the weights of a head", AGAIN):
        read_weights(start, head)
    domains = see(task, (read_statistics_of(task, OF_SOURCE) or [], read_statistics_of(task, OF_TARGET) or []))
    said = read_answers(task, task.the_target)
    candidate, trained = train_and_judge(task, domains, method, SINGLE_LABEL.decide(said[SOURCE_ONLY]))
    record = read_adaptation(task)
    candidates = {each["method"]: Candidate.read(each) for each in record["candidates"]} | {method: candidate}
    record |= {"candidates": [each.report() for each in candidates.values()]}
    if wanted == AUTO and not candidate.outdoes(candidates[record["method"]], candidates[ADABN]):
        model.set_weights(before)
        task.progress.line(f"{method} is not kept: its predictions collapse, or it has lost more of the source; the head before it is kept")
    else:
        apart = {SOURCE_ONLY: record["distances"][SOURCE_ONLY], method: distances(trained)}
        record |= {"method": method, "members": [method], "distances": apart}
        said[method] = _answers_of(trained)
        write_planes(task, {SOURCE_ONLY: read_planes(task)[SOURCE_ONLY], method: _plane_of(trained)})
        _warn(task, candidate, candidates[SOURCE_ONLY], own_statistics=bool(domains.statistics[1]))
    write_answers(task, {name: said[name] for name in (SOURCE_ONLY, record["method"])})
    write_json(task.run / ADAPTATION, record)


def seen_with(task: Task, statistics: tuple[Statistics, Statistics], *, tail: bool = False) -> tuple[DomainProblem, Target]:
    """The domains as the backbone sees them with its weights as they are, each with statistics of its own.

    Args:
        tail: compute what the network is trained from too: it costs no further pass.
    """
    source, frozen = features_of_domains(task, statistics, tail=tail)
    seen = replace(task.the_target, frozen=frozen)
    return problem_of(task, source, seen), seen


def train_and_judge(task: Task, domains: Domains, method: str, before: NDArray[np.integer]) -> tuple[Candidate, AdaptedHead]:
    """Train the network from what the classifier has now, and score what comes out.

    Args:
        before: what the head that was not adapted predicts for the target.
    """
    train_network(domains, method)
    problem, seen = seen_with(task, domains.statistics)
    kernel, bias = task.classifier.head.layers[-1].get_weights()
    own = LinearProbe(kernel, bias, c=float("nan"), val_loss=float("nan"), val_metric=float("nan"))  # trained: no C was chosen
    trained = measured_head(problem, own, own)
    return Judge(task, problem, seen, before)(method, trained), trained


def adapt_heads(task: Task) -> Adapted:
    """Solve a head by each method that is asked for, and decide which is kept."""
    wanted, target = task.config.adapt.method, task.the_target
    found = Adapted(Judge(task, problem_of(task, task.the_frozen, target), target))
    baseline = found.solve(SOURCE_ONLY)
    forced = wanted == ADABN or (wanted in TRAINED and bool(norms(task.classifier.trunk)))
    found.distances[SOURCE_ONLY] = distances(found.heads[SOURCE_ONLY])
    far = wanted in (AUTO, SELF_TRAINING) and _are_far_apart(found.distances[SOURCE_ONLY])
    if forced or (far and norms(task.classifier.trunk)):
        judge, statistics = own_judge(task, found.judge)
        candidate = found.add(ADABN, solve(judge.problem, ADABN), judge)
        if forced or candidate.holds(baseline):
            found.judge, found.statistics = judge, statistics
    if wanted in TRAINED:
        found.kept = found.members[0] = list(found.heads)[-1]
        found.trains = True
        return found
    if wanted == AUTO:
        found.trains = found.statistics is not None
        if found.statistics is None or not _labels_itself(found):
            add_mean_of_trusted(task, found)
        return found
    if wanted not in found.heads:
        found.solve(wanted)
    found.kept, found.members = wanted, [wanted]
    return found


def own_judge(task: Task, judge: Judge) -> tuple[Judge, tuple[Statistics, Statistics]]:
    """What scores heads on the features that the backbone has with BatchNorm statistics of each domain, and these statistics.

    Raises:
        ConfigError: the backbone has no BatchNorm that can be told.
    """
    target = task.the_target
    if not norms(task.classifier.trunk):
        raise ConfigError(
            f"adapt.method: got '{ADABN}', but {task.config.model.backbone} has no BatchNorm layers of its own. Choose another method."
        )
    of_source = own_statistics(task, task.the_frozen.pixels, task.data.rows("train"))
    of_target = own_statistics(task, target.pixels, target.rows)
    problem, seen = seen_with(task, (of_source, of_target), tail=task.config.adapt.method in (AUTO, *TRAINED))
    return Judge(task, problem, seen, judge.before), (of_source, of_target)


def _are_far_apart(before: dict[str, float | None]) -> bool:
    """Whether a linear classifier tells the domains apart: what a head can do about it is little."""
    apart = before["proxy_a"]
    return apart is not None and apart >= FAR_APART


def _labels_itself(found: Adapted) -> bool:
    """Keep the head on statistics of each domain that labels the target itself, if it can be trusted.

    The mean of heads hardly differs from the one that AdaBN gives. This one does: it is held to the accuracy on the source that AdaBN is
    held to.
    """
    before = found.candidates[-1]
    if not found.solve(SELF_TRAINING).holds(before):
        return False
    found.kept, found.members = SELF_TRAINING, [SELF_TRAINING]
    return True


def add_mean_of_trusted(task: Task, found: Adapted) -> None:
    """Keep the mean of the heads on the same features that can be trusted; those that are not solved yet are."""
    methods = [method for method in ADAPTATIONS if method not in (SOURCE_ONLY, ADABN, *TRAINED)]
    left = [method for method in methods if method not in found.heads]
    with task.progress.bar("methods", len(left)) as advance:
        for method in left:
            found.solve(method)
            advance(1)
    plain = SOURCE_ONLY if found.statistics is None else ADABN
    found.members = trusted([one for one in found.candidates if one.method == plain or one.method in methods])
    found.kept = found.members[0]
    if len(found.members) > 1:
        found.add(AUTO, mean_head(found.judge.problem, [found.heads[method] for method in found.members]))
        found.kept = AUTO


def _record(task: Task, found: Adapted, started: float) -> None:
    """Write what there is to tell of an adaptation, and what the kept head says of the target."""
    kept = found.candidates[list(found.heads).index(found.kept)]
    task.progress.line(f"adapt  {described(found)}")
    _warn(task, kept, found.candidates[0], own_statistics=found.statistics is not None)
    apart = found.distances | {name: distances(found.heads[name]) for name in found.members if name not in found.distances}
    scores = [one.report() for one in found.candidates]
    write_json(task.run / ADAPTATION, {"method": found.kept, "members": found.members, "candidates": scores, "distances": apart})
    write_answers(task, {name: _answers_of(found.heads[name]) for name in dict.fromkeys((SOURCE_ONLY, found.kept))})
    write_planes(task, planes_of(found))
    if found.statistics is not None:
        for name, statistics in zip((OF_SOURCE, OF_TARGET), found.statistics, strict=True):
            write_statistics_of(task, name, statistics)
    probe, output = found.heads[found.kept].probe, task.data.output
    on_val = dict(zip(output.history[2:], (probe.val_loss, probe.val_metric), strict=True))
    figures = on_val | {"seconds": round(time.perf_counter() - started, 2)}
    write_only_epoch(task.run / HISTORY, "adapt", figures, output, task.progress)


def _warn(task: Task, kept: Candidate, baseline: Candidate, *, own_statistics: bool) -> None:
    """Say what speaks against the head that is kept."""
    if kept.collapsed:
        task.progress.line(
            f"{kept.method} predicts {kept.classes:.1f} classes for the target, counted by their shares, and "
            f"{kept.classes_on_source:.1f} for the source: do not trust it unless the target's classes are that uneven"
        )
    if not own_statistics and kept.forgets(baseline):
        task.progress.line(
            f"{kept.method} has lost some of what the source taught: its log loss on val of the source is {kept.risk:.3g}, and that of "
            f"{SOURCE_ONLY} {baseline.risk:.3g}, images that look like the target counting most"
        )


def _answers_of(head: AdaptedHead) -> NDArray[np.floating]:
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
    planes = {name: _plane_of(found.heads[name]) for name in dict.fromkeys((SOURCE_ONLY, after))}
    before = planes[SOURCE_ONLY].target
    return {name: plane for name, plane in planes.items() if name == SOURCE_ONLY or not np.array_equal(plane.target, before)}


def _plane_of(head: AdaptedHead) -> Plane:
    return principal_plane(*_rows_seen(head)[1::2])


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
