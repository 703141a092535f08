"""How training went: loss and figure of every phase."""

from collections.abc import Mapping, Sequence

import numpy as np

from tl_keras.evaluation.charts import DOT, Axes, Series, around, lines
from tl_keras.evaluation.history import numbers_of, places_of
from tl_keras.evaluation.markup import section, text
from tl_keras.evaluation.report.record import Record

DOTTED = 30  # epochs up to which each is marked


def section_of(record: Record) -> str:
    """The part of the page; nothing where there was one line, as of a head that was solved."""
    rows = record.history
    if len(rows) < 2:
        return ""
    charts = chart(rows, "loss", "loss", ("train (as it is lowered)", f"val ({record.output.loss_title})"))
    charts += chart(rows, record.output.metric_name, record.output.metric_title)
    told = ", then ".join(text(name) for name, _ in places_of(rows)[1])
    return section("curves", "How training went", f'<p class="quiet">Phases: {told}.</p>\n<div class="charts">{charts}</div>')


def chart(
    rows: Sequence[Mapping[str, str]],
    name: str,
    title: str,
    names: tuple[str, str] = ("train", "val"),
    ends: tuple[float, float] | None = None,
) -> str:
    """A figure by epoch, on train and on val; nothing where history.csv has none.

    Args:
        rows: the lines of history.csv.
        name: of the figure, on train.
        title: what the axis calls it.
        names: what the lines are called.
        ends: of the axis; those of the values by default.
    """
    places, phases = places_of(rows)
    known = [
        Series(told, places, values, kind, dots=DOT * (len(rows) <= DOTTED))
        for told, kind, values in zip(names, ("first", "second"), (numbers_of(rows, name), numbers_of(rows, f"val_{name}")), strict=True)
        if np.isfinite(values).any()
    ]
    if not known:
        return ""
    axes = Axes(
        (min(places), max(places)), ends or around([value for each in known for value in np.asarray(each.y)]), ("epoch", title), whole=True
    )
    return lines(axes, known, f"{title} by epoch on train and val", marks=[start + 0.5 for _, start in phases[1:]])
