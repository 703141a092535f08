"""Whether there is anything to see: images that are all the same once decoded teach nothing, and are reported before training."""

import numpy as np
from numpy.typing import NDArray

from tl_keras.data.pipeline import Pixels, row_batches
from tl_keras.errors import DataError

READ_AT_ONCE = 8  # most often the first few differ, and no more are read


def require_varied(pixels: Pixels, rows: NDArray[np.int64]) -> None:
    """Refuse images that are all alike, such as black ones; files that do not decode are noted in `pixels.bad`.

    Args:
        pixels: the images as a network gets them.
        rows: those to learn from.

    Raises:
        DataError: no two of them differ.
    """
    first: NDArray[np.uint8] | None = None
    for batch in row_batches(rows, READ_AT_ONCE):
        _, found = pixels.read_good(batch)
        if first is None and len(found):
            first = found[0]
        if first is not None and (found != first).any():
            return
    if first is not None and len(rows) > 1:
        raise DataError(
            f"all {len(rows)} images to learn from are the same once decoded, with pixel values from {first.min()} to {first.max()} "
            f"of 0 to 255. Look at the files, such as {pixels.paths[int(rows[0])]}."
        )
