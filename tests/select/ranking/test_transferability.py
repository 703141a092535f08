"""Transferability metrics against slow twins written from the papers, and what must not change them."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import multivariate_normal, ortho_group
from sklearn.covariance import ledoit_wolf
from sklearn.decomposition import PCA

from tl_keras.select.ranking import transferability
from tl_keras.select.ranking.transferability import (
    Spectra,
    h_score,
    leep,
    linear_cka,
    log_me,
    log_me_of_targets,
    nce,
    regularised_h_score,
    source_clusters,
    thin_spectrum,
    trans_rate,
)

Array = NDArray[Any]
K = 4
OF_FEATURES = {"log_me": log_me, "h_score": h_score, "regularised_h_score": regularised_h_score, "trans_rate": trans_rate}


def clouds(num: int, width: int, spread: float = 1.0, seed: int = 0) -> tuple[Array, Array]:
    """Clouds of four classes of unlike sizes, in features with scales and means of their own."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(K), np.diff([0, num // 10, num // 4, num // 2, num])))
    x = spread * rng.normal(size=(K, width))[labels] + rng.normal(size=(num, width)) * 2
    return x * rng.uniform(0.2, 3, width) + rng.normal(0, 2, width), labels


def cases() -> dict[str, tuple[Array, Array]]:
    tall, wide, square = clouds(90, 12), clouds(40, 130), clouds(50, 49)
    repeated = np.concatenate([tall[0], tall[0][:, :5], np.full((90, 2), 1e3 / 3), np.zeros((90, 1))], axis=1)
    wide_repeated = np.concatenate([wide[0][:, :25], wide[0][:, :25], np.full((40, 1), 7.7)], axis=1)
    missing = tall[1].copy()
    missing[missing == 1] = 2
    return {
        "tall": tall,
        "wide": wide,
        "square": square,
        "repeated": (repeated, tall[1]),
        "wide_repeated": (wide_repeated, wide[1]),
        "far_from_0": (tall[0] + 1e4, tall[1]),
        "missing_class": (tall[0], missing),
        "one_feature": (tall[0][:, :1], tall[1]),
        "float32": (wide[0].astype(np.float32), wide[1].astype(np.int32)),
    }


CASES = cases()
every_case = pytest.mark.parametrize(("x", "labels"), CASES.values(), ids=CASES)


def log_me_twin(x: Array, labels: Array) -> float:
    """The evidence by the papers' equations, with the d x d matrix A, its inverse and its determinant."""
    x = x.astype(np.float64)
    num, width = x.shape
    found = []
    for label in np.unique(labels):
        y, alpha, beta = (labels == label).astype(np.float64), 1.0, 1.0
        for _ in range(11):
            a = alpha * np.eye(width) + beta * x.T @ x
            m = beta * np.linalg.solve(a, x.T @ y)
            gamma = beta * np.trace(np.linalg.solve(a, x.T @ x))
            last = alpha / beta
            squared_error = ((x @ m - y) ** 2).sum()
            alpha, beta = gamma / (m @ m + 1e-5), (num - gamma) / (squared_error + 1e-5)
            if abs(alpha / beta - last) / last <= 1e-3:
                break
        log_det = np.linalg.slogdet(alpha * np.eye(width) + beta * x.T @ x)[1]
        evidence = width / 2 * np.log(alpha) + num / 2 * np.log(beta) - log_det / 2
        evidence -= beta / 2 * squared_error + alpha / 2 * m @ m + num / 2 * np.log(2 * np.pi)
        found.append(evidence / num)
    return float(np.mean(found))


def class_means(x: Array, labels: Array) -> Array:
    means = np.zeros(x.shape)
    for label in np.unique(labels):
        means[labels == label] = x[labels == label].astype(np.float64).mean(axis=0)
    return means


def h_score_twin(x: Array, labels: Array) -> float:
    x = x.astype(np.float64)
    inverse = np.linalg.pinv(np.cov(x, rowvar=False).reshape(x.shape[1], -1), rcond=1e-11, hermitian=True)
    return float(np.trace(inverse @ np.cov(class_means(x, labels), rowvar=False).reshape(inverse.shape)))


