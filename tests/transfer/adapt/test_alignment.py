"""Feature alignment: what each map promises, and the same numbers as another implementation."""

import numpy as np
import pytest
import skada
from numpy.typing import NDArray
from scipy.linalg import eig

from tl_keras.transfer.adapt.affine import MappedFeatures
from tl_keras.transfer.adapt.alignment import ALIGNMENTS, coral, least_mmd, standardise, subspace, tca
from tl_keras.transfer.adapt.kernels import median_bandwidth, rbf
from tl_keras.transfer.head.probe import Standardiser

Rows = NDArray[np.float32]


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def domains() -> tuple[Rows, Rows]:
    """Two clouds of 12 features that differ in mean, scale and correlations."""
    draws = np.random.default_rng(3)
    mix = [draws.normal(size=(12, 12)) for _ in range(2)]
    source, target = (draws.normal(size=(n, 12)) @ each for n, each in zip((150, 130), mix, strict=True))
    return source.astype(np.float32), (target * 2 + 3).astype(np.float32)


@pytest.mark.parametrize("name", ALIGNMENTS)
def test_both_domains_end_in_one_space_and_draws_are_repeatable(name: str, domains: tuple[Rows, Rows]) -> None:
    first, again = (ALIGNMENTS[name](*domains, rng()) for _ in range(2))
    mapped = [each(rows) for each, rows in zip(first, domains, strict=True)]
    assert mapped[0].shape[1] == mapped[1].shape[1]
    assert all(np.isfinite(each).all() for each in mapped)
    for one, other, rows in zip(first, again, domains, strict=True):
        np.testing.assert_array_equal(one(rows), other(rows))


@pytest.mark.slow
@pytest.mark.parametrize("name", ALIGNMENTS)
def test_means_are_nearer_afterwards(name: str, domains: tuple[Rows, Rows]) -> None:
    maps = ALIGNMENTS[name](*domains, rng())
    means = [each(rows).mean(axis=0) for each, rows in zip(maps, domains, strict=True)]
    spread = np.concatenate([each(rows) for each, rows in zip(maps, domains, strict=True)]).std()
    raw = np.linalg.norm(domains[0].mean(axis=0) - domains[1].mean(axis=0)) / np.concatenate(domains).std()
    assert np.linalg.norm(means[0] - means[1]) / spread < 0.3 * raw


def test_standardising_gives_each_domain_mean_0_and_variance_1(domains: tuple[Rows, Rows]) -> None:
    for each, rows in zip(standardise(*domains, rng()), domains, strict=True):
        np.testing.assert_allclose(each(rows).mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(each(rows).std(axis=0), 1, atol=5e-3)


def test_coral_gives_the_source_the_covariance_of_the_target(domains: tuple[Rows, Rows]) -> None:
    maps = coral(*domains, rng())
    start = [Standardiser.fit(rows)(rows).astype(np.float64) for rows in domains]
    of_source, of_target = (np.cov(rows, rowvar=False) + np.eye(12) for rows in start)
    turn = np.linalg.lstsq(start[0], maps[0](domains[0]).astype(np.float64), rcond=None)[0]
    np.testing.assert_allclose(turn.T @ of_source @ turn, of_target, atol=0.03)


def skada_domains(domains: tuple[Rows, Rows]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    x = np.concatenate([Standardiser.fit(rows)(rows) for rows in domains]).astype(np.float64)
    return x, np.repeat([1, -2], [len(rows) for rows in domains])


def test_coral_agrees_with_skada(domains: tuple[Rows, Rows]) -> None:
    x, which = skada_domains(domains)
    # Its regularisation shrinks by half towards the mean variance, which is 1: half of C + I, and the halves cancel out.
    theirs = skada.CORALAdapter(reg=0.5, assume_centered=True).fit_transform(x, sample_domain=which, allow_source=True)
    ours = coral(*domains, rng())[0](domains[0])
    np.testing.assert_allclose(ours, theirs[which > 0], atol=0.02)


def test_subspace_alignment_agrees_with_skada(domains: tuple[Rows, Rows], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tl_keras.transfer.adapt.alignment.DIMENSIONS", 5)
    x, which = skada_domains(domains)
    theirs = skada.SubspaceAlignmentAdapter(n_components=5).fit_transform(x, sample_domain=which, allow_source=True)
    ours = np.concatenate([each(rows) for each, rows in zip(subspace(*domains, rng()), domains, strict=True)])
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=0.02)  # the sign of an axis is free


@pytest.mark.slow
def test_tca_agrees_with_the_paper_s_eigenproblem(domains: tuple[Rows, Rows], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tl_keras.transfer.adapt.alignment.DIMENSIONS", 4)
    both = np.concatenate(domains)
    x = Standardiser.fit(both)(both).astype(np.float64) / np.sqrt(12)
    n, m = map(len, domains)
    kernel, centre = x @ x.T, np.eye(n + m) - 1 / (n + m)
    e = np.concatenate([np.full(n, 1 / n), np.full(m, -1 / m)])
    values, vectors = eig(np.linalg.solve(kernel @ np.outer(e, e) @ kernel + np.eye(n + m) / (n + m), kernel @ centre @ kernel / (n + m)))
    theirs = kernel @ np.real(vectors[:, np.argsort(-np.real(values))[:4]])
    maps = tca(*domains, rng())
    ours = np.concatenate([each(rows) for each, rows in zip(maps, domains, strict=True)])
    for place in range(4):
        one, other = (each[:, place] - each[:, place].mean() for each in (ours, theirs))
        assert abs(one @ other) / np.linalg.norm(one) / np.linalg.norm(other) > 0.999


def test_the_gradient_of_mmd_is_that_of_differences() -> None:
    draws = np.random.default_rng(1)
    s, t = draws.normal(size=(9, 3)), draws.normal(size=(8, 3)) + 1
    gamma = median_bandwidth(np.concatenate([s, t]))
    from tl_keras.transfer.adapt import alignment

    within, across = rbf(s, s, gamma), rbf(s, t, gamma)
    found = alignment._pull(within, s, s, gamma) * 2 / within.size - alignment._pull(across, s, t, gamma) * 2 / across.size

    def loss(rows: NDArray[np.float64]) -> float:
        return float(rbf(rows, rows, gamma).mean() - 2 * rbf(rows, t, gamma).mean())

    for row, column in ((0, 0), (3, 2), (8, 1)):
        step = np.zeros_like(s)
        step[row, column] = 1e-6
        assert found[row, column] == pytest.approx((loss(s + step) - loss(s - step)) / 2e-6, rel=1e-4, abs=1e-9)


def test_least_mmd_undoes_a_shift_and_a_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = np.random.default_rng(0)
    source = draws.normal(size=(300, 4)).astype(np.float32)
    target = (draws.normal(size=(300, 4)) * [1, 2, 0.5, 1] + [0, 1, 0, -1]).astype(np.float32)
    moved, standard = least_mmd(source, target, rng())
    back = moved(source) * (1 / standard.matrix) + standard.shift
    np.testing.assert_allclose(back.mean(axis=0), target.mean(axis=0), atol=0.25)
    np.testing.assert_allclose(back.std(axis=0), target.std(axis=0), rtol=0.25)


def test_a_map_is_applied_chunk_by_chunk(domains: tuple[Rows, Rows]) -> None:
    each = coral(*domains, rng())[0]
    mapped = MappedFeatures(domains[0], each)
    assert mapped.shape == (150, 12)
    np.testing.assert_array_equal(np.concatenate([mapped[slice(0, 70)], mapped[slice(70, 150)]]), each(domains[0]))
