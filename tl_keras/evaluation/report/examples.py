"""Images of test with what the model says of them: surely wrong, hardly right, and right."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tl_keras.data.label_texts import SEPARATOR
from tl_keras.evaluation.markup import cards, cut, figures, section, text
from tl_keras.evaluation.report.record import Record
from tl_keras.tasks import MULTI_LABEL, REGRESSION, SINGLE_LABEL

SHOWN = 12  # images of a kind
RIGHT = 6
LONGEST = 300  # characters of the names of an image's classes


def section_of(record: Record) -> str:
    """The part of the page."""
    kinds = [(title, rows) for title, rows in _KINDS[record.task](record) if len(rows)]
    paths = [record.answers.paths[row] for _, rows in kinds for row in rows]
    addresses = record.gallery.addresses(paths)
    maps = record.gallery.map_addresses({record.answers.paths[row]: record.answers.said[row] for _, rows in kinds for row in rows})
    note = _GONE if not addresses else _MAPS if maps else ""
    first = f'<p class="quiet">{note}</p>\n' if note else ""
    pairs = " pairs" if maps else ""
    body = "\n".join(
        f"<h3>{title}</h3>\n{cards((_card(record, row, addresses, maps) for row in rows), kind=pairs)}" for title, rows in kinds
    )
    return section("examples", f"Examples{record.where}", first + body)


_GONE = (
    "The images are no longer where the run found them, so that this page has no pictures; <code>--data</code> of <code>report</code> says "
    "where they are now."
)
_MAPS = (
    "Beside each photo, cropped as the model sees it, is what speaks for the answer, the brighter the more (Grad-CAM). A map says what the "
    "answer rests on, not whether it should. <code>explain</code> does this for any image, in three ways."
)


def _of_classes(record: Record) -> list[tuple[str, Sequence[int]]]:
    answers = record.answers
    wrong, right = np.flatnonzero(~answers.right), np.flatnonzero(answers.right)
    return [
        ("Most surely wrong", _largest(answers.loss, wrong, SHOWN)),
        ("Right, but hardly sure", _largest(-answers.confidence, right, SHOWN // 2)),
        ("Right", _spread(right, RIGHT)),
    ]


def _of_several(record: Record) -> list[tuple[str, Sequence[int]]]:
    answers = record.answers
    wrong, right = np.flatnonzero(~answers.right), np.flatnonzero(answers.right)
    return [("Worst", _largest(answers.loss, wrong, SHOWN)), ("Every class right", _spread(right, RIGHT))]


def _of_numbers(record: Record) -> list[tuple[str, Sequence[int]]]:
    loss = record.answers.loss
    every = np.arange(len(loss))
    return [("Furthest off", _largest(loss, every, SHOWN)), ("Nearest", _largest(-loss, every, RIGHT))]


_KINDS = {SINGLE_LABEL: _of_classes, MULTI_LABEL: _of_several, REGRESSION: _of_numbers}


def _names(record: Record, label: str) -> str:
    return label.replace(SEPARATOR, ", ") if record.task == MULTI_LABEL else label


def _largest(values: NDArray[np.float64], rows: NDArray[np.int64], num: int) -> list[int]:
    found: list[int] = rows[np.argsort(-values[rows], kind="stable")[:num]].tolist()
    return found


def _spread(rows: NDArray[np.int64], num: int) -> list[int]:
    """Some of the rows, evenly spread."""
    found: list[int] = rows[np.unique(np.linspace(0, len(rows) - 1, num).astype(np.int64))].tolist() if len(rows) else []
    return found


def _card(record: Record, row: int, addresses: dict[str, str], maps: dict[str, str]) -> str:
    answers = record.answers
    path = answers.paths[row]
    true, said = (text(cut(_names(record, each[row]), LONGEST)) or "none" for each in (answers.true, answers.said))
    beside = [(maps[path], f"map for {said}")] if path in maps else []
    photo = figures([(addresses[path], text(path)), *beside]) if path in addresses else f'<p class="quiet">{text(path)}</p>'
    if record.task == REGRESSION:
        return f"{photo}true {true}, predicted {said}"
    sure = f" ({answers.confidence[row]:.3f})" if record.task == SINGLE_LABEL else ""
    if answers.right[row]:
        return f"{photo}{said}{sure}"
    return f"{photo}predicted <strong>{said}</strong>{sure}<br>true <strong>{true}</strong>"
