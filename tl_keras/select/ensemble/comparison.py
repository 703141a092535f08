"""An ensemble's answers, those of its single members, and how the two compare."""

from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from tl_keras.config import Config
from tl_keras.data.dataset import ImageData
from tl_keras.evaluation.calibration import fit_temperature
from tl_keras.evaluation.intervals import bootstrap, corrected, paired
from tl_keras.evaluation.metrics import figures_of, metric_of
from tl_keras.models.combined import divided
from tl_keras.models.outputs import SINGLE_LABEL, Labels, Output, Regression, SingleLabel
from tl_keras.models.rules import Probabilities
from tl_keras.tasks import MULTI_LABEL, REGRESSION

FIGURES = {  # task -> the figures that are shown for each member
    SINGLE_LABEL.task: ("accuracy", "accuracy_ci95", "macro_f1", "log_loss"),
    MULTI_LABEL: ("map", "map_ci95", "micro_f1", "macro_f1", "log_loss"),
    REGRESSION: ("mae", "mae_ci95", "rmse", "r2", "relative_squared_error"),
}
BEST_BY = {SINGLE_LABEL.task: "val_loss", MULTI_LABEL: "val_map", REGRESSION: "val_mae"}  # accuracies of few images are often equal
JUDGED_SPLITS = ("val", "test")  # those that an ensemble is asked about


@dataclass(frozen=True)
class Answers:
    """What is said of some images: their labels, the answers of each single member (m, n, k), and of all together (n, k)."""

    labels: Labels
    singles: Probabilities
    together: Probabilities

    def divided(self, temperature: float, output: Output) -> "Answers":
        """The same with the logits of all together divided by a temperature."""
        return replace(self, together=output.answers(output.logits(self.together) / temperature))


@dataclass(frozen=True)
class OutOfFold:
    """Answers by heads and a meta-learner that were not fitted on the image.

    What is left of a part in the meta-learner that answers it: the other parts' answers came from heads that know it, and a linear
    one's C is the best over all parts.

    Attributes:
        rows: int64 (n,), the images as rows of the index.
        answers: to them.
        parts: the places in `rows`, int64, that were answered together; in all each.
    """

    rows: NDArray[np.int64]
    answers: Answers
    parts: list[NDArray[np.int64]]


@dataclass(frozen=True)
class Ensemble:
    """What was combined, and what it says.

    Attributes:
        config: without open settings, as the run folder keeps it.
        data: the images; of runs, those of val and test alone. Their output is that of the ensemble.
        names: of the single members that it is compared with.
        val: answers to val.
        test: answers to test.
        model: from pixels to logits; None where a part is no Keras model.
        out_of_fold: where a meta-learner was fitted, which has seen the labels of val.
        notes: what else is to be reported.
        stages: the tensors of `model` in which stages of its backbone end; none where it is made of several networks.
        temperature: what the logits of all together were divided by.
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
    temperature: float = 1.0

    @property
    def judged(self) -> tuple[str, Answers]:
        """What the single members are compared by, and its name: never test."""
        return ("val", self.val) if self.out_of_fold is None else ("out_of_fold", self.out_of_fold.answers)

    @property
    def judged_rows(self) -> NDArray[np.int64]:
        """The images of `judged` as rows of the index."""
        return self.data.rows("val") if self.out_of_fold is None else self.out_of_fold.rows

    @property
    def decided(self) -> "Ensemble":
        """The same, with probabilities and decisions by what follows from `judged`: a temperature, then thresholds.

        A vote, whose probabilities are shares of members, has decided already, and so has who says numbers.
        """
        output, (_, judged) = self.data.output, self.judged
        if self.config.ensemble.method == "vote" or isinstance(output, Regression):
            return self
        of_source = self.config.is_adapted  # whose val says nothing of how sure a model may be on the target
        temperature = 1.0 if of_source else fit_temperature(output, output.logits(judged.together), judged.labels)
        judged = judged.divided(temperature, output)
        return replace(
            self,
            data=self.data.with_output(output.chosen(judged.together, judged.labels)),
            val=self.val.divided(temperature, output),
            test=self.test.divided(temperature, output),
            out_of_fold=self.out_of_fold and replace(self.out_of_fold, answers=judged),
            model=self.model and divided(self.model, temperature),
            temperature=temperature,
        )


def compare(found: Ensemble) -> dict[str, Any]:
    """The figures of the single members and of all together, and the difference to the single one that is best but for test.

    Returns:
        `judged_on`, `singles`, `together`, `best_single` (see `BEST_BY`), and `difference`: of the metric on test, with its 95 % interval,
        which the same images give to both; out of fold, if there are folds, over those.
    """
    output, (where, judged) = found.data.output, found.judged
    singles: list[dict[str, Any]] = []
    for name, one, on_test in zip(found.names, judged.singles, found.test.singles, strict=True):
        own = output.chosen(one, judged.labels)
        singles.append({"name": name, where: _figures(found, own, one, judged), "test": _figures(found, own, on_test, found.test)})

    def merit(place: int) -> float:
        monitor = BEST_BY[output.task]
        return output.turned(monitor, output.scores(singles[place][where])[monitor])

    best = max(range(len(singles)), key=merit)
    difference = {"test": _on_the_same(output, found.test, best)}
    if found.out_of_fold is not None:
        difference["out_of_fold"] = _over_folds(output, found.out_of_fold, best)
    return {
        "judged_on": where,
        "singles": singles,
        "together": {
            where: _figures(found, output, judged.together, judged),
            "test": _figures(found, output, found.test.together, found.test),
        },
        "best_single": found.names[best],
        "difference": difference,
    }


def _figures(found: Ensemble, output: Output, answers: Probabilities, of: Answers) -> dict[str, Any]:
    figures = figures_of(output, answers, of.labels, found.data.classes)
    return {name: figures[name] for name in FIGURES[output.task]}


def _on_the_same(output: Output, answers: Answers, best: int) -> dict[str, Any]:
    """How far all together are from a single one on the same images."""
    two = answers.together, answers.singles[best]
    if isinstance(output, SingleLabel):
        mine, other = (output.is_right(each, answers.labels) for each in two)
        return {"mean": float(mine.mean() - other.mean()), "ci95": list(paired(mine, other))}
    of_mine, of_other = (metric_of(output, each, answers.labels) for each in two)
    mean, ends = bootstrap(len(answers.labels), lambda times: (of_mine(times) - of_other(times))[:, None])
    return {"mean": float(mean[0]), "ci95": ends[:, 0].tolist()}


def _over_folds(output: Output, found: OutOfFold, best: int) -> dict[str, Any]:
    answers, parts = found.answers, found.parts
    mine, other = (metric_of(output, each, answers.labels) for each in (answers.together, answers.singles[best]))
    times = np.array([np.isin(np.arange(len(answers.labels)), part) for part in parts]).astype(np.int32)
    by_fold = (mine(times) - other(times)).tolist()
    ratio = 1 / (len(parts) - 1)
    return {"mean": float(np.mean(by_fold)), "ci95": list(corrected(by_fold, ratio))}
