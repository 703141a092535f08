"""Rules on arrays against NumPy written out, and on tensors against themselves on arrays."""

import numpy as np
import pytest
from keras import ops

from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.models.rules import LEAST_PROBABILITY, LEAST_SEEN, VOTE_TIE, Average, Mixture, Rule, Stacker, Vote

DRAWS = np.random.default_rng(5)
MEMBERS = DRAWS.dirichlet(np.ones(4), (3, 50))
WEIGHTS = np.array([0.5, 0.2, 0.3])
KERNEL, BIAS = DRAWS.normal(size=(12, 4)).astype(np.float32), DRAWS.normal(size=4).astype(np.float32)


def counted() -> np.ndarray:
    """Votes, counted image by image."""
    found = np.zeros(MEMBERS.shape[1:])
    for member in MEMBERS:
        for image, probabilities in enumerate(member):
            found[image, probabilities.argmax()] += 1 / len(MEMBERS)
    return (found + VOTE_TIE * MEMBERS.mean(axis=0)) / (1 + VOTE_TIE)


def stacked() -> np.ndarray:
    """Softmax of a linear map of the logarithms."""
    logits = np.hstack([np.log(np.maximum(member, LEAST_SEEN)) for member in MEMBERS]) @ KERNEL + BIAS
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


TWINS: dict[str, tuple[Rule, np.ndarray]] = {
    "average": (Average(), (MEMBERS[0] + MEMBERS[1] + MEMBERS[2]) / 3),
    "vote": (Vote(), counted()),
    "mixture": (Mixture(WEIGHTS), 0.5 * MEMBERS[0] + 0.2 * MEMBERS[1] + 0.3 * MEMBERS[2]),
    "stack": (Stacker(KERNEL, BIAS, 1.0), stacked()),
}


@pytest.mark.parametrize(("rule", "expected"), TWINS.values(), ids=TWINS)
def test_a_rule_on_arrays_and_on_tensors(rule: Rule, expected: np.ndarray) -> None:
    found = rule(MEMBERS)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=-1), 1)
    tensors = [ops.convert_to_tensor(member.astype(np.float32)) for member in MEMBERS]
    np.testing.assert_allclose(np.asarray(rule(tensors)), expected, atol=1e-6)
    logits = np.asarray(rule.logits(tensors))
    np.testing.assert_allclose(SINGLE_LABEL.answers(logits), expected, atol=max(LEAST_PROBABILITY, 1e-6))


def test_a_vote_is_settled_by_probability_and_never_against_votes() -> None:
    tied = np.array([[[0.6, 0.4]], [[0.1, 0.9]]])
    assert Vote()(tied).argmax(axis=-1).tolist() == [1]
    outvoted = np.array([[[0.51, 0.49]], [[0.51, 0.49]], [[0.0, 1.0]]])
    assert Vote()(outvoted).argmax(axis=-1).tolist() == [0]
    np.testing.assert_allclose(Vote()(outvoted).sum(axis=-1), 1)
