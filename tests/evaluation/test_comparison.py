"""Two models on the same images: McNemar's test against all that could have been, figures against those of one model alone, intervals
and verdicts against simulations in which the truth is known."""

from math import comb
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, log_loss

from tl_keras.evaluation.comparison import Answers, Pair, changes, compare, losses_of, mcnemar, per_class, unseen, verdict
from tl_keras.evaluation.intervals import paired
from tl_keras.evaluation.metrics import SUMMARY, figures_of
from tl_keras.models.outputs import OUTPUTS, SINGLE_LABEL, Regression

CLASSES = ("ant", "bee", "wasp")
Random = np.random.Generator


@pytest.mark.parametrize("only_a", range(8))
@pytest.mark.parametrize("only_b", range(8))
def test_mcnemar_is_the_share_of_all_outcomes_that_are_no_more_probable(only_a: int, only_b: int) -> None:
    num = only_a + only_b
    ways = [comb(num, k) for k in range(num + 1)]
    assert mcnemar(only_a, only_b) == pytest.approx(sum(way for way in ways if way <= ways[only_a]) / 2**num)


def test_unseen_is_in_standard_errors() -> None:
    assert unseen(-1.959964, 1.959964) == pytest.approx(1.959964 + 0.841621, abs=1e-5)


# --- twins: the same figures as of one model alone -----------------------------------------------------------------


def answers_of(task: str, random: Random, labels: np.ndarray[Any, Any], noise: float) -> Answers:
    """A model that sees the labels through noise."""
    if task == "regression":
        return given(task, labels, labels + random.normal(0, noise, len(labels)), np.empty((len(labels), 0)))
    output, targets = OUTPUTS[task], OUTPUTS[task].targets(labels, len(CLASSES))
    probabilities = output.answers(3 * targets - 1.5 + random.normal(0, noise, targets.shape))
    return given(task, labels, output.decide(probabilities), probabilities)


def given(task: str, labels: np.ndarray[Any, Any], said: np.ndarray[Any, Any], probabilities: np.ndarray[Any, Any]) -> Answers:
    return Answers(said, losses_of(task, labels, said, probabilities), probabilities)


def pair_of(task: str, num: int = 60, seed: int = 0, noises: tuple[float, float] = (2.0, 1.5)) -> Pair:
    random = np.random.default_rng(seed)
    labels = {
        "single_label": lambda: random.integers(0, 3, num),
        "multi_label": lambda: random.random((num, 3)) < 0.4,
        "regression": lambda: random.normal(0, 3, num).astype(np.float32),
    }[task]()
    a, b = (answers_of(task, random, labels, noise) for noise in noises)
    return Pair(task, labels, a, b, len(CLASSES))


@pytest.mark.parametrize("task", list(SUMMARY))
def test_the_figures_of_each_are_those_of_the_model_alone(task: str) -> None:
    pair = pair_of(task)
    found = compare(pair)["figures"]
    assert tuple(found) == SUMMARY[task]
    output = Regression(mean=0.0, scale=1.0) if task == "regression" else OUTPUTS[task]
    for key, answers in (("a", pair.a), ("b", pair.b)):
        own = answers.said[:, None] if task == "regression" else answers.probabilities
        alone = figures_of(output, own, pair.labels, CLASSES)
        for name in SUMMARY[task]:
            assert found[name][key] == pytest.approx(alone[name], rel=1e-6)
            if f"{name}_ci95" in alone:
                assert found[name][f"{key}_ci95"] == pytest.approx(alone[f"{name}_ci95"], rel=1e-6)
    for each in found.values():
        assert each["difference"] == pytest.approx(each["b"] - each["a"])
        assert each["difference_ci95"][0] <= each["difference"] <= each["difference_ci95"][1]


@pytest.mark.parametrize("task", list(SUMMARY))
def test_the_other_way_round_every_difference_has_the_other_sign(task: str) -> None:
    pair = pair_of(task)
    there, back = compare(pair), compare(Pair(task, pair.labels, pair.b, pair.a, pair.num_classes))
    for name, found in there["figures"].items():
        assert back["figures"][name]["difference"] == pytest.approx(-found["difference"])
        assert back["figures"][name]["difference_ci95"] == pytest.approx([-end for end in reversed(found["difference_ci95"])], abs=2e-3)
    assert there["is_told"] == back["is_told"]


