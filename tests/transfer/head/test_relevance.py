"""Each ranker against scikit-learn at once on all rows, and what holds for every row of the table."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.feature_selection import chi2, f_classif, mutual_info_classif
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import mutual_info_score

from tl_keras.transfer.head import probe, relevance
from tl_keras.transfer.head.probe import Standardiser
from tl_keras.transfer.head.relevance import RANKERS, most_relevant, read_sample, row_norms

WEIGHTS = np.array([1, 2, 1], np.float32)
SEED = 3

every_ranker = pytest.mark.parametrize("method", RANKERS)


def clouds(num: int, width: int = 40, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Three classes, of which every other feature tells, each less than the one before; units of their own."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(num) % 3).astype(np.int32)
    x = rng.normal(size=(num, width))
    x[:, ::2] += np.tile(np.eye(3), width)[labels][:, : len(range(0, width, 2))] * np.linspace(3, 1, len(range(0, width, 2)))
    return (x * rng.uniform(0.1, 10, width) + rng.normal(0, 20, width)).astype(np.float32), labels


X, LABELS = clouds(120)
STANDARDISE = Standardiser.fit(X)


def ranked(method: str, x: NDArray[np.float32] = X, labels: NDArray[np.int32] = LABELS, seed: int = SEED) -> NDArray[np.float64]:
    return relevance.relevance(method, (x, labels), Standardiser.fit(x), WEIGHTS, seed)


def l1_twin(x: NDArray[np.float64], labels: NDArray[np.int32]) -> NDArray[np.float64]:
    row_weights = WEIGHTS[labels] / WEIGHTS[labels].sum()
    shares = np.bincount(labels, row_weights)
    penalty = relevance.L1_SHARE * np.abs(x.T @ ((shares - np.eye(3)[labels]) * row_weights[:, None])).max()
    twin = LogisticRegression(C=1 / penalty / WEIGHTS[labels].sum(), l1_ratio=1, solver="saga", tol=1e-7, max_iter=100_000)
    return row_norms(twin.fit(x, labels, sample_weight=WEIGHTS[labels]).coef_.T)


def trees_twin(x: NDArray[np.float64], labels: NDArray[np.int32]) -> NDArray[np.float64]:
    trees = ExtraTreesClassifier(relevance.NUM_TREES, random_state=SEED)
    return trees.fit(x, labels, sample_weight=WEIGHTS[labels]).feature_importances_


def mutual_twin(x: NDArray[np.float64], labels: NDArray[np.int32]) -> NDArray[np.float64]:
    found = []
    for column in x.T:
        bins = np.searchsorted(np.quantile(column, np.arange(1, relevance.NUM_BINS) / relevance.NUM_BINS), column)
        counts = np.zeros((relevance.NUM_BINS, 3), int)
        np.add.at(counts, (bins, labels), WEIGHTS[labels].astype(int))
        found.append(mutual_info_score(None, None, contingency=counts[counts.any(axis=1)]))
    return np.array(found)


TWINS: dict[str, tuple[Callable[..., NDArray[np.float64]], float]] = {  # and how near they come, relative to the largest
    "anova": (lambda x, labels: f_classif(x, labels)[0], 1e-5),
    "chi2": (lambda x, labels: chi2(x - x.min(axis=0), labels)[0], 1e-5),
    "mutual_information": (mutual_twin, 1e-5),
    "l1": (l1_twin, 1e-2),
    "trees": (trees_twin, 1e-5),
}


@every_ranker
def test_relevance_is_scikit_learns(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relevance, "BLOCK", 7)
    twin, tolerance = TWINS[method]
    expected = twin(STANDARDISE(X).astype(np.float64), LABELS)
    np.testing.assert_allclose(ranked(method), expected, atol=tolerance * expected.max())


def test_l1_keeps_what_scikit_learn_keeps() -> None:
    found, twin = ranked("l1"), l1_twin(STANDARDISE(X).astype(np.float64), LABELS)
    np.testing.assert_array_equal(found > 1e-3 * found.max(), twin > 1e-3 * twin.max())
    assert 3 < np.count_nonzero(found) < 30


@every_ranker
def test_relevance_is_one_number_a_feature_and_none_below_zero(method: str) -> None:
    found = ranked(method)
    assert (found.shape, found.dtype) == ((40,), np.float64)
    assert found.min() >= 0
    assert found[::2].mean() > 3 * found[1::2].mean()


@every_ranker
def test_units_of_features_do_not_matter(method: str) -> None:
    other = X * np.float32(2) ** (np.arange(40) % 7) - 64
    found, expected = ranked(method, other), ranked(method)
    best = set(most_relevant(expected, 10))
    assert len(best & set(most_relevant(found, 10))) >= 9


@every_ranker
@pytest.mark.filterwarnings("error")
def test_a_constant_feature_is_of_no_relevance_and_changes_no_other(method: str) -> None:
    wide = np.insert(X, [0, 17], 5, axis=1)
    found = relevance.relevance(method, (wide, LABELS), Standardiser.identity(42), WEIGHTS, SEED)
    np.testing.assert_array_equal(found[[0, 18]], 0)
    expected = relevance.relevance(method, (X, LABELS), Standardiser.identity(40), WEIGHTS, SEED)
    np.testing.assert_allclose(np.delete(found, [0, 18]), expected)


@every_ranker
@pytest.mark.filterwarnings("error")
def test_a_feature_that_is_the_class_is_the_most_relevant(method: str) -> None:
    x = X.copy()
    x[:, 21] = LABELS == 0
    assert 21 in most_relevant(ranked(method, x), 5)


@every_ranker
def test_a_class_of_one_image_is_ranked_with(method: str) -> None:
    rows = np.concatenate([np.flatnonzero(LABELS != 2), [2]])
    assert np.isfinite(ranked(method, X[rows], LABELS[rows])).all()


@every_ranker
def test_the_seed_decides_what_is_drawn(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relevance, "SAMPLE_BYTES", 60 * 4 * 40)
    one, again, other = (ranked(method, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


@every_ranker
def test_a_sample_of_rows_ranks_much_as_all_do(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = clouds(3000)
    expected = set(most_relevant(ranked(method, x, labels), 15))
    monkeypatch.setattr(relevance, "SAMPLE_BYTES", 600 * 4 * 40)
    assert len(expected & set(most_relevant(ranked(method, x, labels), 15))) >= 11


def test_mutual_information_ranks_as_the_estimate_by_neighbours() -> None:
    x, labels = clouds(1200)
    twin = mutual_info_classif(Standardiser.fit(x)(x), labels, random_state=SEED)
    found = relevance.relevance("mutual_information", (x, labels), Standardiser.fit(x), np.ones(3, np.float32), SEED)
    assert spearmanr(found[::2], twin[::2]).statistic > 0.9
    assert abs(found[::2].mean() / twin[::2].mean() - 1) < 0.15


def test_equal_values_stay_in_one_part() -> None:
    x = np.maximum(STANDARDISE(X), 0)  # half of the values are 0
    found = relevance.relevance("mutual_information", (x, LABELS), Standardiser.identity(40), WEIGHTS, SEED)
    np.testing.assert_allclose(found, mutual_twin(x.astype(np.float64), LABELS), atol=1e-6)


@pytest.mark.parametrize("num", [30, 120, 500])
def test_a_sample_has_each_class_in_its_share_in_order(num: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "CHUNK_BYTES", 7 * 4 * 40)
    x, labels = read_sample((X, LABELS), STANDARDISE, num, SEED)
    num = min(num, 120)
    assert x.shape == (num, 40)
    np.testing.assert_array_equal(np.bincount(labels), [num / 3] * 3)
    standardised = STANDARDISE(X)
    rows = [int(np.flatnonzero((standardised == row).all(axis=1))[0]) for row in x]
    assert rows == sorted(set(rows))
    np.testing.assert_array_equal(LABELS[rows], labels)


def test_no_class_is_lost_where_features_are_wider_than_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relevance, "SAMPLE_BYTES", 1)
    assert np.isfinite(ranked("chi2")).all()


def test_row_norm_is_the_length_of_each_row() -> None:
    np.testing.assert_allclose(row_norms(np.array([[3, 4], [0, 0], [-1, 0]])), [5, 0, 1])


def test_of_equal_scores_the_first_are_taken() -> None:
    np.testing.assert_array_equal(most_relevant(np.array([1, 2, np.inf, 2, 0, 2]), 3), [1, 2, 3])
