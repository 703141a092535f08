"""Two runs, image by image, for a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from tl_keras.models.outputs import OUTPUTS
from tl_keras.tasks import difference_text, figure_text
from tl_keras.terminal.table import MOST_CLASSES, ends_text, plain_table

MOST_CHANGED = 5  # images that changed in one way; --output writes them all


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
