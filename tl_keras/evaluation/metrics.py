"""How good a classifier or a regression is, from its answers and labels: the figures of `metrics.json`.

Owns their definitions. Plain NumPy, scikit-learn and SciPy: it must not know TensorFlow, models, files or which split
the labels come from. The dictionary goes to `metrics.json` as it is.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from tl_keras.evaluation.calibration import calibration_error, reliability
from tl_keras.evaluation.intervals import bootstrap, wilson
from tl_keras.evaluation.roc import RocAreas, roc_areas
from tl_keras.models.outputs import EXACT, SINGLE_LABEL, Labels, MultiLabel, Output, SingleLabel, is_soft
from tl_keras.models.precision_recall import Ranking, average_precision
from tl_keras.tasks import MULTI_LABEL, REGRESSION

TOP = 5  # classes among which the true one may be for `top_5_accuracy`
ROUNDING = 1e-12  # relative: a variance in float64 that is less is none
LABEL_ENTROPY = "label_entropy"  # of soft labels, in nats: the log loss of answers that are the labels themselves
SUMMARY = {  # the task -> the figures that tell most
    SINGLE_LABEL.task: ("accuracy", "macro_f1", "log_loss"),
    MULTI_LABEL: ("map", "micro_f1", "macro_f1", "log_loss"),
    REGRESSION: ("mae", "rmse", "r2"),
}


def figures_of(output: Output, answers: NDArray[np.float64], labels: Labels, classes: Sequence[str]) -> dict[str, Any]:
    """All figures of one split, as plain Python numbers for JSON; see the function for each task.

    Args:
        answers: (n, k), what `output` makes of the model's outputs.
        labels: of the n images.

    Returns:
        The figures of the task; of a regression also `relative_squared_error`, in variances of the labels that it learned from.
    """
    if isinstance(output, SingleLabel):
        return classification_metrics(answers, labels, classes)
    if isinstance(output, MultiLabel):
        return multi_label_metrics(output, answers, labels, classes)
    figures = regression_metrics(answers[:, 0], labels)
    return figures | {output.loss_figure: (figures["rmse"] / output.scale) ** 2}


def metric_of(output: Output, answers: NDArray[np.float64], labels: Labels) -> Callable[[NDArray[np.integer]], NDArray[np.float64]]:
    """The figure that `output` is named after (`metric_name`), of answers to the same images over and over.

    Args:
        answers: (n, k).
        labels: of the n images.

    Returns:
        How often each image is there in each of b resamples, int (b, n) -> the figure of each, (b,).
    """
    if isinstance(output, MultiLabel):
        rankings = [Ranking.of(answers[:, k], labels[:, k]) for k in np.flatnonzero(labels.any(axis=0))]
        return lambda times: mean_precision(rankings, times)
    of_image = output.is_right(answers, labels) if isinstance(output, SingleLabel) else np.abs(output.decide(answers) - labels)
    return lambda times: (times @ of_image.astype(np.float64)) / times.sum(axis=1)


def mean_precision(rankings: Collection[Ranking], times: NDArray[np.integer]) -> NDArray[np.float64]:
    """The mean average precision of each resample, (b,), from the ranking of each class."""
    each = [ranking.average_precision(times) for ranking in rankings]
    return _mean_of_known(np.reshape(each, (len(rankings), len(times))).T)


def classification_metrics(probabilities: ArrayLike, labels: ArrayLike, classes: Sequence[str]) -> dict[str, Any]:
    """All figures of one split, as plain Python numbers for JSON.

    The prediction is what `outputs` decides. A ratio without a denominator is 0: precision of a
    class that was never predicted, recall and F1 of a class without images. The macro figures are means over the
    classes that have images, so that a class missing from the split does not lower them.

    Args:
        probabilities: `(n, k)` in [0, 1], rows sum to 1.
        labels: integers `(n,)`, positions in `classes`; or soft labels `(n, k)`, shares that sum to 1, of which the most probable
            class is the true one.
        classes: k names.

    Returns:
        `accuracy`, and where there are more than five classes `top_5_accuracy`, each with `..._ci95`, `[low, high]`, see
        `intervals.wilson`. `macro_precision`, `macro_recall` (the balanced accuracy), `macro_f1`; `log_loss` in nats, the true class'
        probability counted as at least 2.2e-16 (so at most 36.04 an image), of soft labels the cross-entropy with all of their shares;
        `ece`, the expected calibration error, see `calibration`: each with `..._ci95` from resamples of the images. `roc_auc`, the mean
        area under the ROC curve of each class against all others, with its interval, see `roc`; not there where all images are of one
        class. `reliability`, what `ece` is made of. With soft labels `label_entropy`, the least that `log_loss` can be. `per_class`, by
        name `precision`, `recall`, `f1`, `support`, the number of images, `roc_auc` and `average_precision`, each None where it is not
        defined; `confusion_matrix`, a list per true class of the images predicted as each class.

    Raises:
        ValueError: no images, shapes that do not fit, labels that are not classes, rows that are not probabilities.
    """
    learned, probabilities = np.asarray(labels), np.asarray(probabilities, np.float64)
    single = SINGLE_LABEL.classes_of(learned) if learned.shape == probabilities.shape else learned
    probabilities, labels = _checked(probabilities, single, len(classes))
    predicted, confidence = SINGLE_LABEL.decide(probabilities), probabilities.max(axis=1)
    right, losses = predicted == labels, _log_losses(probabilities, learned)
    every = np.arange(len(classes))
    scores = precision_recall_fscore_support(labels, predicted, labels=every, zero_division=0.0)
    precision, recall, f1, support = (values.tolist() for values in scores)
    error, macros = calibration_error(confidence, right), macro_figures(labels, predicted, len(classes))
    truth = labels[:, None] == every
    areas = roc_areas(probabilities, truth)

    def figures(times: NDArray[np.integer]) -> NDArray[np.float64]:
        return np.column_stack([macros(times), times @ losses / len(losses), error(times)])

    names = ("macro_precision", "macro_recall", "macro_f1", SINGLE_LABEL.loss_figure, "ece")
    return {
        **share("accuracy", right),
        **(share(f"top_{TOP}_accuracy", _is_among_first(probabilities, labels, TOP)) if len(classes) > TOP else {}),
        **_with_intervals(names, *bootstrap(len(labels), figures), least=0, most=(1, 1, 1, np.inf, 1)),
        **_roc_figures(areas),
        **({LABEL_ENTROPY: float(_log_losses(learned.astype(np.float64), learned).mean())} if is_soft(learned) else {}),
        "reliability": reliability(confidence, right),
        "per_class": {
            name: {
                "precision": precision[i],
                "recall": recall[i],
                "f1": f1[i],
                "support": support[i],
                "roc_auc": _or_none(areas.each[i]),
                "average_precision": _or_none(average_precision(probabilities[:, i], truth[:, i])[0]),
            }
            for i, name in enumerate(classes)
        },
        "confusion_matrix": confusion_matrix(labels, predicted, labels=every).tolist(),
    }


def _roc_figures(areas: RocAreas) -> dict[str, Any]:
    """The mean area and its interval for JSON; of each nothing where there is none."""
    if np.isnan(areas.mean):
        return {}
    return {"roc_auc": areas.mean} | ({} if np.isnan(areas.ci95).any() else {"roc_auc_ci95": list(areas.ci95)})


def _or_none(figure: np.floating[Any]) -> float | None:
    """A figure for JSON, which knows no NaN."""
    return None if np.isnan(figure) else float(figure)


def _is_among_first(probabilities: NDArray[np.float64], labels: NDArray[np.integer], num: int) -> NDArray[np.bool_]:
    """Whether fewer than `num` classes are more probable than the true one, or as probable and before it in the list, (n,)."""
    own = np.take_along_axis(probabilities, labels[:, None], axis=1)
    before = np.arange(probabilities.shape[1]) < labels[:, None]
    found: NDArray[np.bool_] = ((probabilities > own) | ((probabilities == own) & before)).sum(axis=1) < num
    return found


def macro_figures(
    labels: NDArray[np.integer], predicted: NDArray[np.integer], num_classes: int
) -> Callable[[NDArray[np.integer]], NDArray[np.float64]]:
    """Macro precision, recall and F1 of each resample, (b, 3): means over the classes that have images in it."""
    cells, own = np.unique(labels * num_classes + predicted, return_inverse=True)  # of the confusion matrix
    in_cells = _sums_by(own, len(cells))
    of, said = np.divmod(cells, num_classes)
    each_of, each_said = (_sums_by(each, num_classes) for each in (of, said))
    diagonal = np.flatnonzero(of == said)

    def figures(times: NDArray[np.integer]) -> NDArray[np.float64]:
        counts = in_cells(times)
        support, found, hits = each_of(counts), each_said(counts), np.zeros((len(times), num_classes))
        hits[:, of[diagonal]] = counts[:, diagonal]
        each = (hits / np.maximum(found, 1), hits / np.maximum(support, 1), 2 * hits / np.maximum(support + found, 1))
        return np.column_stack([_mean_of_known(np.where(support > 0, values, np.nan)) for values in each])

    return figures


def _sums_by(kinds: NDArray[np.integer], num_kinds: int) -> Callable[[NDArray[Any]], NDArray[np.float64]]:
    """What adds up the columns of each kind, in memory by columns and not by columns times kinds.

    Args:
        kinds: of n columns, (n,), from 0 to m - 1.
        num_kinds: m.

    Returns:
        (b, n) -> (b, m).
    """
    order = np.argsort(kinds, kind="stable")
    there, starts = np.unique(kinds[order], return_index=True)

    def sums(values: NDArray[Any]) -> NDArray[np.float64]:
        found = np.zeros((len(values), num_kinds))
        found[:, there] = np.add.reduceat(values[:, order], starts, axis=1)
        return found

    return sums


def multi_label_metrics(
    output: MultiLabel, probabilities: NDArray[np.float64], labels: NDArray[np.bool_], classes: Sequence[str]
) -> dict[str, Any]:
    """All figures of one split where an image may have several classes.

    Args:
        output: has the thresholds of the classes.
        probabilities: (n, k) in [0, 1].
        labels: bool (n, k).
        classes: k names.

    Returns:
        `map`, the mean average precision; `micro_f1`, of all decisions together; `macro_f1`, the mean over classes; `exact_match`, the
        share of images of which every class is right; `log_loss`, binary, the mean over images and classes in nats; and `per_class`, by
        name `average_precision`, `roc_auc`, `precision`, `recall`, `f1`, `support`, the number of images, and `threshold`. Means over
        classes are over those with images, and `average_precision` of another is None. `roc_auc` is as with one class an image. `map`,
        `micro_f1` and `macro_f1` have a `..._ci95` from resamples of the images, `exact_match` one by Wilson.

    Raises:
        ValueError: no images, or shapes that do not fit.
    """
    if not len(labels) or probabilities.shape != labels.shape or labels.shape[1] != len(classes):
        raise ValueError(f"probabilities {probabilities.shape}, labels {labels.shape} and {len(classes)} classes do not fit together.")
    found = output.decide(probabilities)
    there = np.flatnonzero(labels.any(axis=0))
    truth, said = (labels, found) if len(classes) > 1 else (labels[:, 0], found[:, 0])  # of a column, scikit-learn counts both kinds
    scores = precision_recall_fscore_support(truth, said, labels=None if len(classes) > 1 else [True], average=None, zero_division=0.0)
    precision, recall, f1, support = (values.tolist() for values in scores)
    right = (found == labels).all(axis=1)
    thresholds = output.thresholds or [0.5] * len(classes)
    of_truth = np.clip(np.where(labels, probabilities, 1 - probabilities), EXACT, 1)
    areas = roc_areas(probabilities, labels)
    rankings = {k: Ranking.of(probabilities[:, k], labels[:, k]) for k in there.tolist()}
    precisions = {k: each.average_precision(np.ones((1, len(labels)), np.int32)).item() for k, each in rankings.items()}

    def figures(times: NDArray[np.integer]) -> NDArray[np.float64]:
        return np.column_stack([mean_precision(rankings.values(), times), *f1_of(labels, found, times)])

    return {
        **_with_intervals(("map", "micro_f1", "macro_f1"), *bootstrap(len(labels), figures), least=0, most=1),
        **share("exact_match", right),
        **_roc_figures(areas),
        SINGLE_LABEL.loss_figure: float(-np.log(of_truth).mean()),
        "per_class": {
            name: {
                "average_precision": precisions.get(i),
                "roc_auc": _or_none(areas.each[i]),
                "precision": precision[i],
                "recall": recall[i],
                "f1": f1[i],
                "support": int(support[i]),
                "threshold": float(thresholds[i]),
            }
            for i, name in enumerate(classes)
        },
    }


def f1_of(labels: NDArray[np.bool_], found: NDArray[np.bool_], times: NDArray[np.integer]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Micro and macro F1 of each resample, (b,)."""
    weights = times.astype(np.float32)  # counts that float32 holds exactly, and that BLAS multiplies
    hits, wrong, truth = (weights @ each.astype(np.float32) for each in (labels & found, labels ^ found, labels))
    each = np.where(truth > 0, 2 * hits / np.maximum(2 * hits + wrong, 1), np.nan)
    return 2 * hits.sum(axis=1) / np.maximum(2 * hits.sum(axis=1) + wrong.sum(axis=1), 1), _mean_of_known(each)


