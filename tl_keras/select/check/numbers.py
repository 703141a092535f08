"""Which numbers are likely wrong: far from what a regression that has not seen the image says, and from those of its neighbours."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tl_keras.data.check.robust import middle_and_spread
from tl_keras.models.outputs import Labels
from tl_keras.select.check.answers import left_out_answers
from tl_keras.select.check.labels import LabelCheck
from tl_keras.select.check.neighbours import Neighbours
from tl_keras.transfer.head.probe import Features

SUSPECT, SURE = 3.5, 5.0  # spreads that a number is off: where neighbours agree, and in any case; the first is Iglewicz and Hoaglin's
AGREEING = 2.0  # spreads that a number is off its neighbours', to the same side, where they agree
FARTHEST, PULL = 3.0, 2.0  # spreads from the middle, and from what is expected, to which a number is taken back before it is learned from
FITTING = 2.0  # spreads that a number is off at most where another decimal point would mend it
FACTORS = (0.1, 10.0)

Numbers = NDArray[np.floating]


def answer_numbers(features: Features, labels: Labels, num_classes: int) -> NDArray[np.float32]:
    """What a regression on all other images says of each, float32 (n, 1).

    Wrong numbers can be wrong by any amount, and one that is ten times too large pulls the regression away from hundreds of right ones.
    So numbers are taken back to near the middle for a first fit, and to near what that expects for the second.

    Args:
        labels: float32 (n,), not all equal.

    Reference: Huber & Ronchetti 2009, "Robust statistics", section 7.8: modified residuals.
    """
    middle, spread = middle_and_spread(labels)
    numbers = ((labels.astype(np.float64) - middle) / spread)[:, None]
    expected = left_out_answers(features, np.clip(numbers, -FARTHEST, FARTHEST).astype(np.float32))
    off, usual = middle_and_spread((numbers - expected)[:, 0])
    pulled = expected + off + np.clip(numbers - expected - off, -PULL * usual, PULL * usual)
    return (left_out_answers(features, pulled.astype(np.float32)) * spread + middle).astype(np.float32)


def check_numbers(answers: NDArray[np.float32], labels: Labels, neighbours: Neighbours) -> LabelCheck:
    """Find numbers that are likely wrong: beyond the far limit by the regression, or beyond the near one where neighbours agree.

    Args:
        answers: of `answer_numbers`, (n, 1).
        labels: float32 (n,).
        neighbours: of the same images; their votes are medians, (n, 1).

    Reference: Iglewicz & Hoaglin 1993, "How to detect and handle outliers": the modified z-score.
    """
    off, off_neighbours = (_spreads_off(labels, each[:, 0]) for each in (answers, neighbours.votes))
    agreeing = np.sign(off) * off_neighbours > AGREEING
    is_suspect = (np.abs(off) > SURE) | ((np.abs(off) > SUSPECT) & agreeing)
    return LabelCheck(np.abs(off), np.where(is_suspect, answers[:, 0], labels), is_suspect)


def told_number(place: int, checked: LabelCheck, answers: Numbers, labels: Labels, neighbours: Neighbours, classes: Sequence[str]) -> str:
    """What was expected, by both."""
    number, expected = float(labels[place]), float(answers[place, 0])
    told = f"expected {expected:.4g}, not {number:.4g} ({checked.suspicion[place]:.1f} spreads off); "
    told += f"median of its neighbours {neighbours.votes[place, 0]:.4g}"
    usual = abs(number - expected) / checked.suspicion[place]
    fitting = [number * factor for factor in FACTORS if abs(number * factor - expected) < FITTING * usual]
    return f"{told}. {fitting[0]:.4g} would fit: look at the decimal point" if fitting else told


def _spreads_off(labels: Numbers, expected: Numbers) -> NDArray[np.float64]:
    """How many spreads the errors are off their middle, (n,); 0 where all are equal."""
    errors = labels.astype(np.float64) - expected
    middle, spread = middle_and_spread(errors)
    return (errors - middle) / spread if spread else np.zeros(len(errors))
