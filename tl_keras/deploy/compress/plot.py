"""A picture of a compressed run: how good each of its forms is on test, over its size and over the time that an image takes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tl_keras.run_folder import write_atomically
from tl_keras.select.axes import by_logarithm, label_at, place_labels, shortened

LONGEST_NAME = 30  # characters of a run's name in the legend
COLOURS = ("tab:red", "tab:blue", "tab:green", "tab:orange", "tab:purple", "tab:brown", "tab:pink", "tab:olive", "tab:cyan", "0.4")
PANELS = (("megabytes", "size, MB"), ("single_ms", "milliseconds for one image, on this machine"))


def draw_points(path: Path, points: Sequence[Mapping[str, Any]], original: str) -> None:
    """Write a PNG with a panel for size and one for latency; the original is drawn with squares.

    Args:
        points: the exports that agreed with their models, see `points`; those without an accuracy are left out.
        original: the name of the run that the others come from.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [{**point, "megabytes": point["bytes"] / 1e6} for point in points if "accuracy" in point]
    if not shown:
        return
    names = list(dict.fromkeys(point["run"] for point in shown))
    colours = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(names)}
    figure = Figure(figsize=(13, 6.5), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(PANELS), sharey=True)
    for axes, (what, title) in zip(panels, PANELS, strict=True):
        for name in names:
            draw_run(axes, [point for point in shown if point["run"] == name], what, colours[name], "s" if name == original else "o")
        by_logarithm(axes, [point[what] for point in shown])
        axes.set_xlabel(title)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("accuracy on test; bars: 95 % interval")
    handles, _ = panels[0].get_legend_handles_labels()
    figure.legend(handles, [shortened(name, LONGEST_NAME) for name in names], loc="outside lower center", ncols=5, frameon=False)
    for axes, (what, _) in zip(panels, PANELS, strict=True):
        spots = [(point[what], point["accuracy"]) for point in shown]
        labels = [label_at(axes, point["format"], spot, colours[point["run"]]) for point, spot in zip(shown, spots, strict=True)]
        figure.draw_without_rendering()
        place_labels(axes, spots, labels)
    write_atomically(path, figure.savefig)


def draw_run(axes: Any, points: Sequence[Mapping[str, Any]], what: str, colour: str, marker: str) -> None:
    """The exports of a run with their intervals."""
    x, y = [point[what] for point in points], [point["accuracy"] for point in points]
    reach = [[abs(point["accuracy"] - point["accuracy_ci95"][end]) for point in points] for end in (0, 1)]
    axes.errorbar(x, y, reach, fmt=marker, color=colour, elinewidth=0.5, alpha=0.8, label=points[0]["run"])
