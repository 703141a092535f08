"""Several runs in one page, the best first: a verdict, their figures beside one another, and what they differ in.

Knows numbers and texts of runs, as `workflows.side_by_side` has read and compared them; looks like the report of one run.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tl_keras.config import Config
from tl_keras.evaluation.charts import around, intervals
from tl_keras.evaluation.history import numbers_of
from tl_keras.evaluation.markup import cards, cut, figures, section, table, text
from tl_keras.evaluation.report import curves
from tl_keras.evaluation.report.origin import LONGEST_VALUE, settings_of, shown
from tl_keras.evaluation.report.page import assemble
from tl_keras.evaluation.report.verdict import Sentence, percent
from tl_keras.models.backbone_names import short_name
from tl_keras.models.outputs import OUTPUTS, Output
from tl_keras.tasks import IN_UNIT, SINGLE_LABEL, difference_text, figure_text

IN_FIGURES = ("mode", "model.backbone")  # settings that the table of figures has
WORSE, BETTER, UNTOLD, APART = "worse", "better", "untold", "apart"


@dataclass(frozen=True, kw_only=True)
class Versus:
    """A run (B) compared with the best (A), on the test images that both have and neither has learned from.

    Attributes:
        outcome: whether it is worse or better than the best, or cannot be told from it, or is apart: not to be compared with it.
        images: how many these are.
        found: what `comparison.compare` returns; empty where it is apart.
        why: what is in the way, where it is apart.
    """

    outcome: str
    images: int = 0
    found: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Side:
    """A run.

    Attributes:
        letter: what the page calls it.
        figures: of test, by their names.
        ends: the 95 % intervals of some of them.
        weights: how many its model has; None where that is not known.
        model_bytes: the size of model.keras.
        seconds: that it took to make; likewise.
        on_target: the accuracy on the target that it was adapted to, and the ends of its interval; None where that is not known.
        images: how many each split has; none where that is not known.
        history: the lines of history.csv.
        versus: None for the best.
    """

    letter: str = ""
    folder: Path
    config: Config
    mode: str
    backbone: str
    figures: Mapping[str, float]
    ends: Mapping[str, tuple[float, float]]
    weights: int | None
    model_bytes: int
    seconds: float | None
    on_target: tuple[float, float, float] | None
    images: Mapping[str, int]
    history: Sequence[Mapping[str, str]]
    versus: Versus | None = None

    @property
    def name(self) -> str:
        """Letter and folder."""
        return f"{self.letter}: {self.folder.name}"

    @property
    def kind(self) -> str:
        """Backbone and mode."""
        return f"{short_name(self.backbone)}, {self.mode}"

    def figure(self, name: str) -> str:
        """A figure as text; nothing where it has none."""
        return figure_text(name, self.figures[name], 3) if name in self.figures else ""

    def between(self, name: str) -> str:
        """Its interval."""
        return " to ".join(figure_text(name, end, 3) for end in self.ends.get(name, ()))


@dataclass(frozen=True)
class Disputed:
    """A test image of which the runs do not say the same.

    Attributes:
        address: of a small copy; empty where there is none.
        said: of each run its letter and what it says, with how sure it is; 'not asked' where the image is not in its test, or was learned
            from.
    """

    path: str
    address: str
    true: str
    said: Sequence[tuple[str, str]]


def render(sides: Sequence[Side], disputed: Sequence[Disputed], task: str) -> str:
    """The page as HTML.

    Args:
        sides: two or more, the best first.
        disputed: images that are shown, those that differ most first.
    """
    output = OUTPUTS[task]
    source = sides[0].config.data.source
    parts = (_figures(sides, output), _against(sides, output), _images(disputed), _curves(sides, output), _settings(sides))
    return assemble(
        f"{Path(source).name or source}: {len(sides)} runs side by side",
        ", ".join(side.name for side in sides),
        verdict(sides, output),
        [part for part in parts if part],
        {},
    )


def verdict(sides: Sequence[Side], output: Output) -> list[Sentence]:
    """Which run is best, whether that is more than chance, and which to take."""
    return [
        Sentence("Best", _best(sides[0], output)),
        Sentence("How sure", _how_sure(sides, output)),
        Sentence("Which to take", "On the source domain " * any(side.mode == "adapt" for side in sides) + _which(sides)),
    ]


def _best(best: Side, output: Output) -> str:
    name = output.metric_name
    value = best.figures[name]
    low, high = best.ends.get(name, (value, value))
    if output.task == SINGLE_LABEL:
        share, ends = percent(value, 1), f"{100 * low:.0f} to {percent(high)}"
        return (
            f"{best.name} ({best.kind}). It names the right class for {share} of its test images; expect {ends} of new images like these."
        )
    return f"{best.name} ({best.kind}). Its {output.metric_title} on test is {best.figure(name)} (95 % interval {best.between(name)})."


def _how_sure(sides: Sequence[Side], output: Output) -> str:
    worse, untold, better, apart = (_letters(sides, outcome) for outcome in (WORSE, UNTOLD, BETTER, APART))
    said = [f"On the same test images it is clearly better than {_listed(worse)}."] if worse else []
    if untold:
        unseen = max(side.versus.found["unseen"] for side in sides if side.versus and side.versus.outcome == UNTOLD)
        least = f"{100 * unseen:.1f} points" if output.task == SINGLE_LABEL else figure_text(output.metric_name, unseen, 3)
        said.append(f"No difference to {_listed(untold)} can be told: so few images often do not show one of less than {least}.")
    said += [f"But on the test images that both have, {_listed(better)} did clearly better."] if better else []
    said += [f"It cannot be compared with {_listed(apart)}."] if apart else []
    adapted = [side.letter for side in sides if side.mode == "adapt"]
    said += [f"All this is of images of the source domain; adapted to another one: {_listed(adapted)}."] if adapted else []
    return " ".join(said)


def _which(sides: Sequence[Side]) -> str:
    best, untold, better = sides[0], _letters(sides, UNTOLD), _letters(sides, BETTER)
    if better:
        return f"{better[0]}: {best.letter} was measured on other images, which may be easier."
    least = min((side for side in sides if side.letter in untold and side.weights), key=lambda side: side.weights or 0, default=None)
    if least is not None and best.weights and (least.weights or 0) < best.weights:
        return f"{best.letter}; or {least.letter}, which is smaller ({least.weights:,} weights, not {best.weights:,}) and may be as good."
    if untold:
        return f"{best.letter}. More labelled test images would say whether {_listed(untold)} may be as good."
    return f"{best.letter}, if it is small and fast enough."


def _letters(sides: Sequence[Side], outcome: str) -> list[str]:
    return [side.letter for side in sides if side.versus is not None and side.versus.outcome == outcome]


def _listed(letters: Sequence[str]) -> str:
    return " and ".join([", ".join(letters[:-1]), letters[-1]] if len(letters) > 1 else letters)


Column = tuple[str, Callable[[Side], str]]


def _figures(sides: Sequence[Side], output: Output) -> str:
    name = output.metric_name
    chart = [(side.name, side.figure(name), side.figures[name], side.ends.get(name)) for side in sides]
    low, high = around([value for _, _, figure, ends in chart for value in (figure, *(ends or ()))])
    told = "; ".join(f"{run}: {shown}" for run, shown, *_ in chart)
    drawn = intervals(chart, (max(low, 0.0), high if name in IN_UNIT else min(high, 1.0)), told)
    columns: list[Column] = [
        (output.metric_title, lambda side: side.figure(name)),
        ("95 % interval", lambda side: side.between(name)),
        ("log loss", lambda side: side.figure("log_loss")),
        ("RMSE", lambda side: side.figure("rmse")),
        ("calibration error", lambda side: side.figure("ece")),
        ("accuracy on its target", lambda side: "{:.3f}, {:.3f} to {:.3f}".format(*side.on_target) if side.on_target else ""),
        ("weights", lambda side: f"{side.weights:,}" if side.weights else ""),
        ("model, MB", lambda side: f"{side.model_bytes / 1e6:.1f}"),
        ("training, s", lambda side: "" if side.seconds is None else f"{side.seconds:.0f}"),
        ("train images", lambda side: f"{side.images['train']:,}" if side.images else ""),
        ("test images", lambda side: f"{side.images['test']:,}" if side.images else ""),
    ]
    cells = [(head, [cell(side) for side in sides]) for head, cell in columns]
    kept = [(head, found) for head, found in cells if any(found)]
    rows = [(_named(side), *(found[place] for _, found in kept)) for place, side in enumerate(sides)]
    source = " Of an adapted run these are test images of the source domain." if any(side.mode == "adapt" for side in sides) else ""
    return section(
        "figures",
        "Figures of test",
        f'<p class="quiet">Each run on its own test images. A line is a 95 % interval. The best of several looks a little too good, '
        f"because it was chosen on these images.{source}</p>\n"
        f'<div class="charts">{drawn}</div>' + table(("run", *(head for head, _ in kept)), rows, "figures of the runs", kind="runs"),
    )


def _named(side: Side) -> str:
    return f'{text(side.name)}<br><span class="quiet">{text(side.kind)}</span>'


def _against(sides: Sequence[Side], output: Output) -> str:
    """Each run compared with the best."""
    name, best = output.metric_name, sides[0].letter
    heads = ["run", "images", f"{output.metric_title} of {best}", "of the run", "difference", "95 % interval"]
    tested = output.task == SINGLE_LABEL
    heads += [f"right in {best} alone", "in the run alone", "p"] * tested
    rows: list[Sequence[str]] = []
    for side in sides[1:]:
        versus = side.versus or Versus(outcome=APART)
        if versus.outcome == APART:
            rows.append((f"{text(side.name)}: {text(versus.why)}",))
            continue
        figure = versus.found["figures"][name]
        cells = [f"{versus.images:,}", *(figure_text(name, figure[key]) for key in "ab"), difference_text(name, figure["difference"])]
        cells.append(" to ".join(difference_text(name, end) for end in figure["difference_ci95"]))
        if tested:
            counts = versus.found["mcnemar"]
            cells += [f"{counts['only_a']:,}", f"{counts['only_b']:,}", f"{counts['p']:.2g}"]
        rows.append((text(side.name), *cells))
    told = (
        f"On the test images that {best} and the run both have and that neither has learned from, as <code>compare</code> does: one is "
        f"called better where the interval of the difference is clear of zero{' and p, by McNemar, is below 0.05' * tested}. "
        "Of many runs some are told apart by chance."
    )
    listed = table(heads, rows, "each run against the best", kind="runs")
    return section("against", f"Against {best}, on the same images", f'<p class="quiet">{told}</p>\n{listed}')


def _images(disputed: Sequence[Disputed]) -> str:
    if not disputed:
        return ""
    photos = any(each.address for each in disputed)
    items = []
    for each in disputed:
        name = text(each.path)
        photo = figures([(each.address, name)]) if each.address else f'<p class="quiet">{name}</p>'
        said = "".join(f"<br>{letter}: {text(told)}" for letter, told in each.said)
        items.append(f"{photo}true <strong>{text(each.true) or 'none'}</strong>{said}")
    gone = "" if photos else " The images are no longer where the run found them; <code>--data</code> says where they are now."
    told = f"Those of which a run says something else than the best, and its loss is furthest from that of the best.{gone}"
    return section("images", "Images on which they differ most", f'<p class="quiet">{told}</p>\n{cards(items)}')


def _curves(sides: Sequence[Side], output: Output) -> str:
    """The figure of the task by epoch, on the same axis."""
    known = [side for side in sides if len(side.history) > 1]
    values = [value for side in known for name in (output.metric_name, output.val_metric) for value in numbers_of(side.history, name)]
    if not np.isfinite(values).any():
        return ""
    ends = around(values)
    charts = [
        f"<div><h3>{text(side.name)}</h3>{curves.chart(side.history, output.metric_name, output.metric_title, ends=ends)}</div>"
        for side in known
    ]
    few = [side.letter for side in sides if side not in known]
    note = f" No epochs were trained of {_listed(few)}." if few else ""
    return section(
        "curves", "How training went", f'<p class="quiet">On the same scale.{note}</p>\n<div class="charts small">{"".join(charts)}</div>'
    )


def _settings(sides: Sequence[Side]) -> str:
    """The settings that are not the same in all runs."""
    every = [settings_of(side.config) for side in sides]
    rows = [
        (f"<code>{text(path)}</code>", *(text(cut(shown(settings[path]), LONGEST_VALUE)) for settings in every))
        for path in every[0]
        if path not in IN_FIGURES and any(settings[path] != every[0][path] for settings in every)
    ]
    heads = ("setting", *(text(side.name) for side in sides))
    body = table(heads, rows, "the settings of each run", num_texts=len(heads), kind="runs") if rows else "<p>No other setting differs.</p>"
    return section("settings", "Settings that differ", body)
