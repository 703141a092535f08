"""Answers that are accepted: the promised precision over samples of val, and the choice beside a plain loop."""

import numpy as np
import pytest
from scipy import stats

from tl_keras.evaluation.acceptance import accepting_above, accepting_on_test, is_accepted, least_images, steps


def drawn(num: int, seed: int, off: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of answers, evenly spread over 0.5 to 1, and whether they are right: as often as they say, or less by `off`."""
    draws = np.random.default_rng(seed)
    confidence = draws.uniform(0.5, 1, num)
    return confidence, draws.random(num) < confidence - off


@pytest.mark.parametrize(("num", "precision", "off"), [(300, 0.9, 0.0), (600, 0.9, 0.0), (600, 0.85, 0.04), (150, 0.8, 0.0)])
def test_the_precision_holds_in_95_of_100_samples_of_val_and_not_by_much_more(num: int, precision: float, off: float) -> None:
    chosen = [accepting_above(*drawn(num, seed, off), precision) for seed in range(1000)]
    known = [0.5 if above == 0 else above for above in chosen if above is not None]  # all are above 0.5
    held = [(1 + above) / 2 - off >= precision for above in known]  # the mean of c - off from the threshold on
    assert 0.005 < 1 - np.mean([*held, *[True] * (len(chosen) - len(known))]) < 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / 1000)
    assert len(known) > 100


def test_the_choice_beside_a_plain_loop() -> None:
    for seed in range(20):
        confidence, right = drawn(400, seed)
        confidence = np.round(confidence, 2)  # many are equal
        expected = None
        for above in [*sorted(set(confidence.tolist()), reverse=True)[1:], 0.0]:
            taken = confidence > above
            if taken.sum() < 100:
                continue
            if stats.binom.cdf((taken & ~right).sum(), taken.sum(), 0.1) > 0.05:
                break
            expected = above
        assert accepting_above(confidence, right, 0.9) == expected


def test_all_answers_are_taken_where_all_are_right_and_none_where_the_surest_are_wrong() -> None:
    confidence = np.linspace(0.3, 1, 200)
    assert accepting_above(confidence, np.ones(200, bool), 0.95) == 0
    assert is_accepted(confidence, 0.0).all()
    assert accepting_above(confidence, confidence < 0.9, 0.95) is None
    first = steps(confidence, confidence < 0.9, 0.95)
    assert (first.taken[0], first.wrong[0]) == (59, 29)


@pytest.mark.parametrize(("precision", "least"), [(0.5, 5), (0.9, 29), (0.95, 59), (0.99, 299)])
def test_so_many_images_are_needed_and_suffice(precision: float, least: int) -> None:
    assert least_images(precision) == least
    assert accepting_above(np.full(least, 0.9), np.ones(least, bool), precision) == 0
    assert accepting_above(np.full(least - 1, 0.9), np.ones(least - 1, bool), precision) is None


def test_a_probability_is_compared_in_the_digits_of_the_file() -> None:
    confidence = np.concatenate([np.full(100, 0.9999996), np.full(100, 0.7)])
    above = accepting_above(confidence, np.arange(200) < 100, 0.95)
    assert above == 0.7
    assert is_accepted(np.array([0.7000004, 0.700001, 1.0]), above).tolist() == [False, True, True]


def test_what_came_of_it_on_test_is_told() -> None:
    val = np.repeat([0.9, 0.6], [100, 100]), np.repeat([True, False], [100, 100])
    test = np.array([0.95, 0.8, 0.7, 0.5]), np.array([True, True, False, False])
    (found,) = accepting_on_test(val, test)  # 100 images do not show 0.99
    told = {name: value for name, value in found.items() if not name.endswith("_ci95")}
    assert told == {"min_precision": 0.95, "probability_above": 0.6, "accepted": 0.75, "right": pytest.approx(2 / 3)}
    (found,) = accepting_on_test(val, (test[0] / 2, test[1]))
    assert found["accepted"] == 0
    assert "right" not in found
