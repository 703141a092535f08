"""How sure the model is, and whether it may be: reliability, and what is right among the answers that it is the surest of."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_keras.evaluation.calibration import calibration_error, reliability
from tl_keras.evaluation.charts import Axes, Series, lines
from tl_keras.evaluation.markup import section, table
from tl_keras.evaluation.report.record import Record
from tl_keras.evaluation.report.verdict import percent
from tl_keras.tasks import SINGLE_LABEL

LEAST_DRAWN = 5  # images of a bin of the diagram: the share of fewer is anything
MOST_POINTS = 200  # of a curve


def reliability_of(record: Record) -> Sequence[Mapping[str, Any]]:
    """Bins of confidence: those of metrics.json, else (of an older run) those of predictions.csv."""
    found: Sequence[Mapping[str, Any]] = record.test.get("reliability") or reliability(record.answers.confidence, record.answers.right)
    return found


def error_of(record: Record) -> float:
    """The expected calibration error, likewise."""
    once = np.ones((1, len(record.answers.paths)), np.int64)
    known = record.test.get("ece")
    return float(calibration_error(record.answers.confidence, record.answers.right)(once)[0] if known is None else known)


def abstaining(
    confidence: NDArray[np.float64], right: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """What is right among the answers that are at least so sure.

    Args:
        confidence: (n,), at least one.
        right: (n,).

    Returns:
        The distinct confidences, falling, (m,); the share of images that are answered from each on; the accuracy of these answers.
    """
    order = np.argsort(-confidence, kind="stable")
    falling, hits = confidence[order], np.cumsum(right[order])
    last = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))  # of each confidence: equal ones are answered together
    return falling[last], (last + 1) / len(order), hits[last] / (last + 1)


def section_of(record: Record) -> str:
    """The part of the page; nothing for tasks without a class of which it is sure."""
    if record.task != SINGLE_LABEL:
        return ""
    bins = reliability_of(record)
    error, ends = error_of(record), record.test.get("ece_ci95")
    told = f"The expected calibration error is {percent(error, 1)}" + (
        f" (95 % interval {percent(ends[0], 1)} to {percent(ends[1], 1)})" if ends else ""
    )
    return section(
        "sure",
        f"Can its probabilities be trusted?{record.where}",
        f"<p>{told}: so far are claimed and true accuracy apart on average. On the diagonal they agree; "
        f"below it the model is too sure of itself. Larger dots are more images; fewer than {LEAST_DRAWN} have none.</p>\n"
        f'<div class="charts">{_diagram(bins)}{_curve(record)}</div>\n'
        f"{_accepting(record)}\n{_sets(record)}\n{_novelty(record)}\n{_counts(bins)}",
    )


def _diagram(bins: Sequence[Mapping[str, Any]]) -> str:
    drawn = [each for each in bins if each["images"] >= LEAST_DRAWN] or bins
    x, y, images = ([each[key] for each in drawn] for key in ("confidence", "accuracy", "images"))
    told = f"Reliability in {len(bins)} bins: accuracy by confidence. The table below has the numbers."
    axes = Axes((0, 1), (0, 1), ("probability of the answer", "share that is right"))
    sizes = [2 + 6 * (number / max(images)) ** 0.5 for number in images]
    return lines(
        axes,
        [
            Series(
                "images, by how sure the answer is",
                x,
                y,
                dots=sizes,
            )
        ],
        told,
        diagonal=True,
    )


def _curve(record: Record) -> str:
    _, shares, accuracies = abstaining(record.answers.confidence, record.answers.right)
    kept = np.unique(np.linspace(0, len(shares) - 1, MOST_POINTS).astype(np.int64))
    low = min(float(accuracies.min()), 0.9)
    told = "The accuracy of the answers that the model is the surest of, by the share of images that are answered."
    axes = Axes((0, 1), (max(0.0, low - 0.05), 1), ("share of images answered, the surest first", "share that is right"))
    return lines(axes, [Series("accuracy where the others are left to a person", shares[kept], accuracies[kept])], told)


def _accepting(record: Record) -> str:
    """Which answers may be taken for an accuracy that somebody may want, chosen on val; nothing where val does not show it."""
    told = []
    for each in record.metrics.get("accepting", ()):
        asked, above = percent(each["min_precision"]), each["probability_above"]
        which = f"Answers with a probability above {above:.3f}" if above > 0 else "All answers"
        right = ""
        if "right" in each:
            low, high = each["right_ci95"]
            right = f"; of these answers {percent(each['right'], 1)} are right (95 % interval {percent(low)} to {percent(high)})"
        told.append(
            f"<p>{which} are right {asked} of the time or more, as val shows with 95 % confidence. Of the test images, "
            f"{percent(each['accepted'])} get such an answer{right}. <code>predict --min-precision {each['min_precision']:g}</code> marks "
            "them.</p>"
        )
    return "".join(told)


def _sets(record: Record) -> str:
    """What prediction sets come to; nothing of a run that has none."""
    found = record.metrics.get("prediction_sets")
    if found is None:
        return ""
    low, high = found["covered_ci95"]
    return (
        f"<p>Where one answer is not enough, <code>predict --coverage {found['coverage']:g}</code> gives the classes that an image may "
        f"have: {found['mean_size']:.2f} on average, with the true one among them for {percent(found['covered'])} of the test images "
        f"(95 % interval {percent(low)} to {percent(high)}).</p>"
    )


def _novelty(record: Record) -> str:
    """How many images of the classes would be called none of them; nothing of a run that calls none so."""
    found = record.metrics.get("novelty", {})
    if "flagged" not in found:
        return ""
    low, high = found["flagged_ci95"]
    return (
        f"<p><code>predict</code> says of each image whether it is like those of the classes. Of the test images, which are, "
        f"{percent(found['flagged'], 1)} would be called none of these (95 % interval {percent(low, 1)} to {percent(high, 1)}); "
        f"{percent(found['false_alarms'])} are expected.</p>"
    )


def _counts(bins: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (f"{each['from']:.2f} to {each['to']:.2f}", f"{each['images']:,}", f"{each['confidence']:.3f}", f"{each['accuracy']:.3f}")
        for each in bins
    ]
    found = table(("probability", "images", "mean probability", "share right"), rows, "bins of the reliability diagram")
    return f"<details><summary>The numbers of the diagram</summary>{found}</details>"
