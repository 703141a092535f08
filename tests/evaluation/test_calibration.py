"""The temperature and the calibration error, against brute force and where the truth is known."""

import numpy as np
import pytest
from scipy import special

from tl_keras.evaluation.calibration import BINS, bins_of, calibration_error, fit_temperature, reliability
from tl_keras.evaluation.metrics import classification_metrics
from tl_keras.models.outputs import SINGLE_LABEL, MultiLabel, Regression


def drawn(num: int, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels that are distributed as the logits say once divided by the temperature."""
    draws = np.random.default_rng(seed)
    logits = draws.normal(0, 3, (num, 4))
    truth = special.softmax(logits / temperature, axis=1)
    return logits, np.array([draws.choice(4, p=each) for each in truth])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_of_the_labels_is_found(temperature):
    assert fit_temperature(SINGLE_LABEL, *drawn(20_000, temperature)) == pytest.approx(temperature, rel=0.05)


def test_of_several_labels_too():
    draws = np.random.default_rng(0)
    logits = draws.normal(0, 4, (4000, 3))
    labels = draws.random(logits.shape) < special.expit(logits / 2)
    assert fit_temperature(MultiLabel(), logits, labels) == pytest.approx(2, rel=0.1)


def test_numbers_have_none():
    assert fit_temperature(Regression(), np.ones((3, 1)), np.ones(3, np.float32)) == 1.0


def test_few_images_that_are_all_right_do_not_make_a_model_certain():
    logits = np.tile([[2.0, 0.0, 0.0]], (10, 1))
    found = fit_temperature(SINGLE_LABEL, logits, np.zeros(10, int))
    assert 0.4 < found < 1
    assert special.softmax(logits[0] / found)[0] < 0.98
    assert fit_temperature(SINGLE_LABEL, np.zeros((10, 3)), np.zeros(10, int)) == pytest.approx(1, abs=1e-3)  # logits that say nothing


def test_soft_labels_count_by_their_shares():
    logits, _ = drawn(2000, 1.0)
    shares = special.softmax(logits / 2.5, axis=1).astype(np.float32)
    assert fit_temperature(SINGLE_LABEL, logits, shares) == pytest.approx(2.5, rel=0.02)


def test_it_lowers_the_loss_and_the_error_of_other_images():
    logits, labels = drawn(4000, 3.0)
    temperature = fit_temperature(SINGLE_LABEL, logits[:1000], labels[:1000])
    before, after = (
        classification_metrics(SINGLE_LABEL.answers(logits[1000:] / each), labels[1000:], list("abcd")) for each in (1, temperature)
    )
    assert after["accuracy"] == before["accuracy"]
    assert after["log_loss"] < before["log_loss"]
    assert after["ece"] < 0.04 < 0.15 < before["ece"]


def test_error_is_that_of_a_loop_over_bins():
    draws = np.random.default_rng(3)
    confidence = draws.random(500)
    right = draws.random(500) < confidence**2
    times = draws.integers(0, 4, (7, 500))
    for found, weights in zip(calibration_error(confidence, right)(times), times, strict=True):
        expected = 0.0
        for number in range(BINS):
            inside = (confidence > number / BINS) & (confidence <= (number + 1) / BINS)
            total = weights[inside].sum()
            if total:
                gap = (weights * confidence)[inside].sum() / total - (weights * right)[inside].sum() / total
                expected += total / weights.sum() * abs(gap)
        assert found == pytest.approx(expected)


def test_each_bin_has_its_upper_end():
    assert bins_of(np.array([0.0, 1e-9, 1 / 15, 1 / 15 + 1e-9, 1.0])).tolist() == [0, 0, 0, 1, 14]


def test_reliability_has_the_bins_with_images():
    found = reliability(np.array([0.5, 0.52, 0.99]), np.array([True, False, True]))
    assert [(each["images"], each["accuracy"]) for each in found] == [(2, 0.5), (1, 1.0)]
    assert found[0]["from"] < 0.5 <= found[0]["to"]
    assert found[0]["confidence"] == pytest.approx(0.51)
    weighted = sum(each["images"] * abs(each["confidence"] - each["accuracy"]) for each in found) / 3
    assert calibration_error(np.array([0.5, 0.52, 0.99]), np.array([True, False, True]))(np.ones((1, 3), int))[0] == pytest.approx(weighted)


@pytest.mark.slow
def test_the_interval_of_the_error_has_the_true_one_in_it():
    true_error, hits = 0.0, 0
    logits, labels = drawn(100_000, 2.0, seed=9)
    everything = SINGLE_LABEL.answers(logits)
    right = SINGLE_LABEL.is_right(everything, labels)
    true_error = calibration_error(everything.max(axis=1), right)(np.ones((1, len(labels)), int))[0]
    for trial in range(60):
        rows = slice(1000 * trial, 1000 * (trial + 1))
        low, high = classification_metrics(everything[rows], labels[rows], list("abcd"))["ece_ci95"]
        hits += low <= true_error <= high
    assert hits >= 52  # of 60: where each has a chance of 95 %, fewer happen 3 times in 1,000
