"""The doctor: what is wrong with images and labels, before anything is trained on them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_keras import run_folder
from tl_keras.config import Config
from tl_keras.config_file import to_yaml
from tl_keras.data import dataset, images
from tl_keras.data.augment import is_identity
from tl_keras.data.augment_sheet import write_sheet
from tl_keras.data.check.balance import parts_of
from tl_keras.data.check.copies import number_pictures
from tl_keras.data.check.faults import FAULTS, Finding, doubtful_copies, faults_of_copies, faults_of_files, of_classes, of_numbers
from tl_keras.data.depth import tell_depth
from tl_keras.data.exclusion import PATH, excluded
from tl_keras.data.found import straddling_lines
from tl_keras.data.index import SPLIT_NAMES, Index
from tl_keras.data.label_texts import COLUMNS, SEPARATOR, number_text, text_of
from tl_keras.data.sources import open_source
from tl_keras.data.splits import outside_test
from tl_keras.data.walk import left_out_lines
from tl_keras.errors import DataError
from tl_keras.progress import Progress
from tl_keras.run_folder import RunFolder
from tl_keras.runtime import restoring_process, set_up
from tl_keras.select.check.judge import Judgement, faults_of_labels, judge
from tl_keras.select.check.page import render
from tl_keras.tasks import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from tl_keras.transfer.build import image_size_of
from tl_keras.workflows.rank import with_best_backbone
from tl_keras.workflows.setting_up import environment, look_at_images, tell_shrunk, working_in

QUARANTINE = "quarantine"
COMMON = 0.5  # a note on more of the images than that is told once, of all
IMAGES_DRAWN = 6  # with their views
LOPSIDED = 10  # times the smallest class from which the largest is told


@dataclass(frozen=True)
class Trust:
    """How well a linear model does on images that it has not seen, in words, and what its doubts are worth where a figure is too low."""

    told: str
    figure: str
    least: float
    doubts: tuple[str, str]  # with it, and with a better one


HINTS = ("its doubts about labels are hints at best", "has fewer")  # most of them are mistakes of its own
TRUST = {
    SINGLE_LABEL: Trust("a linear classifier is right on {accuracy:.1%} of images that it has not seen", "accuracy", 0.8, HINTS),
    MULTI_LABEL: Trust("a linear classifier has a mAP of {map:.2f} on images that it has not seen", "map", 0.8, HINTS),
    REGRESSION: Trust(
        "a linear regression is off by {mae:.4g} on average (R2 {r2:.2f}) on images that it has not seen",
        "r2",
        0.8,
        ("it finds gross mistakes only", "finds smaller ones"),
    ),
}


@restoring_process()
def check(config: Config, run_dir: Path | str, *, fix: str | None = None, progress: Progress | None = None) -> dict[str, Any]:
    """Look for faults in the images of `data.source`, and in their labels.

    Every image is decoded once and its frozen features are computed; both are kept for the next check and for training.
    Images of test are looked at like all others: nothing is chosen or trained.

    Args:
        config: `mode` is 'check'.
        run_dir: the folder to make, for check.html, check.csv, distribution.csv, check.json and augmented.png.
        fix: 'quarantine' writes exclude.csv too, for `data.exclude`. No image is moved or changed.

    Returns:
        What check.json holds.

    Raises:
        UserError: anything that the user can mend; a folder made for it is gone again.
    """
    progress, run = progress or Progress(), RunFolder.at(run_dir)
    set_up(config.runtime)
    run.require_free()
    index = open_source(config.data, progress).identified(progress)
    tell_shrunk(config, index, progress)
    tell_depth(index.files, config.data.bit_depth, progress)
    for line in (*index.notes, *left_out_lines(index.ignored)):
        progress.line(line)
    with working_in(run, resume=False):
        facts, bad, equal, near = look_at_images(index, config.data, progress)
        good, copies = np.setdiff1d(np.arange(len(index.paths)), list(bad)), [*equal, *near]
        if config.data.copies == "near":
            index = replace(index, pictures=number_pictures(copies, len(index.paths)))
        split, trouble = cut(index, config, bad)
        config = with_best_backbone(config, index, run, progress, known(index, good, split))
        left_out = excluded(index, config.data.exclude) & (split != "test")
        judged, why_not = judge(config, index, good, progress)
        reasons = {row: reason.removeprefix(f"{index.root / index.paths[row]}: ") for row, reason in bad.items()}
        apart = of_numbers(index.labels) if index.output.task == REGRESSION else of_classes(index.label_numbers)
        found = [
            *faults_of_files(facts, reasons, index.paths, image_size_of(config)),
            *faults_of_copies(copies, apart, split, partial(text_of, index)),
            *(() if judged is None else faults_of_labels(judged)),
        ]
        found = [each for each in found if not left_out[[each.row, each.row if each.other is None else each.other]].any()]
        findings, notes = by_fault(found, len(index.paths))
        notes = [*trouble, *notes, *class_notes(index), *straddling_lines(index, split), *why_not]
        result = describe(config, index, findings, [*notes, *(() if judged is None else label_notes(judged))], len(trouble))
        draw_views(run, config, index, good[split[good] == "train"] if (split[good] == "train").any() else good)
        if fix == QUARANTINE:
            result |= quarantine(run, config, index, split, bad, findings, doubtful_copies(copies, apart, split), judged)
        write(run, config, index, split, findings, result, images.Decoding.of(config.data), distribution(index, split, findings))
    return result


def cut(index: Index, config: Config, bad: dict[int, str]) -> tuple[NDArray[np.str_], list[str]]:
    """The splits of a training run, '' for an image that it would not use; and the reason if the images cannot be split."""
    try:
        return dataset.cut(index, config.data, bad), []
    except DataError as error:
        split = np.array(index.given or [""] * len(index.paths), dtype="<U5")
        split[list(bad)] = ""
        return split, [f"No training run can begin: {error}"]


def known(index: Index, good: NDArray[np.int64], split: NDArray[np.str_]) -> NDArray[np.int64]:
    """The images that backbones are ranked on: of those that decode and have a label, train and val; all where there are no splits."""
    rows = good[index.labelled[good]]
    learned = np.intersect1d(rows, outside_test(split))
    return learned if len(learned) else rows


def draw_views(run: RunFolder, config: Config, index: Index, rows: NDArray[np.int64]) -> None:
    """Write augmented.png: some images, and what training epochs would show of them; nothing without augmentation.

    Args:
        rows: images to choose from.
    """
    if is_identity(config.data.augment) or not len(rows):
        return
    chosen = rows[np.unique(np.linspace(0, len(rows) - 1, IMAGES_DRAWN).astype(int))]
    pixels = dataset.open_pixels(index, config.data, image_size_of(config)).read(chosen)
    write_sheet(run / run_folder.AUGMENTED, pixels, config.data.augment, config.runtime.seed)


def by_fault(found: Iterable[Finding], num_images: int) -> tuple[dict[str, list[Finding]], list[str]]:
    """Findings by fault, in the order of the table and the clearest first; a note on most images becomes a line about all."""
    findings: dict[str, list[Finding]] = {name: [] for name in FAULTS}
    for each in found:
        findings[each.fault].append(each)
    common = [name for name, each in findings.items() if FAULTS[name].severity == "note" and len(each) > COMMON * num_images]
    notes = [f"{len(findings[name]):,} of {num_images:,}: {FAULTS[name].title}. {FAULTS[name].advice}" for name in common]
    kept = {name: sorted(each, key=lambda one: (-one.score, one.row)) for name, each in findings.items() if each and name not in common}
    return kept, notes


def class_notes(index: Index) -> list[str]:
    """What is to be said of the sizes of classes, or of numbers that are very often the same."""
    num, task = len(index.paths), index.output.task
    if task == REGRESSION:
        values, sizes = np.unique(index.labels, return_counts=True)
        if len(values) == 1 or sizes.max() <= COMMON * num:
            return []
        often = f"{sizes.max():,} of {num:,} images have the number {number_text(values[np.argmax(sizes)])}"  # a place, not a class
        return [f"{often}: if that stands for a missing one, leave those rows out."]
    by_class = Counter(sizes_of(index))
    (largest, most), (smallest, least) = by_class.most_common()[0], by_class.most_common()[-1]
    told = f"Class '{largest}' has {most:,} images and '{smallest}' {least:,}"
    notes = []
    if most >= LOPSIDED * max(least, 1):
        remedy = (
            "train with --set train.class_weights=balanced"
            if task == SINGLE_LABEL
            else "look at the figures of each class, not at micro F1"
        )
        notes.append(f"{told}: {remedy}.")
    if task == MULTI_LABEL and (without := int((~index.labels.any(axis=1)).sum())):
        notes.append(f"{without:,} of {num:,} images have none of the classes; an empty cell says so, and does not say 'not known'.")
    return notes


def sizes_of(index: Index) -> dict[str, int]:
    """How many images have each class; in a regression, how many have a number."""
    return dict(zip(index.classes, index.sizes(np.arange(len(index.paths))).tolist(), strict=True))


def label_notes(judged: Judgement) -> list[str]:
    """How far the doubts about labels can be trusted."""
    trust, figures = TRUST[judged.output.task], judged.figures
    line = f"On frozen features of {judged.backbone} {trust.told.format(**figures)}."
    if figures[trust.figure] < trust.least:
        worth, better = trust.doubts
        such = "" if judged.backbone == "mobilenet_v2" else ", such as mobilenet_v2 for photos,"
        line += f" So {worth}. A better --backbone{such} {better}."
    return [line]


def distribution(index: Index, split: NDArray[np.str_], findings: dict[str, list[Finding]]) -> list[tuple[str | int, ...]]:
    """The lines of distribution.csv: name, images, images of each split, and suspect labels, of each class or interval of numbers."""
    suspects, doubted = findings.get("mislabelled", []), Counter[str]()
    if index.output.task == MULTI_LABEL:  # the classes that are missing or too much, not all that the image has
        for each in suspects:
            doubted.update(set(each.likely.split(SEPARATOR)) ^ set(text_of(index, each.row).split(SEPARATOR)))
    else:
        rows = [each.row for each in suspects]
        doubted.update({part.name: int(np.isin(part.rows, rows).sum()) for part in parts_of(index)})
    return [
        (part.name, len(part.rows), *(int((split[part.rows] == name).sum()) for name in SPLIT_NAMES), doubted[part.name])
        for part in parts_of(index)
    ]


def describe(config: Config, index: Index, findings: dict[str, list[Finding]], notes: Sequence[str], trouble: int) -> dict[str, Any]:
    """What check.json holds.

    Args:
        trouble: errors that are not of single images, which the notes tell.
    """
    numbers = {name: len(found) for name, found in findings.items()}
    by_severity = Counter(dict.fromkeys(("error", "warning", "note"), 0))
    for name, number in numbers.items():
        by_severity[FAULTS[name].severity] += number
    by_severity["error"] += trouble
    return {
        "task": index.output.task,
        "data": config.data.source,
        "backbone": config.model.backbone,
        "images": len(index.paths),
        "classes": sizes_of(index),
        "findings": numbers,
        "errors": by_severity["error"],
        "warnings": by_severity["warning"],
        "notes_on_images": by_severity["note"],
        "notes": list(notes),
        "verdict": verdict(by_severity),
    }


def verdict(by_severity: Counter[str]) -> str:
    """One sentence."""
    if not by_severity.total():
        return "No faults were found in individual images."
    told = [f"{number:,} {severity}{'s' * (number > 1)}" for severity, number in by_severity.items() if number]
    first = "Mend the errors before you train." if by_severity["error"] else "Nothing here has to be mended before you train."
    return f"{' and '.join([', '.join(told[:-1]), told[-1]] if len(told) > 1 else told)}. {first}"


def quarantine(
    run: RunFolder,
    config: Config,
    index: Index,
    split: NDArray[np.str_],
    bad: dict[int, str],
    findings: dict[str, list[Finding]],
    copies: dict[int, str],
    judged: Judgement | None,
) -> dict[str, Any]:
    """Write exclude.csv: images of train and val that are better left out, each with the fault that it is left out for.

    Args:
        copies: images that are better left out for their copies, and the fault of each.
    """
    reasons = copies | {each.row: fault for fault in ("mislabelled", "blank") for each in findings.get(fault, ())}
    listed = [row for row in sorted(reasons) if split[row] != "test"]
    run_folder.write_csv(run / run_folder.EXCLUDE, (PATH, "fault"), ((index.paths[row], reasons[row]) for row in listed))
    result: dict[str, Any] = {"excluded": len(listed)}
    _, trouble = cut(index, config.replace("data.exclude", str(run / run_folder.EXCLUDE)), bad)
    if listed and trouble:
        result["trouble_with_list"] = trouble[0]
    if judged is not None and listed and judged.can_do_without(listed):
        before, after = judged.figures_without(listed)
        result |= {f"{name}_of_others": {"with_excluded": before[name], "without": after[name]} for name in before}
    return result


def write(
    run: RunFolder,
    config: Config,
    index: Index,
    split: NDArray[np.str_],
    findings: dict[str, list[Finding]],
    result: dict[str, Any],
    decoding: images.Decoding,
    labels: Sequence[tuple[str | int, ...]],
) -> None:
    """Write the run folder; check.json last.

    Args:
        labels: lines of `distribution`.
    """
    run_folder.write_text(run / run_folder.CONFIG, to_yaml(config))
    run_folder.write_json(run / run_folder.ENVIRONMENT, environment())
    lines = (
        (
            index.paths[each.row],
            text_of(index, each.row),
            split[each.row],
            fault,
            FAULTS[fault].severity,
            f"{each.score:.6g}",
            each.detail,
            "" if each.other is None else index.paths[each.other],
            each.likely,
        )
        for fault, found in findings.items()
        for each in found
    )
    column = COLUMNS[index.output.task]
    run_folder.write_csv(
        run / run_folder.CHECK_TABLE, (PATH, column, "split", "fault", "severity", "score", "detail", "copy_of", f"likely_{column}"), lines
    )
    run_folder.write_csv(run / run_folder.DISTRIBUTION, (column, "images", *SPLIT_NAMES, "suspect"), labels)
    sheet = run / run_folder.AUGMENTED
    run_folder.write_text(
        run / run_folder.CHECK_PAGE, render(result, findings, index, decoding, labels, sheet if sheet.is_file() else None)
    )
    run_folder.write_json(run / run_folder.CHECK, result)