def test_the_loss_of_soft_labels_is_that_of_their_shares() -> None:
    shares = np.array([[0.7, 0.3, 0], [0, 0.2, 0.8]], np.float32)
    chances = np.array([[0.6, 0.3, 0.1], [0.1, 0.1, 0.8]])
    answers = given("single_label", shares, SINGLE_LABEL.decide(chances), chances)
    pair = Pair("single_label", shares, answers, answers, 3)
    np.testing.assert_allclose(answers.losses, [-0.7 * np.log(0.6) - 0.3 * np.log(0.3), -0.2 * np.log(0.1) - 0.8 * np.log(0.8)])
    assert pair.right(answers).tolist() == [True, True]


def test_a_probability_that_was_rounded_to_0_is_no_infinite_loss() -> None:
    losses = losses_of("single_label", np.array([0]), np.array([1]), np.array([[0.0, 1.0, 0.0]]))
    assert losses == pytest.approx(-np.log(5e-7))


def test_no_images_are_no_comparison() -> None:
    with pytest.raises(ValueError, match="Received no images"):
        compare(pair_of("single_label", num=0))


# --- which images changed ------------------------------------------------------------------------------------------


def single(labels: list[int], a: list[int], b: list[int], sure_b: float = 0.9) -> Pair:
    def answers(said: list[int], sure: float) -> Answers:
        spread = np.full((len(said), 3), (1 - sure) / 2)
        spread[np.arange(len(said)), said] = sure
        return given("single_label", np.array(labels), np.array(said), spread)

    return Pair("single_label", np.array(labels), answers(a, 0.9), answers(b, sure_b), 3)


def test_changed_images_are_those_with_another_answer_the_worse_first() -> None:
    pair = single([0, 0, 0, 1, 2], [0, 1, 2, 1, 2], [1, 0, 1, 1, 0])
    assert list(changes(pair)) == [(0, "worse"), (4, "worse"), (1, "better"), (2, "still_wrong")]
    assert per_class(pair, CLASSES) == {
        "ant": {"images": 3, "a": 1, "b": 1, "worse": 1, "better": 1},
        "bee": {"images": 1, "a": 1, "b": 1, "worse": 0, "better": 0},
        "wasp": {"images": 1, "a": 1, "b": 0, "worse": 1, "better": 0},
    }
    assert compare(pair)["mcnemar"] == {"both": 1, "only_a": 2, "only_b": 1, "neither": 1, "p": 1.0}


@pytest.mark.parametrize(("num", "is_told"), [(1, False), (19, False), (20, True)])
def test_of_few_numbers_nothing_is_told(num: int, is_told: bool) -> None:
    labels = np.arange(num, dtype=np.float32)
    a, b = (given("regression", labels, labels + error, np.empty((num, 0))) for error in (1.0, 0.5))
    assert compare(Pair("regression", labels, a, b, 3))["is_told"] == is_told


def test_within_a_kind_the_largest_change_of_the_loss_comes_first() -> None:
    pair = single([0, 0], [0, 0], [1, 1])
    pair.b.losses[:] = 1.6, 4.6
    assert list(changes(pair)) == [(1, "worse"), (0, "worse")]


def test_several_classes_are_right_together_and_a_number_is_better_where_it_is_nearer() -> None:
    truth = np.array([[True, False], [True, True]])
    said = np.array([[True, False], [True, False]]), np.array([[True, True], [False, True]])
    several = [given("multi_label", truth, each, np.full((2, 2), 0.5)) for each in said]
    assert set(changes(Pair("multi_label", truth, *several, 2))) == {(0, "worse"), (1, "still_wrong")}
    values = np.array([1, 3, 2], np.float32)
    numbers = [given("regression", values, np.array(each), np.empty((3, 0))) for each in ([1.0, 5.0, 3.0], [4.0, 3.5, 3.0])]
    assert list(changes(Pair("regression", values, *numbers, 1))) == [(0, "worse"), (1, "better")]


# --- the verdict ---------------------------------------------------------------------------------------------------


