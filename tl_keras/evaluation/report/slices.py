"""How good the model is on parts of the test images, the worst first."""

from typing import Any

from tl_keras.evaluation.markup import bar, section, shortened, table, text
from tl_keras.evaluation.report.record import Record
from tl_keras.evaluation.slices import told
from tl_keras.tasks import REGRESSION, figure_text

LISTED = 24  # slices in the table


def section_of(record: Record) -> str:
    """The part of the page; nothing where the images have no groups and are gone, or are too few or too much alike to be cut."""
    found = record.slices
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


def _said(found: dict[str, Any]) -> str:
    worst = found["worst"]
    if worst is None:
        return "No part is worse than the rest by more than chance explains."
    return f"Clearly worse than the rest: {told(worst['by'], worst['name'])}."


def _about(found: dict[str, Any]) -> str:
    looked = f" Size, light and sharpness are those of {found['looked_at']:,} test images." if found["looked_at"] else ""
    return f'<p class="quiet">p is how often chance makes a part so different from the rest, times the number of parts.{looked}</p>\n'
