"""Pictures of how a training run went and of what a model gets wrong, as PNG files.

Knows figures and names only. Matplotlib is imported when something is drawn, and always without its windows.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_keras.adaptations import SOURCE_ONLY
from tl_keras.evaluation.history import numbers_of, places_of, read_history
from tl_keras.models.outputs import OUTPUTS
from tl_keras.run_folder import write_atomically
from tl_keras.transfer.adapt.plane import Plane

MOST_COUNTS = 20  # classes up to which each cell says its number of images
MOST_NAMES = 60  # classes up to which each row and column has its name
LONGEST_NAME = 24  # characters of a name
DPI = 110
OUTPUT_OF = {row.metric_name: row for row in OUTPUTS.values()}  # the name of the metric in history.csv tells the task


def draw_confusion(path: Path, matrix: Sequence[Sequence[int]], classes: Sequence[str], title: str) -> None:
    """Write a PNG of a confusion matrix: a row for each true class, coloured by the share of its images.

    Args:
        matrix: (k, k), a row per true class of the images predicted as each class.
        title: what was measured; the number of images and the accuracy are added.
    """
    from matplotlib.figure import Figure

    counts = np.asarray(matrix)
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    num = len(classes)
    side = float(np.clip(0.55 * num, 3, 14))
    margin = 0.09 * min(max(map(len, classes)), LONGEST_NAME) if num <= MOST_NAMES else 0.0
    figure = Figure(figsize=(side + margin + 1.6, side + margin + 0.9), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    if num <= MOST_COUNTS:
        for row, column in np.argwhere(counts):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=9)
    if num <= MOST_NAMES:
        names, small = [shown_name(name) for name in classes], 9 if num <= MOST_COUNTS else 7
        axes.set_xticks(range(num), names, rotation=90 if max(map(len, names)) > 3 else 0, fontsize=small, parse_math=False)
        axes.set_yticks(range(num), names, fontsize=small, parse_math=False)
    axes.set(xlabel="predicted class", ylabel="true class")
    total, right = int(counts.sum()), int(np.trace(counts))
    told = f"{shown_name(title)}: {total} image{'s' * (total != 1)}, {100 * right / max(total, 1):.1f} % right"
    axes.set_title(told, loc="left", fontsize=11, parse_math=False)
    figure.colorbar(image, ax=axes, fraction=0.05, label="share of the true class")
    save(figure, path)


def draw_average_precision(path: Path, per_class: Mapping[str, Mapping[str, Any]], title: str) -> None:
    """Write a PNG with a bar for the average precision of each class, the lowest first, and the share of images that have it.

    Args:
        per_class: see `metrics.multi_label_metrics`; classes without images are left out.
        title: what was measured.
    """
    from matplotlib.figure import Figure

    rows = sorted(((each["average_precision"], name, each["support"]) for name, each in per_class.items() if each["support"]))
    told = (
        f"the {MOST_NAMES} worst of {len(rows)} classes, with their images"
        if len(rows) > MOST_NAMES
        else "classes with their images, the worst first"
    )
    rows = rows[:MOST_NAMES]
    figure = Figure(figsize=(7, 1.2 + 0.26 * max(len(rows), 1)), layout="constrained")
    axes = figure.add_subplot()
    axes.barh(range(len(rows)), [precision for precision, _, _ in rows], color="tab:blue")
    axes.set_yticks(range(len(rows)), [f"{shown_name(name)} ({support})" for _, name, support in rows], fontsize=8, parse_math=False)
    axes.set(xlabel="average precision", xlim=(0, 1))
    axes.set_title(f"{shown_name(title)}: {told}", loc="left", fontsize=11, parse_math=False)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    save(figure, path)


def draw_scatter(path: Path, labels: NDArray[np.floating], numbers: NDArray[np.floating], name: str, title: str) -> None:
    """Write a PNG with a point for each image: what is right, and what the model says.

    Args:
        labels: (n,).
        numbers: (n,).
        name: of the number.
        title: what was measured.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.add_subplot()
    ends = [min(labels.min(), numbers.min()), max(labels.max(), numbers.max())]
    axes.plot(ends, ends, color="0.5", linewidth=0.8, linestyle="--")
    axes.scatter(labels, numbers, s=12, alpha=0.5, color="tab:blue", edgecolors="none")
    axes.set_xlabel(f"{shown_name(name)}, true", parse_math=False)
    axes.set_ylabel(f"{shown_name(name)}, predicted", parse_math=False)
    axes.set_title(f"{shown_name(title)}: {len(labels)} images", loc="left", fontsize=11, parse_math=False)
    axes.grid(alpha=0.3)
    save(figure, path)


