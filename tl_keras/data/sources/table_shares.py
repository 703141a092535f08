"""Soft labels: a table that has a column for each class, and in it how much of that class an image is.

The numbers are probabilities, or, in columns that `data.columns` lists, also votes. Everything that needs one class takes the most
probable one; see `SingleLabel.classes_of`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tl_keras.data.label_texts import finite
from tl_keras.data.sources.table_labels import Found, classes_of
from tl_keras.errors import DataError
from tl_keras.models.outputs import SINGLE_LABEL

MOST_NAMED = 3  # columns in a line
FROM_ONE = 0.01  # by which rounded probabilities may miss a sum of 1


@dataclass(frozen=True)
class ShareCells:
    """The columns of soft labels.

    Attributes:
        table: the file.
        columns: the name of each class -> that of its column.
        texts: the name of each class -> the text of each row.
        places: where each row is, such as "line 7".
        votes: whether any numbers of 0 or more will do; else the sum of a row is to be 1.
    """

    table: Path
    columns: Mapping[str, str]
    texts: Mapping[str, Sequence[str]]
    places: Sequence[str]
    votes: bool


def read_shares(cells: ShareCells, known: Sequence[str] | None = None) -> Found:
    """Read soft labels, divided by their sum.

    Args:
        known: the classes of a model that is there already, in its order; None makes a list of those of the table.

    Raises:
        DataError: a number is negative or none, the sum of a row is 0 or not what it is to be, a class is not known, or it is the most
            probable one of no image.
    """
    classes = classes_of(cells.table, list(cells.texts), known)
    numbers = np.zeros((len(cells.places), len(classes)))
    for label, name in enumerate(classes):
        if name in cells.texts:
            numbers[:, label] = _column(cells, name)
    totals = numbers.sum(axis=1)
    _check_totals(cells, totals)
    shares = (numbers / totals[:, None]).astype(np.float32)
    labels = SINGLE_LABEL.classes_of(shares).astype(np.int32)
    never = np.flatnonzero(np.bincount(labels, minlength=len(classes)) == 0)
    if known is None and len(never):
        raise DataError(
            f"{cells.table}: '{classes[never[0]]}' is the most probable class of no image, and each split needs images of each class. "
            f"Add some, or list the other columns: data.columns='{{label: [...]}}'."
        )
    return Found(classes, labels, SINGLE_LABEL, (_note(shares),), shares)


def _column(cells: ShareCells, name: str) -> NDArray[np.float64]:
    texts = cells.texts[name]
    found = np.fromiter(map(finite, texts), np.float64, len(texts))
    unfit = np.flatnonzero(~(found >= 0))
    if len(unfit):
        more = f"; {len(unfit)} rows are like that" if len(unfit) > 1 else ""
        raise DataError(
            f"{cells.table}: {cells.places[unfit[0]]} has {texts[unfit[0]]!r} in the column '{cells.columns[name]}', expected a share of "
            f"the image, or votes, as a number of 0 or more{more}. Mend it, or remove the row."
        )
    return found


def _check_totals(cells: ShareCells, totals: NDArray[np.float64]) -> None:
    unfit = np.flatnonzero(totals <= 0)
    if len(unfit):
        raise DataError(f"{cells.table}: {cells.places[unfit[0]]} has 0 for each class ({_few(cells)}). Fill it in, or remove the row.")
    unfit = np.flatnonzero(np.abs(totals - 1) > FROM_ONE)
    if len(unfit) and not cells.votes:
        raise DataError(
            f"{cells.table}: the probabilities of {cells.places[unfit[0]]} ({_few(cells)}) sum to {totals[unfit[0]]:g}, expected 1. "
            f"If they are votes, list their columns: --set data.columns='{{label: [{_few(cells)}]}}'."
        )


def _few(cells: ShareCells) -> str:
    """The names of the columns, as far as a line has room."""
    names = list(cells.columns.values())
    return ", ".join(names if len(names) <= MOST_NAMED else [*names[:MOST_NAMED], "..."])


def _note(shares: NDArray[np.float32]) -> str:
    largest = shares.max(axis=1)
    ties = int(((shares == largest[:, None]).sum(axis=1) > 1).sum())
    told = f"soft labels: an image is {largest.mean(dtype=np.float64):.0%} its most probable class on average"
    return f"{told}; {ties} with a tie count as the first of them" if ties else told
