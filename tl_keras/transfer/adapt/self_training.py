"""Self-training: a head labels images of the target itself, the surest of each class first, and learns from them beside the source.

What is sure is told by rank within each predicted class, so that no probability has to be right and no class is left out: on another domain
than the one a temperature was fitted on, a threshold would let in too much or nothing.
"""

import numpy as np
from numpy.typing import NDArray

from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.transfer.head.probe import Features

ROUNDS = 10  # in the first, a tenth of the target is labelled; in the last, all of it
ROWS = 5_000  # of each domain that are used in all rounds but the last

Rows = NDArray[np.int64]


def surest(answers: NDArray[np.floating], share: float) -> Rows:
    """Of the rows that each class is predicted for, the surest share, at least one: their positions, ascending.

    Args:
        answers: probabilities (m, k).
        share: in (0, 1].

    Reference: Zou et al. 2018, arXiv:1810.07911, sec. 4.2 (each class by its own threshold, which falls from round to round).
    """
    said, confidence = SINGLE_LABEL.decide(answers), answers.max(axis=1)
    of_classes = [np.flatnonzero(said == each) for each in np.unique(said)]
    kept = [rows[np.argsort(-confidence[rows], kind="stable")[: int(np.ceil(share * len(rows)))]] for rows in of_classes]
    return np.sort(np.concatenate(kept))


class Stacked:
    """The rows of one and then those of the other, float32 (n + m, d), read where they lie."""

    def __init__(self, first: Features, second: Features) -> None:
        self._first, self._second = first, second
        self.shape = (len(first) + len(second), first.shape[1])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> NDArray[np.float32]:
        start, stop, step = rows.indices(len(self))
        if step != 1:
            raise ValueError(f"rows are read in order. Received a step of {step}")
        num = len(self._first)
        first, second = slice(min(start, num), min(stop, num)), slice(max(start - num, 0), max(stop - num, 0))
        return np.concatenate([np.asarray(self._first[first]), np.asarray(self._second[second])])
