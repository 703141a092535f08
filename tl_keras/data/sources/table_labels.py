"""From the label cells of a table to classes and labels, as `data.task` says what they are."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from tl_keras.data.label_texts import SEPARATOR, finite, has_of
from tl_keras.data.sources.class_folders import class_name
from tl_keras.data.sources.source import NEAR
from tl_keras.errors import DataError, UnknownClassError
from tl_keras.models.outputs import OUTPUTS, Labels, Output
from tl_keras.tasks import MULTI_LABEL, REGRESSION, SINGLE_LABEL

SEPARATORS = (";", "|", ",")  # what a cell may have between several classes
MOST_NUMBERS = 20  # different numbers that may well be classes
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?")
MOST_LOST = 1e-3  # standard deviations of numbers by which rounding may change one
FEW = 4  # images of a class that cannot be cut into splits


@dataclass(frozen=True)
class LabelCells:
    """The column of labels.

    Attributes:
        table: the file.
        column: its name.
        texts: of each row, '' for an empty cell.
        places: where each row is, such as "line 7".
        separator: between several classes.
    """

    table: Path
    column: str
    texts: Sequence[str]
    places: Sequence[str]
    separator: str


@dataclass(frozen=True)
class Found:
    """Labels as `Index` has them.

    Attributes:
        notes: lines on how they were read, or on what looks as if it was meant otherwise.
    """

    classes: tuple[str, ...]
    labels: Labels
    output: Output
    notes: tuple[str, ...] = ()
    shares: NDArray[np.float32] | None = None


def read_labels(cells: LabelCells, task: str, known: Sequence[str] | None = None) -> Found:
    """Read the labels.

    Args:
        task: a key of `OUTPUTS`.
        known: the classes of a model that is there already, in its order; None makes a list of those that are found.

    Raises:
        DataError: there is one class only, two classes differ in case or blanks alone, a class is not known, or a number is none.
    """
    return READERS[task](cells, known)


def _single(cells: LabelCells, known: Sequence[str] | None) -> Found:
    names = [class_name(text) for text in cells.texts]
    classes = classes_of(cells.table, names, known)
    if known is None:
        if len(classes) < 2:
            raise DataError(f"{cells.table}: one class only ({classes[0]!r}); a classifier needs at least 2.")
        _refuse_measurements(cells)
    number = {class_name(name): label for label, name in enumerate(classes)}
    labels = np.fromiter((number[name] for name in names), np.int32, len(names))
    return Found(classes, labels, OUTPUTS[SINGLE_LABEL], tuple(_several_in_a_cell(cells, names)))


def _several(cells: LabelCells, known: Sequence[str] | None) -> Found:
    several = [[class_name(name.strip()) for name in text.split(cells.separator) if name.strip()] for text in cells.texts]
    names = [name for each in several for name in each]
    if not names:
        raise DataError(f"{cells.table}: no image has a class: the column '{cells.column}' is empty. Fill it in.")
    unfit = next((name for name in names if SEPARATOR in name), None)
    if unfit is not None:
        raise DataError(
            f"{cells.table}: has a class {unfit!r}; a name cannot hold {SEPARATOR!r}, which separates names in the tables of a run. "
            f"Set data.label_separator to it, or rename the class."
        )
    classes = classes_of(cells.table, names, known)
    if known is None:
        _refuse_measurements(cells)
    if known is None and all(set(each) == set(several[0]) for each in several):
        raise DataError(f"{cells.table}: all images have the same classes ({', '.join(classes)}); there is nothing to learn.")
    folded = {name: class_name(name) for name in classes}
    notes: tuple[str, ...] = ()
    if max(map(len, several)) < 2:
        notes = (f"no image has more than one class{_other_separator(classes, cells.separator)}",)
    return Found(classes, has_of(several, [folded[name] for name in classes]), OUTPUTS[MULTI_LABEL], notes)


def _numbers(cells: LabelCells, known: Sequence[str] | None) -> Found:
    numbers = np.array([finite(text) for text in cells.texts])
    unfit = np.flatnonzero(np.isnan(numbers))
    if len(unfit):
        text, comma = cells.texts[unfit[0]], cells.texts[unfit[0]].replace(",", ".", 1)
        hint = f" Write {comma}." if text.count(",") == 1 and not np.isnan(finite(comma)) else " Mend it, or remove the row."
        if THOUSANDS.fullmatch(text):  # where it is not plain what the comma is
            hint = f" Write {text.replace(',', '')}" + (f", or {comma} if the comma is a decimal one." if text.count(",") == 1 else ".")
        more = f"; {len(unfit)} rows are like that" if len(unfit) > 1 else ""
        raise DataError(
            f"{cells.table}: {cells.places[unfit[0]]} has {text!r} in the column '{cells.column}', expected a finite number{more}.{hint}"
        )
    if known is None:
        if numbers.min() == numbers.max():
            raise DataError(f"{cells.table}: all numbers in the column '{cells.column}' are {numbers[0]:g}; there is nothing to learn.")
        _refuse_lost_digits(cells, numbers)
    return Found((cells.column,) if known is None else tuple(known), numbers.astype(np.float32), OUTPUTS[REGRESSION])


def _refuse_lost_digits(cells: LabelCells, numbers: NDArray[np.float64]) -> None:
    """Refuse numbers that differ by too little of their size for float32, such as the seconds of a clock that began in 1970."""
    lost = float(np.abs(numbers.astype(np.float32) - numbers).max())
    if lost > MOST_LOST * numbers.std():
        raise DataError(
            f"{cells.table}: the numbers in the column '{cells.column}' lie between {numbers.min():.15g} and {numbers.max():.15g}, "
            f"too close together for their size: rounding to float32 changes them by up to {lost:.2g}. "
            f"Subtract {numbers.min():.15g} from each."
        )


READERS: dict[str, Callable[[LabelCells, Sequence[str] | None], Found]] = {
    SINGLE_LABEL: _single,
    MULTI_LABEL: _several,
    REGRESSION: _numbers,
}


def classes_of(table: Path, names: Sequence[str], known: Sequence[str] | None) -> tuple[str, ...]:
    """The classes in the order of their labels.

    Raises:
        DataError: one is not known, or two are nearly the same.
    """
    if known is None:
        _refuse_twins(table, names)
        return tuple(sorted(set(names)))
    unknown = sorted(set(names) - set(map(class_name, known)))  # older models may have names that are not composed
    if unknown:
        _refuse_unknown(table, unknown[0], known)
    return tuple(known)


def _refuse_unknown(table: Path, name: str, known: Sequence[str]) -> NoReturn:
    near = get_close_matches(name, known, n=1, cutoff=NEAR)
    hint = f" Did you mean '{near[0]}'?" if near else f" It knows {', '.join(known)}."
    raise UnknownClassError(f"{table}: has a class {name!r}, which the model does not know.{hint}")


def _refuse_twins(table: Path, labels: Sequence[str]) -> None:
    """Refuse labels that differ in case, or in blanks between their words, alone."""
    numbers = Counter(labels)
    met: dict[str, str] = {}
    for label in sorted(numbers):
        twin = met.setdefault(" ".join(label.casefold().split()), label)
        if twin != label:
            raise DataError(
                f"{table}: the labels {twin!r} ({numbers[twin]} rows) and {label!r} ({numbers[label]} rows) differ in nothing but case or "
                "blanks. Give both the same name."
            )


def _refuse_measurements(cells: LabelCells) -> None:
    """Refuse numbers of which most are there once or twice: they are not names of classes."""
    sizes = Counter(cells.texts)
    rare = sum(size < FEW for size in sizes.values())
    if len(sizes) > MOST_NUMBERS and 2 * rare > len(sizes) and not any(np.isnan(finite(text)) for text in sizes):
        raise DataError(
            f"{cells.table}: the column '{cells.column}' has {len(sizes)} different numbers, and {rare} of them in fewer than {FEW} rows: "
            "too few for a class. To predict a number, set data.task=regression."
        )


def _other_separator(classes: Sequence[str], used: str) -> str:
    """What to add where classes look as if something else stood between their names."""
    for separator in SEPARATORS:
        name = next((name for name in classes if separator in name and separator != used), None)
        if name is not None:
            return f", and one is called {name!r}; if {separator!r} separates names, set data.label_separator={separator!r}"
    return ""


def _several_in_a_cell(cells: LabelCells, names: Sequence[str]) -> list[str]:
    """A line on labels that look like several classes each: one of them is made of others that are there alone."""
    alone = set(names)
    for name in sorted(alone):
        for separator in SEPARATORS:
            parts = [part.strip() for part in name.split(separator)]
            if len(parts) > 1 and all(part in alone for part in parts):
                asked = "data.task=multi_label" + f" and data.label_separator={separator!r}" * (separator != SEPARATOR)
                return [f"the label {name!r} counts as one class; if an image may have several, set {asked}"]
    return []
