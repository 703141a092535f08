"""Importance weights: near the true ratio of densities where that is known, and near another implementation."""

import numpy as np
import pytest
import skada
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


def test_mean_matching_tells_the_rows_apart_that_it_looks_at_however_many_it_does_not(
    domains: tuple[Rows, Rows, NDArray[np.float64]], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target, _ = domains
    monkeypatch.setattr(weighting, "KMM_ROWS", 200)
    weights = by_mean_matching(np.tile(source, (20, 1)), target, np.random.default_rng(0))
    looked_at = weights[weights > 0]
    assert weights.mean() == pytest.approx(1, abs=1e-3)
    assert looked_at.std() > looked_at.mean()  # cut at 20 times the mean of all rows, they are all but alike


@pytest.mark.parametrize(("num_source", "num_target"), [(14, 9), (9, 14)])
def test_the_closed_form_leaves_out_each_pair(num_source: int, num_target: int) -> None:
    draws = np.random.default_rng(0)
    at_source, at_target = draws.random((num_source, 4)), draws.random((num_target, 4))
    losses = []
    for row in range(min(num_source, num_target)):
        alpha = weighting._ulsif(np.delete(at_source, row, axis=0), np.delete(at_target, row, axis=0), 0.1)
        losses.append((at_source[row] @ alpha) ** 2 / 2 - at_target[row] @ alpha)
    assert weighting._left_out(at_source, at_target, 0.1) == pytest.approx(np.mean(losses))


CLOUD = np.random.default_rng(1).normal(size=(300, 6)).astype(np.float32)
ODD_DOMAINS = {
    "a few images, far away and much alike": (CLOUD, CLOUD[:20] * 1e-3 + 50),
    "copies of two images": (CLOUD, np.repeat(CLOUD[:2] + 1, 12, axis=0)),
    "copies of one image": (CLOUD, np.repeat(CLOUD[:1] + 1, 24, axis=0)),
    "constant features": (CLOUD * [1, 0, 0, 1, 1, 0], CLOUD[:30] * [1, 0, 0, 1, 1, 0] + 1),
    "nothing but constants": (np.ones((30, 6)), np.zeros((25, 6))),
}


@pytest.mark.parametrize("name", WEIGHTINGS)
@pytest.mark.parametrize("domains_named", ODD_DOMAINS)
def test_weights_are_numbers_of_mean_1_in_odd_domains(name: str, domains_named: str) -> None:
    source, target = (each.astype(np.float32) for each in ODD_DOMAINS[domains_named])
    with np.errstate(all="raise", under="ignore"):
        weights = WEIGHTINGS[name](source, target, np.random.default_rng(0))
    assert np.isfinite(weights).all()
    assert weights.mean() == pytest.approx(1, abs=1e-3)


def test_likeness_is_larger_for_the_target(domains: tuple[Rows, Rows, NDArray[np.float64]]) -> None:
    source, target, _ = domains
    like = likeness(source, target, np.random.default_rng(0))
    assert np.median(like(target)) > 1 > np.median(like(source))


def test_kliep_agrees_with_skada(domains: tuple[Rows, Rows, NDArray[np.float64]]) -> None:
    source, target, _ = domains
    see = weighting.components(source, target, np.random.default_rng(0))
    x, which = np.concatenate([see(source), see(target)]), np.repeat([1, -2], [len(source), len(target)])
    adapter = skada.KLIEPReweightAdapter(gamma=weighting.median_bandwidth(see(target))).fit(x, sample_domain=which)
    theirs = adapter.compute_weights(x, sample_domain=which)[which > 0]
    assert np.corrcoef(WEIGHTINGS["kliep"](source, target, np.random.default_rng(0)), theirs)[0, 1] > 0.9


@pytest.mark.slow
def test_mean_matching_solves_the_programme_that_skada_solves(domains: tuple[Rows, Rows, NDArray[np.float64]]) -> None:
    source, target = domains[0][:60], domains[1][:50]
    see = weighting.components(source, target, np.random.default_rng(0))
    x, which = np.concatenate([see(source), see(target)]), np.repeat([1, -2], [len(source), len(target)])
    gamma = weighting.median_bandwidth(x)
    adapter = skada.KMMReweightAdapter(gamma=gamma, B=weighting.KMM_BOUND, solver="scipy").fit(x, sample_domain=which)
    theirs = adapter.compute_weights(x, sample_domain=which)[which > 0]
    kernel, kappa = weighting.rbf(x[:60], x[:60], gamma), 60 * weighting.rbf(x[:60], x[60:], gamma).mean(axis=1)
    solved = WEIGHTINGS["kmm"](source, target, np.random.default_rng(0)) * theirs.mean()  # ours are scaled to mean 1
    losses = [0.5 * each @ kernel @ each - kappa @ each for each in (solved, theirs, np.ones(60))]
    assert losses[0] <= losses[1] + 0.02 * (losses[2] - losses[1])
