"""predictions.csv and val_predictions.csv of a run with one class an image, read back."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tl_keras.data.label_texts import PROBABILITY
from tl_keras.run_folder import open_text, read_csv


class Predictions(NamedTuple):
    """Probabilities float64 (n, k), to six digits as they were written; true classes int (n,), positions in `classes`."""

    probabilities: NDArray[np.float64]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]


def read_predictions(path: Path) -> Predictions:
    """Read one.

    Raises:
        OSError, ValueError, IndexError: it is not there, or not such a file; see `run_folder.reading`.
    """
    with open_text(path) as file:
        lines = read_csv(file)
        header = next(lines, [])
        first = next((place for place, name in enumerate(header) if name.startswith(PROBABILITY)), len(header))
        true, classes = header.index("true_class"), tuple(name.removeprefix(PROBABILITY) for name in header[first:])
        number = {name: place for place, name in enumerate(classes)}
        labels, rows = [], []
        for line in lines:
            labels.append(number[line[true]])
            rows.append(np.array(line[first:], np.float64))
    return Predictions(np.reshape(rows, (len(rows), len(classes))), np.array(labels, np.int64), classes)
