"""Greedy soups of a tiny linear model, against brute force: every average made anew from all of its members."""

import itertools
import weakref
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tl_keras.errors import UserError
from tl_keras.select.ensemble.soup import Score, Soup, Weights, greedy_soup, no_worse, ranked

NAMES = ("dense/kernel", "dense/bias", "dropout/seed")
RNG = np.random.default_rng(0)
TRUE = RNG.normal(size=(5, 3))
X = RNG.normal(size=(40, 5))
Y = (X @ TRUE + RNG.normal(0, 1.5, (40, 3))).argmax(1)


def linear(seed: int, noise: float = 1.0) -> Weights:
    """A linear classifier near the true one, in float32, and a counter that tells whose it is."""
    rng = np.random.default_rng(seed)
    kernel = TRUE + rng.normal(0, noise, TRUE.shape)
    return Weights(NAMES, [kernel.astype(np.float32), rng.normal(0, 0.3, 3).astype(np.float32), np.array([seed, 7], np.uint32)])


def judge(arrays: list[np.ndarray]) -> Score:
    logits = X @ arrays[0].astype(np.float64) + arrays[1]
    log_probabilities = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return Score(float((logits.argmax(1) == Y).mean()), float(-log_probabilities[np.arange(len(Y)), Y].mean()))


def pool(seed: int, num: int = 6) -> dict[str, Weights]:
    return {f"m{number}": linear(100 * seed + number, noise=0.5 + number % 3) for number in range(num)}


def soup_of(weights: dict[str, Weights]) -> Soup:
    return greedy_soup({name: judge(each.arrays) for name, each in weights.items()}, weights.__getitem__, judge)


def brute_force(weights: dict[str, Weights]) -> tuple[list[str], Score, list[np.ndarray]]:
    """Recipe 1 of the paper as it reads, with ties by the loss; the mean is taken of all members each time."""
    own = {name: judge(each.arrays) for name, each in weights.items()}
    order = sorted(own, key=lambda name: (-own[name].merit, own[name].loss))

    def mean(names: list[str]) -> list[np.ndarray]:
        stacked = [np.stack([weights[name].arrays[place] for name in names]).astype(np.float64) for place in (0, 1)]
        return [*(each.mean(0).astype(np.float32) for each in stacked), weights[order[0]].arrays[2]]

    chosen, best = [order[0]], own[order[0]]
    for name in order[1:]:
        tried = judge(mean([*chosen, name]))
        if (tried.merit, -tried.loss) >= (best.merit, -best.loss):
            chosen, best = [*chosen, name], tried
    return chosen, best, mean(chosen)


@pytest.mark.parametrize("seed", range(20))
def test_soup_equals_brute_force_and_is_never_below_the_best(seed: int) -> None:
    weights = pool(seed)
    soup, (chosen, score, mean) = soup_of(weights), brute_force(weights)
    assert list(soup.members) == chosen
    assert (soup.score.merit, soup.score.loss) == pytest.approx((score.merit, score.loss), rel=1e-6)
    assert soup.weights.names == NAMES
    for found, expected in zip(soup.weights.arrays, mean, strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    own = [judge(each.arrays) for each in weights.values()]
    assert all(no_worse(soup.score, each) for each in own)
    assert judge(soup.weights.arrays) == soup.score


def test_the_pools_have_soups_of_one_and_of_many() -> None:
    sizes = {len(soup_of(pool(seed)).members) for seed in range(20)}
    assert min(sizes) == 1
    assert max(sizes) >= 3


def test_steps_tell_each_member_in_the_order_of_its_score() -> None:
    weights = pool(1)
    own = {name: judge(each.arrays) for name, each in weights.items()}
    soup = soup_of(weights)
    assert [step.member for step in soup.steps] == ranked(own)
    assert soup.steps[0].score == own[soup.steps[0].member]
    kept = [step for step in soup.steps if step.kept]
    assert all(no_worse(later.score, earlier.score) for earlier, later in itertools.pairwise(kept))
    assert kept[-1].score == soup.score


def test_order_is_by_accuracy_then_loss_then_as_given() -> None:
    scores = {"a": Score(0.5, 1.0), "b": Score(0.9, 2.0), "c": Score(0.9, 1.0), "d": Score(0.9, 1.0)}
    assert ranked(scores) == ["c", "d", "b", "a"]


@pytest.mark.parametrize(
    ("accuracy", "loss", "kept"), [(0.9, 9.0, True), (0.8, 0.5, True), (0.8, 0.4, True), (0.8, 0.6, False), (0.7, 0.1, False)]
)
def test_a_tie_of_accuracies_is_decided_by_the_loss(accuracy: float, loss: float, kept: bool) -> None:
    members = {"best": Score(0.8, 0.5), "other": Score(0.6, 0.6)}
    soup = greedy_soup(members, lambda name: linear(len(name)), lambda _: Score(accuracy, loss))
    assert soup.members == (("best", "other") if kept else ("best",))
    assert soup.score == (Score(accuracy, loss) if kept else members["best"])


@pytest.mark.parametrize("broken", [Score(float("nan"), 0.1), Score(0.8, float("nan"))])
def test_an_average_whose_score_is_no_number_is_left_out(broken: Score) -> None:
    soup = greedy_soup({"a": Score(0.8, 0.5), "b": Score(0.7, 0.5)}, lambda name: linear(ord(name)), lambda _: broken)
    assert soup.members == ("a",)


def test_one_member_is_itself() -> None:
    only = linear(3)
    soup = greedy_soup({"only": judge(only.arrays)}, lambda _: only, lambda _: pytest.fail("nothing to judge"))
    assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(soup.weights.arrays, only.arrays, strict=True))


