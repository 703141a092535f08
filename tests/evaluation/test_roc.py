"""ROC areas: against scikit-learn, against a loop over pairs, and how often the interval holds the truth."""

import numpy as np
import pytest
from scipy import special, stats
from sklearn.metrics import roc_auc_score

from tl_keras.evaluation.roc import roc_areas

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("decimals", [8, 1], ids=["distinct", "many equal scores"])
def test_areas_are_those_of_scikit_learn(decimals: int) -> None:
    truth = RNG.random((80, 4)) < (0.1, 0.3, 0.5, 0.9)
    scores = np.round(truth + RNG.normal(size=truth.shape), decimals)
    found = roc_areas(scores, truth)
    np.testing.assert_allclose(found.each, roc_auc_score(truth, scores, average=None), rtol=1e-12)
    assert found.mean == pytest.approx(roc_auc_score(truth, scores, average="macro"))
    pairs = [(a > b) + (a == b) / 2 for a in scores[truth[:, 0], 0] for b in scores[~truth[:, 0], 0]]
    assert found.each[0] == pytest.approx(np.mean(pairs))


def test_a_class_of_all_images_or_of_none_does_not_count() -> None:
    truth = np.column_stack([np.ones(20, bool), np.zeros(20, bool), np.arange(20) < 7])
    found = roc_areas(RNG.random((20, 3)), truth)
    assert np.isnan(found.each[:2]).all()
    assert found.mean == found.each[2]
    none = roc_areas(RNG.random((20, 2)), truth[:, :2])
    assert np.isnan([none.mean, *none.ci95]).all()
    perfect = roc_areas(truth[:, 2:].astype(float), truth[:, 2:])
    assert perfect.mean == 1
    assert np.isnan(perfect.ci95).all()  # the images say nothing of the spread
    alone = np.arange(20)[:, None] == 3
    assert np.isnan(roc_areas(RNG.random((20, 1)), alone).ci95).all()  # one image says nothing of that of its kind


def test_the_error_is_delongs() -> None:
    truth = RNG.random((30, 1)) < 0.3
    scores = truth + RNG.normal(size=truth.shape)
    found = roc_areas(scores, truth)
    right = (scores[truth][:, None] > scores[~truth]).astype(float)  # (m, n)
    variance = right.mean(axis=1).var(ddof=1) / right.shape[0] + right.mean(axis=0).var(ddof=1) / right.shape[1]
    low, high = special.logit(found.ci95)
    assert (high - low) / (2 * 1.959964) * found.mean * (1 - found.mean) == pytest.approx(np.sqrt(variance), rel=1e-6)


def test_the_interval_holds_the_true_area_as_often_as_it_says() -> None:
    """Three classes whose scores depend on each other, as those of one model do; the true area of each is known."""
    shift, num, hits = np.array([0.8, 1.2, 1.6]), 120, 0
    true = stats.norm.cdf(shift / np.sqrt(2)).mean()
    for _ in range(400):
        truth = np.arange(3) == RNG.integers(0, 3, num)[:, None]
        scores = truth * shift + 0.8 * RNG.normal(size=(num, 1)) + 0.6 * RNG.normal(size=(num, 3))
        low, high = roc_areas(scores, truth).ci95
        hits += low <= true <= high
    assert 0.92 <= hits / 400 <= 0.98
