"""Several classifiers as one: from pixels to the logits of their combined answer, in one graph of Keras' own operations.

What was combined is saved, reloaded, served and exported like any other model.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from tl_keras.models.outputs import OUTPUTS
from tl_keras.models.rules import Rule
from tl_keras.models.sharing import cut_shared
from tl_keras.tasks import SINGLE_LABEL

Heads = Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]  # kernels (d, k) and biases (k,) on the same features


def combined_model(members: Sequence[keras.Model], rule: Rule, task: str = SINGLE_LABEL) -> keras.Model:
    """Make one model of several, whose layers it has; what all of them compute alike, such as a frozen trunk, runs once.

    Args:
        members: each float32 pixels (b, h, w, 3) in 0..255 -> logits (b, k), of one size and with the same k classes, or
            numbers with the same mean and deviation.
        rule: what is made of their answers.
        task: what their logits are, a key of `OUTPUTS`.

    Returns:
        A model of the same input and output.
    """
    return _joined(members, lambda logits: _by_rule(rule, logits, task))


def side_by_side(members: Sequence[keras.Model]) -> keras.Model:
    """The same, with the logits of each member, (b, m, k), not combined."""
    return _joined(members, lambda logits: ops.stack(logits, axis=1))


def _joined(members: Sequence[keras.Model], join: Callable[[list[Any]], Any]) -> keras.Model:
    pixels = keras.Input(members[0].input.shape[1:], name="pixels", dtype=members[0].input.dtype)
    shared = cut_shared(members)
    if shared is not None:
        return keras.Model(pixels, join(shared(pixels)))
    return keras.Model(pixels, join([renamed(member, f"member{place}")(pixels) for place, member in enumerate(members, start=1)]))


def _by_rule(rule: Rule, logits: list[Any], task: str) -> Any:
    return rule.logits(logits, OUTPUTS[task])


def bagged_model(trunks: Sequence[keras.Model], heads: Sequence[Heads], rule: Rule, task: str = SINGLE_LABEL) -> keras.Model:
    """Make one model of many linear heads, several of which share a trunk that runs once.

    Args:
        trunks: each float32 pixels (b, h, w, 3) -> features (b, d), of one size.
        heads: of each trunk, on its raw features.
        rule: what is made of the answers of all heads, trunk by trunk.
        task: what their logits are, a key of `OUTPUTS`.
    """
    pixels = keras.Input(trunks[0].input.shape[1:], name="pixels", dtype=trunks[0].input.dtype)
    logits: list[Any] = []
    for place, (trunk, own) in enumerate(zip(trunks, heads, strict=True), start=1):
        features = renamed(trunk, f"trunk{place}")(pixels)
        for number, (kernel, bias) in enumerate(own, start=1):
            dense = layers.Dense(len(bias), dtype="float32", name=f"logits{place}_{number}")
            logits.append(dense(features))
            dense.set_weights([kernel, bias])
    return keras.Model(pixels, _by_rule(rule, logits, task))


def divided(model: keras.Model, temperature: float) -> keras.Model:
    """The same model with its logits divided by a temperature, as the last layer of its graph."""
    divide = layers.Rescaling(1 / temperature, dtype="float32", name="temperature")
    return keras.Model(model.input, divide(model.output), name=model.name)


def renamed(model: keras.Model, name: str) -> keras.Model:
    """The same layers under another name: two of one graph may not share theirs."""
    return keras.Model(model.input, model.output, name=name)
