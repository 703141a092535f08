"""The picture of an explanation: the photo as the model sees it, its maps, and the training images that are the nearest to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tl_keras.evaluation.pictures import save, shown_name

PANEL = 2.6  # inches of a side


@dataclass(frozen=True)
class Panel:
    """One image of the picture: uint8 (h, w, 3), and what stands above it."""

    title: str
    pixels: NDArray[np.uint8]


def draw_explanation(path: Path, title: str, panels: Sequence[Panel], nearest: Sequence[Panel]) -> None:
    """Write a PNG.

    Args:
        title: of the whole.
        panels: the photo and its maps.
        nearest: training images; none leaves out their row.
    """
    from matplotlib.figure import Figure

    rows = [row for row in (panels, nearest) if row]
    columns = max(map(len, rows))
    figure = Figure(figsize=(PANEL * columns, (PANEL + 0.35) * len(rows) + 0.35), layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes in grid.ravel():
        axes.axis("off")
    for row, shown in zip(grid, rows, strict=True):
        for axes, panel in zip(row, shown, strict=False):
            axes.imshow(panel.pixels)
            axes.set_title(panel.title, fontsize=9, parse_math=False)
    figure.suptitle(shown_name(title, 40 * columns), x=0.01, ha="left", fontsize=10, parse_math=False)
    save(figure, path)