def regularised_h_score_twin(x: Array, labels: Array) -> float:
    shrunk, shrinkage = ledoit_wolf(x.astype(np.float64))
    between = np.cov(class_means(x, labels), rowvar=False, bias=True).reshape(shrunk.shape)
    return float((1 - shrinkage) * np.trace(np.linalg.pinv(shrunk) @ between))


def trans_rate_twin(x: Array, labels: Array, eps: float = 1e-4) -> float:
    def rate(z: Array) -> float:
        return float(np.linalg.slogdet(np.eye(z.shape[1]) + z.T @ z / (len(z) * eps))[1] / 2)

    z = x.astype(np.float64) - x.astype(np.float64).mean(axis=0)
    return rate(z) - sum((labels == label).mean() * rate(z[labels == label]) for label in np.unique(labels))


def leep_twin(probabilities: Array, labels: Array) -> float:
    num, sources = probabilities.shape
    joint = np.zeros((labels.max() + 1, sources))
    for row, label in zip(probabilities, labels, strict=True):
        joint[label] += row / num
    total = 0.0
    for row, label in zip(probabilities, labels, strict=True):
        total += np.log(sum(joint[label, z] / joint[:, z].sum() * row[z] for z in range(sources)))
    return total / num


def nce_twin(sources: Array, labels: Array) -> float:
    total = 0.0
    for z in set(sources.tolist()):
        of_source = labels[sources == z]
        for y in set(of_source.tolist()):
            total += (of_source == y).sum() / len(labels) * np.log((of_source == y).mean())
    return float(total)


def cka_twin(x: Array, y: Array) -> float:
    """By HSIC of kernels that the centring matrix H centres."""
    h = np.eye(len(x)) - 1 / len(x)

    def hsic(a: Array, b: Array) -> float:
        return float(np.trace(a @ a.T @ h @ b @ b.T @ h))

    return hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y))


def some_probabilities(num: int, sources: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).dirichlet(np.full(sources, 0.3), num)


def entropy(labels: Array) -> float:
    shares = np.bincount(labels)[np.bincount(labels) > 0] / len(labels)
    return float(-(shares * np.log(shares)).sum())


@every_case
def test_log_me_is_the_evidence_of_its_equations(x: Array, labels: Array) -> None:
    assert log_me(x, labels, K) == pytest.approx(log_me_twin(x, labels), rel=1e-6)


def most_evidence(x: Array, target: Array) -> float:
    """The logarithm of the marginal likelihood of a target, weights integrated out in a normal distribution of n images, at its largest."""
    num, scale = len(x), (x.astype(np.float64) ** 2).mean()

    def minus_log(exponents: Array) -> float:
        covariance = np.exp(exponents[0]) * x @ x.T / scale + np.exp(exponents[1]) * np.eye(num)
        return -float(multivariate_normal.logpdf(target, np.zeros(num), covariance))

    starts = [(0.0, 0.0), (-4.0, 0.0), (0.0, -4.0)]
    return max(-minimize(minus_log, start, method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-6}).fun for start in starts) / num


@pytest.mark.parametrize(("num", "width"), [(40, 5), (30, 60)])
@pytest.mark.parametrize("noise", [0.3, 2.0])
def test_log_me_of_numbers_is_the_largest_marginal_likelihood(num: int, width: int, noise: float) -> None:
    draws = np.random.default_rng(num)
    x = draws.normal(size=(num, width))
    numbers = x[:, :3] @ np.array([1.0, -2.0, 0.5]) + draws.normal(0, noise, num)
    numbers = (numbers - numbers.mean()) / numbers.std()
    several = x[:, :2] + draws.normal(0, noise, (num, 2)) > 0.3
    expected = [most_evidence(x, each) for each in (numbers, *several.T.astype(float))]
    near = 1e-3 if width < num else 1e-2  # a fixed point that ends after some rounds may be below
    for targets, most in ((numbers[:, None], expected[0]), (several, np.mean(expected[1:]))):
        assert most - near < log_me_of_targets(x, targets) < most + 1e-5


