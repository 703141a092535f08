"""A map laid on its photo.

The photo is grey beneath, so that every colour is the map's. The colours are matplotlib's "inferno": lightness grows with the value, so
that they are read in the same order without a sense of red and green, and on paper without colour.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tl_keras.evaluation.explain.explainer import Map
from tl_keras.tasks import REGRESSION

COLOURS = "inferno"
DIMMED = 0.55  # of the photo's lightness, where the map is 0
MOST_COVERED = 0.75  # of the photo, where it is 1


def heat(found: Map, image_size: tuple[int, int], task: str) -> NDArray[np.float32]:
    """What is shown of a map: what speaks for the answer, in [0, 1], 1 at its strongest place; of a number what raises or lowers it.

    Args:
        found: (h', w').
        image_size: (h, w) of the photo.

    Returns:
        float32 (h, w); all 0 where nothing speaks for the answer.
    """
    wide = np.asarray(Image.fromarray(_shown(found, task)).resize(image_size[::-1], Image.Resampling.BICUBIC))
    wide = np.maximum(wide, 0)
    most = float(wide.max())
    return wide / most if most > 0 else wide


def peak(found: Map, task: str) -> tuple[float, float] | None:
    """The centre of a map's strongest place, as shares of height and width from the top left; None where nothing speaks for the answer."""
    shown = _shown(found, task)
    if not shown.any():
        return None
    row, column = np.unravel_index(int(shown.argmax()), shown.shape)  # a place, not a class
    return (int(row) + 0.5) / shown.shape[0], (int(column) + 0.5) / shown.shape[1]


def _shown(found: Map, task: str) -> Map:
    """What speaks for the answer; of a number what raises or lowers it."""
    return np.nan_to_num(np.abs(found) if task == REGRESSION else np.maximum(found, 0)).astype(np.float32)


def overlay(pixels: NDArray[np.uint8], shown: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Lay `heat` on its photo.

    Args:
        pixels: (h, w, 3).
        shown: (h, w) in [0, 1].

    Returns:
        uint8 (h, w, 3).
    """
    grey = np.asarray(Image.fromarray(pixels).convert("L"), np.float32)[:, :, None] * DIMMED
    colours = _colours()[np.rint(shown * 255).astype(np.uint8)]
    share = MOST_COVERED * shown[:, :, None]
    return np.rint((1 - share) * grey + share * colours).astype(np.uint8)


@cache
def _colours() -> NDArray[np.float32]:
    """The colour map, float32 (256, 3) in 0..255."""
    from matplotlib import colormaps

    return np.asarray(colormaps[COLOURS](np.arange(256))[:, :3] * 255, np.float32)
