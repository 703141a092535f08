"""A picture of a ranking: what each backbone costs and what it is expected to reach, and the front that none beats."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tl_keras.run_folder import write_atomically
from tl_keras.select.axes import by_logarithm, label_at, place_labels, shortened
from tl_keras.select.ranking.rank import RankedBackbone, front

LONGEST_NAME = 40  # characters of a label: a file may be called anything


def draw_front(path: Path, judged: Sequence[RankedBackbone], chosen: RankedBackbone) -> None:
    """Write a PNG of the figure over milliseconds per image; bars are 95 % intervals, the front is a line."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, max(5.5, 0.22 * len(judged))), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    best = [one for one in front(judged) if one is not chosen]
    others = [one for one in judged if one is not chosen and one not in best]
    for group, colour, label in (
        (others, "0.55", "another is faster and better"),
        (best, "tab:blue", "none is faster and better"),
        ([chosen], "tab:red", "chosen"),
    ):
        if group:
            draw_group(axes, group, colour, label)
    if len(front(judged)) > 1:
        axes.step([one.ms for one in front(judged)], [one.figure for one in front(judged)], where="post", color="tab:blue", alpha=0.4)
    by_logarithm(axes, [one.ms for one in judged])
    axes.set_xlabel("milliseconds per image, in batches on this machine")
    title = chosen.output.metric_title
    less = "" if chosen.output.metric_direction == "max" else ", less is better"
    axes.set_ylabel(f"{title} on held-out images{less}; bars: 95 % interval")
    count = f"{len(judged)} backbone{'s' * (len(judged) > 1)}"
    told = title.capitalize() if title.islower() else title
    axes.set_title(f"{told} and speed of {count}; chosen: {shortened(chosen.name, LONGEST_NAME)}", loc="left", fontsize=11)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    labels = [
        label_at(
            axes,
            shortened(one.name, LONGEST_NAME),
            (one.ms, one.figure),
            "tab:red" if one is chosen else "tab:blue" if one in best else "0.3",
        )
        for one in judged
    ]
    figure.draw_without_rendering()
    place_labels(axes, [(one.ms, one.figure) for one in judged], labels)
    write_atomically(path, figure.savefig)


def draw_group(axes: Any, group: Sequence[RankedBackbone], colour: str, label: str) -> None:
    """Points of one colour with their intervals."""
    x, y = [one.ms for one in group], [one.figure for one in group]
    low, high = ([abs(one.figure - one.interval[end]) for one in group] for end in (0, 1))
    axes.errorbar(x, y, [low, high], fmt="o", color=colour, elinewidth=0.7, label=label)