@every_case
def test_log_me_of_one_hot_targets_is_that_of_their_classes(x: Array, labels: Array) -> None:
    assert log_me_of_targets(x, np.eye(K + 2)[labels]) == log_me(x, labels, K)  # what no image has does not count


def test_numbers_that_features_tell_score_higher() -> None:
    draws = np.random.default_rng(0)
    x = draws.normal(size=(200, 8))
    told, hinted, unrelated = (x @ np.ones(8) + draws.normal(0, noise, 200) for noise in (1.0, 5.0, 1e6))
    scores = [log_me_of_targets(x, ((each - each.mean()) / each.std())[:, None]) for each in (told, hinted, unrelated)]
    assert scores[0] > scores[1] + 0.1 > scores[2] + 0.1
    for wrong, words in (
        (np.ones((200, 1)), "must vary"),
        (np.ones((3, 1)), "as many rows"),
        (np.full((200, 1), np.nan), "must be finite"),
    ):
        with pytest.raises(ValueError, match=words):
            log_me_of_targets(x, wrong)


@every_case
def test_h_score_is_the_trace_of_its_definition(x: Array, labels: Array) -> None:
    assert h_score(x, labels, K) == pytest.approx(h_score_twin(x, labels), rel=1e-6)


@every_case
def test_regularised_h_score_shrinks_as_scikit_learn_does(x: Array, labels: Array) -> None:
    assert regularised_h_score(x, labels, K) == pytest.approx(regularised_h_score_twin(x, labels), rel=1e-6)


@every_case
@pytest.mark.parametrize("eps", [1e-4, 0.5])
def test_trans_rate_is_the_difference_of_coding_rates(x: Array, labels: Array, eps: float) -> None:
    assert trans_rate(x, labels, K, eps) == pytest.approx(trans_rate_twin(x, labels, eps), rel=1e-6)


def test_trans_rate_is_by_default_that_of_eps_1e_4_and_of_the_papers_ten_lines_where_classes_are_of_one_size() -> None:
    x, labels = CASES["tall"][0], np.arange(90) % 3
    z = x - x.mean(axis=0)
    rates = [np.linalg.slogdet(np.eye(12) + 1 / (len(rows) * 1e-4) * rows.T @ rows)[1] / 2 for rows in (z, z[::3], z[1::3], z[2::3])]
    assert trans_rate(x, labels, 3) == pytest.approx(rates[0] - sum(rates[1:]) / 3, rel=1e-9)


@pytest.mark.parametrize(("num", "sources"), [(60, 3), (60, 200)])
def test_leep_is_the_mean_log_of_the_expected_empirical_prediction(num: int, sources: int) -> None:
    _, labels = clouds(num, 1)
    probabilities = some_probabilities(num, sources)
    assert leep(probabilities, labels, K) == pytest.approx(leep_twin(probabilities, labels), rel=1e-9)
    never = np.concatenate([probabilities, np.zeros((num, 2))], axis=1)
    assert leep(never, labels, K) == pytest.approx(leep_twin(probabilities, labels), rel=1e-9)


@pytest.mark.parametrize("sources", [2, 5, 40])
def test_nce_is_minus_the_conditional_entropy(sources: int) -> None:
    _, labels = clouds(80, 1)
    of_source = np.random.default_rng(1).integers(-3, sources - 3, 80)
    assert nce(of_source, labels) == pytest.approx(nce_twin(of_source, labels), rel=1e-9)


@pytest.mark.parametrize(
    ("one", "two"), [("tall", "one_feature"), ("tall", "repeated"), ("wide", "wide_repeated"), ("one_feature", "repeated")]
)
def test_linear_cka_is_that_of_centred_kernels(one: str, two: str) -> None:
    x, y = CASES[one][0], CASES[two][0]
    expected = cka_twin(x, y)
    assert linear_cka(x, y) == pytest.approx(expected, rel=1e-6)
    assert linear_cka(y, x) == pytest.approx(expected, rel=1e-6)
    assert linear_cka(Spectra(x), Spectra(y)) == pytest.approx(expected, rel=1e-6)
    assert linear_cka(Spectra(x), y) == pytest.approx(expected, rel=1e-6)
    assert 0 < expected < 1


