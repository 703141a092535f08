"""How good the model is on parts of the test images, the worst first."""

from typing import Any

import numpy as np

from tl_keras.evaluation.markup import bar, section, shortened, table, text
from tl_keras.evaluation.report.record import Record
from tl_keras.evaluation.slices import slices
from tl_keras.progress import Progress
from tl_keras.tasks import REGRESSION, figure_text

LISTED = 24  # slices in the table


def section_of(record: Record) -> str:
    """The part of the page; nothing where the images have no groups and are gone, or are too few or too much alike to be cut."""
    found = found_slices(record)
    if not found["slices"]:
        return ""
    name = found["figure"]
    largest = max(each[name] for each in found["slices"]) or 1.0
    scale = largest if record.task == REGRESSION else 1.0
    rows = [
        (
            text(f"{each['by']}: {each['name']}"),
            bar(each[name] / scale),
            figure_text(name, each[name], 3),
            " to ".join(figure_text(name, end, 3) for end in each[f"{name}_ci95"]),
            f"{each['images']:,}",
            f"{each['p']:.2g}",
        )
        for each in found["slices"]
    ]
    heads = ("part", "share" if scale == 1 else "error", name.replace("_", " "), "95 % interval", "images", "p")
    listed = table(heads, shortened(rows, LISTED, "slices between these"), "figures of slices", num_texts=2, kind="bars")
    return section("slices", f"Parts of the images, the worst first{record.where}", f"<p>{text(_said(found))}</p>\n{_about(found)}{listed}")


def found_slices(record: Record) -> dict[str, Any]:
    """See `slices.slices`."""
    answers, gallery = record.answers, record.gallery
    place_of = {path: place for place, path in enumerate(answers.paths)}
    rows = np.array([row for row, path in enumerate(gallery.index.paths) if path in place_of], np.int64)
    places = [place_of[gallery.index.paths[row]] for row in rows.tolist()]
    outcomes = answers.loss[places] if record.task == REGRESSION else answers.right[places]
    return slices(gallery.index.take(rows), gallery.root, gallery.decoding, record.task, outcomes, Progress())


def _said(found: dict[str, Any]) -> str:
    worst, name = found["worst"], found["figure"]
    if worst is None:
        return "No part is worse than the rest by more than chance explains."
    return (
        f"It is clearly worse on images by {worst['by']}: {worst['name']}. On these {worst['images']:,} images the {TITLES[name]} is "
        f"{figure_text(name, worst[name], 3)}."
    )


TITLES = {"accuracy": "accuracy", "exact_match": "share of images with every class right", "mae": "mean absolute error"}


def _about(found: dict[str, Any]) -> str:
    looked = f" Size, light and sharpness are those of {found['looked_at']:,} test images." if found["looked_at"] else ""
    told = f"p is how often chance makes a part so different from the rest, times the number of parts.{looked}"
    return f'<p class="quiet">{told}</p>\n'
