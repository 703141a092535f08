"""Rules that combine the predictions of several classifiers: averages, votes and weights, each written once.

A rule takes the probabilities (n, k) of each member, as NumPy arrays or as tensors of a Keras graph, and gives probabilities (n, k) of
the same kind. It knows neither images nor networks: `combined` makes models of rules, `select.ensemble` fits those that are learned.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tl_keras.models.outputs import SINGLE_LABEL

LEAST_PROBABILITY = 1e-7  # a probability below it counts as it: a logit is finite
LEAST_SEEN = 1e-4  # the same where a meta-learner sees the logarithm: how wrong a wrong answer is says nothing beyond it
VOTE_TIE = 1e-3  # of a vote, what the mean probability counts: enough to settle a tie, and nothing else

Probabilities = NDArray[np.float64]  # of m members (m, n, k), or of one (n, k)
Members = Probabilities | Sequence[Any]  # probabilities of each member: an array (m, n, k), or a list of m tensors (b, k)


class Rule(Protocol):
    """One answer of several."""

    def __call__(self, members: Members) -> Any:
        """Probabilities (n, k)."""

    def logits(self, members: list[Any]) -> Any:
        """Logits (b, k) that mean these probabilities, of tensors."""


class _ByProbability:
    """A rule whose logits are logarithms of its probabilities."""

    def __call__(self, members: Members) -> Any:
        raise NotImplementedError

    def logits(self, members: list[Any]) -> Any:
        """Logits (b, k) that mean these probabilities, of tensors."""
        return SINGLE_LABEL.logits_op(self(members), LEAST_PROBABILITY)


class Average(_ByProbability):
    """The mean of the members' probabilities."""

    def __call__(self, members: Members) -> Any:
        space = _space(members)
        return space.mean(space.stack(members), axis=0)


class Vote(_ByProbability):
    """The share of members that put a class first, ties settled by the mean probability."""

    def __call__(self, members: Members) -> Any:
        space, stacked = _space(members), _space(members).stack(members)
        return (space.mean(_votes(stacked), axis=0) + VOTE_TIE * space.mean(stacked, axis=0)) / (1 + VOTE_TIE)


@dataclass(frozen=True)
class Mixture(_ByProbability):
    """A weighted mean of probabilities: weights float64 (m,) >= 0 that sum to 1."""

    weights: NDArray[np.float64]

    def __call__(self, members: Members) -> Any:
        space = _space(members)
        return space.tensordot(self.weights if space is np else self.weights.astype(np.float32), space.stack(members), axes=1)


@dataclass(frozen=True)
class Stacker:
    """A linear meta-learner: kernel float32 (m k, k) and bias (k,) on the logarithms of members' probabilities, member by member.

    Attributes:
        c: scikit-learn's C, with which it was fitted.
    """

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]
    c: float

    def __call__(self, members: Members) -> Any:
        """Probabilities (n, k)."""
        if _space(members) is not np:
            return SINGLE_LABEL.answers_op(self.logits(list(members)))
        return np.exp(SINGLE_LABEL.log_probabilities((seen(members) @ self.kernel + self.bias).astype(np.float64)))

    def logits(self, members: list[Any]) -> Any:
        """Logits (b, k) of tensors, by a layer that has the weights."""
        from keras import layers

        meta = layers.Dense(len(self.bias), dtype="float32", name="meta")
        meta.build((None, len(self.kernel)))
        meta.set_weights([self.kernel, self.bias])
        return meta(seen(members))


def seen(members: Members) -> Any:
    """What a linear meta-learner sees: float32 (n, m k), the logarithms member by member."""
    return _space(members).concatenate([_logarithms(each) for each in members], axis=-1)


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


def _logarithms(member: Any) -> Any:
    """Of the probabilities of one member, float32 (n, k), finite."""
    if isinstance(member, np.ndarray):
        return SINGLE_LABEL.logits(member, LEAST_SEEN).astype(np.float32)
    return SINGLE_LABEL.logits_op(member, LEAST_SEEN)


RULES: dict[str, Rule] = {"average": Average(), "vote": Vote()}  # those that are not learned