@pytest.mark.parametrize("metric", OF_FEATURES.values(), ids=OF_FEATURES)
@pytest.mark.parametrize("case", ["tall", "wide", "repeated"])
def test_rotations_orders_and_names_change_nothing(metric: Callable[..., float], case: str) -> None:
    x, labels = CASES[case]
    expected = metric(x, labels, K)
    order = np.random.default_rng(3).permutation(len(x))
    renamed = np.array([2, 0, 3, 1])[labels]
    turned = x @ ortho_group.rvs(x.shape[1], random_state=np.random.default_rng(4))
    assert metric(x[order], labels[order], K) == pytest.approx(expected, rel=1e-9)
    assert metric(x, renamed, K) == pytest.approx(expected, rel=1e-9)
    assert metric(x, labels, K + 5) == pytest.approx(expected, rel=1e-9)
    assert metric(turned, labels, K) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("metric", [log_me, h_score, trans_rate])
def test_features_of_0_change_nothing(metric: Callable[..., float]) -> None:
    x, labels = CASES["tall"]
    for more in (3, 200):
        wider = np.concatenate([x, np.zeros((len(x), more))], axis=1)
        assert metric(wider, labels, K) == pytest.approx(metric(x, labels, K), rel=1e-9)


@pytest.mark.parametrize("metric", [h_score, regularised_h_score, trans_rate])
def test_means_change_nothing(metric: Callable[..., float]) -> None:
    x, labels = CASES["wide"]
    assert metric(x + 1e3 * np.arange(x.shape[1]), labels, K) == pytest.approx(metric(x, labels, K), rel=1e-6)


def test_h_score_does_not_see_linear_maps_and_saturates_where_there_are_more_features_than_images() -> None:
    x, labels = CASES["tall"]
    assert h_score(x @ np.random.default_rng(5).normal(size=(12, 12)), labels, K) == pytest.approx(h_score(x, labels, K), rel=1e-6)
    x, labels = CASES["wide"]
    assert h_score(x, labels, K) == pytest.approx(3)
    assert h_score(x, np.random.default_rng(6).permutation(labels), K) == pytest.approx(3)
    assert 0 < regularised_h_score(x, np.random.default_rng(6).permutation(labels), K) < 0.9 * regularised_h_score(x, labels, K) < 2.7


@pytest.mark.parametrize(
    ("metric", "width"),
    [(metric, width) for metric in OF_FEATURES.values() for width in (10, 100) if (metric, width) != (h_score, 100)],
)
def test_classes_further_apart_score_higher(metric: Callable[..., float], width: int) -> None:
    found = [metric(*clouds(60, width, spread), K) for spread in (0, 1, 2, 4)]
    assert found == sorted(found)
    assert np.diff(found).min() > 1e-3


def test_classes_further_apart_score_higher_by_their_clusters_and_their_alikeness_with_labels() -> None:
    together, apart = clouds(100, 10, 0.5), clouds(100, 10, 4)
    assert np.array_equal(together[1], apart[1])
    scores = [leep(source_clusters(x, 20, 0), labels, K) for x, labels in (together, apart)]
    assert scores[0] < scores[1] - 0.3
    assert linear_cka(together[0], np.eye(K)[together[1]]) < linear_cka(apart[0], np.eye(K)[apart[1]]) - 0.3


def test_h_score_of_two_points_and_of_means_that_agree_are_the_ends_of_its_range() -> None:
    labels = np.repeat([0, 1, 2], 4)
    centres = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 3.0]])[labels]
    assert h_score(centres, labels, 3) == pytest.approx(2)
    square = np.tile([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], (3, 1))
    assert h_score(square, labels, 3) == pytest.approx(0, abs=1e-12)
    assert trans_rate(square, labels, 3) == pytest.approx(0, abs=1e-12)


