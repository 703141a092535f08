"""Charts are drawn to scale, and tell what they show to those who do not see it."""

import re

import numpy as np
import pytest

from tl_keras.evaluation.charts import HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axes, Series, around, columns, intervals, lines, scatter, ticks

UNIT = Axes((0, 1), (0, 1), ("across", "up & down"))


def numbers(drawn: str, kind: str, *names: str) -> list[tuple[float, ...]]:
    """Attributes of each element of a class."""
    found = re.findall(rf'<\w+ class="{kind}"[^>]*>', drawn)
    return [tuple(float(re.search(rf' {name}="([^"]*)"', each).group(1)) for name in names) for each in found]  # type: ignore[union-attr]


def test_corners_of_the_axes_are_those_of_the_plot() -> None:
    assert UNIT.place(0, 1) == (LEFT, TOP)
    assert UNIT.place(1, 1) == (WIDTH - RIGHT, TOP)
    assert "up &amp; down" in UNIT.draw()


def test_a_gap_parts_a_line_and_a_lone_point_is_a_dot() -> None:
    drawn = lines(UNIT, [Series("a<b", [0, 0.2, 0.4, 0.6, 0.8, 1], [0, 0.1, np.nan, 0.5, np.nan, 0.9])], "told", marks=[0.5])
    assert drawn.count("<polyline") == 1
    assert drawn.count("<circle") == 2
    assert drawn.count('class="mark"') == 1
    assert 'aria-label="told"' in drawn
    assert "a&lt;b" in drawn


def test_dots_have_the_size_that_is_given() -> None:
    drawn = lines(UNIT, [Series("", [0, 0.5, 1], [0, 0.5, 1], dots=[2, 4, 8])], "told")
    assert [radius for (radius,) in numbers(drawn, "dot first", "r")] == [2, 4, 8]
    assert "figcaption" not in drawn


def test_columns_are_as_high_as_their_numbers() -> None:
    drawn = columns(Axes((0, 2), (0, 10), ("", "")), [0, 1, 2], [10, 5], "told")
    (top, high), (middle, low) = numbers(drawn, "column", "y", "height")
    assert top == TOP
    assert low == pytest.approx(high / 2, abs=0.1)
    assert top + high == pytest.approx(middle + low, abs=0.11)


def test_an_interval_is_a_line_around_its_figure() -> None:
    drawn = intervals([("x" * 80, "0.5", 0.5, (0.25, 0.75)), ("alone", "0.1", 0.1, None)], (0, 1), "told")
    ((begin, end),) = numbers(drawn, "line first", "x1", "x2")
    ((place,),) = numbers(drawn, "dot first", "cx")
    assert place == pytest.approx((begin + end) / 2, abs=0.1)
    assert end - begin == pytest.approx((WIDTH - 28) / 2, abs=0.11)
    assert "x…" in drawn
    assert not numbers(drawn, "line second", "x1")


def test_points_stay_inside_of_their_axes() -> None:
    x, y = np.random.default_rng(0).normal(5, 2, (2, 100))
    drawn = scatter(Axes(around([x, y]), around([x, y]), ("", "")), x, y, "told")
    found = [tuple(map(float, point.split())) for point in re.findall(r"M([\d. -]+)h0", drawn)]
    assert len(found) == 100
    assert all(LEFT <= px <= WIDTH - RIGHT and TOP <= py <= HEIGHT for px, py in found)


@pytest.mark.parametrize("values", [[3.0, 3.0], [0.0], [1e6, 1e6 + 1e-3], [-5, np.nan, 5]])
def test_ends_lie_apart_and_around_what_is_known(values: list[float]) -> None:
    low, high = around(values)
    known = [value for value in values if np.isfinite(value)]
    assert low < min(known) <= max(known) < high
    assert ticks(low, high)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-0.5, 12), (1e-7, 3e-7), (0, 50_000), (99.99, 100.01)])
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 3 <= len(found) <= 7
    assert all(low - 1e-9 * (high - low) <= value <= high + 1e-9 * (high - low) for value in found)
    steps = np.diff(found)
    assert steps == pytest.approx(np.full(len(steps), steps[0]))


def test_epochs_are_whole_numbers() -> None:
    axes = Axes((0, 2), (0, 1), ("epoch", "loss"), whole=True)
    assert ">0.5<" in Axes((0, 2), (0, 0.01), ("epoch", "loss")).draw()
    assert ">1<" in axes.draw().partition("x1=")[2]
    assert not re.search(r'text-anchor="middle">\d+\.\d', axes.draw())
