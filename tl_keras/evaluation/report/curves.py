"""How training went: loss and figure of every phase."""

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
    places, phases = places_of(rows)
    charts = []
    for name, title, (on_train, on_val) in (
        ("loss", "loss", ("train (as it is lowered)", f"val ({record.output.loss_title})")),
        (record.output.metric_name, record.output.metric_title, ("train", "val")),
    ):
        known = [
            Series(told, places, values, kind, dots=DOT * (len(rows) <= DOTTED))
            for told, values, kind in ((on_train, numbers_of(rows, name), "first"), (on_val, numbers_of(rows, f"val_{name}"), "second"))
            if np.isfinite(values).any()
        ]
        if known:
            axes = Axes(
                (min(places), max(places)), around([value for each in known for value in np.asarray(each.y)]), ("epoch", title), whole=True
            )
            charts.append(lines(axes, known, f"{title} by epoch on train and val", marks=[start + 0.5 for _, start in phases[1:]]))
    told = ", then ".join(text(name) for name, _ in phases)
    return section("curves", "How training went", f'<p class="quiet">Phases: {told}.</p>\n<div class="charts">{"".join(charts)}</div>')