def test_linear_cka_is_1_with_itself_turned_or_scaled_and_0_with_what_is_orthogonal() -> None:
    for case in ("tall", "wide"):
        x = CASES[case][0]
        turn = ortho_group.rvs(x.shape[1], random_state=np.random.default_rng(4))
        assert linear_cka(x, x) == pytest.approx(1)
        assert linear_cka(x, 5 * x @ turn + 3) == pytest.approx(1)
        y = np.random.default_rng(5).normal(size=(len(x), 7)) + x[:, :7]
        assert linear_cka(0.1 * x @ turn, y - 2) == pytest.approx(linear_cka(x, y))
        assert linear_cka(x * np.linspace(1, 9, x.shape[1]), y) != pytest.approx(linear_cka(x, y), rel=1e-2)
    square = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert linear_cka(square[:, :1], square[:, 1:]) == pytest.approx(0, abs=1e-12)
    assert linear_cka(square[:, :1], square) == pytest.approx(1 / np.sqrt(2))  # |Y'X|^2 = 16, over 4 times 4 sqrt(2)


def test_nce_is_0_where_the_source_settles_the_label_and_minus_the_entropy_where_it_says_nothing() -> None:
    _, labels = clouds(60, 1)
    assert nce(10 * labels - 7, labels) == 0
    assert nce(np.arange(60), labels) == 0
    assert nce(np.zeros(60, np.int64), labels) == pytest.approx(-entropy(labels))
    assert nce(np.repeat([4, 9], 60), np.tile(labels, 2)) == pytest.approx(-entropy(labels))
    noisy = np.where(np.random.default_rng(0).random(60) < 0.3, np.random.default_rng(1).integers(0, 9, 60), labels)
    assert -entropy(labels) < nce(noisy, labels) < 0


def test_leep_is_nce_for_sure_answers_and_minus_the_entropy_for_the_same_answer_to_all() -> None:
    _, labels = clouds(60, 1)
    sources = np.random.default_rng(1).integers(0, 6, 60)
    assert leep(np.eye(6)[sources], labels, K) == pytest.approx(nce(sources, labels), rel=1e-9)
    assert leep(np.eye(K)[labels], labels, K) == pytest.approx(0, abs=1e-12)
    assert leep(np.full((60, 3), 1 / 3), labels, K) == pytest.approx(-entropy(labels))
    assert leep(some_probabilities(60, 9), labels, K) < 0
    mixed = [leep(share * np.eye(K)[labels] + (1 - share) / K, labels, K) for share in (0, 0.3, 0.6, 0.9)]
    assert mixed == sorted(mixed)


def test_spectrum_has_the_distances_of_the_matrix_and_no_rounding() -> None:
    for case, rank in (("tall", 12), ("wide", 40), ("repeated", 13), ("wide_repeated", 26)):
        x = CASES[case][0]
        spectrum = thin_spectrum(x)
        assert (spectrum.left.shape, spectrum.width) == ((len(x), rank), x.shape[1])
        np.testing.assert_allclose(spectrum.left.T @ spectrum.left, np.eye(rank), atol=1e-8)
        np.testing.assert_allclose(spectrum.values, np.linalg.svd(x)[1][:rank] ** 2, rtol=1e-6)
        np.testing.assert_allclose(spectrum.rows @ spectrum.rows.T, x @ x.T, rtol=1e-6, atol=1e-6)


