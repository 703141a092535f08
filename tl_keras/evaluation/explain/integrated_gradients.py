"""Integrated gradients: what each pixel adds to the evidence on the straight way from an image that shows nothing to this one."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tl_keras.evaluation.explain.explainer import Explainer, Map, batch_size, blank

MOST_AT_ONCE = 16  # steps in one pass of the network
STEPS = 64  # places on the way at which the gradient is taken
CELLS = 16  # of a map's side: the values of single pixels are noise to the eye


def integrated_gradients(explainer: Explainer, pixels: NDArray[np.uint8], columns: Sequence[int]) -> list[Map]:
    """The maps of some images, which are sums over cells; see `attributions`."""
    return [_cells(attributions(explainer, each, column).sum(axis=-1)) for each, column in zip(pixels, columns, strict=True)]


def attributions(explainer: Explainer, pixels: NDArray[np.uint8], column: int, steps: int = STEPS) -> NDArray[np.float32]:
    """What each value of an image adds to the evidence.

    Together they come to the evidence for the image less that for its blank, an image of its mean colour (completeness), but for the
    error of the midpoint rule. Its steps are the shorter the nearer the blank, where the evidence changes the fastest.

    Args:
        pixels: (h, w, 3) of the model's size.
        column: the output that is explained.

    Returns:
        float32 (h, w, 3).

    Reference: Sundararajan, Taly & Yan 2017, arXiv:1703.01365, eq. 1 and 3.
    """
    begin = np.broadcast_to(blank(pixels), pixels.shape)
    way = pixels.astype(np.float32) - begin
    total = np.zeros(pixels.shape, np.float64)
    places = (np.arange(steps, dtype=np.float32) + 0.5) / steps
    size = min(MOST_AT_ONCE, batch_size(pixels))
    for start in range(0, steps, size):
        part = places[start : start + size, None, None, None]
        found = explainer.gradients(tf.constant(begin + part**2 * way), tf.fill([len(part)], column)).numpy()
        total += (2 * part * found).sum(axis=0, dtype=np.float64)
    return (way * total / steps).astype(np.float32)


def _cells(values: NDArray[np.float32]) -> Map:
    """Sums over cells of a grid, whose total is that of the values."""
    rows, columns = (np.unique(np.linspace(0, side, CELLS, endpoint=False).astype(int)) for side in values.shape)
    return np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1)
