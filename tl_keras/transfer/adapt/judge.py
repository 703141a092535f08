"""What a head is scored by: its answers for both domains, none of which needs a label of the target."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.transfer.adapt.choice import Candidate, judge_candidate
from tl_keras.transfer.adapt.problem import AdaptedHead, DomainProblem
from tl_keras.transfer.adapt.target import Target, mixed_features
from tl_keras.transfer.adapt.weighting import likeness
from tl_keras.transfer.features import FrozenFeatures
from tl_keras.transfer.frozen import POOLED
from tl_keras.transfer.head.probe import LinearProbe, chunks
from tl_keras.transfer.task import Task

Probabilities = NDArray[np.floating]
Predicted = NDArray[np.integer]


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
        problem: what the heads are solved on.
        target: its labels are not read.
        before: what the head that was not adapted predicts, with which others are compared; None where that is judged first.
    """

    def __init__(self, task: Task, problem: DomainProblem, target: Target, before: Predicted | None = None) -> None:
        self.problem = problem
        self._pairs, self._mixed = mixed_features(target, task.config.runtime.seed, task.progress)
        alike, val = likeness(problem.train[0], problem.target, problem.rng), problem.val[0]
        self._likeness = np.concatenate([alike(val[rows]) for rows in chunks(val)])
        self.before = before

    def __call__(self, method: str, head: AdaptedHead) -> Candidate:
        """The scores of a head; the first that is judged is the one that was not adapted."""
        (val, labels), on_target = self.problem.val, answers(head.probe, self.problem.target)
        logits = head.on_source.logits(val)
        losses = SINGLE_LABEL.plain_losses(logits, labels)
        on_val, on_mixed = SINGLE_LABEL.answers(logits), answers(head.probe, self._mixed)
        said = SINGLE_LABEL.decide(on_target)
        self.before = said if self.before is None else self.before
        found = judge_candidate(method, on_target, on_mixed, self._pairs, on_val, losses, self._likeness)
        return replace(found, agreement=float((said == self.before).mean()), accuracy=SINGLE_LABEL.metric(logits, np.asarray(labels)))
