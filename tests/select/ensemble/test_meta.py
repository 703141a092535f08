"""Rules learned from answers: the least log loss of a mixture is found, a stacker mends what is wrong, parts stay apart."""

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import log_loss

from tl_keras.models.outputs import SINGLE_LABEL, MultiLabel, Regression
from tl_keras.models.rules import Average, Median, Mixture, Vote, VotePerClass, seen
from tl_keras.select.ensemble.meta import fit_mixture, fit_stacker, mixture_weights, rule_of
from tl_keras.transfer.head import probe

NUM, CLASSES = 300, 3
EVEN = np.ones(CLASSES, np.float32)


def made(seed: int = 0, sharpness: tuple[float, ...] = (3.0, 1.0)) -> tuple[np.ndarray, np.ndarray]:
    """Answers of members that know the labels more or less: probabilities (m, n, k), labels (n,)."""
    draws = np.random.default_rng(seed)
    labels = draws.integers(0, CLASSES, NUM).astype(np.int32)
    logits = [sharp * np.eye(CLASSES)[labels] + 1.5 * draws.normal(size=(NUM, CLASSES)) for sharp in sharpness]
    return SINGLE_LABEL.answers(np.stack(logits)), labels


def parts_of(num: int = 5) -> list[np.ndarray]:
    return [np.arange(start, NUM, num) for start in range(num)]


def test_mixture_weights_have_the_least_log_loss_on_a_grid() -> None:
    members, labels = made(sharpness=(2.0, 1.7))
    weights = mixture_weights(members, labels, EVEN)
    best = minimize_scalar(lambda w: log_loss(labels, w * members[0] + (1 - w) * members[1]), bounds=(0, 1), method="bounded")
    assert weights.sum() == pytest.approx(1)
    assert weights[0] == pytest.approx(best.x, abs=1e-3)
    assert 0.5 < weights[0] < 1


def test_a_class_that_weighs_twice_is_an_image_that_is_there_twice() -> None:
    members, labels = made(sharpness=(2.0, 1.7))
    twice = np.concatenate([np.arange(NUM), np.flatnonzero(labels == 1)])
    expected = mixture_weights(members[:, twice], labels[twice], EVEN)
    np.testing.assert_allclose(mixture_weights(members, labels, np.array([1, 2, 1], np.float32)), expected, atol=1e-3)
    assert not np.allclose(mixture_weights(members, labels, EVEN), expected, atol=1e-2)


def test_a_member_that_is_always_worse_gets_nothing() -> None:
    members, labels = made(sharpness=(5.0,))
    worse = 0.5 * members[0] + 0.5 / CLASSES
    weights = mixture_weights(np.stack([members[0], members[0] * 0 + 1 / CLASSES, worse]), labels, EVEN)
    assert weights[0] > 0.99


def test_answers_to_a_part_come_from_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    members, labels = made()
    parts = parts_of()
    for fit in (lambda labels: fit_mixture(members, labels, parts, EVEN), lambda labels: fit_stacker(members, labels, parts, EVEN)):
        _, answers = fit(labels)
        turned = labels.copy()
        turned[parts[0]] = (turned[parts[0]] + 1) % CLASSES
        _, others = fit(turned)
        assert not np.array_equal(others[parts[1]], answers[parts[1]])
    _, answers = fit_mixture(members, labels, parts, EVEN)
    own = np.setdiff1d(np.arange(NUM), parts[0])
    expected = Mixture(mixture_weights(members[:, own], labels[own], EVEN))(members[:, parts[0]])
    np.testing.assert_allclose(answers[parts[0]], expected)
    turned = labels.copy()
    turned[parts[0]] = (turned[parts[0]] + 1) % CLASSES
    np.testing.assert_array_equal(fit_mixture(members, turned, parts, EVEN)[1][parts[0]], answers[parts[0]])
    monkeypatch.setattr(probe, "C_PATH", (0.1,))  # which the labels of all parts choose
    one, other = (fit_stacker(members, each, parts, EVEN)[1][parts[0]] for each in (labels, turned))
    np.testing.assert_array_equal(one, other)


def test_a_stacker_is_logistic_regression_on_logarithms() -> None:
    members, labels = made()
    stacker, _ = fit_stacker(members, labels, parts_of(), EVEN)
    twin = LogisticRegression(C=stacker.c, tol=1e-8, max_iter=10_000).fit(seen(members), labels)
    np.testing.assert_allclose(stacker(members), twin.predict_proba(seen(members)), atol=2e-3)


def test_a_stacker_mends_a_member_that_mixes_up_classes() -> None:
    members, labels = made(sharpness=(6.0, 1.0))
    swapped = members[:, :, [1, 0, 2]]
    _, by_mean = fit_mixture(swapped, labels, parts_of(), EVEN)
    _, by_stacker = fit_stacker(swapped, labels, parts_of(), EVEN)
    assert (by_stacker.argmax(axis=1) == labels).mean() > 0.9 > (by_mean.argmax(axis=1) == labels).mean()
    np.testing.assert_allclose(by_stacker.sum(axis=1), 1)


def test_an_impossible_answer_does_not_break_the_fit() -> None:
    members, labels = made()
    members[0, 0] = np.eye(CLASSES)[(labels[0] + 1) % CLASSES]
    assert np.isfinite(mixture_weights(members, labels, EVEN)).all()
    stacker, answers = fit_stacker(members, labels, parts_of(), EVEN)
    assert np.isfinite(stacker.kernel).all()
    assert np.isfinite(answers).all()


