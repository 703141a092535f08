"""Importance weights: near the true ratio of densities where that is known, and near another implementation."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tl_keras.transfer.adapt import weighting
from tl_keras.transfer.adapt.weighting import MOST, WEIGHTINGS, by_mean_matching, likeness

Rows = NDArray[np.float32]


@pytest.fixture(scope="module")
def domains() -> tuple[Rows, Rows, NDArray[np.float64]]:
    """Two Gaussians in two dimensions, and the true ratio of their densities at each row of the first."""
    draws = np.random.default_rng(0)
    source, target = draws.normal(size=(600, 2)), draws.normal(size=(500, 2)) * 0.7 + [0.8, 0]
    log_ratio = -((source - [0.8, 0]) ** 2).sum(axis=1) / (2 * 0.49) - 2 * np.log(0.7) + (source**2).sum(axis=1) / 2
    ratio = np.exp(log_ratio)
    return source.astype(np.float32), target.astype(np.float32), ratio / ratio.mean()


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_weights_have_mean_1_and_follow_the_ratio_of_densities(name: str, domains: tuple[Rows, Rows, NDArray[np.float64]]) -> None:
    source, target, ratio = domains
    weights = WEIGHTINGS[name](source, target, np.random.default_rng(0))
    assert weights.dtype == np.float32
    assert weights.shape == (600,)
    assert weights.mean() == pytest.approx(1, abs=1e-4)
    assert (weights >= 0).all()
    assert np.corrcoef(weights, ratio)[0, 1] > (0.5 if name == "domain_classifier" else 0.8)  # which sees means alone


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_the_weighted_source_has_the_mean_of_the_target(name: str, domains: tuple[Rows, Rows, NDArray[np.float64]]) -> None:
    source, target, _ = domains
    weights = WEIGHTINGS[name](source, target, np.random.default_rng(0))
    before, after = (np.linalg.norm(np.average(source, axis=0, weights=each) - target.mean(axis=0)) for each in (None, weights))
    assert after < 0.35 * before


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_the_same_domain_twice_weighs_about_evenly(name: str, domains: tuple[Rows, Rows, NDArray[np.float64]]) -> None:
    source, _, _ = domains
    weights = WEIGHTINGS[name](source[:300], source[300:], np.random.default_rng(0))
    assert weights.sum() ** 2 / (weights**2).sum() > 150  # as many images as count


def test_mean_matching_weighs_only_the_rows_that_it_looks_at(
    domains: tuple[Rows, Rows, NDArray[np.float64]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weighting, "KMM_ROWS", 100)
    weights = by_mean_matching(*domains[:2], np.random.default_rng(0))
    assert 0 < (weights > 0).sum() <= 100
    assert weights.mean() == pytest.approx(1, abs=1e-4)
    assert weights.max() <= MOST * len(weights) / 100


def test_likeness_is_larger_for_the_target(domains: tuple[Rows, Rows, NDArray[np.float64]]) -> None:
    source, target, _ = domains
    like = likeness(source, target, np.random.default_rng(0))
    assert np.median(like(target)) > 1 > np.median(like(source))


def test_kliep_agrees_with_skada(domains: tuple[Rows, Rows, NDArray[np.float64]]) -> None:
    skada = pytest.importorskip("skada")
    source, target, _ = domains
    see = weighting.components(source, target, np.random.default_rng(0))
    x, which = np.concatenate([see(source), see(target)]), np.repeat([1, -2], [len(source), len(target)])
    adapter = skada.KLIEPReweightAdapter(gamma=weighting.median_bandwidth(see(target))).fit(x, sample_domain=which)
    theirs = adapter.compute_weights(x, sample_domain=which)[which > 0]
    assert np.corrcoef(WEIGHTINGS["kliep"](source, target, np.random.default_rng(0)), theirs)[0, 1] > 0.95


def test_mean_matching_solves_the_programme_that_skada_solves(domains: tuple[Rows, Rows, NDArray[np.float64]]) -> None:
    skada = pytest.importorskip("skada")
    source, target = domains[0][:120], domains[1][:100]
    see = weighting.components(source, target, np.random.default_rng(0))
    x, which = np.concatenate([see(source), see(target)]), np.repeat([1, -2], [len(source), len(target)])
    gamma = weighting.median_bandwidth(x)
    adapter = skada.KMMReweightAdapter(gamma=gamma, B=weighting.KMM_BOUND, solver="scipy").fit(x, sample_domain=which)
    theirs = adapter.compute_weights(x, sample_domain=which)[which > 0]
    kernel, kappa = weighting.rbf(x[:120], x[:120], gamma), 120 * weighting.rbf(x[:120], x[120:], gamma).mean(axis=1)
    solved = WEIGHTINGS["kmm"](source, target, np.random.default_rng(0)) * theirs.mean()  # ours are scaled to mean 1
    losses = [0.5 * each @ kernel @ each - kappa @ each for each in (solved, theirs, np.ones(120))]
    assert losses[0] <= losses[1] + 0.02 * (losses[2] - losses[1])
