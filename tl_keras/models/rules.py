"""Rules that combine the answers of several models: means, votes and weights, each written once.

A rule takes the answers (n, k) of each member (see `outputs`: probabilities, or numbers), as NumPy arrays or as tensors of a Keras graph,
and gives answers (n, k) of the same kind. It knows neither images nor networks: `combined` makes models of rules, `select.ensemble` fits
those that are learned.

In a graph a rule makes logits of the members' logits, by a row of `OUTPUTS` to which nothing is fitted: numbers are there what the network
learned, less their mean, and in standard deviations. Every rule for numbers says the same of both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tl_keras.models.outputs import SINGLE_LABEL, Output

LEAST_PROBABILITY = 1e-7  # a probability that is nearer to 0 (or, of several classes an image, to 1) counts as it: a logit is finite
LEAST_SEEN = 1e-4  # the same where a meta-learner sees the logit: how wrong a wrong answer is says nothing beyond it
VOTE_TIE = 1e-3  # of a vote, what the mean probability counts: enough to settle a tie, and nothing else

Probabilities = NDArray[np.float64]  # answers, in a regression the numbers: of m members (m, n, k), or of one (n, k)
Members = Probabilities | Sequence[Any]  # answers of each member: an array (m, n, k), or a list of m tensors (b, k)


class Rule(Protocol):
    """One answer of several."""

    def __call__(self, members: Members) -> Any:
        """Answers (n, k)."""

    def logits(self, members: list[Any], row: Output = SINGLE_LABEL) -> Any:
        """Logits (b, k) that mean the answer, of the members' logits, m tensors (b, k); `row` says what logits are."""


class _ByAnswer:
    """A rule whose logits follow from its answers."""

    def __call__(self, members: Members) -> Any:
        raise NotImplementedError

    def logits(self, members: list[Any], row: Output = SINGLE_LABEL) -> Any:
        """Logits (b, k) that mean the answer, of the members' logits."""
        return row.logits_op(self([row.answers_op(each) for each in members]), LEAST_PROBABILITY)


class Average:
    """The mean of the members' answers."""

    def __call__(self, members: Members) -> Any:
        """Answers (n, k) of arrays."""
        return np.mean(members, axis=0)

    def logits(self, members: list[Any], row: Output = SINGLE_LABEL) -> Any:
        """Logits (b, k) that mean the answer, of the members' logits."""
        return row.mean_logits_op(members, np.full(len(members), 1 / len(members)))


class Vote(_ByAnswer):
    """The share of members that put a class first, ties settled by the mean probability."""

    def __call__(self, members: Members) -> Any:
        space, stacked = _space(members), _space(members).stack(members)
        return _elected(space, _votes(stacked), stacked)


@dataclass(frozen=True)
class VotePerClass(_ByAnswer):
    """The share of members that find a class, each by its own threshold: above one half where most do.

    A tie is settled by how far above or below its threshold the members are in the mean.

    Attributes:
        thresholds: float64 (m, k), in [0, 1].
    """

    thresholds: NDArray[np.float64]

    def __call__(self, members: Members) -> Any:
        space, stacked = _space(members), _space(members).stack(members)
        limits = self.thresholds[:, None] if space is np else self.thresholds[:, None].astype(np.float32)
        found = space.greater_equal(stacked, limits)
        votes = found.astype(np.float64) if space is np else space.cast(found, "float32")
        return _elected(space, votes, (1 + stacked - limits) / 2)


class Median(_ByAnswer):
    """The middle one of the members' numbers; of an even number of members, the mean of the middle two."""

    def __call__(self, members: Members) -> Any:
        space = _space(members)
        ordered = space.sort(space.stack(members), axis=0)
        num = len(members)
        return (ordered[(num - 1) // 2] + ordered[num // 2]) / 2


@dataclass(frozen=True)
class Mixture:
    """A weighted mean of answers: weights float64 (m,) >= 0 that sum to 1."""

    weights: NDArray[np.float64]

    def __call__(self, members: Members) -> Any:
        """Answers (n, k) of arrays."""
        return np.tensordot(self.weights, members, axes=1)

    def logits(self, members: list[Any], row: Output = SINGLE_LABEL) -> Any:
        """Logits (b, k) that mean the answer, of the members' logits."""
        return row.mean_logits_op(members, self.weights)


@dataclass(frozen=True)
class Stacker:
    """A linear meta-learner: kernel float32 (m k, k) and bias (k,) on the logits that members' answers mean, member by member.

    Attributes:
        c: scikit-learn's C, with which it was fitted.
        output: what the answers on arrays are.
    """

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]
    c: float
    output: Output = SINGLE_LABEL

    def __call__(self, members: Members) -> Any:
        """Answers (n, k) of arrays."""
        return self.output.answers(seen(members, self.output) @ self.kernel + self.bias)

    def logits(self, members: list[Any], row: Output = SINGLE_LABEL) -> Any:
        """Logits (b, k) of the members' logits, by a layer that has the weights."""
        from keras import layers, ops

        meta = layers.Dense(len(self.bias), dtype="float32", name="meta")
        meta.build((None, len(self.kernel)))
        meta.set_weights([self.kernel, self.bias])
        return meta(ops.concatenate([row.bounded_op(each, LEAST_SEEN) for each in members], axis=-1))


def seen(members: Members, output: Output = SINGLE_LABEL) -> NDArray[np.float32]:
    """What a linear meta-learner sees: float32 (n, m k), the logits that members' answers (m, n, k) mean, member by member."""
    return np.concatenate([output.logits(each, LEAST_SEEN).astype(np.float32) for each in members], axis=-1)


def _space(members: Members) -> Any:
    """Where operations on members are found: NumPy, or `keras.ops`, which has its names."""
    if isinstance(members, np.ndarray):
        return np
    from keras import ops

    return ops


def _votes(stacked: Any) -> Any:
    """1 for the class that each member puts first and 0 for the others, (m, n, k)."""
    if isinstance(stacked, np.ndarray):
        return SINGLE_LABEL.targets(SINGLE_LABEL.decide(stacked), stacked.shape[-1]).astype(np.float64)
    return SINGLE_LABEL.targets_op(SINGLE_LABEL.decide_op(stacked), stacked.shape[-1])


def _elected(space: Any, votes: Any, sure: Any) -> Any:
    """The mean of votes (m, n, k), ties settled by the mean of how sure members are, in [0, 1]."""
    return (space.mean(votes, axis=0) + VOTE_TIE * space.mean(sure, axis=0)) / (1 + VOTE_TIE)
