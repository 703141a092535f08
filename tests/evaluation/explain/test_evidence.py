"""Evidence is what its definition says, and does not saturate."""

import numpy as np

from tl_keras.evaluation.explain.evidence import evidence
from tl_keras.models.outputs import SINGLE_LABEL, MultiLabel, Regression

LOGITS = np.random.default_rng(0).normal(0, 3, (5, 4)).astype(np.float32)
COLUMNS = np.array([0, 1, 3, 2, 2])


def test_of_one_class_it_is_the_log_odds_whatever_all_logits_have_in_common() -> None:
    chances = SINGLE_LABEL.answers(LOGITS)[np.arange(5), COLUMNS]
    expected = np.log(chances / (1 - chances))
    for shift in (0, 1000):
        found = evidence(SINGLE_LABEL, LOGITS + np.float32(shift), COLUMNS)
        np.testing.assert_allclose(found, expected, atol=1e-3 if shift else 1e-5)
    sure = np.array([[0, 100], [0, 200]], np.float32)
    np.testing.assert_allclose(evidence(SINGLE_LABEL, sure, np.array([1, 1])), [100, 200])


def test_of_several_classes_it_is_that_of_the_class_and_of_numbers_the_number() -> None:
    found = evidence(MultiLabel(), LOGITS, COLUMNS)
    chances = MultiLabel().answers(LOGITS)[np.arange(5), COLUMNS]
    np.testing.assert_allclose(found, np.log(chances / (1 - chances)), atol=1e-5)
    numbers = Regression(mean=7.0, scale=2.0)
    np.testing.assert_allclose(evidence(numbers, LOGITS[:, :1], np.zeros(5, int)), 2 * LOGITS[:, 0] + 7, rtol=1e-6)
