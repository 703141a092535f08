"""Whether images are much larger than what the network sees of them: detail that a person needs may be gone.

Only a few files are looked at, before any work begins.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np

from tl_keras.data import images

LOOKED_AT = 8  # files, evenly spaced
MUCH = 4  # times smaller, on the shorter side


def shrunk_sides(files: Sequence[Path], image_size: tuple[int, int]) -> int | None:
    """The median of the shorter sides, in pixels, where it is `MUCH` times what the network sees, or more; else None."""
    rows = np.unique(np.linspace(0, len(files) - 1, LOOKED_AT).astype(int)) if len(files) else ()
    sides = [side for row in rows if (side := images.shorter_side(files[row])) is not None]
    side = int(median(sides)) if sides else 0
    return side if side >= MUCH * min(image_size) else None
