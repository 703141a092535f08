"""Who is whose neighbour among images, by the cosine of their features."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tl_keras.data.splits import stratified_sample
from tl_keras.transfer.head.probe import Features, chunks

WIDTH = 256  # principal directions that a cosine is taken in
FITTED_ON = 10_000  # rows that the directions are found from
MOST_REFERENCES = 50_000  # images among which neighbours are looked for
MOST_NEIGHBOURS = 30
BLOCK = 512  # rows compared with all references at a time

Labels = NDArray[np.int32]


@dataclass(frozen=True)
class Neighbours:
    """For each of n images: the votes of its neighbours for each class, and how far they are.

    Attributes:
        directions: float32 (n, w), each of length 1: what neighbours were found by.
        votes: float32 (n, k), each row of sum 1, the nearer the heavier.
        distance: float32 (n,), the mean of 1 - cosine.
    """

    directions: NDArray[np.float32]
    votes: NDArray[np.float32]
    distance: NDArray[np.float32]


def find_neighbours(features: Features, labels: Labels, num_classes: int, num_last: int) -> Neighbours:
    """Find the neighbours of each image among all others; of very many images, among a sample.

    Args:
        features: float32 (n, d), n at least 2.
        labels: int32 (n,).
        num_classes: k.
        num_last: how many of the columns, at their end, are compared: earlier layers see colours and edges, not what an image shows.
    """
    directions = _directions(features, num_last)
    references = stratified_sample(labels, MOST_REFERENCES, seed=0)
    number = min(MOST_NEIGHBOURS, max(5, len(references) // (3 * num_classes)), len(references) - 1)
    votes, distance = np.zeros((len(labels), num_classes), np.float32), np.zeros(len(labels), np.float32)
    targets = np.eye(num_classes, dtype=np.float32)[labels[references]]
    for rows, nearest, cosines in _nearest(directions, references, number):
        weights = np.maximum(cosines, 0) + 1e-6
        votes[rows] = (weights[:, :, None] * targets[nearest]).sum(axis=1) / weights.sum(axis=1, keepdims=True)
        distance[rows] = 1 - cosines.mean(axis=1)
    return Neighbours(directions, votes, distance)


def _nearest(
    directions: NDArray[np.float32], references: NDArray[np.int64], number: int
) -> Iterator[tuple[slice, NDArray[np.int64], NDArray[np.float32]]]:
    """For blocks of rows: the positions in `references` of each row's nearest, itself left out, and their cosines, (m, number)."""
    known = directions[references]
    for start in range(0, len(directions), BLOCK):
        rows = slice(start, min(start + BLOCK, len(directions)))
        cosines = directions[rows] @ known.T
        own = np.searchsorted(references, np.arange(rows.start, rows.stop))
        is_reference = references[np.minimum(own, len(references) - 1)] == np.arange(rows.start, rows.stop)
        cosines[np.flatnonzero(is_reference), own[is_reference]] = -np.inf
        nearest = np.argpartition(cosines, -number, axis=1)[:, -number:]
        yield rows, nearest, np.take_along_axis(cosines, nearest, axis=1)


def _directions(features: Features, num_last: int) -> NDArray[np.float32]:
    """Rows of length 1 in few dimensions, whose products are close to the cosines of the last columns of `features`."""
    rows = np.unique(np.linspace(0, len(features) - 1, FITTED_ON).astype(int))
    parts = chunks(features)
    sample = np.concatenate(
        [_unit(features[part][:, -num_last:][rows[(rows >= part.start) & (rows < part.stop)] - part.start]) for part in parts]
    )
    _, vectors = np.linalg.eigh((sample.T @ sample).astype(np.float64))
    axes = vectors[:, -WIDTH:].astype(np.float32)
    return np.concatenate([_unit(_unit(features[part][:, -num_last:]) @ axes) for part in parts])


def _unit(x: NDArray[np.float32]) -> NDArray[np.float32]:
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return np.divide(x, length, out=np.zeros_like(x), where=length > 0)
