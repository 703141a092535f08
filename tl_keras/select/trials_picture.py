"""What the trials of a search show: parallel coordinates of settings and scores, and a log for TensorBoard."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_keras.run_folder import write_whole
from tl_keras.select.space import Dimension
from tl_keras.select.study import DIRECTIONS, Outcome, importance


def draw_trials(path: Path, found: Sequence[Outcome], space: Sequence[Dimension], objective: str) -> None:
    """Write a PNG: each trial is a line through its settings to its score, the better the darker; the best is red."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    done = [each for each in found if each.cause is None]
    weights = importance(found, space, objective)
    scores = np.array([each.metrics[objective] for each in done])
    figure = Figure(figsize=(2.2 * (len(space) + 1), 5), layout="constrained")
    axes = figure.add_subplot()
    order = np.argsort(scores if DIRECTIONS[objective] == "max" else -scores, kind="stable")  # the best is drawn last
    columns = [heights([each.settings.get(one.path) for each in done], one) for one in space] + [unit(scores)]
    for place, number in enumerate(order):
        colour = "tab:red" if place == len(order) - 1 else colormaps["Blues"](0.15 + 0.75 * place / max(len(order) - 1, 1))
        axes.plot(range(len(columns)), [column[number] for column in columns], color=colour, linewidth=2 if colour == "tab:red" else 0.8)
    for place, one in enumerate(space):
        low, high = ends(one)
        axes.text(place, -0.06, low, ha="center", va="top", fontsize=8)
        axes.text(place, 1.04, high, ha="center", va="bottom", fontsize=8)
    axes.text(len(space), -0.06, f"{scores.min():.4g}", ha="center", va="top", fontsize=8)
    axes.text(len(space), 1.04, f"{scores.max():.4g}", ha="center", va="bottom", fontsize=8)
    labels = [f"{one.path}\nimportance {weights[one.path]:.2f}" for one in space]
    axes.set_xticks(range(len(columns)), [*labels, objective], fontsize=8)
    axes.tick_params(axis="x", pad=14)
    axes.set_yticks([])
    axes.set_ylim(-0.05, 1.03)
    axes.grid(axis="x", color="0.7")
    for side in axes.spines.values():
        side.set_visible(False)
    write_whole(path, lambda temporary: figure.savefig(temporary, dpi=120))


def heights(values: Sequence[Any], dimension: Dimension) -> NDArray[np.float64]:
    """Where values lie on the axis of their dimension, in [0, 1]; at -0.04 where the dimension did not count."""
    if dimension.kind == "choice":
        last = max(len(dimension.values) - 1, 1)
        return np.array([-0.04 if value is None else dimension.values.index(value) / last for value in values])
    low, high = (np.log(end) if dimension.log else end for end in dimension.values)
    moved = [np.nan if value is None else (np.log(value) if dimension.log else value) for value in values]
    return np.array([-0.04 if np.isnan(value) else (value - low) / (high - low) for value in moved])


def ends(dimension: Dimension) -> tuple[str, str]:
    """What stands at the foot and the head of a dimension's axis."""
    low, high = dimension.values[0], dimension.values[-1]
    return (str(low), str(high)) if dimension.kind == "choice" else (f"{low:g}", f"{high:g}")


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
