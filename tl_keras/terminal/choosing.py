"""Several configurations, backbones, members or runs side by side, for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from tl_keras.models.backbone_names import short_name
from tl_keras.models.outputs import OUTPUTS
from tl_keras.tasks import REGRESSION, SINGLE_LABEL, difference_text, figure_text
from tl_keras.terminal.table import plain_table


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
