"""Who is whose neighbour among images, by the cosine of their features, and who has none.

Features may be larger than memory: what is kept is a few numbers for each image, and the directions of the references.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tl_keras.data.splits import stratified_sample
from tl_keras.models.outputs import SINGLE_LABEL, Labels, Output
from tl_keras.tasks import REGRESSION
from tl_keras.transfer.head.probe import Features, chunks

WIDTH = 256  # principal directions that a cosine is taken in
FITTED_ON = 10_000  # rows that the directions are found from
MOST_REFERENCES = 20_000  # images among which neighbours are looked for
MOST_NEIGHBOURS = 30
BLOCK = 512  # rows compared with all references at a time

SEED = 0

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Neighbours:
    """What the others say of each of n images.

    Attributes:
        votes: float32 (n, k), the share of its neighbours that have each class, the nearer the heavier; of numbers their median, (n, 1).
        distance: float32 (n,), the mean of 1 - cosine to its neighbours.
        isolation: float32 (n,), how few random cuts part it from all others; larger is more alone.
    """

    votes: NDArray[np.float32]
    distance: NDArray[np.float32]
    isolation: NDArray[np.float32]


def find_neighbours(
    features: Features,
    labels: Labels,
    num_classes: int,
    num_last: int,
    output: Output = SINGLE_LABEL,
    strata: NDArray[np.int32] | None = None,
) -> Neighbours:
    """Find the neighbours of each image among all others; of very many images, among a sample.

    Args:
        features: float32 (n, d), n at least 2, read chunk by chunk.
        labels: n of them, as `output` says.
        num_classes: k.
        num_last: how many of the columns, at their end, are compared: earlier layers see colours and edges, not what an image shows.
        output: what labels mean; of numbers, as they are.
        strata: int32 (n,), parts of which a sample has its share; the labels where there are none.

    Reference: Liu, Ting & Zhou 2008, "Isolation forest".
    """
    from sklearn.ensemble import IsolationForest

    directions = _fit_directions(features, num_last)
    references = stratified_sample(labels if strata is None else strata, MOST_REFERENCES, SEED)
    known = _rows(features, references, directions)
    forest = IsolationForest(random_state=SEED).fit(known)
    targets = output.targets(labels[references], num_classes)
    number = min(MOST_NEIGHBOURS, max(5, len(references) // (3 * num_classes)), len(references) - 1)
    found = Neighbours(np.zeros((len(labels), num_classes), np.float32), *np.zeros((2, len(labels)), np.float32))
    for part in chunks(features):
        here = directions(features[part])
        found.isolation[part] = -forest.score_samples(here)
        for start in range(part.start, part.stop, BLOCK):
            rows = slice(start, min(start + BLOCK, part.stop))
            nearest, cosines = _nearest(here[start - part.start : rows.stop - part.start], rows, known, references, number)
            found.votes[rows] = _votes(targets[nearest], cosines, output)
            found.distance[rows] = 1 - cosines.mean(axis=1)
    return found


def _votes(theirs: NDArray[np.float32], cosines: NDArray[np.float32], output: Output) -> NDArray[np.float32]:
    """Of each of some images, what its neighbours' targets (m, number, k) say: (m, k)."""
    if output.task == REGRESSION:  # a neighbour's number may be wrong by any amount
        return np.asarray(np.median(theirs, axis=1), np.float32)
    weights = np.maximum(cosines, 0) + 1e-6
    found: NDArray[np.float32] = (weights[:, :, None] * theirs).sum(axis=1) / weights.sum(axis=1, keepdims=True)
    return found


def _nearest(
    here: NDArray[np.float32], rows: slice, known: NDArray[np.float32], references: Rows, number: int
) -> tuple[Rows, NDArray[np.float32]]:
    """The positions in `references` of the nearest to each of some rows, themselves left out, and their cosines, both (m, number)."""
    cosines = here @ known.T
    numbers = np.arange(rows.start, rows.stop)
    own = np.minimum(np.searchsorted(references, numbers), len(references) - 1)
    itself = references[own] == numbers
    cosines[np.flatnonzero(itself), own[itself]] = -np.inf
    nearest = np.argpartition(cosines, -number, axis=1)[:, -number:]
    return nearest, np.take_along_axis(cosines, nearest, axis=1)


def _fit_directions(features: Features, num_last: int) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """What makes rows of length 1 in few dimensions, whose products are close to the cosines of the last columns of `features`."""
    sample = _rows(features, np.unique(np.linspace(0, len(features) - 1, FITTED_ON).astype(int)), lambda x: _unit(x[:, -num_last:]))
    _, vectors = np.linalg.eigh((sample.T @ sample).astype(np.float64))
    axes = vectors[:, -WIDTH:].astype(np.float32)
    return lambda x: _unit(_unit(x[:, -num_last:]) @ axes)


def _rows(features: Features, rows: Rows, change: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> NDArray[np.float32]:
    """Some rows, ascending, read chunk by chunk and changed."""
    parts = ((part, rows[(rows >= part.start) & (rows < part.stop)]) for part in chunks(features))
    return np.concatenate([change(features[part][wanted - part.start]) for part, wanted in parts])


def _unit(x: NDArray[np.float32]) -> NDArray[np.float32]:
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return np.divide(x, length, out=np.zeros_like(x), where=length > 0)
