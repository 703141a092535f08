"""check.html: what was found, with pictures, in one file that opens without a network."""

import base64
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from html import escape
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from string import Template
from typing import Any

from PIL import Image

from tl_keras.data import images
from tl_keras.data.check.faults import FAULTS, Finding
from tl_keras.data.index import SPLIT_NAMES, Index
from tl_keras.data.label_texts import text_of
from tl_keras.errors import BadImageError
from tl_keras.runtime import usable_cpus
from tl_keras.tasks import REGRESSION

SHOWN = 24  # findings of a kind that come with pictures; check.csv has all
LISTED = 40  # classes in the table of labels
SIDE = 160  # pixels of a picture's longer side, at most
SHEET_SIDE = 1600  # of the picture of views
QUALITY = 70  # of its JPEG


def render(
    result: Mapping[str, Any],
    findings: Mapping[str, Sequence[Finding]],
    index: Index,
    decoding: images.Decoding,
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
    with ThreadPoolExecutor(usable_cpus()) as pool:
        pictures = dict(zip(wanted, pool.map(lambda row: picture(index, row, decoding), wanted), strict=True))
    captions = {row: _caption(index, row) for row in wanted}
    template = Template(files("tl_keras.select.check").joinpath("page.html").read_text(encoding="utf-8"))
    return template.substitute(
        name=escape(f"{index.root.name or index.root}: {result['images']:,} images"),
        verdict=escape(result["verdict"]),
        facts=_facts(result),
        contents=_contents(result["findings"]),
        sections="\n".join(_section(fault, result["findings"][fault], shown[fault], pictures, captions) for fault in findings),
        labels=_labels(labels, result["task"]),
        views="" if sheet is None else _views(sheet),
    )


def picture(index: Index, row: int, decoding: images.Decoding) -> str:
    """A small copy of an image as the address of an `<img>`; empty where it does not decode."""
    try:
        return images.look(index.root / index.paths[row], _encoded, decoding)
    except BadImageError:
        return ""


def _encoded(kind: str, pixels: images.Pixels) -> str:
    return _address(Image.fromarray(pixels), SIDE)


def _address(image: Image.Image, side: int) -> str:
    """An image, at most that large, as the address of an `<img>`."""
    image.thumbnail((side, side))
    file = BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _caption(index: Index, row: int) -> str:
    path = index.paths[row]
    label = text_of(index, row) or "no label"
    return escape(path if label in path.split("/") else f"{path} ({label})")


def _facts(result: Mapping[str, Any]) -> str:
    return "\n".join(f'<p class="quiet">{escape(line)}</p>' for line in result["notes"])


def _labels(lines: Sequence[Sequence[str | int]], task: str) -> str:
    """How labels are distributed, as a table with bars; of very many classes the largest and the smallest."""
    if task != REGRESSION:
        lines = sorted(lines, key=lambda line: -int(line[1]))
    most, left_out = max(int(line[1]) for line in lines), lines[LISTED // 2 : -(LISTED // 2)] if len(lines) > LISTED else []
    rows = [_bar(line, most) for line in lines if line not in left_out]
    if left_out:
        rows.insert(LISTED // 2, f'<tr><td colspan="7">{len(left_out):,} more in between; distribution.csv lists all</td></tr>')
    heads = f"<th>{'numbers' if task == REGRESSION else 'class'}</th><th></th>"
    heads += "".join(f'<th class="number">{name}</th>' for name in ("images", *SPLIT_NAMES, "suspect"))
    return (
        '<section aria-labelledby="labels"><h2 id="labels" tabindex="-1">How labels are distributed</h2>\n'
        f'<div class="wide"><table class="labels"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _bar(line: Sequence[str | int], most: int) -> str:
    name, *numbers = line
    share = 100 * int(numbers[0]) / max(most, 1)
    cells = "".join(f'<td class="number">{number:,}</td>' for number in numbers)
    return f'<tr><td>{escape(str(name))}</td><td><div class="bar" style="width:{share:.1f}%"></div></td>{cells}</tr>'


def _contents(numbers: Mapping[str, int]) -> str:
    if not numbers:
        return "<p>Nothing was found.</p>"
    rows = "".join(
        f'<tr><td class="number">{number:,}</td><td><a href="#{fault}">{escape(FAULTS[fault].title)}</a></td>'
        f'<td class="{FAULTS[fault].severity}">{FAULTS[fault].severity}</td></tr>'
        for fault, number in numbers.items()
    )
    return f'<table><thead><tr><th class="number">images</th><th>finding</th><th>severity</th></tr></thead><tbody>{rows}</tbody></table>'


def _section(fault: str, number: int, shown: Sequence[Finding], pictures: Mapping[int, str], captions: Mapping[int, str]) -> str:
    kind = FAULTS[fault]
    more = f" The {len(shown)} clearest are shown; check.csv lists all." if number > len(shown) else ""
    pairs = " pairs" if any(each.other is not None for each in shown) else ""
    cards = "\n".join(_card(each, pictures, captions) for each in shown)
    return (
        f'<section aria-labelledby="{fault}"><h2 id="{fault}" tabindex="-1">{number:,} {escape(kind.title)} '
        f'<span class="{kind.severity}">{kind.severity}</span></h2>\n'
        f'<p class="quiet">{escape(kind.advice)}{more}</p>\n<ul class="cards{pairs}">\n{cards}\n</ul></section>'
    )


def _card(finding: Finding, pictures: Mapping[int, str], captions: Mapping[int, str]) -> str:
    rows = [finding.row] if finding.other is None else [finding.row, finding.other]
    figures = "".join(f"<figure>{_image(pictures[row], captions[row])}<figcaption>{captions[row]}</figcaption></figure>" for row in rows)
    return f'<li class="card" tabindex="0"><div class="images">{figures}</div>{escape(finding.detail)}</li>'


def _views(sheet: Path) -> str:
    with Image.open(sheet) as image:
        address = _address(image.convert("RGB"), SHEET_SIDE)
    return (
        '<section aria-labelledby="views"><h2 id="views" tabindex="-1">What training shows of an image</h2>\n'
        '<p class="quiet">Random views by data.augment, as the epochs of finetune and pretrain show them. Whatever tells one class from '
        "another should still be there.</p>\n"
        f'<img class="sheet" src="{address}" alt="A row for each of some images: the original, and random views of it."></section>'
    )


def _image(address: str, caption: str) -> str:
    return f'<img src="{address}" alt="{caption}">' if address else ""
