"""Occlusion: how much evidence is lost where a patch of the image is covered. Asks nothing of a model but its answers."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tl_keras.evaluation.explain.evidence import evidence
from tl_keras.evaluation.explain.explainer import Explainer, Map, batch_size, blank

CELLS = 10  # of a map's side
PATCH = 2  # cells of a side that are covered at once, at every place


def occlusion(explainer: Explainer, pixels: NDArray[np.uint8], columns: Sequence[int]) -> list[Map]:
    """The maps of some images: in each cell the mean loss of evidence over the patches that cover it.

    Args:
        pixels: (n, h, w, 3) of the model's size.
        columns: of each image the output that is explained.

    Reference: Zeiler & Fergus 2014, arXiv:1311.2901, section 4.2.
    """
    return [_one(explainer, each, column) for each, column in zip(pixels, columns, strict=True)]


def _one(explainer: Explainer, pixels: NDArray[np.uint8], column: int) -> Map:
    edges = [np.rint(np.linspace(0, side, CELLS + 1)).astype(int) for side in pixels.shape[:2]]
    corners = list(np.ndindex(*[CELLS - PATCH + 1] * 2))
    size = batch_size(pixels)
    found = [
        _evidence(explainer, np.stack([_covered(pixels, edges, corner) for corner in corners[start : start + size]]), column)
        for start in range(0, len(corners), size)
    ]
    losses = _evidence(explainer, pixels[None], column) - np.concatenate(found)
    total, number = np.zeros((2, CELLS, CELLS))
    for corner, loss in zip(corners, losses, strict=True):
        patch = _patch(*corner)
        total[patch] += loss
        number[patch] += 1
    return (total / number).astype(np.float32)


def _patch(row: int, column: int) -> tuple[slice, slice]:
    """The cells of a patch, by its first."""
    return slice(row, row + PATCH), slice(column, column + PATCH)


def _covered(pixels: NDArray[np.uint8], edges: Sequence[NDArray[np.int64]], corner: tuple[int, ...]) -> NDArray[np.uint8]:
    """An image with one patch covered."""
    (top, bottom), (left, right) = ((places[first], places[first + PATCH]) for places, first in zip(edges, corner, strict=True))
    image = pixels.copy()
    image[top:bottom, left:right] = np.rint(blank(pixels))
    return image


def _evidence(explainer: Explainer, images: NDArray[np.uint8], column: int) -> NDArray[np.float64]:
    return np.asarray(evidence(explainer.output, explainer.logits(images), np.full(len(images), column)), np.float64)
