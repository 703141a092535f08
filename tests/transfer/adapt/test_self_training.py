"""Self-training: what is labelled first, the rows of two domains as one, and a shift that a head follows by itself."""

import numpy as np
import pytest

from tl_keras.adaptations import SELF_TRAINING, SOURCE_ONLY
from tl_keras.config import Config
from tl_keras.transfer.adapt import problem as problems
from tl_keras.transfer.adapt.problem import DomainProblem, solve
from tl_keras.transfer.adapt.self_training import Stacked, surest

DRAWS = np.random.default_rng(0)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 1.0])
def test_the_surest_of_each_class(share: float) -> None:
    answers = DRAWS.dirichlet(np.ones(4), 50)
    answers[:, 3] = 0  # a class that is never predicted
    wanted = []
    for each in range(3):
        own = sorted((-answers[row].max(), row) for row in range(50) if answers[row].argmax() == each)
        wanted += [row for _, row in own[: int(np.ceil(share * len(own)))]]
    np.testing.assert_array_equal(surest(answers, share), sorted(wanted))


@pytest.mark.parametrize("rows", [slice(None), slice(0, 3), slice(2, 7), slice(4, 6), slice(5, 9), slice(3, 100), slice(-2, None)])
def test_rows_of_two_are_those_of_one(rows: slice) -> None:
    first, second = DRAWS.normal(size=(4, 3)), DRAWS.normal(size=(5, 3))
    stacked = Stacked(first, second)
    assert (len(stacked), stacked.shape) == (9, (9, 3))
    np.testing.assert_array_equal(stacked[rows], np.concatenate([first, second])[rows])


def test_rows_that_are_not_in_order_are_refused() -> None:
    with pytest.raises(ValueError, match="a step of 2"):
        Stacked(np.zeros((2, 1)), np.zeros((2, 1)))[::2]


def turned(num: int, angle: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two blobs around the origin, turned: what a head for angle 0 says is right for most of a small angle and wrong for a large one."""
    draws = np.random.default_rng(seed)
    labels = draws.integers(0, 2, num).astype(np.int32)
    points = draws.normal(size=(num, 2)) * [0.3, 0.7] + np.where(labels == 1, 1.0, -1.0)[:, None] * [1.0, 0.0]
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return (points @ turn).astype(np.float32), labels


def right(problem: DomainProblem, method: str, labels: np.ndarray) -> float:
    return float((solve(problem, method).probe.logits(problem.target).argmax(axis=1) == labels).mean())


def a_problem(angle: float) -> tuple[DomainProblem, np.ndarray]:
    target, labels = turned(400, angle, 2)
    config = Config.model_validate({"mode": "adapt"})
    return DomainProblem(
        config, turned(100, 0, 0), turned(60, 0, 1), target, ("a", "b"), np.linspace(0.5, 1.5, 100).astype(np.float32)
    ), labels


def test_a_turn_is_followed() -> None:
    problem, labels = a_problem(0.9)
    assert right(problem, SOURCE_ONLY, labels) < 0.85
    assert right(problem, SELF_TRAINING, labels) > right(problem, SOURCE_ONLY, labels) + 0.03


def test_of_many_images_a_part_is_used_until_the_last_round(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, labels = a_problem(0.9)
    seen: list[int] = []
    plain = problems._plain

    def counting(own: DomainProblem, method: str) -> problems.AdaptedHead:
        seen.append(len(own.train[0]))
        assert own.weights is not None
        assert len(own.weights) == len(own.train[1]) == len(own.train[0])
        if len(seen) > 1:  # both domains count alike
            of_source = 100 if own.target is problem.target else 40
            assert own.weights[:of_source].sum() == pytest.approx(own.weights[of_source:].sum(), rel=1e-5)
        return plain(own, method)

    monkeypatch.setattr(problems, "_plain", counting)
    monkeypatch.setattr(problems, "ROWS", 40)
    found = solve(problem, SELF_TRAINING)
    assert seen[0] == 100
    assert max(seen[1:-1]) <= 80
    assert seen[-1] == 500
    assert found.domains is problem
    assert (found.probe.logits(problem.target).argmax(axis=1) == labels).mean() > 0.8
