"""Rules on arrays against NumPy written out, and on tensors against themselves on arrays."""

import numpy as np
import pytest
from keras import ops

from tl_keras.models.outputs import OUTPUTS, SINGLE_LABEL, MultiLabel, Output, Regression
from tl_keras.models.rules import LEAST_PROBABILITY, LEAST_SEEN, VOTE_TIE, Average, Median, Mixture, Rule, Stacker, Vote, VotePerClass

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
    logits = [ops.convert_to_tensor(np.log(member).astype(np.float32) + 3) for member in MEMBERS]
    np.testing.assert_allclose(SINGLE_LABEL.answers(np.asarray(rule.logits(logits))), expected, atol=max(LEAST_PROBABILITY, 1e-6))


def test_a_mean_of_tensors_is_exact_however_improbable_a_class_is() -> None:
    apart = [np.array([[40.0, 0.0, -40.0]], np.float32), np.array([[60.0, 0.0, -20.0]], np.float32)]
    for row in (SINGLE_LABEL, MultiLabel()):
        exact = np.array([row.answers(each) for each in apart])
        for rule, weights in ((Average(), [0.5, 0.5]), (Mixture(np.array([1.0, 0.0])), [1.0, 0.0])):
            found = np.asarray(rule.logits([ops.convert_to_tensor(each) for each in apart], row), np.float64)
            np.testing.assert_allclose(row.answers(found), np.tensordot(weights, exact, axes=1), rtol=1e-5)
            if row is not SINGLE_LABEL:
                opposite = np.array([row.answers(-each) for each in apart])
                np.testing.assert_allclose(row.answers(-found), np.tensordot(weights, opposite, axes=1), rtol=1e-5)


def test_a_vote_is_settled_by_probability_and_never_against_votes() -> None:
    tied = np.array([[[0.6, 0.4]], [[0.1, 0.9]]])
    assert Vote()(tied).argmax(axis=-1).tolist() == [1]
    outvoted = np.array([[[0.51, 0.49]], [[0.51, 0.49]], [[0.0, 1.0]]])
    assert Vote()(outvoted).argmax(axis=-1).tolist() == [0]
    np.testing.assert_allclose(Vote()(outvoted).sum(axis=-1), 1)


# --- several classes an image, and numbers -------------------------------------------------------------------------

SEVERAL = DRAWS.random((3, 50, 4))
THRESHOLDS = DRAWS.uniform(0.2, 0.8, (3, 4))
NUMBERS = DRAWS.normal(50, 20, (3, 50, 1))
FITTED = Regression(mean=48.0, scale=17.0)
NUMBERS_KERNEL, NUMBERS_BIAS = np.array([[0.5], [0.4], [0.2]], np.float32), np.array([-0.1], np.float32)


def counted_per_class() -> np.ndarray:
    """Votes on each class of each image, counted one by one."""
    found = np.zeros(SEVERAL.shape[1:])
    for image in range(50):
        for label in range(4):
            votes = [SEVERAL[member, image, label] >= THRESHOLDS[member, label] for member in range(3)]
            above = [(1 + SEVERAL[member, image, label] - THRESHOLDS[member, label]) / 2 for member in range(3)]
            found[image, label] = (np.mean(votes) + VOTE_TIE * np.mean(above)) / (1 + VOTE_TIE)
    return found


def stacked_per_class() -> np.ndarray:
    kept = [np.clip(member, LEAST_SEEN, 1 - LEAST_SEEN) for member in SEVERAL]
    return 1 / (1 + np.exp(-(np.hstack([np.log(p / (1 - p)) for p in kept]) @ KERNEL + BIAS)))


def stacked_numbers() -> np.ndarray:
    return 48 + 17 * sum(weight * (member - 48) / 17 for weight, member in zip((0.5, 0.4, 0.2), NUMBERS, strict=True)) - 17 * 0.1


OTHERS: dict[str, tuple[Output, Rule, np.ndarray, np.ndarray]] = {  # what answers are, a rule, answers of members, and of the rule
    "several-average": (MultiLabel(), Average(), SEVERAL, SEVERAL.sum(axis=0) / 3),
    "several-vote": (MultiLabel(), VotePerClass(THRESHOLDS), SEVERAL, counted_per_class()),
    "several-mixture": (MultiLabel(), Mixture(WEIGHTS), SEVERAL, np.einsum("m,mnk->nk", WEIGHTS, SEVERAL)),
    "several-stack": (MultiLabel(), Stacker(KERNEL, BIAS, 1.0, MultiLabel()), SEVERAL, stacked_per_class()),
    "numbers-average": (FITTED, Average(), NUMBERS, NUMBERS.sum(axis=0) / 3),
    "numbers-median": (FITTED, Median(), NUMBERS, np.median(NUMBERS, axis=0)),
    "numbers-median-of-two": (FITTED, Median(), NUMBERS[:2], NUMBERS[:2].mean(axis=0)),
    "numbers-mixture": (FITTED, Mixture(WEIGHTS), NUMBERS, np.einsum("m,mnk->nk", WEIGHTS, NUMBERS)),
    "numbers-stack": (FITTED, Stacker(NUMBERS_KERNEL, NUMBERS_BIAS, 1.0, FITTED), NUMBERS, stacked_numbers()),
}


@pytest.mark.parametrize(("output", "rule", "members", "expected"), OTHERS.values(), ids=OTHERS)
def test_a_rule_of_other_answers_on_arrays_and_in_a_graph(output: Output, rule: Rule, members: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(rule(members), expected, rtol=1e-5, atol=1e-6)
    plain = OUTPUTS[output.task]  # numbers are in standard deviations there
    tensors = [ops.convert_to_tensor(output.logits(member).astype(np.float32)) for member in members]
    np.testing.assert_allclose(output.answers(np.asarray(rule.logits(tensors, plain))), expected, rtol=1e-5, atol=1e-5)


def test_a_vote_on_a_class_is_settled_by_how_far_members_are_from_their_thresholds() -> None:
    rule, decide = VotePerClass(np.array([[0.2], [0.9]])), MultiLabel().decide
    assert decide(rule(np.array([[[0.3]], [[0.85]]]))).tolist() == [[True]]  # 0.1 above, 0.05 below
    assert decide(rule(np.array([[[0.25]], [[0.6]]]))).tolist() == [[False]]
    three = VotePerClass(np.array([[0.5], [0.5], [0.5]]))
    assert decide(three(np.array([[[0.51]], [[0.51]], [[0.0]]]))).tolist() == [[True]]  # never against votes
    assert decide(three(np.array([[[0.49]], [[0.49]], [[1.0]]]))).tolist() == [[False]]
