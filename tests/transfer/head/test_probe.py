"""The linear probe against scikit-learn, and standardised features folded into a layer."""

import threading
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, log_loss

from tl_keras.models.outputs import SINGLE_LABEL, MultiLabel
from tl_keras.transfer.head import probe
from tl_keras.transfer.head.probe import PATH_PATIENCE, Axes, CrossEntropy, LinearProbe, StandardisedRows, Standardiser, fit_linear_probe

Pair = tuple[NDArray[np.float32], NDArray[np.int32]]


PLAIN = Standardiser(np.zeros(5, np.float32), np.ones(5, np.float32))  # leaves features as they are


def clouds(num: int, num_classes: int, seed: int, width: int = 5, spread: float = 1.5) -> Pair:
    """Overlapping clouds of points around fixed centres."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num, dtype=np.int32) % num_classes
    centres = np.random.default_rng(99).normal(size=(num_classes, width))
    return (centres[labels] + rng.normal(size=(num, width)) * spread).astype(np.float32), labels


def probabilities_of(found: LinearProbe, x: NDArray[np.float32]) -> NDArray[np.float64]:
    logits = (x @ found.kernel + found.bias).astype(np.float64)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("weight", [1.0, 5.0])
def test_probe_is_logistic_regression_at_the_chosen_c(num_classes: int, weight: float) -> None:
    train, val = clouds(60, num_classes, 1), clouds(30, num_classes, 2)
    weights = np.array([weight, *[1.0] * (num_classes - 1)], np.float32)
    found = fit_linear_probe(train, val, PLAIN, weights)
    twin = LogisticRegression(C=found.c, max_iter=1000, tol=1e-6, class_weight=dict(enumerate(weights)))
    twin.fit(train[0].astype(np.float64), train[1])
    expected = twin.predict_proba(val[0])
    np.testing.assert_allclose(probabilities_of(found, val[0]), expected, atol=2e-3)
    assert found.val_loss == pytest.approx(log_loss(val[1], expected), abs=1e-3)
    assert found.val_metric == pytest.approx((expected.argmax(1) == val[1]).mean())


def test_with_several_labels_it_is_one_regression_for_each_class() -> None:
    (x, first), (x_val, first_val) = clouds(80, 3, 1), clouds(40, 3, 2)
    second, second_val = (part[:, 0] > 0.5 for part in (x, x_val))
    train, val = (
        (x, np.column_stack([first == 0, second, first > 0])),
        (x_val, np.column_stack([first_val == 0, second_val, first_val > 0])),
    )
    for c in (0.01, 1.0):
        found = fit_linear_probe(train, val, PLAIN, np.ones(3, np.float32), c, output=MultiLabel())
        for k in range(3):
            twin = LogisticRegression(C=c, max_iter=1000, tol=1e-6).fit(x.astype(np.float64), train[1][:, k])
            probabilities = special.expit(x_val @ found.kernel[:, k] + found.bias[k])
            np.testing.assert_allclose(probabilities, twin.predict_proba(x_val)[:, 1], atol=2e-3)
        answers = MultiLabel().answers(x_val @ found.kernel + found.bias)
        assert found.val_loss == pytest.approx(np.mean([log_loss(val[1][:, k], answers[:, k]) for k in range(3)]), abs=1e-5)
        assert found.val_metric == pytest.approx(average_precision_score(val[1], answers))


@pytest.mark.parametrize("several", [False, True])
def test_an_image_that_counts_twice_is_an_image_that_is_there_twice(several: bool) -> None:
    (x, labels), val = clouds(60, 3, 1), clouds(30, 3, 2)
    output = MultiLabel() if several else SINGLE_LABEL
    if several:
        labels, val = labels[:, None] == [0, 1, 2], (val[0], val[1][:, None] == [0, 1, 2])
    twice = np.arange(60) % 4 == 0
    weights = np.where(twice, 2, 1).astype(np.float32)
    rows = np.concatenate([np.arange(60), np.flatnonzero(twice)])
    found = fit_linear_probe((x, labels), val, PLAIN, np.ones(3, np.float32), 0.1, output=output, weights=weights)
    expected = fit_linear_probe((x[rows], labels[rows]), val, PLAIN, np.ones(3, np.float32), 0.1, output=output)
    np.testing.assert_allclose(output.answers(found.logits(val[0])), output.answers(expected.logits(val[0])), atol=2e-3)


def soft_labels(num: int, num_classes: int, seed: int) -> NDArray[np.float32]:
    """Shares of which many are exactly 0."""
    shares = np.random.default_rng(seed).dirichlet(np.full(num_classes, 0.4), num).round(1)
    return (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("num_classes", [2, 4])
def test_an_image_with_shares_is_a_weighted_copy_of_it_in_each_class(num_classes: int) -> None:
    (x, _), (x_val, _) = clouds(60, num_classes, 1), clouds(30, num_classes, 2)
    shares, shares_val = soft_labels(60, num_classes, 3), soft_labels(30, num_classes, 4)
    weights = np.random.default_rng(5).uniform(0.5, 2, 60).astype(np.float32)
    copies = np.repeat(x.astype(np.float64), num_classes, axis=0), np.tile(np.arange(num_classes), 60)
    for c in (0.01, 1.0):
        found = fit_linear_probe((x, shares), (x_val, shares_val), PLAIN, np.ones(num_classes, np.float32), c, weights=weights)
        twin = LogisticRegression(C=c, max_iter=1000, tol=1e-7).fit(*copies, sample_weight=(shares * weights[:, None]).ravel())
        expected = twin.predict_proba(x_val)
        np.testing.assert_allclose(probabilities_of(found, x_val), expected, atol=2e-3)
        assert found.val_loss == pytest.approx(-(shares_val * np.log(expected)).sum(axis=1).mean(), abs=1e-3)
        assert found.val_metric == pytest.approx((expected.argmax(1) == shares_val.argmax(1)).mean())


@pytest.mark.parametrize("weight", [1.0, 5.0])
def test_shares_of_one_class_alone_are_that_class(weight: float) -> None:
    (x, labels), (x_val, labels_val) = clouds(60, 3, 1), clouds(30, 3, 2)
    weights = np.array([weight, 1, 1], np.float32)
    hard = fit_linear_probe((x, labels), (x_val, labels_val), PLAIN, weights)
    soft = fit_linear_probe((x, np.eye(3, dtype=np.float32)[labels]), (x_val, np.eye(3, dtype=np.float32)[labels_val]), PLAIN, weights)
    assert soft.c == hard.c
    np.testing.assert_allclose(soft.kernel, hard.kernel, atol=1e-5)
    assert soft.val_loss == pytest.approx(hard.val_loss, rel=1e-6)


def test_class_weights_pull_towards_the_heavy_class() -> None:
    train, val = clouds(60, 2, 1), clouds(30, 2, 2)
    found = [fit_linear_probe(train, val, PLAIN, np.array([weight, 1.0], np.float32)) for weight in (1.0, 8.0)]
    shares = [probabilities_of(each, val[0])[:, 0].mean() for each in found]
    assert shares[1] > shares[0] + 0.1


def test_val_loss_chooses_and_the_path_ends_when_it_rises() -> None:
    told: list[LinearProbe] = []
    train, val = clouds(30, 3, 1, 40, 5), clouds(60, 3, 2, 40, 5)  # wide: a large C overfits
    found = fit_linear_probe(train, val, Standardiser.fit(train[0]), np.ones(3, np.float32), on_solution=told.append)
    losses = [each.val_loss for each in told]
    assert found is told[int(np.argmin(losses))]
    assert len(told) == int(np.argmin(losses)) + 1 + PATH_PATIENCE < len(probe.C_PATH)
    assert [each.c for each in told] == list(probe.C_PATH[: len(told)])


def test_a_class_that_val_lacks_does_no_harm() -> None:
    (x, y), train = clouds(30, 3, 2), clouds(60, 3, 1)
    found = fit_linear_probe(train, (x[y != 2], y[y != 2]), PLAIN, np.ones(3, np.float32))
    assert found.kernel.shape == (5, 3)


def raw_clouds(num: int, num_classes: int, seed: int) -> Pair:
    """Clouds whose features have means and scales of their own."""
    x, y = clouds(num, num_classes, seed)
    return x * np.array([0.1, 1, 10, 3, 1], np.float32) + np.array([1, -2, 50, 0, 7], np.float32), y


@pytest.mark.parametrize("num_classes", [2, 3])
def test_each_c_is_solved_to_the_optimum_of_scikit_learn(num_classes: int) -> None:
    train, val = raw_clouds(90, num_classes, 1), raw_clouds(30, num_classes, 2)
    standardise, told = Standardiser.fit(train[0]), list[LinearProbe]()
    fit_linear_probe(train, val, standardise, np.ones(num_classes, np.float32), on_solution=told.append)
    x = standardise(train[0]).astype(np.float64)
    for found in told:
        twin = LogisticRegression(C=found.c, max_iter=1000, tol=1e-7).fit(x, train[1])
        np.testing.assert_allclose(probabilities_of(found, standardise(val[0])), twin.predict_proba(standardise(val[0])), atol=2e-3)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_streamed_features_give_what_features_in_memory_give(num_classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    train, val = raw_clouds(200, num_classes, 1), raw_clouds(50, num_classes, 2)
    arguments = (train, val, Standardiser.fit(train[0]), np.array([3, *[1] * (num_classes - 1)], np.float32))
    expected, streamed = list[LinearProbe](), list[LinearProbe]()
    monkeypatch.setattr(probe, "TOLERANCE", 1e-5)
    monkeypatch.setattr(probe, "STREAMED_LOSS_GAIN", probe.LOSS_GAIN)
    monkeypatch.setattr(probe, "CHUNK_BYTES", 37 * 4 * 5)
    fit_linear_probe(*arguments, on_solution=expected.append)
    monkeypatch.setattr(probe, "IN_MEMORY_BYTES", 0)
    fit_linear_probe(*arguments, on_solution=streamed.append)
    for one, other in zip(streamed, expected, strict=True):
        np.testing.assert_allclose(one.kernel, other.kernel, atol=5e-4)
        np.testing.assert_allclose(one.bias, other.bias, atol=5e-4)
        assert one.val_loss == pytest.approx(other.val_loss, abs=1e-4)


def test_objective_streamed_is_the_double_loop_in_memory_too(monkeypatch: pytest.MonkeyPatch) -> None:
    (x, y), class_weights = raw_clouds(40, 3, 1), np.array([1, 2, 3], np.float32)
    standardise, weights = Standardiser.fit(x), np.random.default_rng(0).normal(size=(6, 3))
    loss, gradient = 0.0, np.zeros((6, 3))
    for row, label in zip(np.hstack([standardise(x), np.ones((40, 1))]).astype(np.float64), y, strict=True):
        probabilities = np.exp(row @ weights) / np.exp(row @ weights).sum()
        share = class_weights[label] / class_weights[y].sum()
        loss -= share * np.log(probabilities[label])
        gradient += share * np.outer(row, probabilities - np.eye(3)[label])
    monkeypatch.setattr(probe, "CHUNK_BYTES", 7 * 4 * 5)
    for memory in (10**6, 0):
        monkeypatch.setattr(probe, "IN_MEMORY_BYTES", memory)
        found = CrossEntropy(StandardisedRows(x, standardise), y, class_weights)(weights)
        assert found[0] == pytest.approx(loss, rel=1e-5)
        np.testing.assert_allclose(found[1], gradient, atol=1e-5)


@pytest.mark.parametrize("sampled", [5, 10_000])
def test_more_features_than_rows_and_few_sampled_rows_are_solved_all_the_same(sampled: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "SAMPLED_ROWS", sampled)
    monkeypatch.setattr(probe, "ROWS_PER_FEATURE", 1)
    train, val = clouds(20, 3, 1, 40, 3), clouds(30, 3, 2, 40, 3)
    standardise, told = Standardiser.fit(train[0]), list[LinearProbe]()
    fit_linear_probe(train, val, standardise, np.ones(3, np.float32), on_solution=told.append)
    for found in told:
        twin = LogisticRegression(C=found.c, max_iter=1000, tol=1e-7).fit(standardise(train[0]).astype(np.float64), train[1])
        np.testing.assert_allclose(probabilities_of(found, standardise(val[0])), twin.predict_proba(standardise(val[0])), atol=2e-2)


@pytest.mark.parametrize("sampled", [40, 2048], ids=["few rows", "more rows than features"])
def test_features_on_disk_are_never_all_in_memory(sampled: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = clouds(40_000, 3, 1, width=100)
    np.save(tmp_path / "x.npy", x)
    on_disk = np.load(tmp_path / "x.npy", mmap_mode="r")  # 16 MB
    monkeypatch.setattr(probe, "IN_MEMORY_BYTES", 10**6)
    monkeypatch.setattr(probe, "CHUNK_BYTES", 10**5)
    monkeypatch.setattr(probe, "C_PATH", (1e-3,))
    monkeypatch.setattr(probe, "SAMPLED_ROWS", sampled)
    val = clouds(100, 3, 2, width=100)
    tracemalloc.start()
    fit_linear_probe((on_disk, y), val, Standardiser.fit(on_disk), np.ones(3, np.float32))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < x.nbytes / 6


def test_separable_features_end_though_the_optimum_is_far_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "C_PATH", (*probe.C_PATH, 1e3, 1e6, 1e9))
    train = clouds(30, 3, 1, 40, 0.1)
    told: list[LinearProbe] = []
    found = fit_linear_probe(train, clouds(30, 3, 2, 40, 0.1), Standardiser.fit(train[0]), np.ones(3, np.float32), on_solution=told.append)
    assert found.val_metric == 1
    assert all(np.isfinite(each.kernel).all() for each in told)


def test_standardiser_measures_in_chunks_what_numpy_measures_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "CHUNK_BYTES", 7 * 4 * 3)
    features = np.random.default_rng(0).normal(50, [1, 10, 100], (40, 3)).astype(np.float32)
    found = Standardiser.fit(features)
    variance = features.astype(np.float64).var(axis=0)
    np.testing.assert_allclose(found.mean, features.astype(np.float64).mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.scale, np.sqrt(variance + 1e-3 * variance.mean()), rtol=1e-5)


def test_constant_features_stay_finite() -> None:
    features = np.full((10, 2), 3.0, np.float32)
    np.testing.assert_array_equal(Standardiser.fit(features)(features), np.zeros((10, 2)))


def test_rounding_is_no_feature() -> None:
    noise = np.random.default_rng(0).normal(0, 1e-7, (10, 50)).astype(np.float32)
    features = 3 + noise
    np.testing.assert_array_equal(Standardiser.fit(features).scale, np.ones(50))
    assert Standardiser.fit(features + 1e-4 * np.arange(10, dtype=np.float32)[:, None]).scale.max() < 1e-3


@pytest.mark.parametrize("num", [6, 60])
def test_features_that_are_the_same_for_all_are_answered_by_the_bias(num: int) -> None:
    features, labels = np.full((num, 40), 3.0, np.float32), np.array([0, 0, 1] * (num // 3), np.int32)
    found = fit_linear_probe((features, labels), (features, labels), Standardiser.fit(features), np.ones(2, np.float32))
    assert found.val_metric == pytest.approx(2 / 3)
    assert np.isfinite(found.kernel).all()


@pytest.mark.parametrize("hidden", [(), (6,)])
def test_folded_head_on_raw_features_is_the_head_on_standardised_ones(hidden: tuple[int, ...]) -> None:
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(units, activation="relu") for units in hidden] + [keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    raw = np.random.default_rng(0).normal(5, [0.1, 1, 10, 3], (20, 4)).astype(np.float32)
    standardise = Standardiser.fit(raw)
    expected = np.asarray(model(standardise(raw)))
    layers[0].set_weights(standardise.fold(*layers[0].get_weights()))
    np.testing.assert_allclose(model(raw), expected, atol=5e-4)


def test_chunks_are_worked_on_in_threads_and_come_in_order() -> None:
    running, most, here = 0, 0, threading.Lock()

    def work(number: int) -> int:
        nonlocal running, most
        with here:
            running += 1
            most = max(most, running)
        time.sleep(0.02 / number)  # the first takes longest
        with here:
            running -= 1
        return number

    given: list[int] = []

    def parts() -> Iterator[int]:
        for number in range(1, 13):
            given.append(number)
            yield number

    with ThreadPoolExecutor(2) as pool:
        found = probe.in_order(pool, work, parts())
        assert next(found) == 1
        assert len(given) == 5  # few are in memory at once
        assert [1, *found] == list(range(1, 13))
    assert most == 2


def test_the_same_weights_come_whatever_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "CHUNK_BYTES", 7 * 4 * 5)
    random = np.random.default_rng(0)
    features, labels = random.normal(size=(60, 5)).astype(np.float32), random.integers(0, 3, 60, np.int32)
    found = []
    for threads in (1, 3):
        monkeypatch.setattr(probe, "threads_in_force", lambda threads=threads: threads)
        pair = features, labels
        found.append(probe.fit_linear_probe(pair, pair, probe.Standardiser.fit(features), np.ones(3, np.float32)))
    np.testing.assert_array_equal(found[0].kernel, found[1].kernel)
    assert found[0].val_loss == found[1].val_loss


@pytest.mark.parametrize("num", [400, 12])  # of 12 rows in 20 features the optimum lies in their span, which is measured all the same
def test_axes_of_other_rows_lead_to_the_same_optimum(num: int) -> None:
    width = 20
    train, val = clouds(num, 3, 1, width), clouds(60, 3, 2, width)
    plain = Standardiser(np.zeros(width, np.float32), np.ones(width, np.float32))
    other = np.random.default_rng(5).normal(size=(5, width)).astype(np.float32)  # which span less
    axes = Axes.of(StandardisedRows(other, plain))
    own, foreign = (fit_linear_probe(train, val, plain, np.ones(3, np.float32), c=0.1, axes=each) for each in (None, axes))
    np.testing.assert_allclose(probabilities_of(foreign, val[0]), probabilities_of(own, val[0]), atol=1e-2)  # as near as the solver goes