def _mean_of_known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of each row (b, k) over what is not NaN; 0 where all are."""
    known = ~np.isnan(values)
    found: NDArray[np.float64] = np.where(known, values, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return found


def _with_intervals(
    names: Sequence[str], values: NDArray[np.float64], ends: NDArray[np.float64], *, least: ArrayLike, most: ArrayLike
) -> dict[str, Any]:
    """Figures for JSON: each by its name, and after it its interval, as far as the figure can go."""
    found: dict[str, Any] = {}
    ends = np.clip(ends, least, most)
    for place, name in enumerate(names):
        found |= {name: float(values[place]), f"{name}_ci95": ends[:, place].tolist()}
    return found


def regression_metrics(numbers: NDArray[np.float64], labels: NDArray[np.floating]) -> dict[str, Any]:
    """All figures of one split where an image has a number.

    Args:
        numbers: (n,), what the model says.
        labels: (n,), what is right.

    Returns:
        `mae`, the mean absolute error, and `rmse`, the root of the mean squared error, in the unit of the labels; `r2`, one less the
        squared error over that of the labels' own mean, 0 where the labels are all equal; `bias`, the mean of the errors. Each has a
        `..._ci95` from resamples of the images.

    Raises:
        ValueError: no images, or shapes that do not fit.
    """
    if not len(labels) or numbers.shape != labels.shape:
        raise ValueError(f"numbers {numbers.shape} and labels {labels.shape} do not fit together.")
    least, most = (0, 0, -np.inf, -np.inf), (np.inf, np.inf, 1, np.inf)
    return _with_intervals(("mae", "rmse", "r2", "bias"), *bootstrap(len(labels), number_figures(numbers, labels)), least=least, most=most)


def number_figures(numbers: NDArray[np.float64], labels: NDArray[np.floating]) -> Callable[[NDArray[np.integer]], NDArray[np.float64]]:
    """`mae`, `rmse`, `r2` and `bias` of each resample, (b, 4); see `regression_metrics`."""
    truth = labels.astype(np.float64)
    error, centred = numbers - truth, truth - truth.mean()

    def figures(times: NDArray[np.integer]) -> NDArray[np.float64]:
        shares = times / len(truth)
        squared, variance = shares @ error**2, shares @ centred**2 - (shares @ centred) ** 2
        varies = variance > ROUNDING * (centred**2).max()  # else a resample of equal labels has a variance of rounding alone
        r2 = np.where(varies, 1 - squared / np.where(varies, variance, 1), 0.0)
        return np.column_stack([shares @ np.abs(error), np.sqrt(squared), r2, shares @ error])

    return figures


def share(name: str, right: NDArray[np.bool_]) -> dict[str, Any]:
    """The share of the images for which something holds, by its name, and after it its interval."""
    return {name: float(right.mean()), f"{name}_ci95": list(wilson(int(right.sum()), len(right)))}


def _log_losses(probabilities: NDArray[np.float64], labels: Labels) -> NDArray[np.float64]:
    """The log loss of each image, (n,); see `classification_metrics`."""
    targets = SINGLE_LABEL.targets(labels, probabilities.shape[1]).astype(np.float64)
    found: NDArray[np.float64] = 0.0 - (targets * np.log(np.maximum(probabilities, EXACT))).sum(axis=1)
    return found


def _checked(probabilities: NDArray[np.float64], labels: NDArray[Any], num_classes: int) -> tuple[NDArray[np.float64], NDArray[np.integer]]:
    """Raises ValueError where the arguments of `classification_metrics` do not fit together."""
    if labels.ndim != 1 or probabilities.shape != (len(labels), num_classes):
        raise ValueError(
            f"probabilities of shape {probabilities.shape}, labels of shape {labels.shape} and {num_classes} classes "
            f"do not fit together: expected (n, {num_classes}) and (n,)."
        )
    if not len(labels):
        raise ValueError("Received no images. Metrics need at least one.")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels are {labels.dtype}, expected integers, positions in the list of classes.")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(f"labels lie in {labels.min()}..{labels.max()}, expected 0..{num_classes - 1} for {num_classes} classes.")
    if not (probabilities >= 0).all() or not np.allclose(probabilities.sum(axis=1), 1.0, rtol=0, atol=1e-3):
        raise ValueError("probabilities must be 0 or more and each row must sum to 1. Received logits?")
    return probabilities, labels
