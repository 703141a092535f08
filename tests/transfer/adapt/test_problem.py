"""Heads for a target domain: every method ends as a head for raw features, and undoes what it is made to undo."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tl_keras.adaptations import ADAPTATIONS, SOURCE_ONLY, TRAINED
from tl_keras.config import AdaptConfig, Config
from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.transfer.adapt.network import LOSSES
from tl_keras.transfer.adapt.problem import METHODS, DomainProblem, mean_head, solve
from tl_keras.transfer.adapt.weighting import WEIGHTINGS

CENTRES = np.array([[2.0, 0, 0, 0], [0, 2.0, 0, 0], [0, 0, 2.0, 0]])


def draw(num: int, seed: int, shares: tuple[float, ...] = (1 / 3, 1 / 3, 1 / 3)) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    draws = np.random.default_rng(seed)
    labels = draws.choice(3, num, p=shares).astype(np.int32)
    return (CENTRES[labels] + draws.normal(size=(num, 4)) * 0.7).astype(np.float32), labels


def problem(target: NDArray[np.float32]) -> DomainProblem:
    config = Config.model_validate({"mode": "adapt"})
    return DomainProblem(config, draw(300, 0), draw(100, 1), target, ("ant", "bee", "fly"))


def accuracy(found: DomainProblem, method: str, features: NDArray[np.float32], labels: NDArray[np.int32]) -> float:
    return SINGLE_LABEL.metric(solve(found, method).probe.logits(features), labels)


def test_the_tables_have_the_same_methods() -> None:
    assert tuple(LOSSES) == TRAINED
    assert {*METHODS, *LOSSES} == set(ADAPTATIONS)
    allowed = AdaptConfig.model_fields["method"].annotation.__args__  # type: ignore[union-attr]
    assert allowed == ("auto", *ADAPTATIONS)


@pytest.mark.parametrize("method", METHODS)
def test_without_a_shift_no_method_does_harm(method: str) -> None:
    features, labels = draw(300, 2)
    found = problem(features)
    assert accuracy(found, method, features, labels) > accuracy(found, SOURCE_ONLY, features, labels) - 0.04


@pytest.mark.parametrize("method", ["standardise", "coral", "subspace", "least_mmd", "optimal_transport"])
def test_alignment_undoes_a_change_of_scale_and_place(method: str) -> None:
    features, labels = draw(300, 2)
    moved = (features * [1.0, 2.0, 0.5, 1.0] + [3.0, -2.0, 1.0, 0.0]).astype(np.float32)
    found = problem(moved)
    assert accuracy(found, SOURCE_ONLY, moved, labels) < 0.7
    assert accuracy(found, method, moved, labels) > 0.85


def test_label_shift_is_followed() -> None:
    features, labels = draw(600, 2, (0.9, 0.08, 0.02))
    found = problem(features)
    assert accuracy(found, "label_shift", features, labels) > accuracy(found, SOURCE_ONLY, features, labels)


def test_optimal_transport_is_worse_than_nothing_where_classes_have_other_shares() -> None:
    """As `auto` has it only as one of many, and the docs say."""
    features, labels = draw(600, 2, (0.9, 0.08, 0.02))
    found = problem(features)
    assert accuracy(found, "optimal_transport", features, labels) < accuracy(found, SOURCE_ONLY, features, labels) - 0.1


@pytest.mark.parametrize("method", METHODS)
def test_the_head_on_the_source_says_of_raw_features_what_was_learned(method: str) -> None:
    features, _ = draw(200, 2)
    found = problem(features + 1)
    head = solve(found, method)
    val, labels = found.val
    assert SINGLE_LABEL.metric(head.on_source.logits(val), labels) == pytest.approx(head.probe.val_metric, abs=0.011)


@pytest.mark.parametrize("method", sorted(WEIGHTINGS))
def test_weights_of_images_are_multiplied(method: str) -> None:
    features, _ = draw(200, 2)
    plain = problem(features)
    half = np.where(np.arange(300) < 150, 1, 1e-6).astype(np.float32)
    weighted = DomainProblem(plain.config, plain.train, plain.val, features, plain.classes, half)
    assert not np.allclose(solve(plain, method).probe.kernel, solve(weighted, method).probe.kernel, atol=1e-3)


def test_a_mean_of_one_head_is_that_head_and_of_two_lies_between() -> None:
    features, _ = draw(200, 2)
    found = problem(features + 1)
    one, other = solve(found, SOURCE_ONLY), solve(found, "standardise")
    np.testing.assert_allclose(mean_head(found, [one]).probe.kernel, one.probe.kernel, rtol=1e-5)
    both = mean_head(found, [one, other])
    logits = [head.probe.logits(found.target) for head in (one, other, both)]
    centred = [each - each.mean(axis=1, keepdims=True) for each in logits]
    expected = centred[0] / centred[0].std() + centred[1] / centred[1].std()
    np.testing.assert_allclose(centred[2] / centred[2].std(), expected / expected.std(), atol=1e-4)
    assert both.probe.val_metric == SINGLE_LABEL.metric(both.on_source.logits(found.val[0]), found.val[1])
