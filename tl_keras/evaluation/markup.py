"""HTML of the pages that this package writes: text, tables and cards, in one style. Knows neither runs nor images."""

import re
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from string import Template

NO_CHARACTER = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")  # controls, and bytes that are not UTF-8


def text(value: object) -> str:
    """A value as text of a page: what HTML would take for its own is escaped, and what is no character is shown as an unknown one."""
    return escape(NO_CHARACTER.sub("\ufffd", str(value)))


def cut(value: str, most: int) -> str:
    """Text of at most so many characters, with … where the rest was."""
    return value if len(value) <= most else f"{value[: most - 1]}…"


def fill(package: str, file: str, /, **parts: str) -> str:
    """A file of a package, a template, with its parts and the style of all pages filled in.

    Args:
        parts: HTML.
    """
    style = files("tl_keras.evaluation").joinpath("page.css").read_text(encoding="utf-8")
    return Template(files(package).joinpath(file).read_text(encoding="utf-8")).substitute(parts, style=style)


def section(anchor: str, title: str, body: str) -> str:
    """A part of a page, with the anchor that links lead to.

    Args:
        title: HTML.
        body: HTML.
    """
    return f'<section aria-labelledby="{anchor}"><h2 id="{anchor}" tabindex="-1">{title}</h2>\n{body}</section>'


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], label: str, *, num_texts: int = 1, kind: str = "") -> str:
    """A table that scrolls sideways where the page is too narrow; keys can do it too.

    Args:
        heads: HTML of each column's head.
        rows: HTML of each cell; the first is the head of its row. A row of one cell goes across the table.
        label: what a screen reader calls the table.
        num_texts: the first columns, which are texts; the others are numbers, and stand to the right.
        kind: its class.
    """
    numbers = [' class="number"' if place >= num_texts else "" for place in range(len(heads))]
    header = "".join(f'<th scope="col"{number}>{head}</th>' for head, number in zip(heads, numbers, strict=True))
    body = "".join(f"<tr>{_cells(row, numbers)}</tr>" for row in rows)
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{text(label)}"><table class="{kind}"><thead><tr>{header}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _cells(row: Sequence[str], numbers: Sequence[str]) -> str:
    if len(row) == 1:
        return f'<td colspan="{len(numbers)}">{row[0]}</td>'
    cells = (f"<td{number}>{cell}</td>" for cell, number in zip(row[1:], numbers[1:], strict=True))
    return f'<th scope="row">{row[0]}</th>{"".join(cells)}'


def bar(share: float) -> str:
    """A bar of so much of its cell's width, in [0, 1]."""
    return f'<div class="bar" style="width:{100 * share:.1f}%"></div>'


def shortened(rows: Sequence[Sequence[str]], most: int, told: str) -> list[Sequence[str]]:
    """At most so many rows of a table: the first half and the last, with a line between them that counts the others.

    Args:
        told: what is said behind the number of rows that are left out.
    """
    if len(rows) <= most:
        return list(rows)
    left_out = len(rows) - most // 2 * 2
    return [*rows[: most // 2], (f"{left_out:,} {told}",), *rows[-(most // 2) :]]


def image(address: str, caption: str) -> str:
    """A picture; nothing where there is no address.

    Args:
        caption: HTML.
    """
    return f'<img src="{address}" alt="{caption}">' if address else ""


def cards(items: Iterable[str], *, kind: str = "") -> str:
    """A grid of cards.

    Args:
        items: HTML of each.
    """
    found = "\n".join(f'<li class="card" tabindex="0">{item}</li>' for item in items)
    return f'<ul class="cards{kind}">\n{found}\n</ul>'


def figures(pictures: Iterable[tuple[str, str]]) -> str:
    """Pictures side by side.

    Args:
        pictures: of each its address, which may be empty, and its caption as HTML.
    """
    shown = "".join(f"<figure>{image(address, caption)}<figcaption>{caption}</figcaption></figure>" for address, caption in pictures)
    return f'<div class="images">{shown}</div>'
