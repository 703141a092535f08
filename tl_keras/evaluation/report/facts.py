"""From the record of a run to the facts that its verdict is about, and the commands that mend what it finds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_keras import advice, run_folder
from tl_keras.adaptations import SOURCE_ONLY
from tl_keras.config import Config
from tl_keras.data.label_texts import number_text
from tl_keras.evaluation.history import numbers_of
from tl_keras.evaluation.intervals import wilson
from tl_keras.evaluation.report.calibration import error_of, reliability_of
from tl_keras.evaluation.report.record import Record
from tl_keras.evaluation.report.verdict import LEAST_CONFUSED, LEAST_IMAGES, MANY, Domain, Facts, Flagged, Part, Weak
from tl_keras.evaluation.slices import told
from tl_keras.tasks import MULTI_LABEL, REGRESSION, SINGLE_LABEL

SMALL = "small_resnet"  # the bundled backbone
DIGITS = "digits"  # the bundled images, for which it is made
PHOTOS = "mobilenet_v2"  # a backbone for photos that is small and fast
FEWER = 0.5  # of the images of a typical class: a class that has less has few
STANDS_OUT = 1.3  # times the mean error: a range of numbers that does worse
MOST_WEAK = 3
LONGER = 3  # times the epochs


def facts_of(record: Record) -> Facts:
    """What the rules of the verdict know of a run."""
    metric, test = record.output.metric_name, record.test
    value = float(test[metric])
    low, high = test.get(f"{metric}_ci95", (value, value))
    baseline, trivial = baseline_of(record)
    return Facts(
        task=record.task,
        mode=str(record.metrics["mode"]),
        images=len(record.answers.paths),
        value=value,
        interval=(float(low), float(high)),
        baseline=baseline,
        trivial=trivial,
        leaked=len(leaked_rows(record)),
        gap=_gap(record),
        domain=_domain(record),
        part=_part(record),
        flagged=_flagged(record),
        is_start=_is_start(record),
        is_small=record.config.model.backbone == SMALL and record.config.data.source != DIGITS and record.metrics["mode"] != "ensemble",
        can_vary=record.config.data.augment.auto == "none" and record.metrics["mode"] == "finetune",
        **_TASK_FACTS[record.task](record),
    )


def baseline_of(record: Record) -> tuple[float, str]:
    """The figure on test of an answer that needs no model but only the labels of train, and what that answer is.

    Of classes the most frequent one; of several labels a ranking at random; of numbers the median, which has the least absolute error.
    """
    labels, test = record.index.labels, record.split == "test"
    if record.task == REGRESSION:
        median = float(np.median(labels[record.split == "train"]))
        return float(np.abs(labels[test] - median).mean()), f"always answering {number_text(median)}"
    if record.task == MULTI_LABEL:
        shares = labels[test].mean(axis=0)
        return float(shares[shares > 0].mean() if shares.any() else 0.0), "ranking the images at random"
    most = int(record.counts("train").argmax())  # not a class that is predicted
    return float((labels[test] == most).mean()), f"always answering '{record.index.classes[most]}'"


def leaked_rows(record: Record) -> NDArray[np.int64]:
    """Positions of the images of test whose content is also in train or val, int64 (m,); none where it is not known."""
    ids = record.index.ids
    if ids is None:
        return np.zeros(0, np.int64)
    is_test = record.split == "test"
    return np.flatnonzero(is_test & np.isin(ids, ids[~is_test]))


def _of_classes(record: Record) -> dict[str, Any]:
    shown = record.judged
    if shown is None or shown.domain == "source":
        return {}
    test = shown.test
    weak, learned = weak_classes(test["per_class"], record), record.counts("train")
    confused = confusions(test["confusion_matrix"], list(test["per_class"]))
    bins = reliability_of(shown)
    images = sum(each["images"] for each in bins)
    return {
        "confidence": sum(each["images"] * each["confidence"] for each in bins) / images if images else None,
        "ece": error_of(shown),
        "weak": weak,
        "least_learned": _least_learned(weak, learned),
        "confused": confused[0] if confused and confused[0][2] >= LEAST_CONFUSED else None,
    }


def _of_several(record: Record) -> dict[str, Any]:
    weak, learned = weak_classes(record.test["per_class"], record), record.counts("train")
    known = [(name, float(each["f1"])) for name, each in record.test["per_class"].items() if each["support"] >= LEAST_IMAGES]
    return {
        "exact": float(record.test["exact_match"]),
        "micro_f1": float(record.test["micro_f1"]),
        "weak": weak,
        "least_learned": _least_learned(weak, learned),
        "lowest": min(known, key=lambda one: one[1], default=None),
    }


def _of_numbers(record: Record) -> dict[str, Any]:
    error, true = record.answers.loss, record.answers.numbers[0]
    half, most = np.quantile(error, [0.5, 0.9])
    thirds = [rows for rows in np.array_split(np.argsort(true, kind="stable"), 3) if len(rows) >= LEAST_IMAGES]
    worst = max(thirds, key=lambda rows: float(error[rows].mean()), default=None)
    stands_out = worst is not None and error[worst].mean() > STANDS_OUT * error.mean()
    return {
        "errors": (float(half), float(most)),
        "bias": tuple(record.test.get("bias_ci95", (0.0, 0.0))),
        "worst_range": (float(true[worst].min()), float(true[worst].max()), float(error[worst].mean())) if stands_out else None,
    }


_TASK_FACTS = {SINGLE_LABEL: _of_classes, MULTI_LABEL: _of_several, REGRESSION: _of_numbers}


def weak_classes(per_class: Mapping[str, Mapping[str, Any]], record: Record) -> tuple[Weak, ...]:
    """The classes that are found clearly less often than all classes together: their interval lies below. The worst first."""
    learned = dict(zip(record.index.classes, record.counts("train").tolist(), strict=True))
    found = {name: round(each["recall"] * each["support"]) for name, each in per_class.items()}
    of_all = sum(found.values()) / max(sum(each["support"] for each in per_class.values()), 1)
    weak = [
        Weak(name=name, found=found[name], images=each["support"], learned=learned.get(name, 0))
        for name, each in per_class.items()
        if each["support"] >= LEAST_IMAGES and wilson(found[name], each["support"])[1] < of_all
    ]
    return tuple(sorted(weak, key=lambda each: each.found / each.images)[:MOST_WEAK])


def confusions(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> list[tuple[str, str, int, int]]:
    """Which classes are taken for which others: true, predicted, how often, images of the true one; the most frequent first."""
    counts = np.array(matrix)
    totals = counts.sum(axis=1)
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[: np.count_nonzero(wrong)]
    return [(classes[i], classes[j], int(wrong[i, j]), int(totals[i])) for i, j in zip(*np.unravel_index(order, wrong.shape), strict=True)]


def _least_learned(weak: Sequence[Weak], learned: NDArray[np.int64]) -> Weak | None:
    """The weak class with the fewest images to learn from, where these are few for a class here."""
    least = min(weak, key=lambda each: each.learned, default=None)
    few = least is not None and least.learned < min(MANY, FEWER * float(np.median(learned)))
    return least if few else None


def _gap(record: Record) -> float | None:
    """How much better the figure is on train than on val at the end of training; None where it is not in the history, or is an error."""
    metric = record.output.metric_name
    if record.task == REGRESSION or len(record.history) < 2:
        return None
    train, val = (numbers_of(record.history[-1:], name)[0] for name in (metric, f"val_{metric}"))
    return float(train - val) if np.isfinite(train - val) else None


def _is_start(record: Record) -> bool:
    """Whether finetuning has kept its beginning, which history.csv has as epoch 0: it is the best by the figure that chooses."""
    if record.metrics["mode"] != "finetune":
        return False
    monitor = record.config.train.monitor
    rows = [row for row in record.history if row["phase"] == "finetune" and row.get(monitor)]
    best = max(rows, key=lambda row: record.output.turned(monitor, float(row[monitor])), default=None)
    return best is not None and best["epoch"] == "0"


def _part(record: Record) -> Part | None:
    """The part of the test images that is clearly worse than the rest; of an adapted model, which is not for images like these, none."""
    if "target" in record.metrics or record.slices["worst"] is None:
        return None
    worst, name = record.slices["worst"], record.slices["figure"]
    low, high = worst[f"{name}_ci95"]
    return Part(told=told(worst["by"], worst["name"]), images=worst["images"], value=worst[name], interval=(low, high), rest=worst["rest"])


def _flagged(record: Record) -> Flagged | None:
    found = record.metrics.get("novelty", {})
    if "flagged" not in found:
        return None
    low, high = found["flagged_ci95"]
    return Flagged(share=found["flagged"], interval=(low, high), asked=found["false_alarms"])


def _domain(record: Record) -> Domain | None:
    target = record.metrics.get("target")
    if target is None:
        return None
    known: dict[str, Any] = {"is_own": record.is_for_target_alone}
    if "figures" in target:
        kept, before = (target["figures"][name] for name in (target["method"], SOURCE_ONLY))
        known |= {"accuracy": kept["accuracy"], "interval": tuple(kept["accuracy_ci95"]), "before": before["accuracy"]}
    return Domain(images=target["images"], **known)


def commands_for(config: Config, run: Path) -> dict[str, str]:
    """Commands that can be pasted, by the names that the rules of the verdict give them."""
    source, kept = config.data.source, tuple(advice.short_flags(config, config.model.backbone))
    again = (config.mode, "--config", run / run_folder.CONFIG)
    return {
        "again": advice.command(*again),
        "check": advice.command("check", source, *kept),
        "evaluate": advice.command("evaluate", run, advice.NEW_IMAGES),
        "export": advice.command("export", run),
        "finetune": advice.command("finetune", source, *kept),
        "finetune_new": advice.command("finetune", advice.NEW_IMAGES, "--backbone", config.model.backbone),
        "finetune_photos": advice.command("finetune", source, *advice.short_flags(config.replace("data.image_size", None), PHOTOS)),
        "longer": advice.command("finetune", *again[1:], "--epochs", LONGER * (config.model_dump()["train"]["epochs"] or 1)),
        "predict": advice.command("predict", run, advice.NEW_IMAGES),
        "pretrained": advice.command("finetune", advice.NEW_IMAGES, "--backbone", run / run_folder.BACKBONE),
        "rank": advice.command("rank", source),
        "vary": advice.command("finetune", *again[1:], "--set", "data.augment.auto=trivial"),
    }
