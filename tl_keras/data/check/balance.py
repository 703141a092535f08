"""How the labels of a data set are distributed: a table with a line per class, or per interval of numbers."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tl_keras.data.check.robust import middle_and_spread
from tl_keras.data.index import UNLABELLED, Index
from tl_keras.tasks import MULTI_LABEL, REGRESSION

INTERVALS = 10  # of equal width
WITHIN = 3.0  # spreads from the median: the first and the last interval take what lies beyond, so that one typo does not fill the table


@dataclass(frozen=True)
class Part:
    """Images with something in common: a name, and their positions, int64 (m,), ascending."""

    name: str
    rows: NDArray[np.int64]


def parts_of(index: Index) -> list[Part]:
    """The images of each class, those of no class, and of numbers those of each interval; an image with several classes is in several."""
    if index.output.task == REGRESSION:
        return _intervals(index.labels.astype(np.float64))
    if index.output.task == MULTI_LABEL:
        has, none = index.labels, Part("none of the classes", np.flatnonzero(~index.labels.any(axis=1)))
    else:
        has, none = index.labels[:, None] == np.arange(len(index.classes)), Part("no label", np.flatnonzero(index.labels == UNLABELLED))
    parts = [Part(name, np.flatnonzero(has[:, label])) for label, name in enumerate(index.classes)]
    return [*parts, *([none] if len(none.rows) else [])]


def _intervals(numbers: NDArray[np.float64]) -> list[Part]:
    middle, spread = middle_and_spread(numbers)
    low, high = max(numbers.min(), middle - WITHIN * spread), min(numbers.max(), middle + WITHIN * spread)
    edges = np.linspace(low, high, INTERVALS + 1)
    places = np.searchsorted(edges[1:-1], numbers, side="right")
    names = [f"from {begin:.4g} to {end:.4g}" for begin, end in pairwise(edges)]
    if numbers.min() < low:
        names[0] = f"less than {edges[1]:.4g}"
    if numbers.max() > high:
        names[-1] = f"from {edges[-2]:.4g} on"
    return [Part(name, np.flatnonzero(places == place)) for place, name in enumerate(names)]
