"""A run's history.csv, read back: where its epochs lie, one phase after the other, and its figures."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tl_keras.run_folder import open_text, reading


def read_history(path: Path) -> list[dict[str, str]]:
    """The lines of a run's history.csv; none where there is no such file.

    Raises:
        RunFolderError: it cannot be read.
    """
    if not path.is_file():
        return []
    with reading(path, "the history of a run", "Restore it, or train again in another --run-dir."), open_text(path) as file:
        return list(csv.DictReader(file))


def places_of(rows: Sequence[Mapping[str, str]]) -> tuple[list[int], list[tuple[str, int]]]:
    """Where each row lies on the axis of epochs, and the phases with the place after which each begins."""
    places: list[int] = []
    phases: list[tuple[str, int]] = []
    for row in rows:
        if not phases or phases[-1][0] != row["phase"]:
            phases.append((row["phase"], places[-1] if places else 0))
        places.append(phases[-1][1] + int(row["epoch"]))
    return places, phases


def numbers_of(rows: Sequence[Mapping[str, str]], name: str) -> NDArray[np.float64]:
    """A figure of each row; NaN where it has none."""
    return np.array([float(row[name]) if row[name] else np.nan for row in rows])


def figures_of(row: Mapping[str, str]) -> dict[str, float]:
    """The figures that a row has, by its columns."""
    return {name: float(text) for name, text in row.items() if text and name not in ("phase", "epoch")}
