"""The strata of a cut: parts of a data set of which every split gets its share. Classes are strata; this makes some of other labels."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tl_keras.data.index import Index
from tl_keras.models.outputs import SINGLE_LABEL, MultiLabel

PARTS = 10  # of numbers, by size
LEAST = 10  # images of a stratum


def stratified(index: Index) -> Index:
    """The same images with their strata as classes.

    Numbers are put in order and cut into `PARTS` equally large parts. An image with several classes belongs to the rarest of them that has
    images enough of its own to be cut, after Sechidis et al. 2011, who cut the rarest class first.
    """
    if index.output == SINGLE_LABEL:
        return index
    strata, names = _by_rarest(index) if isinstance(index.output, MultiLabel) else _by_size(index.labels)
    used, labels = np.unique(strata, return_inverse=True)
    return replace(index, labels=labels.astype(np.int32), classes=tuple(names[each] for each in used), output=SINGLE_LABEL)


def _by_size(numbers: NDArray[np.float32]) -> tuple[NDArray[np.int64], list[str]]:
    parts = min(PARTS, max(1, len(numbers) // LEAST))
    order = np.argsort(numbers, kind="stable")
    strata = np.empty(len(numbers), np.int64)
    strata[order] = np.arange(len(numbers)) * parts // len(numbers)
    names = [f"numbers from {numbers[strata == part].min():g} to {numbers[strata == part].max():g}" for part in range(parts)]
    return strata, names


def _by_rarest(index: Index) -> tuple[NDArray[np.int64], list[str]]:
    has, num_classes = index.labels, len(index.classes)
    rest = num_classes  # the stratum of images without a class, or with none that is a stratum
    rarest_last = np.argsort(-has.sum(axis=0), kind="stable").tolist()
    while True:
        strata = np.full(len(has), rest)
        for label in rarest_last:
            strata[has[:, label]] = label
        sizes = np.bincount(strata, minlength=num_classes + 1)
        kept = [label for label in rarest_last if sizes[label] >= LEAST]
        if kept == rarest_last:
            break
        rarest_last = kept
    if 0 < sizes[rest] < LEAST and kept:
        strata[strata == rest] = kept[0]
    return strata, [*index.classes, "none of the classes"]
