"""Average precision and thresholds, against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from tl_keras.models.precision_recall import average_precision, best_threshold, mean_average_precision

RANDOM = np.random.default_rng(0)
SCORES = np.round(RANDOM.random((60, 3)), 1)  # many are equal
TRUTH = RANDOM.random((60, 3)) < [0.1, 0.5, 0.9]


@pytest.mark.parametrize("k", range(3))
def test_average_precision_is_that_of_scikit_learn(k: int) -> None:
    found = average_precision(SCORES[:, k], TRUTH[:, k])
    assert found.tolist() == [pytest.approx(average_precision_score(TRUTH[:, k], SCORES[:, k]))]


def test_of_a_resample_it_is_that_of_the_images_drawn() -> None:
    times = RANDOM.multinomial(60, [1 / 60] * 60, 5)
    found = average_precision(SCORES[:, 0], TRUTH[:, 0], times)
    for each, drawn in zip(found, times, strict=True):
        rows = np.repeat(np.arange(60), drawn)
        expected = average_precision_score(TRUTH[rows, 0], SCORES[rows, 0]) if TRUTH[rows, 0].any() else np.nan
        assert each == pytest.approx(expected, nan_ok=True)


def test_a_class_that_no_image_has_does_not_count() -> None:
    truth = TRUTH.copy()
    truth[:, 1] = False
    expected = np.mean([average_precision_score(truth[:, k], SCORES[:, k]) for k in (0, 2)])
    assert mean_average_precision(SCORES, truth) == pytest.approx(expected)
    assert np.isnan(average_precision(SCORES[:, 1], truth[:, 1])[0])
    assert np.isnan(mean_average_precision(SCORES, np.zeros_like(truth)))


@pytest.mark.parametrize(
    ("probabilities", "truth", "expected"),
    [
        ([0.9, 0.8, 0.2, 0.1], [1, 1, 0, 0], 0.5),
        ([0.9, 0.2, 0.2, 0.1], [1, 1, 0, 0], 0.15),  # equal ones cannot be told apart
        ([0.3, 0.2, 0.1], [1, 1, 1], 0.05),
        ([0.3, 0.2, 0.1], [0, 0, 0], 0.5),
    ],
)
def test_a_threshold_lies_between_two_probabilities(probabilities: list[float], truth: list[int], expected: float) -> None:
    assert best_threshold(np.array(probabilities), np.array(truth, bool)) == pytest.approx(expected)