# --- several classes an image, and numbers -------------------------------------------------------------------------


def several(sharpness: tuple[float, ...] = (1.5, 1.2)) -> tuple[np.ndarray, np.ndarray]:
    """Members' probabilities of classes that do not exclude each other, (m, n, k), and labels bool (n, k)."""
    draws = np.random.default_rng(1)
    labels = draws.random((NUM, CLASSES)) < [0.5, 0.2, 0.1]
    logits = [sharp * (2.0 * labels - 1) + 1.5 * draws.normal(size=labels.shape) for sharp in sharpness]
    return MultiLabel().answers(np.stack(logits)), labels


def numbers(deviations: tuple[float, ...] = (2.0, 3.0, 9.0)) -> tuple[np.ndarray, np.ndarray]:
    """Members' numbers (m, n, 1) with independent errors, and labels float32 (n,)."""
    draws = np.random.default_rng(1)
    labels = draws.normal(100, 10, NUM).astype(np.float32)
    return np.stack([labels + draws.normal(0, deviation, NUM) for deviation in deviations])[..., None], labels


def test_weights_of_several_classes_have_the_least_log_loss_over_all_decisions() -> None:
    members, labels = several()
    weights = mixture_weights(members, labels, EVEN, MultiLabel())

    def loss(weight: float) -> float:
        mixed = weight * members[0] + (1 - weight) * members[1]
        return -sum(
            np.log(mixed[row, label] if labels[row, label] else 1 - mixed[row, label]) for row in range(NUM) for label in range(CLASSES)
        )

    best = minimize_scalar(loss, bounds=(0, 1), method="bounded")
    assert weights == pytest.approx([best.x, 1 - best.x], abs=1e-2)
    assert 0.5 < weights[0] < 1


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_weights_of_numbers_have_the_least_squared_error(unit: float) -> None:
    members, labels = numbers()
    weights = mixture_weights(members * unit, labels * unit, EVEN, Regression())
    errors = members[..., 0] - labels
    twin = minimize(
        lambda w: ((w @ errors) ** 2).mean(),
        np.full(3, 1 / 3),
        bounds=[(0, 1)] * 3,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        options={"ftol": 1e-12},
    )
    assert weights == pytest.approx(twin.x, abs=1e-4)
    assert weights[0] > weights[1] > weights[2] >= 0
    alone = mixture_weights(np.stack([members[0], 3 * members[0]]), labels, EVEN, Regression())
    assert alone == pytest.approx([1, 0], abs=1e-6)  # what only errs more gets nothing
    assert mixture_weights(np.stack([labels[:, None], labels[:, None] + 1]), labels, EVEN, Regression()) == pytest.approx([1, 0])


def test_a_stacker_of_several_classes_is_a_logistic_regression_for_each() -> None:
    members, labels = several()
    stacker, answers = fit_stacker(members, labels, parts_of(), EVEN, MultiLabel())
    for label in range(CLASSES):
        twin = LogisticRegression(C=stacker.c, tol=1e-8, max_iter=10_000).fit(seen(members, MultiLabel()), labels[:, label])
        np.testing.assert_allclose(stacker(members)[:, label], twin.predict_proba(seen(members, MultiLabel()))[:, 1], atol=5e-3)
    assert not np.array_equal(answers, stacker(members))


def test_a_stacker_of_numbers_mends_their_scale_and_their_mean() -> None:
    members, labels = numbers((2.0, 3.0))
    output = Regression().fitted(labels)
    spoilt = np.stack([0.5 * members[0], 2 * members[1] + 1000])
    stacker, answers = fit_stacker(spoilt, labels, parts_of(), EVEN, output)
    twin = LinearRegression().fit(members[..., 0].T, labels).predict(members[..., 0].T)
    np.testing.assert_allclose(stacker(spoilt)[:, 0], twin, atol=0.1)
    assert np.abs(answers[:, 0] - labels).mean() < 2
    turned = labels.copy()
    turned[:60] += 50
    again = fit_stacker(spoilt, turned, [np.arange(60), np.arange(60, NUM)], EVEN, output)[1]
    same = fit_stacker(spoilt, labels, [np.arange(60), np.arange(60, NUM)], EVEN, output)[1]
    np.testing.assert_array_equal(again[:60], same[:60])  # answers to a part come from the others
    assert np.abs(again[60:] - same[60:]).min() > 1


def test_a_vote_is_by_what_a_task_decides() -> None:
    members, labels = several()
    assert isinstance(rule_of("average", MultiLabel(), members, labels), Average)
    vote = rule_of("vote", MultiLabel(), members, labels)
    assert isinstance(vote, VotePerClass)
    np.testing.assert_array_equal(vote.thresholds, [MultiLabel().chosen(one, labels).thresholds for one in members])
    assert isinstance(rule_of("vote", Regression(), *numbers()), Median)
    assert isinstance(rule_of("vote", SINGLE_LABEL, *made()), Vote)


def test_soft_labels_are_learned_whole_by_a_stacker_and_by_their_class_in_a_mixture() -> None:
    members, labels = made()
    certain = np.eye(CLASSES, dtype=np.float32)[labels]
    parts = parts_of()
    for fit in (fit_mixture, fit_stacker):
        (_, hard), (_, same), (_, soft) = (fit(members, each, parts, EVEN) for each in (labels, certain, 0.7 * certain + np.float32(0.1)))
        np.testing.assert_allclose(same, hard, atol=1e-4)
        assert np.allclose(soft, hard, atol=1e-4) == (fit is fit_mixture)
