"""Which answers may be taken: the probability above which as large a share of them is right as is asked for. Knows arrays only.

The probability is chosen on val so that it holds for images that are drawn as those of val were, and not of val alone: of all choices that
other images of val would have led to, 95 of 100 hold.

Reference: Geifman & El-Yaniv 2017, arXiv:1705.08500, on the task and the bound of one threshold; Angelopoulos et al. 2021,
arXiv:2110.01052, sec. 2, on testing thresholds one after another, which costs nothing.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tl_keras.evaluation.metrics import share

PRECISIONS = (0.95, 0.99)  # that somebody may want, and that are measured on test
ERROR = 0.05  # the probability that the choice does not hold
FIRST = 0.25  # of the images of val, the surest, with which testing begins: of fewer, one that is wrong would end it
DIGITS = 6  # of a probability in predictions.csv and val_predictions.csv; what is read from those is compared with as many


class Steps(NamedTuple):
    """What would be taken above falling probabilities (m,): how many images of val, and how many of them are answered wrong."""

    above: NDArray[np.float64]
    taken: NDArray[np.int64]
    wrong: NDArray[np.int64]


def least_images(precision: float) -> int:
    """How many images of val a probability for this precision needs, if all of them are answered right."""
    return math.ceil(math.log(ERROR) / math.log(precision))


def steps(confidence: NDArray[np.float64], right: NDArray[np.bool_], precision: float) -> Steps:
    """The probabilities that are tested, in this order; at least one, where there are `least_images`.

    Args:
        confidence: (n,), the probability of each answer, to images that the model has not learned from.
        right: bool (n,), whether it is the true class.
        precision: the share of answers taken that shall be right, in (0, 1).
    """
    values = np.round(confidence, DIGITS)
    order = np.argsort(-values, kind="stable")
    falling = values[order]
    last = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))  # of equal ones, which are taken together
    last = last[last + 1 >= max(least_images(precision), math.ceil(FIRST * len(values)))]
    return Steps(np.append(falling, 0.0)[last + 1], last + 1, np.cumsum(~right[order], dtype=np.int64)[last])


def accepting_above(confidence: NDArray[np.float64], right: NDArray[np.bool_], precision: float) -> float | None:
    """The least probability above which answers are right as often as asked; None where val does not show it of any.

    Images above a probability are a sample of those that are drawn with a higher one, so the number of wrong ones among them is binomial. A
    probability passes where so few would be wrong in `ERROR` of all samples at most, if less than `precision` were right. Beginning with a
    high one, lower ones are tested until one fails: the first that should fail is then the only one that can pass by chance, provided that
    answers are not more often right above a lower probability than above a higher one.

    Args: as of `steps`.
    """
    tried = steps(confidence, right, precision)
    fails = stats.binom.cdf(tried.wrong, tried.taken, 1 - precision) > ERROR
    passed = tried.above[: int(np.argmax(fails)) if fails.any() else len(fails)]  # the first step that fails, not a class
    return float(passed[-1]) if len(passed) else None


def is_accepted(confidence: NDArray[np.float64], above: float) -> NDArray[np.bool_]:
    """Which answers are taken, bool (n,)."""
    found: NDArray[np.bool_] = np.round(confidence, DIGITS) > above
    return found


def on_test(confidence: NDArray[np.float64], right: NDArray[np.bool_], above: float) -> dict[str, Any]:
    """What came of a choice on other images, for JSON: `accepted`, the share that is taken, and of it `right`, unless it is none."""
    taken = is_accepted(confidence, above)
    return {**share("accepted", taken), **(share("right", right[taken]) if taken.any() else {})}


def accepting_on_test(
    val: tuple[NDArray[np.float64], NDArray[np.bool_]], test: tuple[NDArray[np.float64], NDArray[np.bool_]]
) -> list[dict[str, Any]]:
    """For metrics.json, what `predict --min-precision` takes and how that does on test; none where val does not show it.

    Args:
        val: the probability of each answer, (n,), and whether it is right, bool (n,); by them it is chosen.
        test: likewise, (m,).
    """
    found = {precision: accepting_above(*val, precision) for precision in PRECISIONS}
    return [
        {"min_precision": precision, "probability_above": above, **on_test(*test, above)}
        for precision, above in found.items()
        if above is not None
    ]
