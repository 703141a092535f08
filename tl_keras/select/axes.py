"""Parts shared by the pictures of `select`: readable ticks, and labels that stay apart and inside of the picture."""

from collections.abc import Sequence
from typing import Any

import numpy as np

READABLE = (1.0, 2.0, 5.0)  # times a power of ten
GAP = 2.0  # pixels between two labels


def readable_ticks(low: float, high: float) -> list[float]:
    """Numbers in [low, high] > 0 that are 1, 2 or 5 times a power of ten, for a logarithmic axis; of a long one the powers alone."""
    powers = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    factors = READABLE if np.log10(high / low) <= 3 else READABLE[:1]
    ticks = [factor * 10.0**power for power in powers for factor in factors]
    return [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]


def shortened(text: str, most: int) -> str:
    """A text of at most so many characters, its middle left out."""
    head = (most - 1) // 2
    return text if len(text) <= most else f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"


def by_logarithm(axes: Any, values: Sequence[float]) -> None:
    """Show x > 0 by its logarithm, with room at the sides for labels, and ticks at 1, 2, 5, 10; y gets some room too."""
    low, high = min(values), max(values)
    room = max((high / low) ** 0.25, 2.0)
    low, high = low / room, high * room
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    ticks = readable_ticks(low, high)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.margins(y=0.12)


def label_at(axes: Any, text: str, point: tuple[float, float], colour: str) -> Any:
    """The label of a point, which `place_labels` moves to where there is room."""
    return axes.annotate(
        text,
        point,
        xytext=(6, 0),
        textcoords="offset pixels",
        fontsize=8,
        color=colour,
        annotation_clip=False,
        arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5, "alpha": 0.6},
    )


def place_labels(axes: Any, points: Sequence[tuple[float, float]], labels: Sequence[Any]) -> None:
    """Move annotations, each at its point, to where they neither cover each other nor leave the axes.

    Each takes the nearest free place to the right of its point, to the left, above or below, further off where it is crowded, and is
    then tied to its point by a thin line.

    Args:
        axes: of matplotlib, drawn once, so that sizes are known.
        points: in data coordinates.
        labels: annotations whose offsets are in pixels.
    """
    renderer = axes.figure.canvas.get_renderer()
    frame = axes.get_window_extent(renderer)
    spots = axes.transData.transform(points)
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in spots]
    for (x, y), label in zip(spots, labels, strict=True):
        box = label.get_window_extent(renderer)
        width, height = box.width + GAP, box.height + GAP
        found = None
        for distance in range(6, 400, 6):
            for dx, dy in ((6, distance - 6), (6, 6 - distance - height), (-6 - width, distance - 6), (-6 - width, 6 - distance - height)):
                spot = (x + dx, y + dy, x + dx + width, y + dy + height)
                inside = spot[0] >= frame.x0 and spot[1] >= frame.y0 and spot[2] <= frame.x1 and spot[3] <= frame.y1
                if inside and not any(overlap(spot, other) for other in taken):
                    found = dx, dy, distance
                    break
            if found:
                break
        dx, dy, distance = found or (6, 0, 0)
        label.set_position((dx, dy))
        label.arrow_patch.set_visible(distance > 18)
        taken.append((x + dx, y + dy, x + dx + width, y + dy + height))


def overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    """Whether two boxes (left, bottom, right, top) share a point."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
