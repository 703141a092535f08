"""Labels as text, in the tables of a run folder and of a user: a name, several names with ';' between them, or a number."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tl_keras.data.index import UNLABELLED, Index
from tl_keras.models.outputs import OUTPUTS, Labels, Output
from tl_keras.tasks import MULTI_LABEL, REGRESSION, SINGLE_LABEL

SEPARATOR = ";"  # between the names of several classes in the tables of a run folder
PROBABILITY = "p_"  # before the name of a class: the column of its probabilities, or of its shares in soft labels
COLUMNS = {SINGLE_LABEL: "class", MULTI_LABEL: "classes", REGRESSION: "value"}  # the task -> the name of the column there


def texts_of(index: Index, rows: Iterable[int]) -> Iterator[str]:
    """The labels of some images, such as "cat", "beach;sunset" or "61.5"."""
    return (text_of(index, row) for row in rows)


def text_of(index: Index, row: int) -> str:
    """The label of one image; '' where it has none."""
    label = index.labels[row]
    unlabelled = index.output.task == SINGLE_LABEL and label == UNLABELLED
    return "" if unlabelled else label_text(index.output, label, index.classes)


def label_text(output: Output, label: Any, classes: Sequence[str]) -> str:
    """One label, or a decision, which are of one kind."""
    if output.task == MULTI_LABEL:
        return SEPARATOR.join(names_of(label, classes))
    return number_text(label) if output.task == REGRESSION else classes[int(label)]


def names_of(has: ArrayLike, classes: Sequence[str]) -> list[str]:
    """The names of the classes that an image has: bool (k,)."""
    return [classes[place] for place in np.flatnonzero(has).tolist()]


def number_text(number: float) -> str:
    """A number in the fewest digits that give the same float32 again."""
    return str(np.float32(number)).removesuffix(".0")


def labels_of(task: str, texts: Sequence[str]) -> tuple[tuple[str, ...], Labels, Output]:
    """The classes, the labels and what they mean, of a table of a run folder.

    Raises:
        ValueError: a number is not one.
    """
    if task == REGRESSION:
        return (COLUMNS[task],), numbers_of(texts), OUTPUTS[task]
    if task == MULTI_LABEL:
        several = [text.split(SEPARATOR) if text else [] for text in texts]
        classes = tuple(sorted({name for names in several for name in names}))
        return classes, has_of(several, classes), OUTPUTS[task]
    classes = tuple(sorted(set(texts)))
    number = {name: label for label, name in enumerate(classes)}
    return classes, np.fromiter((number[name] for name in texts), np.int32, len(texts)), OUTPUTS[task]


def has_of(several: Sequence[Iterable[str]], classes: Sequence[str]) -> NDArray[np.bool_]:
    """Which classes each image has, bool (n, k), from their names."""
    number = {name: label for label, name in enumerate(classes)}
    found = np.zeros((len(several), len(classes)), bool)
    for row, names in enumerate(several):
        found[row, [number[name] for name in names]] = True
    return found


def numbers_of(texts: Sequence[str]) -> NDArray[np.float32]:
    """Numbers, float32 (n,).

    Raises:
        ValueError: one is not a finite number.
    """
    found = [finite(text) for text in texts]
    if any(map(math.isnan, found)):
        raise ValueError(f"{next(text for text, number in zip(texts, found, strict=True) if math.isnan(number))!r} is not a number")
    return np.array(found, np.float32)


def finite(text: str) -> float:
    """The number that a text is; NaN where it is none, or too large for float32."""
    try:
        number = float(text)
    except ValueError:
        return math.nan
    return number if abs(number) <= float(np.finfo(np.float32).max) else math.nan
