"""Optimal transport: the same plan as another implementation, and a map that carries a domain where it belongs."""

import time

import numpy as np
import ot
import pytest
from numpy.typing import NDArray

from tl_keras.transfer.adapt import transport
from tl_keras.transfer.adapt.transport import class_plan, entropic_plan, optimal_transport, ridge_map

CENTRES = np.array([[3.0, 0, 0], [0, 3.0, 0], [0, 0, 3.0]])


def draw(num: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    draws = np.random.default_rng(seed)
    labels = draws.integers(0, 3, num).astype(np.int32)
    return (CENTRES[labels] + draws.normal(size=(num, 3)) * 0.5).astype(np.float32), labels


@pytest.fixture
def to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """No plan is taken before it has settled, which takes less long where entropy counts more."""
    monkeypatch.setattr(transport, "ENTROPY", 0.2)
    monkeypatch.setattr(transport, "SCALINGS", 5_000)
    monkeypatch.setattr(transport, "SETTLED", 1e-12)


@pytest.fixture
def cost() -> NDArray[np.float64]:
    draws = np.random.default_rng(0)
    found = ot.dist(draws.normal(size=(30, 6)), draws.normal(size=(20, 6)) + 1)
    return np.asarray(found / np.median(found))


def test_the_entropic_plan_is_that_of_pot(cost: NDArray[np.float64], to_the_end: None) -> None:
    theirs = ot.sinkhorn(ot.unif(30), ot.unif(20), cost, transport.ENTROPY, method="sinkhorn_log", numItermax=5_000, stopThr=1e-10)
    np.testing.assert_allclose(entropic_plan(cost), theirs, atol=1e-7)


@pytest.mark.filterwarnings("ignore:Sinkhorn did not converge")  # to ten digits; five are compared
def test_the_plan_with_classes_is_that_of_pot(cost: NDArray[np.float64], to_the_end: None) -> None:
    labels = draw(30, 0)[1]
    theirs = ot.da.sinkhorn_lpl1_mm(
        ot.unif(30), labels, ot.unif(20), cost, transport.ENTROPY, transport.CLASSES, transport.CLASS_ROUNDS, 5_000, 1e-10
    )
    np.testing.assert_allclose(class_plan(cost, labels), theirs, atol=1e-5)


def test_a_plan_moves_all_there_is_however_far(cost: NDArray[np.float64], to_the_end: None) -> None:
    far = cost + np.arange(30)[:, None] * 100 + np.arange(20) * 100  # alone, exp of these is 0
    found = entropic_plan(far)
    np.testing.assert_allclose(found.sum(axis=0), 1 / 20, rtol=1e-2)
    np.testing.assert_allclose(found.sum(axis=1), 1 / 30, rtol=1e-2)


@pytest.mark.parametrize("shape", [(9, 4), (4, 9)])
def test_the_map_is_that_of_ridge_regression(shape: tuple[int, int]) -> None:
    from sklearn.linear_model import Ridge

    draws = np.random.default_rng(0)
    x, y = draws.normal(size=shape) + 1, draws.normal(size=(shape[0], 2)) - 2
    theirs = Ridge(transport.RIDGE * shape[0]).fit(x, y)
    matrix, added = ridge_map(x, y)
    np.testing.assert_allclose(matrix, theirs.coef_.T, atol=1e-9)
    np.testing.assert_allclose(added, theirs.intercept_, atol=1e-9)


def test_images_go_where_those_of_their_class_are() -> None:
    (source, labels), (target, of_target) = draw(200, 0), draw(150, 1)
    moved = (target @ np.array([[0.9, 0.4, 0], [-0.4, 0.9, 0], [0, 0, 1.5]]) + 5).astype(np.float32)
    maps = optimal_transport(source, labels, moved, np.random.default_rng(0))
    there = [each(rows) for each, rows in zip(maps, (source, moved), strict=True)]
    means = [
        np.stack([rows[own == label].mean(axis=0) for label in range(3)]) for rows, own in zip(there, (labels, of_target), strict=True)
    ]
    apart = np.linalg.norm(means[0][:, None] - means[1][None], axis=2)
    assert (apart.argmin(axis=1) == np.arange(3)).all()


@pytest.mark.slow
def test_many_features_take_seconds() -> None:
    draws = np.random.default_rng(0)
    source, target = (draws.normal(size=(2_500, 1_280)).astype(np.float32) for _ in range(2))
    started = time.process_time()
    optimal_transport(source, draws.integers(0, 7, 2_500), target, draws)
    assert time.process_time() - started < 8  # of all cores; it takes 3, and twice as long on a busy machine
