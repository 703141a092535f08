"""Pictures of a search's trials: parallel coordinates of settings and scores, and a log for TensorBoard."""

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_keras.run_folder import write_atomically
from tl_keras.select.axes import readable_ticks, shortened
from tl_keras.select.search.oracles import DIRECTIONS, Outcome
from tl_keras.select.search.space import Dimension

LONGEST_VALUE = 18  # characters of a value that is written beside its axis
MOST_TICKS = 12  # choices that are written beside an axis
CLOSEST = 0.05  # that a number may come to the end of its axis, in heights


def draw_trials(path: Path, found: Sequence[Outcome], space: Sequence[Dimension], objective: str, weights: Mapping[str, float]) -> None:
    """Write a PNG: each trial is a line through its settings to its score, the better the darker; the best is red.

    A line is dotted where it passes a setting that does not count. Trials that failed are not drawn.

    Args:
        weights: the importance of each setting, which stands below its axis.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    done = [each for each in found if each.cause is None]
    scores = np.array([each.metrics[objective] for each in done])
    figure = Figure(figsize=(max(6.0, 2.0 * (len(space) + 1)), 5.5), layout="constrained", dpi=120)
    axes = figure.add_subplot()
    order = np.argsort(scores if DIRECTIONS[objective] == "max" else -scores, kind="stable")  # the best is drawn last
    columns = [heights([each.settings.get(one.path) for each in done], one) for one in space] + [unit(scores)]
    shades = colormaps["Blues"](np.linspace(0.2, 0.9, max(len(order) - 1, 1)))
    for place, number in enumerate(order):
        is_best = place == len(order) - 1
        style = {"color": "tab:red", "linewidth": 2.0} if is_best else {"color": shades[place], "linewidth": 0.8}
        draw_line(axes, np.array([column[number] for column in columns]), style, marker="." if is_best else None)
    for place, one in enumerate(space):
        draw_ticks(axes, place, dict(ticks(one)))
    spread = scores.max() - scores.min()
    draw_ticks(axes, len(space), {f"{scores.min():.4g}": 0.0, f"{scores.max():.4g}": 1.0} if spread else {f"{scores[0]:.4g}": 0.5})
    labels = [f"{wrapped(one.path)}\nimportance {weights[one.path]:.2f}" for one in space]
    axes.set_xticks(range(len(columns)), [*labels, wrapped(objective)], fontsize=8)
    axes.set_yticks([])
    axes.set_xlim(-0.3, len(columns) - 0.3)  # the values stand to the right of their axis
    axes.set_ylim(-0.04, 1.04)
    axes.grid(axis="x", color="0.7")
    for side in axes.spines.values():
        side.set_visible(False)
    better = "lower" if DIRECTIONS[objective] == "min" else "higher"
    axes.set_title(f"{len(done)} trial{'s' * (len(done) > 1)} by {objective}, the {better} the better", loc="left", fontsize=11)
    keys = [("tab:red", "the best"), (shades[-1], "good"), (shades[0], "bad")][: 1 if len(done) == 1 else 3]
    handles = [Line2D([], [], color=colour, label=label) for colour, label in keys]
    if any(np.isnan(column).any() for column in columns):
        handles.append(Line2D([], [], color="0.5", linestyle=":", label="passes what does not count"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    write_atomically(path, figure.savefig)


def draw_line(axes: Any, values: NDArray[np.float64], style: Mapping[str, Any], marker: str | None) -> None:
    """One trial: solid between neighbouring axes, and dotted over those where its value is NaN."""
    axes.plot(range(len(values)), values, marker=marker, **style)
    known = np.flatnonzero(~np.isnan(values))
    for left, right in pairwise(known):
        if right - left > 1:
            axes.plot([left, right], values[[left, right]], **{**style, "linestyle": ":", "linewidth": style["linewidth"] * 0.8})


def draw_ticks(axes: Any, place: int, values: Mapping[str, float]) -> None:
    """Write the values of one axis beside it, at their heights."""
    white = {"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 0.5}
    for text, height in values.items():
        axes.text(place + 0.04, height, shortened(text, LONGEST_VALUE), ha="left", va="center", fontsize=7.5, bbox=white, zorder=5)


def ticks(dimension: Dimension) -> list[tuple[str, float]]:
    """What stands at the axis of a dimension, and at which heights: its choices, or its ends and readable numbers between them."""
    if dimension.kind == "choice":
        places = np.unique(np.linspace(0, len(dimension.values) - 1, min(len(dimension.values), MOST_TICKS)).astype(int))
        values = [dimension.values[place] for place in places]
        return [(str(value), float(height)) for value, height in zip(values, heights(values, dimension), strict=True)]
    low, high = dimension.values
    between = readable_ticks(low, high) if dimension.log else evenly(low, high)
    found = {f"{value:g}": float(heights([value], dimension)[0]) for value in between}
    kept = {text: height for text, height in found.items() if CLOSEST < height < 1 - CLOSEST}
    return [(f"{low:g}", 0.0), *kept.items(), (f"{high:g}", 1.0)]


def evenly(low: float, high: float) -> list[float]:
    """Numbers in [low, high], a step of 1, 2 or 5 times a power of ten apart."""
    rough = (high - low) / 5
    step = next(each for each in readable_ticks(rough / 10, 10 * rough) if each >= rough)
    return [float(value) for value in np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step]


def wrapped(path: str) -> str:
    """A setting's path in two lines, cut behind its section."""
    return path.replace(".", ".\n", 1)


def heights(values: Sequence[Any], dimension: Dimension) -> NDArray[np.float64]:
    """Where values lie on the axis of their dimension, in [0, 1]; NaN, which is not drawn, where the dimension did not count."""
    if dimension.kind == "choice":
        known = [None if value is None and None not in dimension.values else dimension.values.index(value) for value in values]
        last = len(dimension.values) - 1
        return np.array([np.nan if place is None else place / last if last else 0.5 for place in known])
    low, high = (np.log(end) if dimension.log else end for end in dimension.values)
    moved = [np.nan if value is None else (np.log(value) if dimension.log else value) for value in values]
    return (np.array(moved, float) - low) / (high - low)


def unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values moved to [0, 1]."""
    spread = values.max() - values.min()
    return (values - values.min()) / spread if spread else np.full(len(values), 0.5)


def write_hparams(folder: Path, found: Sequence[Outcome]) -> None:
    """Write a log that TensorBoard's HParams page shows: a session per trial that did not fail."""
    import tensorflow as tf
    from tensorboard.plugins.hparams import api

    for each in found:
        if each.cause is None:
            plain = {
                path: value if isinstance(value, int | float | str | bool) else json.dumps(value) for path, value in each.settings.items()
            }
            with tf.summary.create_file_writer(str(folder / each.trial)).as_default():
                api.hparams(plain, trial_id=each.trial)
                for name, value in each.metrics.items():
                    tf.summary.scalar(name, value, step=0)
