"""The figures of a model, as tables and lines for a terminal."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.table import Table

from tl_keras.tasks import figure_text
from tl_keras.terminal.table import MOST_CLASSES, interval, plain_table

TERMINAL = 80  # characters of a line that fit everywhere
LEAST_LEFT = 12  # of them for the names of the rows
CORNER = "true \\ predicted"
MOST_COUNTED = 10  # classes in a line of counts
MOST_CONFUSED = 10  # classes up to which the confusion matrix is shown


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


def accuracy_line(split: str, scores: Mapping[str, Any]) -> str:
    """One line: accuracy with its interval, macro F1, log loss."""
    low, high = scores["accuracy_ci95"]
    return (
        f"{split} accuracy {scores['accuracy']:.4f} (95 % interval {low:.4f} to {high:.4f})"
        f"  macro F1 {scores['macro_f1']:.4f}  log loss {scores['log_loss']:.4f}"
    )


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
