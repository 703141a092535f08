"""The terminal side of `progress`: rich lines and bars on standard output, plain where it is no terminal."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Table

from tl_keras.models.backbone_names import short_name
from tl_keras.progress import Progress
from tl_keras.transfer.store import Stored

MOST_CLASSES = 30  # rows of the table per class; metrics.json has them all


class ConsoleProgress(Progress):
    """Lines that stay and bars that go away when they are done."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def line(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with RichProgress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as bars:
            task = bars.add_task(title, total=total)
            yield lambda done: bars.advance(task, done)


def metrics_table(scores: Mapping[str, Any], title: str) -> Table:
    """Precision, recall, F1 and number of images of each class."""
    table = Table(title=title, title_justify="left")
    table.add_column("class")
    for name in ("precision", "recall", "F1", "images"):
        table.add_column(name, justify="right")
    per_class = list(scores["per_class"].items())
    for name, row in per_class[:MOST_CLASSES]:
        table.add_row(name, *(f"{row[key]:.3f}" for key in ("precision", "recall", "f1")), str(row["support"]))
    if len(per_class) > MOST_CLASSES:
        table.add_row(f"and {len(per_class) - MOST_CLASSES} more", "", "", "", "")
    return table


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
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def summary_table(summary: Mapping[str, Mapping[str, Any]], title: str) -> Table:
    """Mean, spread and interval of each figure of a cross-validation."""
    rows = [
        (name, f"{found['mean']:.4f}", f"{found['deviation']:.4f}", "{:.4f} to {:.4f}".format(*found["ci95"]))
        for name, found in summary.items()
    ]
    return plain_table(("figure", "mean", "deviation", "95 % interval of the mean"), rows, title)


def difference_lines(differences: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One line per figure: how far one cross-validation is from another, and whether that is clear."""
    lines = []
    for name, found in differences.items():
        low, high = found["ci95"]
        verdict = "a clear difference" if low > 0 or high < 0 else "which may be chance"
        lines.append(f"against the other: {name} {found['mean']:+.4f} (95 % interval {low:+.4f} to {high:+.4f}), {verdict}")
    return lines


def ensemble_table(result: Mapping[str, Any]) -> Table:
    """An ensemble and its single classifiers: on what they are compared by, and on test."""
    where = result["judged_on"]
    rows = [
        (
            name,
            f"{found[where]['accuracy']:.3f}",
            f"{found[where]['log_loss']:.3f}",
            f"{found['test']['accuracy']:.3f}",
            "{:.3f} to {:.3f}".format(*found["test"]["accuracy_ci95"]),
            f"{found['test']['log_loss']:.3f}",
        )
        for name, found in [*((one["name"], one) for one in result["singles"]), (result["method"], result["together"])]
    ]
    told = where.replace("_", " ")
    title = f"accuracy and log loss; the best single one is chosen by {told}, not by test"
    return plain_table(("", told, "log loss", "test", "95 % interval", "log loss"), rows, title)


def ensemble_lines(result: Mapping[str, Any]) -> list[str]:
    """How far an ensemble is from the best single classifier, and what it cannot do."""
    lines = []
    if "weights" in result:
        lines.append("weights: " + ", ".join(f"{name} {weight:.2f}" for name, weight in result["weights"].items()))
    if result.get("in_soup") and len(result["in_soup"]) == 1:
        lines.append(f"nothing but {result['in_soup'][0]} is in the soup: it is that classifier")
    for where, found in result["difference"].items():
        low, high = found["ci95"]
        verdict = "a clear difference" if low > 0 or high < 0 else "which may be chance"
        told = where.replace("_", " ")
        lines.append(
            f"against {result['best_single']} alone: {told} accuracy {found['mean']:+.4f} "
            f"(95 % interval {low:+.4f} to {high:+.4f}), {verdict}"
        )
    if not result["is_keras"]:
        lines.append(f"no model.keras: {result['not_keras']} are no Keras model, so predict, evaluate and export cannot use this run")
    return lines


def ranking_table(ranked: Sequence[Mapping[str, Any]]) -> Table:
    """Candidates of a ranking, the best first; a star marks those that none beats in both accuracy and time."""
    rows = [
        (
            short_name(one["backbone"]) + " *" * one["on_front"],
            "x".join(map(str, one["image_size"])),
            f"{one['accuracy']:.3f}",
            "{:.3f} to {:.3f}".format(*one["interval"]),
            f"{one['ms']:.2f}",
            f"{one['num_parameters'] / 1e6:.2f}",
        )
        for one in ranked
    ]
    header = ("backbone", "pixels", "accuracy", "95 % interval", "ms", "M weights")
    return plain_table(header, rows, "accuracy of frozen features on images left out; * none is faster and better")


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