def test_twins_average_to_themselves_to_the_last_bit() -> None:
    one = linear(3)
    soup = greedy_soup({str(number): Score(0.5, 0.5) for number in range(7)}, lambda _: one, lambda _: Score(0.5, 0.5))
    assert len(soup.members) == 7
    assert all(np.array_equal(a, b) for a, b in zip(soup.weights.arrays, one.arrays, strict=True))


def test_what_is_no_floating_point_is_the_best_members_and_the_rest_keeps_its_dtype() -> None:
    def weights(value: float) -> Weights:
        kinds: list[Any] = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16, np.int32, np.uint32, np.bool_]
        return Weights(tuple("abcdefg"), [np.full((2,), value).astype(kind) for kind in kinds])

    soup = greedy_soup(
        {"low": Score(0.1, 1.0), "best": Score(0.2, 1.0)}, lambda name: weights({"low": 0.0, "best": 3.0}[name]), lambda _: Score(0.2, 1.0)
    )
    assert soup.members == ("best", "low")
    assert [each.dtype for each in soup.weights.arrays] == [each.dtype for each in weights(0).arrays]
    assert [float(each[0]) for each in soup.weights.arrays] == [1.5, 1.5, 1.5, 1.5, 3.0, 3.0, 1.0]


def test_scalars_are_averaged_too() -> None:
    soup = greedy_soup(
        {"a": Score(0.5, 0.5), "b": Score(0.5, 0.5), "c": Score(0.5, 0.5)},
        lambda name: Weights(("scale",), [np.array(float(ord(name)), np.float32)]),
        lambda _: Score(0.5, 0.5),
    )
    assert soup.weights.arrays[0] == ord("b")
    assert soup.weights.arrays[0].shape == ()


def test_members_and_what_was_judged_stay_as_they_were() -> None:
    weights = pool(2)
    before = {name: [array.copy() for array in each.arrays] for name, each in weights.items()}
    soup_of(weights)
    for name, arrays in before.items():
        assert all(np.array_equal(a, b) for a, b in zip(arrays, weights[name].arrays, strict=True))


def test_each_member_is_loaded_once_and_let_go() -> None:
    loaded: list[str] = []
    alive: list[Any] = []
    most = 0

    def load(name: str) -> Weights:
        nonlocal most
        loaded.append(name)
        arrays = linear(len(loaded)).arrays
        alive.append(weakref.ref(arrays[0]))
        most = max(most, sum(each() is not None for each in alive))
        return Weights(NAMES, arrays)

    greedy_soup({str(number): Score(0.5, 0.5) for number in range(6)}, load, lambda _: Score(0.5, 0.5))
    assert loaded == [str(number) for number in range(6)]
    assert most <= 2  # the one that comes, and the one before it


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (
            Weights(("a", "c"), [np.zeros(2), np.zeros(3)]),
            r"^first and second are of different networks, .*: weight 2 is b \(3,\) in the first and c \(3,\) in the second\. Give ",
        ),
        (Weights(("a", "b"), [np.zeros((2, 1)), np.zeros(3)]), r"weight 1 is a \(2,\) in the first and a \(2, 1\) in the second\."),
        (Weights(("a",), [np.zeros(2)]), r"weight 2 is b \(3,\) in the first and none in the second\."),
        (Weights(("a", "b", "d"), [np.zeros(2), np.zeros(3), np.zeros(1)]), r"weight 3 is none in the first and d \(1,\) in the second\."),
    ],
    ids=["name", "shape", "fewer", "more"],
)
def test_members_of_different_networks_are_refused(other: Weights, text: str) -> None:
    weights = {"second": other, "first": Weights(("a", "b"), [np.zeros(2), np.zeros(3)])}
    with pytest.raises(UserError, match=text):
        greedy_soup({"second": Score(0.1, 1.0), "first": Score(0.2, 1.0)}, weights.__getitem__, lambda _: Score(0.2, 1.0))


def test_no_member_or_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a soup needs at least one member\. Received: none"):
        greedy_soup({}, lambda _: linear(0), judge)
    with pytest.raises(ValueError, match=r"scores must be finite\. Received: Score\(merit=0\.5, loss=nan\) for 'a'"):
        greedy_soup({"a": Score(0.5, float("nan"))}, lambda _: linear(0), judge)
