"""An ensemble's predictions, those of its single members, and how the two compare."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from tl_keras.config import Config
from tl_keras.data.dataset import ImageData
from tl_keras.evaluation.intervals import corrected, paired
from tl_keras.evaluation.metrics import classification_metrics
from tl_keras.models.outputs import SINGLE_LABEL, Labels
from tl_keras.models.rules import Probabilities

FIGURES = ("accuracy", "accuracy_ci95", "macro_f1", "log_loss")
JUDGED_SPLITS = ("val", "test")  # those that an ensemble is asked about


@dataclass(frozen=True)
class Answers:
    """What is said of some images: labels int32 (n,), or soft ones, by each single classifier (m, n, k), and by all together (n, k)."""

    labels: Labels
    singles: Probabilities
    together: Probabilities


@dataclass(frozen=True)
class OutOfFold:
    """Answers by heads and a meta-learner that were not fitted on the image; `parts` are the rows, int64, answered together, in all each.

    What is left of a part in the meta-learner that answers it: the other parts' answers came from heads that know it, and a linear
    one's C is the best over all parts.
    """

    answers: Answers
    parts: list[NDArray[np.int64]]


@dataclass(frozen=True)
class Ensemble:
    """What was combined, and what it says.

    Attributes:
        config: without open settings, as the run folder keeps it.
        data: the images; of runs, those of val and test alone.
        names: of the single classifiers that it is compared with.
        val: answers to val.
        test: answers to test.
        model: from pixels to logits; None where a part is no Keras model.
        out_of_fold: where a meta-learner was fitted, which has seen the labels of val.
        notes: what else is to be reported.
        stages: the tensors of `model` in which stages of its backbone end; none where it is made of several networks.
    """

    config: Config
    data: ImageData
    names: list[str]
    val: Answers
    test: Answers
    model: keras.Model | None
    out_of_fold: OutOfFold | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    stages: dict[str, Any] = field(default_factory=dict)

    @property
    def judged(self) -> tuple[str, Answers]:
        """What the single classifiers are compared by, and its name: never test."""
        return ("val", self.val) if self.out_of_fold is None else ("out_of_fold", self.out_of_fold.answers)


def compare(found: Ensemble) -> dict[str, Any]:
    """The figures of the single classifiers and of all together, and the difference to the single one that val puts first.

    Returns:
        `judged_on`, `singles`, `together`, `best_single` (the lowest log loss there), and `difference`: of accuracy on test, with
        its 95 % interval from the images that only one of the two gets right; out of fold, if there are folds, over those.
    """
    where, judged = found.judged
    classes = found.data.classes
    singles: list[dict[str, Any]] = [
        {"name": name, where: _figures(one, judged.labels, classes), "test": _figures(on_test, found.test.labels, classes)}
        for name, one, on_test in zip(found.names, judged.singles, found.test.singles, strict=True)
    ]
    best = min(range(len(singles)), key=lambda place: float(singles[place][where]["log_loss"]))
    mine, other = (SINGLE_LABEL.is_right(each, found.test.labels) for each in (found.test.together, found.test.singles[best]))
    difference = {"test": {"mean": float(mine.mean() - other.mean()), "ci95": list(paired(mine, other))}}
    if found.out_of_fold is not None:
        difference["out_of_fold"] = _over_folds(found.out_of_fold, best)
    return {
        "judged_on": where,
        "singles": singles,
        "together": {
            where: _figures(judged.together, judged.labels, classes),
            "test": _figures(found.test.together, found.test.labels, classes),
        },
        "best_single": found.names[best],
        "difference": difference,
    }


def _figures(probabilities: Probabilities, labels: Labels, classes: Sequence[str]) -> dict[str, Any]:
    figures = classification_metrics(probabilities, labels, classes)
    return {name: figures[name] for name in FIGURES}


def _over_folds(found: OutOfFold, best: int) -> dict[str, Any]:
    answers, parts = found.answers, found.parts
    mine, other = (SINGLE_LABEL.is_right(each, answers.labels) for each in (answers.together, answers.singles[best]))
    gain = mine.astype(float) - other
    by_fold = [float(gain[part].mean()) for part in parts]
    ratio = 1 / (len(parts) - 1)
    return {"mean": float(np.mean(by_fold)), "ci95": list(corrected(by_fold, ratio))}