def draw_domains(path: Path, planes: Mapping[str, Plane]) -> None:
    """Write a PNG of two domains in the plane of their first two principal components, a panel for each way to see them.

    Args:
        planes: by the method that sees them so, `source_only` first.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.4 * len(planes), 4.9), layout="constrained")
    for axes, (method, plane) in zip(figure.subplots(1, len(planes), squeeze=False)[0], planes.items(), strict=True):
        for name, points, marker, colour in (("source", plane.source, "o", "tab:blue"), ("target", plane.target, "x", "tab:orange")):
            label = f"{name}: {len(points)} images"
            axes.scatter(*points.T, s=14, linewidths=0.9, alpha=0.6, marker=marker, color=colour, label=label)
        for axis, place, share in zip((axes.set_xlabel, axes.set_ylabel), ("first", "second"), plane.shares, strict=True):
            axis(f"{place} principal component ({100 * share:.0f} % of the variance)")
        axes.set_title("before" if method == SOURCE_ONLY else f"after {method}", loc="left", fontsize=11)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=9)
    save(figure, path)


def draw_curves(path: Path, history: Path) -> bool:
    """Write a PNG of loss and metric over the epochs of a training run, on train and val, phase after phase.

    Args:
        history: a run's history.csv.

    Returns:
        Whether there was anything to draw: one line, as of a head that was solved, is not a curve.
    """
    rows = read_history(history)
    if len(rows) < 2:
        return False
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    places, phases = places_of(rows)
    figure = Figure(figsize=(10, 4))
    figure.subplots_adjust(left=0.07, right=0.985, bottom=0.13, top=0.91, wspace=0.18)  # laid out by hand: twice as fast
    _, _, loss, metric, *_ = rows[0]
    plain = OUTPUT_OF[metric].loss_title
    for axes, figure_name in zip(figure.subplots(1, 2), (loss, metric), strict=True):
        on_train, on_val = ("train (as it is lowered)", f"val ({plain})") if figure_name == loss else ("train", "val")
        for prefix, told, colour in (("", on_train, "tab:blue"), ("val_", on_val, "tab:orange")):
            values = numbers_of(rows, prefix + figure_name)
            if np.isnan(values).all():  # there is no metric on mixed images
                continue
            axes.plot(places, values, color=colour, label=told, marker="o" if len(rows) <= 30 else None, markersize=3)
        title = figure_name if figure_name == loss else OUTPUT_OF[metric].metric_title
        axes.set(xlabel="epoch", ylabel=title)
        axes.set_title(f"{title}: {', then '.join(name for name, _ in phases)}", loc="left", fontsize=11)
        for _, start in phases[1:]:
            axes.axvline(start + 0.5, color="0.5", linewidth=0.8, linestyle="--")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        axes.grid(alpha=0.3)
        axes.legend()
    save(figure, path)
    return True


def shown_name(name: str, longest: int = LONGEST_NAME) -> str:
    """A name that fits beside an axis and has no byte that a font cannot know."""
    name = name.encode("utf-8", "replace").decode().replace("\n", " ").replace("\r", " ")
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


def save(figure: Any, path: Path) -> None:
    """Write a figure of matplotlib as PNG."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)  # letters that the font lacks are drawn as boxes
        write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=DPI))
