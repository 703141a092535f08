"""The figures of test: against what needs no model, for each class, and which classes are confused."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tl_keras.adaptations import SOURCE_ONLY
from tl_keras.evaluation.charts import Axes, around, columns, intervals, scatter
from tl_keras.evaluation.history import numbers_of
from tl_keras.evaluation.markup import bar, cards, figures, section, table, text
from tl_keras.evaluation.report.facts import baseline_of, confusions
from tl_keras.evaluation.report.record import Record
from tl_keras.tasks import IN_UNIT, MULTI_LABEL, REGRESSION, SINGLE_LABEL, figure_text

LISTED = 60  # classes in the table
SHOWN = 20  # classes of the matrix
PAIRS = 6  # of classes that are confused, with photos
PHOTOS = 3  # of a pair
POINTS = 2000  # of the scatter plot
BINS = 24  # of the histogram of errors
TITLES = {
    "map": "mean average precision",
    "accuracy": "accuracy",
    "top_5_accuracy": "true class among the five most probable",
    "macro_f1": "macro F1",
    "macro_precision": "macro precision",
    "macro_recall": "macro recall (balanced accuracy)",
    "roc_auc": "area under the ROC curve, mean over classes",
    "log_loss": "log loss",
    "label_entropy": "entropy of the labels, the least log loss",
    "ece": "expected calibration error",
    "micro_f1": "micro F1",
    "exact_match": "every class right",
    "mae": "mean absolute error",
    "rmse": "root of the mean squared error",
    "r2": "R2, the share of the variance that is explained",
    "bias": "mean error",
}


def overview(record: Record) -> str:
    """The figure of the task with its interval, beside what comes for free, and the other figures."""
    rows = list(_compared(record))
    known = [value for _, _, figure, ends in rows for value in (figure, *(ends or ()))]
    low, high = around([0.0, *known]) if record.task == REGRESSION else (0.0, 1.0)
    told = "; ".join(f"{name}: {shown}" for name, shown, _, _ in rows)
    chart = intervals(rows, (max(low, 0.0), high), told)
    return section(
        "figures",
        f"How good it is, in figures{record.where}",
        '<p class="quiet">A line is a 95 % interval: where the figure may lie on other images like these. '
        f'Test images had no part in training or choosing.</p>\n<div class="charts">{chart}{_others(record)}</div>',
    )


def _compared(record: Record) -> Iterable[tuple[str, str, float, tuple[float, float] | None]]:
    """Name, text, figure and interval of the model and of what it is compared with."""
    metric, title = record.output.metric_name, record.output.metric_title
    names = {"test": f"{title} on test"} | ({} if "target" in record.metrics else {"val": "on val, which has chosen it"})
    for split, name in names.items():
        found = record.metrics.get(split, {})
        if metric in found:
            ends = found.get(f"{metric}_ci95")
            yield name, figure_text(metric, found[metric], 3), found[metric], None if ends is None else (ends[0], ends[1])
    before = [row for row in record.history if row["phase"] == "finetune" and row["epoch"] == "0"]
    if before:
        value = float(numbers_of(before, f"val_{metric}")[0])
        yield "on val with frozen features", figure_text(metric, value, 3), value, None
    value, trivial = baseline_of(record)
    yield f"{trivial}, on test", figure_text(metric, value, 3), value, None


def _others(record: Record) -> str:
    """Every figure that test has, with its interval."""
    rows = []
    for name, title in TITLES.items():
        value, ends = record.test.get(name), record.test.get(f"{name}_ci95")
        if value is not None:
            shown = _plain if name in (*IN_UNIT, "bias") else _decimals
            rows.append((text(title), shown(value), "" if ends is None else f"{shown(ends[0])} to {shown(ends[1])}"))
    return table(("figure", "test", "95 % interval"), rows, "figures of test")


def _plain(value: float) -> str:
    return f"{value:.4g}"


def _decimals(value: float) -> str:
    return f"{value:.3f}"


def of_classes(record: Record) -> str:
    """Each class with its figures, the worst first; nothing for numbers."""
    if record.task == REGRESSION:
        return ""
    several = record.task == MULTI_LABEL
    key = "average_precision" if several else "recall"
    known = [(name, each) for name, each in record.test["per_class"].items() if each["support"]]
    known.sort(key=lambda one: one[1][key])
    names = [key, "precision", *(["recall"] if several else []), "f1", *(["threshold"] if several else [])]
    rows = [(text(name), bar(each[key]), *(_decimals(each[part]) for part in names), f"{each['support']:,}") for name, each in known]
    more = f'<p class="quiet">The worst {LISTED} of {len(rows):,} classes; metrics.json has all.</p>' if len(rows) > LISTED else ""
    empty = len(record.test["per_class"]) - len(known)
    none = f'<p class="quiet">{empty:,} classes have no image in test.</p>' if empty else ""
    told = "Recall is the share of a class' images that were found, precision the share of the answers for a class that are right."
    heads = ("class", "share", *(name.replace("_", " ") for name in names), "images")
    found = table(heads, rows[:LISTED], "figures of each class", num_texts=2, kind="bars")
    return section("classes", f"Each class, the worst first{record.where}", f'<p class="quiet">{told}</p>{more}{none}\n{found}')


def of_confusions(record: Record) -> str:
    """Which classes are taken for which; of many, those that are confused most. Nothing where an image has not one class."""
    if record.task != SINGLE_LABEL:
        return ""
    classes = list(record.test["per_class"])
    pairs = confusions(record.test["confusion_matrix"], classes)
    shown = _most_confused(pairs, classes)
    of = f" of the {len(shown)} classes that are confused most, of {len(classes):,}" if len(shown) < len(classes) else ""
    body = f'<p class="quiet">A row for each true class{of}: how many of its images were taken for each class.</p>\n'
    body += _matrix(np.array(record.test["confusion_matrix"]), classes, shown)
    if pairs:
        body += f"\n<h3>Most often confused</h3>\n{_pairs(record, pairs[:PAIRS])}"
    return section("confused", f"What is taken for what{record.where}", body)


def _most_confused(pairs: Sequence[tuple[str, str, int, int]], classes: Sequence[str]) -> list[int]:
    """Positions of the classes of the matrix, ascending."""
    if len(classes) <= SHOWN:
        return list(range(len(classes)))
    numbers = {name: number for number, name in enumerate(classes)}
    found: dict[int, None] = {}
    for true, said, _, _ in pairs:
        if len(found) <= SHOWN - 2:
            found |= {numbers[true]: None, numbers[said]: None}
    return sorted(found)


def _matrix(counts: Any, classes: Sequence[str], shown: Sequence[int]) -> str:
    totals = counts.sum(axis=1)
    heads = "".join(f'<th scope="col"><span>{text(classes[column])}</span></th>' for column in shown)
    rows = []
    for row in shown:
        cells = "".join(_cell(int(counts[row, column]), int(totals[row]), right=row == column) for column in shown)
        rows.append(f'<tr><th scope="row">{text(classes[row])}</th>{cells}</tr>')
    return (
        '<div class="wide" role="region" tabindex="0" aria-label="confusion matrix"><table class="matrix"><thead><tr><td>true, then '
        f"predicted</td>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(count: int, total: int, *, right: bool) -> str:
    if not count:
        return "<td></td>"
    share = round(45 * count / total)  # percent of the colour, so that the number on it can be read
    return f'<td class="{"hit" if right else "miss"}" style="--share:{share}%">{count:,}</td>'


def _pairs(record: Record, pairs: Sequence[tuple[str, str, int, int]]) -> str:
    """The most confused classes, each with the photos that were the most surely wrong."""
    rows = {(true, said): _surest(record, true, said) for true, said, _, _ in pairs}
    paths = [record.answers.paths[row] for found in rows.values() for row in found]
    addresses = record.gallery.addresses(paths)
    items = []
    for true, said, times, images in pairs:
        known = [record.answers.paths[row] for row in rows[true, said]]
        photos = figures((addresses[path], text(path)) for path in known if path in addresses)
        items.append(
            f"{photos}<strong>{text(true)}</strong> taken for <strong>{text(said)}</strong>: {times:,} of {images:,} images of {text(true)}"
        )
    return cards(items, kind=" pairs")


def _surest(record: Record, true: str, said: str) -> list[int]:
    answers = record.answers
    rows = [row for row in np.flatnonzero(~answers.right).tolist() if answers.true[row] == true and answers.said[row] == said]
    return sorted(rows, key=lambda row: -answers.confidence[row])[:PHOTOS]


def of_numbers(record: Record) -> str:
    """What is said against what is right, and how errors are spread; nothing where images have classes."""
    if record.task != REGRESSION:
        return ""
    true, said = record.answers.numbers
    rows = np.unique(np.linspace(0, len(true) - 1, POINTS).astype(np.int64))  # all of them where there are no more
    few = f" {POINTS:,} of {len(true):,} images are drawn." if len(rows) < len(true) else ""
    ends = around([true, said])
    heights, edges = np.histogram(said - true, bins=BINS)
    points = scatter(Axes(ends, ends, ("true number", "predicted number")), true[rows], said[rows], "What is said against what is right.")
    errors = columns(
        Axes(around(edges, margin=0.0), (0, float(heights.max()) * 1.05), ("error, predicted less true", "images")),
        edges.tolist(),
        heights.tolist(),
        f"The errors of {len(true):,} images, from {edges[0]:.3g} to {edges[-1]:.3g}.",
    )
    return section(
        "numbers",
        "Where it is right, and how far off",
        f'<p class="quiet">Each image is a point; on the line the answer is right.{few}</p>\n<div class="charts">{points}{errors}</div>',
    )


def _other_figures(record: Record) -> str:
    """What the figures on the page of an adapted run are of."""
    if record.judged is record:
        return " All other figures, confusions and examples on this page are of test images of the <strong>source</strong> domain."
    return "" if record.judged is None else " Classes, confusions and probabilities below are of those that have labels."


def of_target(record: Record) -> str:
    """How an adapted model does on its target; nothing for other runs."""
    target = record.metrics.get("target")
    if target is None:
        return ""
    kept = target["method"]
    body = f"<p>The target has {target['images']:,} images.{_other_figures(record)}</p>\n"
    if "figures" in target:
        rows = []
        for name, found in target["figures"].items():
            low, high = found["accuracy_ci95"]
            note = " (not adapted)" if name == SOURCE_ONLY else " (kept)" if name == kept else ""
            rows.append((text(name + note), _decimals(found["accuracy"]), f"{low:.3f} to {high:.3f}", _decimals(found["macro_f1"])))
        body += table(("method", "accuracy on the target", "95 % interval", "macro F1"), rows, "figures of the target")
    else:
        body += f"<p>Method kept: <strong>{text(kept)}</strong>. The target has no labels, so that nothing is measured there.</p>"
    heads = ("method", "classes it predicts", "log loss on the source", "accuracy on val of the source", "same answers as before")
    tried = [
        (
            text(one["method"])
            + (" (kept)" if one["method"] == kept else "")
            + (" <strong>collapsed</strong>" if one["collapsed"] else ""),
            f"{one['classes']:.1f}",
            *(_decimals(one[key]) for key in ("risk", "accuracy", "agreement")),
        )
        for one in target["candidates"]
    ]
    body += f"\n<h3>What was tried</h3>\n{table(heads, tried, 'methods and their scores, which need no labels')}"
    apart = [
        (text(name), *("" if found[key] is None else f"{found[key]:.3g}" for key in ("proxy_a", "mmd", "coral")))
        for name, found in target["distances"].items()
    ]
    body += (
        f"\n<h3>How far the domains are apart</h3>\n{table(('as seen by', 'proxy A-distance, 0 to 2', 'MMD', 'CORAL'), apart, 'distances')}"
    )
    return section("target", "The target domain", body)
