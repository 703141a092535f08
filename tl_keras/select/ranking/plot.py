"""A picture of a ranking: what each backbone costs and what it is expected to reach, and the front that none beats."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tl_keras.run_folder import write_atomically
from tl_keras.select.axes import place_labels, readable_ticks, shortened
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
    scale(axes, judged)
    axes.set_xlabel("milliseconds per image, in batches on this machine")
    title = chosen.output.metric_title
    less = "" if chosen.output.metric_direction == "max" else ", less is better"
    axes.set_ylabel(f"{title} on held-out images{less}; bars: 95 % interval")
    count = f"{len(judged)} backbone{'s' * (len(judged) > 1)}"
    told = title.capitalize() if title.islower() else title
    axes.set_title(f"{told} and speed of {count}; chosen: {shortened(chosen.name, LONGEST_NAME)}", loc="left", fontsize=11)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    labels = [name_of(axes, one, "tab:red" if one is chosen else "tab:blue" if one in best else "0.3") for one in judged]
    figure.draw_without_rendering()
    place_labels(axes, [(one.ms, one.figure) for one in judged], labels)
    write_atomically(path, figure.savefig)


def draw_group(axes: Any, group: Sequence[RankedBackbone], colour: str, label: str) -> None:
    """Points of one colour with their intervals."""
    x, y = [one.ms for one in group], [one.figure for one in group]
    low, high = ([abs(one.figure - one.interval[end]) for one in group] for end in (0, 1))
    axes.errorbar(x, y, [low, high], fmt="o", color=colour, elinewidth=0.7, label=label)


def name_of(axes: Any, one: RankedBackbone, colour: str) -> Any:
    """The label of a point, which `place_labels` moves to where there is room."""
    return axes.annotate(
        shortened(one.name, LONGEST_NAME),
        (one.ms, one.figure),
        xytext=(6, 0),
        textcoords="offset pixels",
        fontsize=8,
        color=colour,
        annotation_clip=False,
        arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5, "alpha": 0.6},
    )


def scale(axes: Any, judged: Sequence[RankedBackbone]) -> None:
    """Milliseconds by their logarithm, with room at the sides for labels, and ticks at 1, 2, 5, 10."""
    low, high = min(one.ms for one in judged), max(one.ms for one in judged)
    room = max((high / low) ** 0.25, 2.0)
    low, high = low / room, high * room
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    ticks = readable_ticks(low, high)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.margins(y=0.12)