def test_a_planted_difference_is_found_and_the_better_one_named() -> None:
    labels = [0] * 400
    a, b = [0] * 320 + [1] * 80, [0] * 350 + [1] * 50
    for pair, better in ((single(labels, a, b), "B"), (single(labels, b, a), "A")):
        found = compare(pair)
        assert found["is_told"]
        told = verdict("single_label", found, 400)
        of_a, of_b = (found["figures"]["accuracy"][key] for key in ("a", "b"))
        assert told.startswith(f"{better} is better: accuracy {of_a:.4f} of A and {of_b:.4f} of B, a difference of 0.0750 (95 % interval ")
        assert told.endswith(", p = 1.9e-09)")


def test_of_numbers_the_smaller_error_is_better() -> None:
    pair = pair_of("regression", num=200, noises=(2.0, 1.0))
    found = compare(pair)
    assert verdict("regression", found, 200).startswith("B is better: mean absolute error ")
    assert " p = " not in verdict("regression", found, 200)


def test_no_difference_is_told_with_what_would_not_have_been_seen() -> None:
    pair = single([0] * 50, [0] * 40 + [1] * 10, [1] * 2 + [0] * 40 + [1] * 8)
    found = compare(pair)
    assert not found["is_told"]
    assert verdict("single_label", found, 50).startswith("no difference can be told: accuracy of B less that of A is +0.0000 (")
    assert f"With 50 images, a difference of less than {found['unseen']:.4f} would often go unseen." in verdict("single_label", found, 50)


def test_two_that_are_equal_are_not_told_apart() -> None:
    pair = single([0] * 50, [0] * 40 + [1] * 10, [0] * 40 + [1] * 10)
    found = compare(pair)
    assert (found["mcnemar"]["p"], found["is_told"], list(changes(pair))) == (1.0, False, [])
    low, high = found["figures"]["accuracy"]["difference_ci95"]
    assert low < 0 < high  # however equal they are on these images, on others they may differ


# --- simulations ---------------------------------------------------------------------------------------------------


def two_models(random: Random, num: int, gap: float) -> Pair:
    """Two models that find the same images hard; B's logits of the true class are higher by `gap`."""
    labels = random.integers(0, 3, num)
    hard = random.normal(0, 1.5, (num, 3))  # what both see
    targets = SINGLE_LABEL.targets(labels, 3)

    def answers(more: float) -> Answers:
        probabilities = SINGLE_LABEL.answers((2 + more) * targets + hard + random.normal(0, 0.8, (num, 3)))
        return given("single_label", labels, SINGLE_LABEL.decide(probabilities), probabilities)

    return Pair("single_label", labels, answers(0), answers(gap), 3)


@pytest.mark.slow
def test_intervals_cover_the_difference_of_all_images_as_often_as_they_say() -> None:
    gap, random = 0.4, np.random.default_rng(1)
    every = two_models(random, 200_000, gap)
    of_each = [
        (
            accuracy_score(every.labels, each.said),
            f1_score(every.labels, each.said, average="macro"),
            log_loss(every.labels, each.probabilities),
        )
        for each in (every.a, every.b)
    ]
    truth = dict(zip(SUMMARY["single_label"], np.subtract(of_each[1], of_each[0]).tolist(), strict=True))
    assert truth["accuracy"] > 0.03
    covered = dict.fromkeys(truth, 0)
    repeats = 200
    for _ in range(repeats):
        for name, found in compare(two_models(random, 150, gap))["figures"].items():
            low, high = found["difference_ci95"]
            covered[name] += low <= truth[name] <= high
    for name, number in covered.items():  # 3 standard deviations about 95 %
        assert 0.904 <= number / repeats <= 0.996, (name, number)


@pytest.mark.slow
def test_models_that_are_equal_on_all_images_are_seldom_told_apart_and_others_often() -> None:
    random, repeats = np.random.default_rng(2), 200
    false = sum(compare(two_models(random, 100, 0.0))["is_told"] for _ in range(repeats))
    assert false / repeats <= 0.05 + 0.046
    found = sum(compare(two_models(random, 400, 1.0))["is_told"] for _ in range(20))
    assert found >= 19


def test_paired_intervals_are_those_of_the_ensembles() -> None:
    pair = two_models(np.random.default_rng(3), 200, 0.5)
    assert compare(pair)["figures"]["accuracy"]["difference_ci95"] == list(paired(pair.right(pair.b), pair.right(pair.a)))
