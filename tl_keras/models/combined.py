"""Several classifiers as one: from pixels to the logits of their combined answer, in one graph of Keras' own operations.

The rules are those of `select.combining`, which says what they mean; here they are layers, so that what was combined is saved,
reloaded, served and exported like any other model.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.models.sharing import cut_shared

LEAST = 1e-7  # a probability below it counts as it: a logit is finite
LEAST_SEEN = 1e-4  # the same where a meta-learner sees the logarithm: how wrong a wrong answer is says nothing beyond it
TIE = 1e-3  # of a vote, what the mean probability counts: enough to settle a tie, and nothing else

Rule = Callable[[list[Any]], Any]  # logits (b, k) of each member -> logits (b, k)
Heads = Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]  # kernels (d, k) and biases (k,) on the same features


def combined_model(members: Sequence[keras.Model], rule: Rule) -> keras.Model:
    """Make one model of several, whose layers it has; what all of them compute alike, such as a frozen trunk, runs once.

    Args:
        members: each float32 pixels (b, h, w, 3) in 0..255 -> logits (b, k), of one size and with the same k classes.
        rule: what is made of their logits.

    Returns:
        A model of the same input and output.
    """
    pixels = keras.Input(members[0].input.shape[1:], name="pixels", dtype=members[0].input.dtype)
    shared = cut_shared(members)
    if shared is not None:
        return keras.Model(pixels, rule(shared(pixels)))
    return keras.Model(pixels, rule([renamed(member, f"member{place}")(pixels) for place, member in enumerate(members, start=1)]))


def bagged_model(trunks: Sequence[keras.Model], heads: Sequence[Heads], rule: Rule) -> keras.Model:
    """Make one model of many linear heads, several of which share a trunk that runs once.

    Args:
        trunks: each float32 pixels (b, h, w, 3) -> features (b, d), of one size.
        heads: of each trunk, on its raw features.
        rule: what is made of the logits of all heads, trunk by trunk.
    """
    pixels = keras.Input(trunks[0].input.shape[1:], name="pixels", dtype=trunks[0].input.dtype)
    logits: list[Any] = []
    for place, (trunk, own) in enumerate(zip(trunks, heads, strict=True), start=1):
        features = renamed(trunk, f"trunk{place}")(pixels)
        for number, (kernel, bias) in enumerate(own, start=1):
            dense = layers.Dense(len(bias), dtype="float32", name=f"logits{place}_{number}")
            logits.append(dense(features))
            dense.set_weights([kernel, bias])
    return keras.Model(pixels, rule(logits))


def renamed(model: keras.Model, name: str) -> keras.Model:
    """The same layers under another name: two of one graph may not share theirs."""
    return keras.Model(model.input, model.output, name=name)


def side_by_side(logits: list[Any]) -> Any:
    """The logits of each member, (b, m, k), not combined."""
    return ops.stack(logits, axis=1)


def average(logits: list[Any]) -> Any:
    """The logarithm of the mean probability."""
    return SINGLE_LABEL.logits_op(ops.mean(_probabilities(logits), axis=0), LEAST)


def vote(logits: list[Any]) -> Any:
    """The logarithm of the share of members that put a class first, ties settled by the mean probability."""
    probabilities = _probabilities(logits)
    votes = SINGLE_LABEL.targets_op(SINGLE_LABEL.decide_op(probabilities), probabilities.shape[-1])
    return SINGLE_LABEL.logits_op((ops.mean(votes, axis=0) + TIE * ops.mean(probabilities, axis=0)) / (1 + TIE), LEAST)


def weighted(weights: NDArray[np.float64]) -> Rule:
    """The logarithm of a weighted mean of probabilities; weights (m,) >= 0 that sum to 1."""

    def rule(logits: list[Any]) -> Any:
        parts = [weight * SINGLE_LABEL.probabilities_op(each) for weight, each in zip(weights.tolist(), logits, strict=True)]
        return SINGLE_LABEL.logits_op(sum(parts[1:], start=parts[0]), LEAST)

    return rule


def stacked(kernel: NDArray[np.float32], bias: NDArray[np.float32]) -> Rule:
    """A linear meta-learner on the logarithms of the members' probabilities, member by member; kernel (m k, k), bias (k,)."""

    def rule(logits: list[Any]) -> Any:
        seen = [SINGLE_LABEL.logits_op(SINGLE_LABEL.probabilities_op(each), LEAST_SEEN) for each in logits]
        meta = layers.Dense(len(bias), dtype="float32", name="meta")
        answer = meta(ops.concatenate(seen, axis=-1))
        meta.set_weights([kernel, bias])
        return answer

    return rule


def _probabilities(logits: list[Any]) -> Any:
    return ops.stack([SINGLE_LABEL.probabilities_op(each) for each in logits], axis=0)
