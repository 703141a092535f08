"""predictions.csv and val_predictions.csv of a run, read back."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from sys import intern
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tl_keras.data.label_texts import PROBABILITY
from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.run_folder import open_text, read_csv

LINES = 500  # at once, whose probabilities of a thousand classes are a few megabytes


class Table(NamedTuple):
    """Of n images the paths, the labels and the decisions as texts; probabilities float64 (n, k), to six digits as they were written,
    of `classes`: none of either where the model says a number.
    """

    paths: list[str]
    true: list[str]
    said: list[str]
    probabilities: NDArray[np.float64]
    classes: tuple[str, ...]


class Predictions(NamedTuple):
    """Probabilities float64 (n, k), to six digits as they were written; true classes int (n,), positions in `classes`."""

    probabilities: NDArray[np.float64]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    @property
    def sureness(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Of each answer the probability, (n,), and whether it is right, bool (n,)."""
        return self.probabilities.max(axis=1), SINGLE_LABEL.is_right(self.probabilities, self.labels)


def read_parts(path: Path) -> Iterator[Table]:
    """Read one of any task in parts of at most `LINES` lines, so that few probabilities are in memory; at least one, which may be empty.

    Raises:
        OSError, ValueError, IndexError: it is not there, or not such a file; see `run_folder.reading`.
    """
    with open_text(path) as file:
        lines = read_csv(file)
        header = next(lines, [])
        if header[:1] != ["path"] or not (header[1].startswith("true_") and header[2].startswith("predicted_")):
            raise ValueError("it is not a table of predictions")
        first = next((place for place, name in enumerate(header) if name.startswith(PROBABILITY)), len(header))
        classes = tuple(name.removeprefix(PROBABILITY) for name in header[first:])
        yield _part(list(islice(lines, LINES)), first, classes)
        while part := list(islice(lines, LINES)):
            yield _part(part, first, classes)


def _part(lines: Sequence[Sequence[str]], first: int, classes: tuple[str, ...]) -> Table:
    probabilities = np.reshape([[float(text) for text in line[first:]] for line in lines], (len(lines), len(classes)))
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError("it has probabilities that are none")
    return Table(
        [line[0] for line in lines], [intern(line[1]) for line in lines], [intern(line[2]) for line in lines], probabilities, classes
    )


def read_predictions(path: Path) -> Predictions:
    """Read one of a run with one class an image.

    Raises:
        OSError, ValueError, LookupError: it is not there, or not such a file; see `run_folder.reading`.
    """
    parts = list(read_parts(path))
    number = {name: place for place, name in enumerate(parts[0].classes)}
    labels = np.array([number[name] for part in parts for name in part.true], np.int64)
    return Predictions(np.concatenate([part.probabilities for part in parts]), labels, parts[0].classes)
