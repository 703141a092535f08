"""Wrong numbers that are planted are found: ten times too large, ten times too small, swapped."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from tl_keras.models.outputs import OUTPUTS
from tl_keras.select.check.answers import left_out_answers
from tl_keras.select.check.labels import LabelCheck
from tl_keras.select.check.neighbours import Neighbours, find_neighbours
from tl_keras.select.check.numbers import answer_numbers, check_numbers, told_number

NUM, WIDTH = 400, 12
Features = NDArray[np.float32]


def clouds(noise: float) -> tuple[Features, NDArray[np.float32]]:
    """Features, and numbers about 60 +- 20 that follow from them."""
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=NUM)
    features = 3 + np.outer(hidden, rng.normal(size=WIDTH)) + 0.2 * rng.normal(size=(NUM, WIDTH))
    return features.astype(np.float32), (60 + 20 * hidden + noise * rng.normal(size=NUM)).clip(5).astype(np.float32)


def planted(right: NDArray[np.float32], share: float) -> tuple[NDArray[np.float32], dict[str, NDArray[np.int64]]]:
    rng, num = np.random.default_rng(1), round(share * NUM)
    rows = rng.permutation(NUM)
    kinds = {"ten times": rows[:num], "a tenth": rows[num : 2 * num], "swapped": rows[2 * num : 2 * num + 2 * (num // 2)]}
    numbers = right.copy()
    numbers[kinds["ten times"]] *= 10
    numbers[kinds["a tenth"]] /= 10
    numbers[kinds["swapped"]] = right[kinds["swapped"].reshape(-1, 2)[:, ::-1].ravel()]
    return numbers, kinds


def checked(features: Features, numbers: NDArray[np.float32]) -> tuple[LabelCheck, NDArray[np.float32], Neighbours]:
    answers = answer_numbers(features, numbers, 1)
    neighbours = find_neighbours(features, numbers, 1, WIDTH, OUTPUTS["regression"], np.zeros(NUM, np.int32))
    return check_numbers(answers, numbers, neighbours), answers, neighbours


@pytest.mark.parametrize("share", [0.01, 0.06])
def test_wrong_numbers_are_found(share: float) -> None:
    features, right = clouds(noise=3.0)
    numbers, kinds = planted(right, share)
    found, answers, _ = checked(features, numbers)
    wrong = np.abs(numbers - right) > 25  # a swap of neighbours' numbers is nothing that can be seen
    assert found.is_suspect[kinds["ten times"]].all()
    assert found.is_suspect[wrong].mean() > 0.9
    assert (found.is_suspect & (numbers == right)).sum() <= 2
    assert roc_auc_score(wrong, found.suspicion) > 0.97
    assert np.abs(answers[:, 0] - right).mean() < 8  # in spite of them
    assert (found.likely[~found.is_suspect] == numbers[~found.is_suspect]).all()
    np.testing.assert_array_equal(found.likely[found.is_suspect], answers[found.is_suspect, 0])


def test_right_numbers_are_left_alone() -> None:
    assert checked(*clouds(noise=6.0))[0].is_suspect.sum() <= 2


def test_wrong_numbers_do_not_pull_the_answers_to_the_others() -> None:
    features, right = clouds(noise=3.0)
    numbers, _ = planted(right, 0.06)
    naive = left_out_answers(features, numbers[:, None])
    assert np.abs(answer_numbers(features, numbers, 1) - right[:, None]).mean() < 0.5 * np.abs(naive - right[:, None]).mean()


def test_a_decimal_point_that_would_mend_a_number_is_told() -> None:
    features, right = clouds(noise=3.0)
    numbers, rows = right.copy(), np.argsort(np.abs(answer_numbers(features, right, 1)[:, 0] - right))[:2]
    numbers[rows] = 10 * right[rows[0]], 3 * right[rows[1]]
    found, answers, neighbours = checked(features, numbers)
    told = [told_number(place, found, answers, numbers, neighbours, ("age",)) for place in rows]
    row = rows[0]
    assert told[0].startswith(f"expected {answers[row, 0]:.4g}, not {numbers[row]:.4g} (")
    assert f"median of its neighbours {neighbours.votes[row, 0]:.4g}. {numbers[row] / 10:.4g} would fit: look at the decimal" in told[0]
    assert "decimal" not in told[1]


def test_votes_are_the_medians_of_neighbours() -> None:
    features, right = clouds(noise=3.0)
    numbers = right.copy()
    numbers[::10] = 1e6
    found = find_neighbours(features, numbers, 1, WIDTH, OUTPUTS["regression"], np.zeros(NUM, np.int32))
    assert found.votes.shape == (NUM, 1)
    assert found.votes.max() < 200


def test_neighbours_decide_where_a_number_is_not_very_far_off() -> None:
    labels, answers = np.zeros(100, np.float32), np.linspace(-1, 1, 100, dtype=np.float32)[:, None]
    labels[50] = 3.0  # about four spreads
    for beside, is_suspect in ((labels, False), (np.zeros(100), True), (2 * labels, False)):
        votes = np.array(beside, np.float32)[:, None] + np.linspace(-0.5, 0.5, 100, dtype=np.float32)[:, None]
        assert check_numbers(answers, labels, Neighbours(votes, np.zeros(100), np.zeros(100))).is_suspect[50] == is_suspect


def test_numbers_that_are_all_answered_right_are_not_suspect() -> None:
    numbers = np.arange(30, dtype=np.float32)
    votes = Neighbours(numbers[:, None], np.zeros(30), np.zeros(30))
    assert not check_numbers(numbers[:, None], numbers, votes).is_suspect.any()
