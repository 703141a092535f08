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
    shown = np.abs(found) if task == REGRESSION else np.maximum(found, 0)
    wide = np.asarray(Image.fromarray(shown.astype(np.float32)).resize(image_size[::-1], Image.Resampling.BICUBIC))
    wide = np.maximum(wide, 0)
    most = float(wide.max())
    return wide / most if most > 0 else wide


def peak(found: NDArray[np.float32]) -> tuple[int, int]:
    """Row and column of the strongest place of `heat`."""
    row, column = np.unravel_index(int(found.argmax()), found.shape)  # a place, not a class
    return int(row), int(column)


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
