"""Neighbours against a double loop."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tl_keras.select.check import neighbours as module
from tl_keras.select.check.neighbours import find_neighbours


def clouds(num: int = 60, width: int = 12) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Three overlapping clouds away from the origin; in front of them columns that say nothing."""
    rng = np.random.default_rng(0)
    labels = np.arange(num, dtype=np.int32) % 3
    features = 3 + rng.normal(size=(3, width))[labels] + 0.5 * rng.normal(size=(num, width))
    return np.hstack([100 * rng.normal(size=(num, 7)), features]).astype(np.float32), labels


def cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("block", [7, 512])
@pytest.mark.parametrize("chunk", [300, 10**6])
def test_votes_and_distances_are_those_of_a_double_loop(block: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    monkeypatch.setattr("tl_keras.transfer.head.probe.CHUNK_BYTES", chunk)
    features, labels = clouds()
    found = find_neighbours(features, labels, 3, 12)
    number = 60 // 9
    for row, x in enumerate(features):
        cosines = {other: cosine(x[-12:], features[other, -12:]) for other in range(60) if other != row}
        nearest = sorted(cosines, key=lambda other: -cosines[other])[:number]
        votes = np.zeros(3)
        for other in nearest:
            votes[labels[other]] += cosines[other]
        np.testing.assert_allclose(found.votes[row], votes / votes.sum(), atol=1e-4)
        assert found.distance[row] == pytest.approx(1 - np.mean([cosines[other] for other in nearest]), abs=1e-5)


def test_of_very_many_images_neighbours_are_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_REFERENCES", 30)
    features, labels = clouds(300)
    found = find_neighbours(features, labels, 3, 12)
    assert (found.votes.argmax(axis=1) == labels).mean() > 0.9


def test_a_row_of_zeros_has_neighbours_too() -> None:
    features, labels = clouds()
    features[4] = 0
    found = find_neighbours(features, labels, 3, 12)
    assert np.isfinite(found.votes).all()
    assert found.distance[4] == 1
