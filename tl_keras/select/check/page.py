"""check.html: what was found, with pictures, in one file that opens without a network."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from tl_keras.data.check.faults import FAULTS, Finding
from tl_keras.data.images import Decoding
from tl_keras.data.index import SPLIT_NAMES, Index
from tl_keras.data.label_texts import text_of
from tl_keras.evaluation.markup import bar, cards, figures, fill, section, shortened, table, text
from tl_keras.evaluation.thumbnails import address_of, thumbnails
from tl_keras.tasks import REGRESSION

SHOWN = 24  # findings of a kind that come with pictures; check.csv has all
LISTED = 40  # classes in the table of labels
SHEET_SIDE = 1600  # pixels of a side of the picture of views, at most


def render(
    result: Mapping[str, Any],
    findings: Mapping[str, Sequence[Finding]],
    index: Index,
    decoding: Decoding,
    labels: Sequence[Sequence[str | int]],
    sheet: Path | None,
) -> str:
    """The page.

    Args:
        result: what check.json holds.
        findings: by fault, the clearest first.
        labels: how they are distributed: name, images, images of train, val and test, suspect ones, of each class or interval.
        sheet: a picture of images and their random views, if there is one.
    """
    shown = {fault: found[:SHOWN] for fault, found in findings.items()}
    wanted = sorted({row for found in shown.values() for each in found for row in (each.row, each.other) if row is not None})
    addresses = thumbnails([index.root / index.paths[row] for row in wanted], decoding)
    pictures = {row: (address, _caption(index, row)) for row, address in zip(wanted, addresses, strict=True)}
    return fill(
        "tl_keras.select.check",
        "page.html",
        name=text(f"{index.root.name or index.root}: {result['images']:,} images"),
        verdict=text(result["verdict"]),
        facts="\n".join(f'<p class="quiet">{text(line)}</p>' for line in result["notes"]),
        contents=_contents(result["findings"]),
        sections="\n".join(_section(fault, result["findings"][fault], shown[fault], pictures) for fault in findings),
        labels=_labels(labels, result["task"]),
        views="" if sheet is None else _views(sheet),
    )


def _caption(index: Index, row: int) -> str:
    path = index.paths[row]
    label = text_of(index, row) or "no label"
    return text(path if label in path.split("/") else f"{path} ({label})")


def _labels(lines: Sequence[Sequence[str | int]], task: str) -> str:
    """How labels are distributed, as a table with bars; of very many classes the largest and the smallest."""
    if task != REGRESSION:
        lines = sorted(lines, key=lambda line: -int(line[1]))
    most = max(int(line[1]) for line in lines)
    rows = [(text(name), bar(int(numbers[0]) / max(most, 1)), *(f"{number:,}" for number in numbers)) for name, *numbers in lines]
    heads = ("numbers" if task == REGRESSION else "class", "share", "images", *SPLIT_NAMES, "suspect")
    shown = shortened(rows, LISTED, "more in between; distribution.csv lists all")
    return section("labels", "How labels are distributed", table(heads, shown, "labels", num_texts=2, kind="bars"))


def _contents(numbers: Mapping[str, int]) -> str:
    if not numbers:
        return "<p>Nothing was found.</p>"
    rows = [
        (
            f'<a href="#{fault}">{text(FAULTS[fault].title)}</a>',
            f'<span class="{FAULTS[fault].severity}">{FAULTS[fault].severity}</span>',
            f"{number:,}",
        )
        for fault, number in numbers.items()
    ]
    return table(("finding", "severity", "images"), rows, "findings", num_texts=2)


def _section(fault: str, number: int, shown: Sequence[Finding], pictures: Mapping[int, tuple[str, str]]) -> str:
    kind = FAULTS[fault]
    more = f" The {len(shown)} clearest are shown; check.csv lists all." if number > len(shown) else ""
    pairs = " pairs" if any(each.other is not None for each in shown) else ""
    title = f'{number:,} {text(kind.title)} <span class="{kind.severity}">{kind.severity}</span>'
    found = cards((_card(each, pictures) for each in shown), kind=pairs)
    return section(fault, title, f'<p class="quiet">{text(kind.advice)}{more}</p>\n{found}')


def _card(finding: Finding, pictures: Mapping[int, tuple[str, str]]) -> str:
    rows = [finding.row] if finding.other is None else [finding.row, finding.other]
    return figures(pictures[row] for row in rows) + text(finding.detail)


def _views(sheet: Path) -> str:
    with Image.open(sheet) as image:
        address = address_of(image.convert("RGB"), SHEET_SIDE)
    return section(
        "views",
        "What training shows of an image",
        '<p class="quiet">Random views by data.augment, as the epochs of finetune and pretrain show them. Whatever tells one class from '
        "another should still be there.</p>\n"
        f'<img class="sheet" src="{address}" alt="A row for each of some images: the original, and random views of it.">',
    )
