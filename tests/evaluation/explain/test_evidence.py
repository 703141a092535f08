"""Evidence is what its definition says, and does not saturate."""

import numpy as np
import pytest

from tl_keras.evaluation.explain.evidence import COARSEST, evidence, evidence_of_answers
from tl_keras.models.outputs import SINGLE_LABEL, MultiLabel, Output, Regression

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


@pytest.mark.parametrize("output", [SINGLE_LABEL, MultiLabel(), Regression(mean=7.0, scale=2.0)], ids=lambda output: output.task)
def test_of_answers_it_is_that_of_the_logits(output: Output) -> None:
    logits, columns = (LOGITS[:, :1], COLUMNS * 0) if isinstance(output, Regression) else (LOGITS, COLUMNS)
    found = evidence_of_answers(output, output.answers(logits), columns)
    np.testing.assert_allclose(found, evidence(output, logits, columns), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("output", [SINGLE_LABEL, MultiLabel()], ids=lambda output: output.task)
def test_answers_in_8_bits_have_evidence_that_grows_with_them(output: Output) -> None:
    sure = np.array([0.0, 0.25, 0.75, 1 - COARSEST, 1.0])
    found = evidence_of_answers(output, np.stack([1 - sure, sure], axis=1), np.ones(5, int))
    assert np.isfinite(found).all()
    assert (np.diff(found) > 0).all()
    assert found[-1] - found[-2] < 1  # what is rounded away is no evidence to speak of
