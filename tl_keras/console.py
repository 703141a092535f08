"""The terminal side of `progress`: rich lines and bars on standard output, plain text where it is not a terminal."""

import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Table

from tl_keras.models.backbone_names import short_name
from tl_keras.models.outputs import OUTPUTS
from tl_keras.progress import Progress
from tl_keras.tasks import REGRESSION, SINGLE_LABEL, difference_text, figure_text
from tl_keras.transfer.store import Stored

COMMANDS = ("tl_keras.run ", "tl-keras ")  # what a line has that shows a command
INDENT = "    "  # before the rest of a line that is cut
MOST_CLASSES = 30  # rows of the table per class; metrics.json has them all
TERMINAL = 80  # characters of a line that fit everywhere
LEAST_LEFT = 12  # of them for the names of the rows
CORNER = "true \\ predicted"
MOST_COUNTED = 10  # classes in a line of counts
MOST_RELATED = 3  # classes that are named beside each
MOST_CHANGED = 5  # images that changed in one way; --output writes them all
MOST_CONFUSED = 10  # classes up to which the confusion matrix is shown


class ConsoleProgress(Progress):
    """Lines that stay and, in a terminal, bars that go away when they are done.

    Args:
        bars: False for lines only, where something else writes to the terminal too.
    """

    def __init__(self, console: Console, *, bars: bool = True) -> None:
        self.console = console
        self.bars = bars and console.is_terminal

    def line(self, text: str) -> None:
        told = fitted(text, self.console.width) if self.console.is_terminal else text
        self.console.print(told, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with RichProgress(*columns, console=self.console, transient=True, disable=not self.bars) as bars:
            task = bars.add_task(title, total=total)
            yield lambda done: bars.advance(task, done)


def fitted(text: str, width: int) -> str:
    """A line as lines of at most so many columns: it is cut between its fields, which two spaces separate, or else between words.

    A number, a word and a path stay whole, however long they are, and so does a command, which somebody may want to copy.
    """
    if len(text) <= width or any(command in text for command in COMMANDS):
        return text
    lines: list[str] = []
    for field in re.split(r"(?<=\S) {2,}(?=\S)", text):
        joined = f"{lines[-1]}  {field}" if lines else field
        if lines and len(joined) <= width:
            lines[-1] = joined
            continue
        indent = INDENT * bool(lines)
        lines += textwrap.wrap(
            field, width, initial_indent=indent, subsequent_indent=INDENT, break_long_words=False, break_on_hyphens=False
        )
    return "\n".join(lines)


def metrics_table(scores: Mapping[str, Any], title: str) -> Table:
    """Precision, recall, F1 and number of images of each class."""
    table = Table(title=title, title_justify="left")
    table.add_column("class", overflow="fold")
    for name in ("precision", "recall", "F1", "images"):
        table.add_column(name, justify="right", no_wrap=True)
    per_class = list(scores["per_class"].items())
    for name, row in per_class[:MOST_CLASSES]:
        figures = (f"{row[key]:.3f}" if row["support"] else "-" for key in ("precision", "recall", "f1"))  # no image, no figure
        table.add_row(name, *figures, str(row["support"]))
    if len(per_class) > MOST_CLASSES:
        table.add_row(f"and {len(per_class) - MOST_CLASSES} more", "", "", "", "")
    return table


def confusion_lines(scores: Mapping[str, Any]) -> list[str]:
    """How many images of each class were taken for which, in plain lines; none where the classes are too many for a terminal."""
    classes, matrix = list(scores["per_class"]), scores["confusion_matrix"]
    if len(classes) > MOST_CONFUSED:
        return []
    digits = max(len(str(number)) for row in matrix for number in row)
    across = classes
    if sum(max(digits, cell_len(name)) + 2 for name in classes) > TERMINAL - LEAST_LEFT:  # then columns have the numbers of the rows
        across = [str(place) for place, _ in enumerate(classes, start=1)]
        classes = [f"{place} {name}" for place, name in enumerate(classes, start=1)]
    widths = [max(digits, cell_len(name)) + (2 if digits < 5 else 1) for name in across]
    left = min(max(map(cell_len, [CORNER, *classes])), TERMINAL - sum(widths))

    def line(first: str, cells: Iterable[str]) -> str:
        return set_cell_size(first, left) + "".join(
            " " * (width - cell_len(cell)) + cell for cell, width in zip(cells, widths, strict=True)
        )

    return [line(CORNER, across), *(line(name, (str(num or "·") for num in row)) for name, row in zip(classes, matrix, strict=True))]


def counts_line(by_class: Mapping[str, int], what: str, total: int | None = None) -> str:
    """One line: how many there are, their sum where it is not said, and how many of each class, the most first."""
    total = sum(by_class.values()) if total is None else total
    told = [f"{name} {number}" for name, number in sorted(by_class.items(), key=lambda item: -item[1])]
    more = f" and {len(told) - MOST_COUNTED} more classes" if len(told) > MOST_COUNTED else ""
    return f"{total} {what}{'s' * (total != 1)}: {', '.join(told[:MOST_COUNTED])}{more}"


def range_line(lowest: float, highest: float, total: int) -> str:
    """One line: how many numbers there are, and between which they lie."""
    return f"{total} image{'s' * (total != 1)}: from {lowest:g} to {highest:g}"


def multi_label_table(scores: Mapping[str, Any], title: str) -> Table:
    """Average precision of each class, and what its threshold gives."""
    keys = {"average_precision": "AP", "precision": "precision", "recall": "recall", "f1": "F1", "threshold": "threshold"}
    per_class = list(scores["per_class"].items())
    rows = [
        (name, *(f"{row[key]:.3f}" if row["support"] or key == "threshold" else "-" for key in keys), str(row["support"]))
        for name, row in per_class[:MOST_CLASSES]
    ]
    if len(per_class) > MOST_CLASSES:
        rows.append((f"and {len(per_class) - MOST_CLASSES} more", *[""] * len(keys), ""))
    return plain_table(("class", *keys.values(), "images"), rows, title)


def multi_label_line(split: str, scores: Mapping[str, Any]) -> str:
    """One line: mean average precision and micro F1 with their intervals, macro F1, log loss."""
    return (
        f"{split} mAP {scores['map']:.4f}{interval(scores['map_ci95'])}  micro F1 {scores['micro_f1']:.4f}"
        f"{interval(scores['micro_f1_ci95'])}  macro F1 {scores['macro_f1']:.4f}  all classes right {scores['exact_match']:.4f}"
    )


def regression_line(split: str, scores: Mapping[str, Any]) -> str:
    """One line: mean absolute error, root of the mean squared error and R2, with their intervals."""
    names = {"mae": "mean absolute error", "rmse": "RMSE", "r2": "R2"}
    return f"{split} " + "  ".join(f"{name} {scores[key]:.4g}{interval(scores[f'{key}_ci95'])}" for key, name in names.items())


def interval(ends: Sequence[float]) -> str:
    """An interval after its figure."""
    return f" (95 % interval {ends[0]:.4g} to {ends[1]:.4g})"


def accuracy_line(split: str, scores: Mapping[str, Any]) -> str:
    """One line: accuracy with its interval, macro F1, log loss."""
    low, high = scores["accuracy_ci95"]
    return (
        f"{split} accuracy {scores['accuracy']:.4f} (95 % interval {low:.4f} to {high:.4f})"
        f"  macro F1 {scores['macro_f1']:.4f}  log loss {scores['log_loss']:.4f}"
    )


def plain_table(header: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> Table:
    """A table of texts, numbers to the right from the second column on."""
    table = Table(title=title, title_justify="left")
    for number, name in enumerate(header):
        table.add_column(name, justify="right" if number else "left", overflow="fold", no_wrap=bool(number))  # no number is cut
    for row in rows:
        table.add_row(*row)
    return table


def robustness_table(metrics: Mapping[str, Any]) -> Table:
    """The figure of an evaluation on images made worse: a line for each corruption, a column for each strength."""
    by_kind: dict[str, list[str]] = {}
    name = next(key for key in metrics["robustness"][0] if f"{key}_ci95" in metrics["robustness"][0])
    for row in metrics["robustness"]:
        by_kind.setdefault(row["corruption"], []).append(figure_text(name, row[name]))
    strengths = [f"strength {row['strength']}" for row in metrics["robustness"][: len(next(iter(by_kind.values())))]]
    title = f"{name} on images made worse; as they are {figure_text(name, metrics['test'][name])}"
    return plain_table(("corruption", *strengths), [(kind, *found) for kind, found in by_kind.items()], title)


def slices_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Which part of the images is clearly worse than the rest, if any; no line where there are no parts."""
    if not found["slices"]:
        return
    name, worst = found["figure"], found["worst"]
    kinds = ", ".join(dict.fromkeys(each["by"] for each in found["slices"]))
    if worst is None:
        yield f"slices by {kinds}: none of {len(found['slices'])} is clearly worse than the rest"
        return
    yield (
        f"slices by {kinds}: the worst of {len(found['slices'])} is {worst['by']}, {worst['name']}  {worst['images']:,} images: {name} "
        f"{figure_text(name, worst[name])}{interval(worst[f'{name}_ci95'])}, p = {worst['p']:.2g}"
    )


def adaptation_table(target: Mapping[str, Any]) -> Table:
    """The scores of each method of an adaptation."""
    rows = [
        (
            ("* " if one["method"] == target["method"] else "  ") + one["method"],
            f"{one['classes']:.1f}" + (" collapsed" if one["collapsed"] else ""),
            f"{one['risk']:.3f}",
            f"{one['mixed']:.3f}",
            f"{one['agreement']:.3f}",
        )
        for one in target["candidates"]
    ]
    header = ("method", "classes", "source risk", "mixed", "as before")
    return plain_table(header, rows, f"target: {target['images']} images, scores without labels")


def target_lines(target: Mapping[str, Any]) -> list[str]:
    """How far the domains are apart, and how good the heads are on the target, where that is known."""
    apart = target["distances"]["source_only"]
    names = {"mmd": "MMD", "coral": "CORAL distance", "proxy_a": "proxy A-distance"}
    told = [f"{title} {apart[key]:.3g}" for key, title in names.items() if apart[key] is not None]
    lines = [f"distance between the domains: {', '.join(told)}"]
    lines += [accuracy_line(f"target, {name}:", found) for name, found in target.get("figures", {}).items()]
    return lines + (relation_lines(target["relations"][target["method"]]) if "relations" in target else [])


def relation_lines(relation: Mapping[str, Any]) -> list[str]:
    """What a head sees in images of each class, in plain lines; none where the classes are too many for a terminal."""
    means = relation["mean_probabilities"]
    if len(means) > MOST_CONFUSED:
        return []
    told = "" if relation["nce"] is None else f" (NCE {relation['nce']:.3f})"
    lines = [f"target: mean probabilities of the images of each class, the {MOST_RELATED} largest{told}"]
    for name, found in means.items():
        largest = sorted(found.items(), key=lambda one: -one[1])[:MOST_RELATED]
        lines.append(f"  {name}: {', '.join(f'{other} {mean:.2f}' for other, mean in largest)}")
    return lines


def summary_table(summary: Mapping[str, Mapping[str, Any]], title: str) -> Table:
    """Mean, spread and interval of each figure of a cross-validation."""
    rows = [
        (
            name,
            *(figure_text(name, found[key]) for key in ("mean", "deviation")),
            " to ".join(figure_text(name, end) for end in found["ci95"]),
        )
        for name, found in summary.items()
    ]
    return plain_table(("figure", "mean", "deviation", "95 % interval of the mean"), rows, title)


def difference_lines(differences: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One line per figure: how far one cross-validation is from another, and whether that is clear."""
    lines = []
    for name, found in differences.items():
        low, high = found["ci95"]
        verdict = "a clear difference" if low > 0 or high < 0 else "which may be chance"
        mean, *ends = (difference_text(name, value) for value in (found["mean"], low, high))
        lines.append(f"against the other: {name} {mean} (95 % interval {' to '.join(ends)}), {verdict}")
    return lines


def ensemble_table(result: Mapping[str, Any]) -> Table:
    """An ensemble and its single members: on what they are compared by, and on test."""
    where, output = result["judged_on"], OUTPUTS[result["task"]]
    second = "rmse" if output.task == REGRESSION else output.loss_figure
    keys = output.metric_name, second

    def row(name: str, found: Mapping[str, Any]) -> tuple[str, ...]:
        judged, test = ([figure_text(key, figures[key], 3) for key in keys] for figures in (found[where], found["test"]))
        ends = " to ".join(figure_text(keys[0], end, 3) for end in found["test"][f"{keys[0]}_ci95"])
        return name, *judged, test[0], ends, test[1]

    rows = [row(one["name"], one) for one in result["singles"]] + [row(result["method"], result["together"])]
    told, besides = where.replace("_", " "), "RMSE" if second == "rmse" else output.loss_title
    title = f"{output.metric_title} and {besides}; the best single one is chosen by {told}, not by test"
    return plain_table(("", told, besides, "test", "95 % interval", besides), rows, title)


def ensemble_lines(result: Mapping[str, Any]) -> list[str]:
    """How far an ensemble is from the best single member, and what it cannot do."""
    lines, output = [], OUTPUTS[result["task"]]
    metric = output.metric_name
    if "weights" in result:
        lines.append("weights: " + ", ".join(f"{name} {weight:.2f}" for name, weight in result["weights"].items()))
    if result.get("in_soup") and len(result["in_soup"]) == 1:
        lines.append(f"nothing but {result['in_soup'][0]} is in the soup, which equals that member")
    for where, found in result["difference"].items():
        low, high = found["ci95"]
        verdict = "a clear difference" if low > 0 or high < 0 else "which may be chance"
        told = where.replace("_", " ")
        mean, *ends = (difference_text(metric, value) for value in (found["mean"], low, high))
        lines.append(
            f"against {result['best_single']} alone: {told} {output.metric_title} {mean} (95 % interval {' to '.join(ends)}), {verdict}"
        )
    if output.metric_direction == "min":
        lines.append(f"a lower {output.metric_title} is better")
    if not result["is_keras"]:
        lines.append(f"no model.keras: {result['not_keras']} are not Keras models, so predict, evaluate and export cannot use this run")
    return lines


def comparison_table(result: Mapping[str, Any]) -> Table:
    """The figures of two runs and their differences, with intervals."""
    rows = [
        (
            name,
            *(figure_text(name, found[key]) for key in ("a", "b")),
            difference_text(name, found["difference"]),
            ends_text(name, found["difference_ci95"], difference_text),
        )
        for name, found in result["figures"].items()
    ]
    title = f"test: {result['images']:,} images that both runs have"
    return plain_table(("figure", "A", "B", "B - A", "95 % interval of B - A"), rows, title)


def compared_line(name: str, result: Mapping[str, Any]) -> str:
    """One line: what a run of a comparison is, and the figure of its task; 'a' or 'b'."""
    run, output = result[name], OUTPUTS[result["task"]]
    metric = output.metric_name
    found = result["figures"][metric]
    told = f"{output.metric_title} {figure_text(metric, found[name])} (95 % interval {ends_text(metric, found[f'{name}_ci95'])})"
    return f"{name.upper()}  {run['run_dir']}: {run['backbone']}, {run['mode']}  {told}"


def ends_text(name: str, ends: Sequence[float], shown: Callable[[str, float], str] = figure_text) -> str:
    """The ends of an interval of a figure."""
    return " to ".join(shown(name, end) for end in ends)


def mcnemar_line(found: Mapping[str, Any]) -> str:
    """One line: how many images both runs, one alone and neither have right, and whether that is chance."""
    return (
        f"right in both {found['both']:,}  in A alone {found['only_a']:,}  in B alone {found['only_b']:,}  in neither {found['neither']:,}"
        f"  McNemar's test: p = {found['p']:.2g}"
    )


def class_changes_table(by_class: Mapping[str, Mapping[str, int]]) -> Table:
    """What became of the images of each class: those of which most changed first, as many as a terminal shows."""
    order = sorted(by_class, key=lambda name: -by_class[name]["worse"] - by_class[name]["better"])
    keys = ("images", "a", "b", "worse", "better")
    rows = [(name, *(f"{by_class[name][key]:,}" for key in keys)) for name in order[:MOST_CLASSES]]
    if len(order) > MOST_CLASSES:
        rows.append((f"and {len(order) - MOST_CLASSES} more", *[""] * len(keys)))
    return plain_table(("class", "images", "right in A", "right in B", "worse in B", "better in B"), rows, "right answers of each class")


def changed_lines(changed: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The images of which two runs say something else, a line each: of each kind those that changed most."""
    if not changed:
        yield "both say the same of every image"
    for kind in dict.fromkeys(row["change"] for row in changed):
        rows = [row for row in changed if row["change"] == kind]
        more = f", {MOST_CHANGED} of them:" if len(rows) > MOST_CHANGED else ":"
        yield f"{kind.replace('_', ' ')} in B: {len(rows):,} image{'s' * (len(rows) != 1)}{more}"
        for row in rows[:MOST_CHANGED]:
            a, b = (row[key] + (f" {row[f'{key}_probability']:.2f}" if f"{key}_probability" in row else "") for key in ("a", "b"))
            yield f"  {row['path']}  true: {row['true']}  A: {a}  B: {b}"


def ranking_table(ranked: Sequence[Mapping[str, Any]], task: str = SINGLE_LABEL) -> Table:
    """Candidates of a ranking, the best first; a star marks those that none beats in both figure and time."""
    output = OUTPUTS[task]
    metric = output.metric_name
    rows = [
        (
            short_name(one["backbone"]) + " *" * one["on_front"],
            "x".join(map(str, one["image_size"])),
            figure_text(metric, one[metric], 3),
            " to ".join(figure_text(metric, end, 3) for end in one["interval"]),
            f"{one['ms']:.2f}",
            f"{one['num_parameters'] / 1e6:.2f}",
        )
        for one in ranked
    ]
    header = ("backbone", "pixels", metric, "95 % interval", "ms", "M weights")
    return plain_table(header, rows, f"{output.metric_title} of frozen features on held-out images; *: no other is both faster and better")


def exports_table(rows: Mapping[str, Mapping[str, Any]], result: Mapping[str, Any]) -> Table:
    """Exported formats: how far each is from the model, how good on test, how large and how fast."""
    metric = next((name for name in result.get("model", {}) if not name.endswith("_ci95")), "")  # none without test images
    told = [
        (
            name,
            f"{row['bytes'] / 1e6:.1f}",
            "" if row["agreement"] is None else f"{row['agreement']:.3f}",
            f"{max(row['largest_difference'].values()):.1e}",
            *([figure_text(metric, row[metric])] if metric else []),
            f"{row['cold_start_s']:.1f}",
            f"{row['single_ms']:.1f}",
            f"{row['images_per_second']:.0f}",
        )
        for name, row in rows.items()
    ]
    title = f"compared with the model on {len(result['images'])} images"
    if metric:
        title += f"; the model's {metric}, on {result['test_images']} of test: {figure_text(metric, result['model'][metric])}"
    return plain_table(("format", "MB", "same", "apart", *[metric] * bool(metric), "start", "ms", "per s"), told, title)


def compression_table(result: Mapping[str, Any]) -> Table:
    """The forms of a compressed run: size, accuracy on test and speed of each."""
    told = [
        (
            point["run"],
            point["format"],
            f"{point['bytes'] / 1e6:.2f}",
            f"{point['compressed_bytes'] / 1e6:.2f}",
            f"{point['accuracy']:.3f} ({' to '.join(f'{end:.3f}' for end in point['accuracy_ci95'])})" if "accuracy" in point else "",
            f"{point['single_ms']:.1f}",
            f"{point['images_per_second']:.0f}",
        )
        for point in result["points"]
        if "refused" not in point
    ]
    return plain_table(("run", "format", "MB", "zipped", "accuracy", "ms", "per s"), told, "forms of the run")


def print_stored(console: Console, title: str, stored: Sequence[Stored]) -> None:
    """Collections of the feature store as a table, and their size in one line."""
    rows = [
        (
            f"{each.about['backbone']} {each.about['output']}" + " of all stages" * (each.about.get("stages") == "all"),
            "plain" if each.about["view"] == 0 else f"view {each.about['view']}",
            "x".join(map(str, each.about["image_size"])),
            f"{each.rows:,}",
            f"{each.bytes / 1e9:.3f}",
            f"{each.idle_s / 86_400:.1f}",
        )
        for each in stored
    ]
    if rows:
        console.print(plain_table(("features", "of", "pixels", "images", "GB", "days unused"), rows, title))
    total = sum(each.bytes for each in stored) / 1e9
    console.print(f"{title}: {len(stored)} collections, {total:.3f} GB", markup=False, highlight=False, soft_wrap=True)
