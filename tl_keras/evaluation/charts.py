"""Charts as inline SVG, in the colours of the page they stand on. Knows numbers and names only.

Their unit is a pixel of a phone: a chart is `WIDTH` wide, and grows with its place up to half again, so that its text can be read on both.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tl_keras.evaluation.markup import cut, text

WIDTH, HEIGHT = 360, 240
LEFT, RIGHT, TOP, BOTTOM = 54, 12, 10, 38  # around the plot
TICKS = 5  # about so many on an axis
DOT = 3  # its radius
ROW = 34  # pixels of a row of `intervals`
MARGIN = 14  # at both of its sides
STEPS = (1, 2, 2.5, 5, 10)
LONGEST = 38  # characters of a name beside a figure


@dataclass(frozen=True)
class Series:
    """Points (n,) with a name. NaN in y is a gap.

    Attributes:
        kind: 'first' or 'second', its colour.
        dots: the radius of each point's dot, or of all of them; 0 for none.
    """

    name: str
    x: ArrayLike
    y: ArrayLike
    kind: str = "first"
    dots: float | Sequence[float] = 0


@dataclass(frozen=True)
class Axes:
    """A plot's two axes.

    Attributes:
        x: both ends, low < high.
        y: likewise.
        titles: of both.
        whole: whether x has whole numbers only.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    titles: tuple[str, str]
    whole: bool = False

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a point lies in the picture."""
        return self.across(x), TOP + (HEIGHT - TOP - BOTTOM) * (self.y[1] - y) / (self.y[1] - self.y[0])

    def across(self, x: float) -> float:
        """How far to the right a value of x lies."""
        return LEFT + (WIDTH - LEFT - RIGHT) * (x - self.x[0]) / (self.x[1] - self.x[0])

    def draw(self) -> str:
        """Grid, numbers and titles."""
        parts = []
        for value in ticks(*self.x):
            if self.whole and value % 1:
                continue
            x = self.across(value)
            parts.append(f'<line class="grid" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{HEIGHT - BOTTOM}"/>')
            parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle">{value:g}</text>')
        for value in ticks(*self.y):
            y = self.place(self.x[0], value)[1]
            parts.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>')
            parts.append(f'<text x="{LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
        middle = (TOP + HEIGHT - BOTTOM) / 2
        parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{text(self.titles[0])}</text>')
        parts.append(f'<text transform="translate(11 {middle:.1f}) rotate(-90)" text-anchor="middle">{text(self.titles[1])}</text>')
        return "".join(parts)


def around(values: ArrayLike, *, margin: float = 0.05) -> tuple[float, float]:
    """Ends of an axis with some room around values, of which at least one is finite."""
    known = np.asarray(values, np.float64)
    known = known[np.isfinite(known)]
    low, high = float(known.min()), float(known.max())
    room = margin * (high - low) or max(abs(low) * margin, 1e-6)
    return low - room, high + room


def ticks(low: float, high: float) -> list[float]:
    """Round numbers between two ends, about `TICKS` of them."""
    size = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(size))
    step = next(step for step in STEPS if step * power >= size * (1 - 1e-9)) * power
    first = math.ceil(low / step - 1e-9)
    return [round(place * step, 12) for place in range(first, math.floor(high / step + 1e-9) + 1)]


def lines(axes: Axes, series: Sequence[Series], told: str, *, marks: Iterable[float] = (), diagonal: bool = False) -> str:
    """A chart of lines, with their names below.

    Args:
        told: what it shows, for those who do not see it.
        marks: values of x with a line from bottom to top.
        diagonal: draw where x and y are equal.
    """
    parts = [axes.draw(), _diagonal(axes) if diagonal else ""]
    for value in marks:
        parts.append(_line("mark", axes.place(value, axes.y[0]), axes.place(value, axes.y[1])))
    for each in series:
        x, y = np.asarray(each.x, np.float64), np.asarray(each.y, np.float64)
        radii = np.broadcast_to(each.dots, x.shape)
        for run in np.split(np.arange(len(x)), np.flatnonzero(~np.isfinite(y))):
            known = [row for row in run if np.isfinite(y[row])]
            points = [axes.place(x[row], y[row]) for row in known]
            if len(points) > 1:
                parts.append(f'<polyline class="line {each.kind}" points="{" ".join(f"{px:.1f},{py:.1f}" for px, py in points)}"/>')
            radii_of = radii[known] if len(points) > 1 else [max(float(each), DOT) for each in radii[known]]
            for (px, py), radius in zip(points, radii_of, strict=True):
                parts.append(f'<circle class="dot {each.kind}" cx="{px:.1f}" cy="{py:.1f}" r="{radius:.1f}"/>' if radius else "")
    return _figure("".join(parts), HEIGHT, told, [(each.kind, each.name) for each in series if each.name])


def scatter(axes: Axes, x: NDArray[np.floating], y: NDArray[np.floating], told: str) -> str:
    """A chart of points, and of where x and y are equal."""
    points = (axes.place(px, py) for px, py in zip(x.tolist(), y.tolist(), strict=True))
    path = "".join(f"M{px:.1f} {py:.1f}h0" for px, py in points)  # a line of no length with round ends is a dot
    return _figure(f'{axes.draw()}{_diagonal(axes)}<path class="points" d="{path}"/>', HEIGHT, told, [])


def columns(axes: Axes, edges: Sequence[float], heights: Sequence[float], told: str) -> str:
    """A histogram.

    Args:
        edges: (n + 1,), in the unit of x.
        heights: (n,).
    """
    parts = [axes.draw()]
    for low, high, value in zip(edges[:-1], edges[1:], heights, strict=True):
        (left, top), (right, bottom) = axes.place(low, value), axes.place(high, max(axes.y[0], 0))
        width = max(right - left - 1, 0.5)
        parts.append(f'<rect class="column" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{bottom - top:.1f}"/>')
    return _figure("".join(parts), HEIGHT, told, [])


def intervals(rows: Sequence[tuple[str, str, float, tuple[float, float] | None]], ends: tuple[float, float], told: str) -> str:
    """A row for each figure: its name, what it is as text, a dot, and a line as long as its interval.

    Args:
        rows: name, text, figure, interval.
        ends: of the axis.
    """
    height, parts = ROW * len(rows) + 22, []

    def at(value: float) -> float:
        return MARGIN + (WIDTH - 2 * MARGIN) * (value - ends[0]) / (ends[1] - ends[0])

    for value in ticks(*ends):
        parts.append(f'<line class="grid" x1="{at(value):.1f}" y1="4" x2="{at(value):.1f}" y2="{height - 18}"/>')
        parts.append(f'<text x="{at(value):.1f}" y="{height - 4}" text-anchor="middle">{value:g}</text>')
    for place, (name, shown, figure, interval) in enumerate(rows):
        kind, y = "second" if place else "first", ROW * place + 26
        parts.append(f'<text x="{MARGIN}" y="{y - 10}">{text(cut(name, LONGEST))}</text>')
        parts.append(f'<text x="{WIDTH - MARGIN}" y="{y - 10}" text-anchor="end" class="strong">{text(shown)}</text>')
        if interval is not None:
            parts.append(_line(f"line {kind}", (at(interval[0]), y), (at(interval[1]), y)))
        parts.append(f'<circle class="dot {kind}" cx="{at(figure):.1f}" cy="{y}" r="4"/>')
    return _figure("".join(parts), height, told, [])


def _diagonal(axes: Axes) -> str:
    low, high = max(axes.x[0], axes.y[0]), min(axes.x[1], axes.y[1])
    return _line("mark", axes.place(low, low), axes.place(high, high)) if low < high else ""


def _line(kind: str, begin: tuple[float, float], end: tuple[float, float]) -> str:
    return f'<line class="{kind}" x1="{begin[0]:.1f}" y1="{begin[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}"/>'


def _figure(drawn: str, height: float, told: str, names: Sequence[tuple[str, str]]) -> str:
    legend = " ".join(f'<span class="key {kind}">{text(name)}</span>' for kind, name in names)
    caption = f"<figcaption>{legend}</figcaption>" if legend else ""
    return f'<figure class="chart"><svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{text(told)}">{drawn}</svg>{caption}</figure>'
