"""Occlusion: how much evidence is lost where a patch of the image is covered. Asks nothing of a model but its answers."""

from collections.abc import Iterator, Sequence
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from tl_keras.evaluation.explain.evidence import evidence
from tl_keras.evaluation.explain.explainer import Explainer, Map, batch_size, blank

CELLS = 10  # of a map's side
PATCH = 2  # cells of a side that are covered at once, at every place
PLACES = tuple(np.ndindex(*[CELLS - PATCH + 1] * 2))  # of each patch the row and column of its first cell


def occlusion(explainer: Explainer, pixels: NDArray[np.uint8], columns: Sequence[int]) -> list[Map]:
    """The maps of some images: in each cell the mean loss of evidence over the patches that cover it.

    Args:
        pixels: (n, h, w, 3) of the model's size.
        columns: of each image the output that is explained.

    Reference: Zeiler & Fergus 2014, arXiv:1311.2901, section 4.2.
    """
    return [_one(explainer, each, column) for each, column in zip(pixels, columns, strict=True)]


def covered(pixels: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """An image (h, w, 3) with each of its patches covered, in the order of `PLACES`, made as they are taken."""
    edges = [np.rint(np.linspace(0, side, CELLS + 1)).astype(int) for side in pixels.shape[:2]]
    filling = np.rint(blank(pixels))
    for place in PLACES:
        (top, bottom), (left, right) = ((along[first], along[first + PATCH]) for along, first in zip(edges, place, strict=True))
        image = pixels.copy()
        image[top:bottom, left:right] = filling
        yield image


def map_of(found: NDArray[np.float64]) -> Map:
    """The map of an image.

    Args:
        found: the evidence, (1 + p,): of the image, and of it with each of the p patches covered, see `covered`.
    """
    total, number = np.zeros((2, CELLS, CELLS))
    for (row, column), left in zip(PLACES, found[1:], strict=True):
        patch = np.s_[row : row + PATCH, column : column + PATCH]
        total[patch] += found[0] - left
        number[patch] += 1
    return (total / number).astype(np.float32)


def _one(explainer: Explainer, pixels: NDArray[np.uint8], column: int) -> Map:
    waiting, size, found = chain([pixels], covered(pixels)), batch_size(pixels), []
    while images := list(islice(waiting, size)):
        logits = explainer.logits(np.stack(images))
        found.append(np.asarray(evidence(explainer.output, logits, np.full(len(images), column)), np.float64))
    return map_of(np.concatenate(found))