def test_several_metrics_of_one_matrix_pay_for_one_decomposition(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = CASES["wide"]
    expected = {name: metric(x, labels, K) for name, metric in OF_FEATURES.items()} | {"clusters": source_clusters(x, 5, 0)}
    calls = []

    def counted(matrix: Array) -> transferability.Spectrum:
        calls.append(matrix.shape)
        return thin_spectrum(matrix)

    monkeypatch.setattr(transferability, "thin_spectrum", counted)
    shared = Spectra(x)
    for name, metric in OF_FEATURES.items():
        assert metric(shared, labels, K) == expected[name]
    np.testing.assert_array_equal(source_clusters(shared, 5, 0), expected["clusters"])
    assert log_me(shared, (labels == 0).astype(np.int64), 2) != expected["log_me"]
    assert calls == [x.shape] * 2  # as they are for LogME, centred for all others


@pytest.mark.parametrize("shape", [(3000, 3), (6, 3000)])
def test_the_smaller_gram_matrix_is_made(shape: tuple[int, int]) -> None:
    x, labels = np.random.default_rng(0).normal(size=shape), np.arange(shape[0]) % 3
    tracemalloc.start()
    for metric in OF_FEATURES.values():
        metric(x, labels, 3)
    linear_cka(x, x**2)
    source_clusters(x, 3, 0)
    assert tracemalloc.get_traced_memory()[1] < 20 * x.nbytes  # the larger Gram matrix has 500 times and more
    tracemalloc.stop()


def test_clusters_that_still_move_are_taken_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    x, _ = CASES["tall"]
    settled = source_clusters(x, 6, 0)
    monkeypatch.setattr(transferability, "CLUSTER_ROUNDS", 1)
    assert not np.allclose(source_clusters(x, 6, 0), settled)


def test_clusters_are_distributions_that_follow_the_seed_and_the_principal_axes() -> None:
    x, _ = CASES["wide"]
    found = source_clusters(x, 6, 0)
    assert (found.shape, found.dtype) == ((40, 6), np.float64)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert found.min() >= 0
    np.testing.assert_array_equal(source_clusters(x, 6, 0), found)
    assert not np.array_equal(source_clusters(x, 6, 1), found)
    np.testing.assert_allclose(source_clusters(100 * x + 7, 6, 0), found, atol=1e-6)
    np.testing.assert_array_equal(source_clusters(x, 1, 0), np.ones((40, 1)))
    assert source_clusters(x, 40, 0).shape == (40, 40)


def test_clusters_lie_in_the_axes_of_four_fifths_of_the_variance(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class Mixture:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        def fit(self, rows: Array) -> "Mixture":
            seen.append(rows)
            return self

        def predict_proba(self, rows: Array) -> Array:
            return np.ones((len(rows), 1))

    monkeypatch.setattr("sklearn.mixture.GaussianMixture", Mixture)
    for case in ("tall", "wide"):
        source_clusters(CASES[case][0], 3, 0)
        expected = PCA(0.8, svd_solver="full").fit_transform(CASES[case][0])
        expected /= np.sqrt((expected**2).mean())
        assert seen[-1].shape == expected.shape
        np.testing.assert_allclose(seen[-1] @ seen[-1].T, expected @ expected.T, atol=1e-8)


def test_clusters_find_clouds_that_lie_apart() -> None:
    labels = np.arange(90) % 3
    x = 10 * np.eye(3, 20)[labels] + np.random.default_rng(0).normal(0, 0.5, (90, 20))
    found = source_clusters(x, 3, 0)
    assert nce(found.argmax(axis=1), labels) == 0
    assert leep(found, labels, 3) == pytest.approx(0, abs=1e-6)


BAD_FEATURES = {
    "vector": (np.ones(6), r"features must be a matrix with rows and columns\. Received: shape \(6,\)"),
    "empty": (np.ones((0, 3)), r"features must be a matrix with rows and columns\. Received: shape \(0, 3\)"),
    "nan": (np.array([[1.0, np.nan]] * 6), r"features must be finite\. Received: 6 entries that are not"),
    "infinite": (np.array([[1.0, -np.inf]] * 6), r"features must be finite\. Received: 6 entries that are not"),
    "zero": (np.zeros((6, 2)), r"must vary.*\. Received: 6 rows that are all the same"),
}
GOOD = np.arange(12.0).reshape(6, 2) ** 2
LABELS = np.array([0, 1, 2, 0, 1, 2])
BAD_LABELS = {
    "short": (LABELS[:5], r"labels must be integers, one for each of 6 rows\. Received: int64 of shape \(5,\)"),
    "matrix": (LABELS[:, None], r"labels must be integers, one for each of 6 rows\. Received: int64 of shape \(6, 1\)"),
    "real": (LABELS * 1.0, r"labels must be integers, one for each of 6 rows\. Received: float64 of shape \(6,\)"),
    "negative": (LABELS - 1, r"labels must (lie in 0\.\.2|be 0 or more)\. Received: -1\.\.1"),
    "one_class": (LABELS * 0 + 2, r"labels must be of two classes at least\. Received: class 2 only"),
}
OF_LABELS: dict[str, Callable[[Array], float]] = {
    **{name: lambda labels, metric=metric: metric(GOOD, labels, 3) for name, metric in OF_FEATURES.items()},
    "leep": lambda labels: leep(np.full((6, 2), 0.5), labels, 3),
    "nce": lambda labels: nce(np.arange(6) % 2, labels),
}


@pytest.mark.parametrize(("bad", "message"), BAD_FEATURES.values(), ids=BAD_FEATURES)
def test_bad_features_are_refused(bad: Array, message: str) -> None:
    for metric in OF_FEATURES.values():
        with pytest.raises(ValueError, match=message):
            metric(bad, LABELS, 3)
    with pytest.raises(ValueError, match=message):
        source_clusters(bad, 2, 0)
    with pytest.raises(ValueError, match=message):
        linear_cka(bad, GOOD)
    with pytest.raises(ValueError, match=message.replace("features", "targets")):
        linear_cka(GOOD, bad)


@pytest.mark.parametrize("metric", [h_score, regularised_h_score, trans_rate])
def test_features_that_do_not_vary_are_refused_where_they_are_centred(metric: Callable[..., float]) -> None:
    with pytest.raises(ValueError, match="must vary"):
        metric(np.full((6, 3), 0.1), LABELS, 3)


@pytest.mark.parametrize("metric", OF_LABELS.values(), ids=OF_LABELS)
@pytest.mark.parametrize(("bad", "message"), BAD_LABELS.values(), ids=BAD_LABELS)
def test_bad_labels_are_refused(metric: Callable[[Array], float], bad: Array, message: str) -> None:
    assert np.isfinite(metric(LABELS))
    with pytest.raises(ValueError, match=message):
        metric(bad)


@pytest.mark.parametrize("metric", [*OF_FEATURES.values(), leep])
def test_labels_beyond_the_number_of_classes_are_refused(metric: Callable[..., float]) -> None:
    rows = np.abs(GOOD) / np.abs(GOOD).sum(axis=1, keepdims=True)
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.1\. Received: 0\.\.2"):
        metric(rows, LABELS, 2)


def test_other_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"each row must sum to 1\. Received: entries from 0.5, sums in 1\.\.1.5"):
        leep(np.array([[0.5, 0.5]] * 5 + [[1.0, 0.5]]), LABELS, 3)
    with pytest.raises(ValueError, match=r"must be 0 or more, .* Received: entries from -0.5, sums in 1\.\.1$"):
        leep(np.array([[1.5, -0.5]] * 6), LABELS, 3)
    with pytest.raises(ValueError, match="source_probabilities must be finite"):
        leep(np.array([[np.nan, 1.0]] * 6), LABELS, 3)
    for sources in (np.array([0.0, 1.0]), np.zeros((2, 2), np.int64), np.zeros(0, np.int64)):
        with pytest.raises(ValueError, match=r"source_labels must be integers \(n,\)\. Received: "):
            nce(sources, np.array([0, 1]))
    with pytest.raises(ValueError, match=r"features and targets must have as many rows\. Received: 6 and 5"):
        linear_cka(GOOD, GOOD[:5])
    for number in (0, 7):
        with pytest.raises(ValueError, match=rf"num_clusters must lie in 1\.\.6, the number of rows\. Received: {number}"):
            source_clusters(GOOD, number, 0)
    for eps in (0, -1e-4, np.nan, np.inf):
        with pytest.raises(ValueError, match=r"eps must be positive\. Received: "):
            trans_rate(GOOD, LABELS, 3, eps)
