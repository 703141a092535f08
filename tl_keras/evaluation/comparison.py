"""Two models on the same images: how far their figures are apart, whether that can be chance, and which images they answer differently.

Plain NumPy and SciPy: it must not know files or runs. The two are A and B; a difference is B's figure less A's.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from tl_keras.evaluation.intervals import FEW, bootstrap, paired
from tl_keras.evaluation.metrics import SUMMARY, f1_of, macro_figures, mean_precision, number_figures, share
from tl_keras.models.outputs import OUTPUTS, SINGLE_LABEL, Labels
from tl_keras.models.precision_recall import Ranking
from tl_keras.tasks import MULTI_LABEL, REGRESSION, difference_text, figure_text

LEAST = 5e-7  # a probability that predictions.csv rounds to 0
SURE = 0.05  # a p that is less is not taken for chance
LOWER_IS_BETTER = ("log_loss", "mae", "rmse")
KINDS = WORSE, BETTER, STILL_WRONG = "worse", "better", "still_wrong"  # what became of an image from A to B
Figures = Callable[[NDArray[np.integer]], NDArray[np.float64]]


@dataclass(frozen=True)
class Answers:
    """What a model says of n images.

    Attributes:
        said: the decisions, which are of the kind of the labels: int (n,), bool (n, k), or numbers (n,).
        losses: float64 (n,), how wrong each is, see `losses_of`.
        probabilities: float64 (n, k) where an image may have several classes; not looked at elsewhere.
    """

    said: NDArray[Any]
    losses: NDArray[np.float64]
    probabilities: NDArray[np.float64]

    def at(self, places: NDArray[np.int64]) -> "Answers":
        """Those to some of the images."""
        return Answers(self.said[places], self.losses[places], self.probabilities[places])


@dataclass(frozen=True)
class Pair:
    """Two models' answers to the same n images, of k classes.

    Attributes:
        task: of both.
        labels: what is right, as `Index.learned` has it: soft labels where there are any.
        a: the answers of one.
        b: those of the other.
        num_classes: k.
    """

    task: str
    labels: Labels
    a: Answers
    b: Answers
    num_classes: int

    @property
    def truth(self) -> Labels:
        """What the decisions are held against: of soft labels the most probable class."""
        return SINGLE_LABEL.classes_of(self.labels) if self.task == SINGLE_LABEL.task else self.labels

    def right(self, answers: Answers) -> NDArray[np.bool_]:
        """Whether each decision is the label, with several classes in every one of them: bool (n,)."""
        equal: NDArray[np.bool_] = answers.said == self.truth
        return np.asarray(equal.all(axis=1) if equal.ndim == 2 else equal)


def losses_of(task: str, labels: Labels, said: NDArray[Any], probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """How wrong each answer is, (n,): the log loss in nats, with several classes its mean over them; of a number the absolute error.

    Args:
        task: of the model.
        labels: what is right, as in a `Pair`.
        said: the decisions, of which those that are numbers are looked at.
        probabilities: (n, k), elsewhere.
    """
    if task == REGRESSION:
        error: NDArray[np.float64] = np.abs(said - labels.astype(np.float64))
        return error
    if task == MULTI_LABEL:
        of_truth = np.where(labels, probabilities, 1 - probabilities)
        found: NDArray[np.float64] = -np.log(np.maximum(of_truth, LEAST)).mean(axis=1)
        return found
    shares = SINGLE_LABEL.targets(labels, probabilities.shape[1])
    found = -(shares * np.log(np.maximum(probabilities, LEAST))).sum(axis=1)
    return found


def compare(pair: Pair) -> dict[str, Any]:
    """How far two models are apart, as plain Python numbers for JSON.

    Returns:
        `figures`, by the names of `metrics.SUMMARY`: `a` and `b`, `difference`, each with `..._ci95`. Intervals are from resamples of the
        images, the same for both models; those of accuracies and of their difference are Wilson's and Newcombe's, which hold where few
        images differ, too. With one class an image `mcnemar`: how many images both, only A, only B, or neither has right, and `p`.
        `is_told`: whether the first figure's difference is no chance; `unseen`: the difference in it that would be told from none in four
        of five such comparisons.

    Raises:
        ValueError: there are no images.
    """
    if not len(pair.labels):
        raise ValueError("Received no images. A comparison needs at least one.")
    names = SUMMARY[pair.task]
    of_a, of_b = (_figures(pair, answers) for answers in (pair.a, pair.b))

    def all_three(times: NDArray[np.integer]) -> NDArray[np.float64]:
        a, b = of_a(times), of_b(times)
        return np.hstack([a, b, b - a])

    values, ends = bootstrap(len(pair.labels), all_three)
    keys = [(name, key) for key in ("a", "b", "difference") for name in names]
    figures: dict[str, dict[str, Any]] = {name: {} for name in names}
    for place, (name, key) in enumerate(keys):
        figures[name] |= {key: float(values[place]), f"{key}_ci95": ends[:, place].tolist()}
    found: dict[str, Any] = {"figures": figures}
    if pair.task == SINGLE_LABEL.task:
        a, b = pair.right(pair.a), pair.right(pair.b)
        figures["accuracy"] |= share("a", a) | share("b", b) | {"difference_ci95": list(paired(b, a))}
        counts = {"both": a & b, "only_a": a & ~b, "only_b": ~a & b, "neither": ~a & ~b}
        found["mcnemar"] = {name: int(rows.sum()) for name, rows in counts.items()}
        found["mcnemar"]["p"] = mcnemar(found["mcnemar"]["only_a"], found["mcnemar"]["only_b"])
    low, high = figures[names[0]]["difference_ci95"]
    is_enough = len(pair.labels) >= FEW or "mcnemar" in found  # resamples of few images are too much alike
    is_told = is_enough and bool(low > 0 or high < 0) and found.get("mcnemar", {}).get("p", 0.0) < SURE
    return {**found, "is_told": is_told, "unseen": unseen(low, high)}


def mcnemar(only_a: int, only_b: int) -> float:
    """The exact two-sided p of McNemar's test: how probable so uneven a share of the images is, that one of the two models alone has right.

    Args:
        only_a: images that A alone has right.
        only_b: likewise.

    Returns:
        In (0, 1]; 1 where there are no such images.

    Reference: McNemar 1947, Psychometrika 12, 153; Dietterich 1998, Neural Computation 10, 1895, on two classifiers.
    """
    return float(stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def unseen(low: float, high: float) -> float:
    """The difference that 95 % intervals as wide as this one are clear of zero for in four of five comparisons."""
    error = (high - low) / (2 * stats.norm.ppf(0.975))
    return float(error * (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)))


def _figures(pair: Pair, answers: Answers) -> Figures:
    """The figures of `SUMMARY` of one model in each of b resamples: int (b, n) -> (b, f)."""
    num, losses = len(pair.labels), answers.losses
    if pair.task == REGRESSION:
        of_numbers = number_figures(answers.said, pair.labels)
        return lambda times: of_numbers(times)[:, : len(SUMMARY[REGRESSION])]
    if pair.task == MULTI_LABEL:
        there = np.flatnonzero(pair.labels.any(axis=0))
        rankings = [Ranking.of(answers.probabilities[:, k], pair.labels[:, k]) for k in there]
        return lambda times: np.column_stack(
            [mean_precision(rankings, times), *f1_of(pair.labels, answers.said, times), times @ losses / num]
        )
    right, macros = pair.right(answers).astype(np.float64), macro_figures(pair.truth, answers.said, pair.num_classes)
    return lambda times: np.column_stack([times @ right / num, macros(times)[:, 2], times @ losses / num])


def changes(pair: Pair) -> Iterator[tuple[int, str]]:
    """The images of which the two say something else, and what became of each from A to B: 'worse', 'better' or 'still_wrong'.

    Those that became worse come first, then those that became better; within a kind, those whose loss changed most.

    Returns:
        The row of each image, in [0, n), and its kind. With several classes an image is right where each of them is; a number is better
        where it is nearer to the label.
    """
    differ = pair.a.said != pair.b.said
    rows = np.flatnonzero(differ.any(axis=1) if differ.ndim == 2 else differ)
    change = pair.b.losses - pair.a.losses
    kinds = _kinds(pair, change)
    for row in sorted(rows.tolist(), key=lambda row: (KINDS.index(kinds[row]), -abs(change[row]))):
        yield row, kinds[row]


def _kinds(pair: Pair, change: NDArray[np.float64]) -> list[str]:
    """What became of each image."""
    a, b = pair.right(pair.a), pair.right(pair.b)
    cases = [change > 0, change < 0] if pair.task == REGRESSION else [a & ~b, b & ~a]
    found: list[str] = np.select(cases, KINDS[:2], STILL_WRONG).tolist()
    return found


def better_of(task: str, found: dict[str, Any]) -> str | None:
    """Which of the two is better, 'A' or 'B'; None where no difference can be told."""
    name = SUMMARY[task][0]
    if not found["is_told"]:
        return None
    return "B" if (found["figures"][name]["difference"] > 0) != (name in LOWER_IS_BETTER) else "A"


def verdict(task: str, found: dict[str, Any], num_images: int) -> str:
    """What a comparison comes to, in one or two sentences.

    Args:
        task: of the models.
        found: what `compare` returns.
        num_images: n.
    """
    output, name = OUTPUTS[task], SUMMARY[task][0]
    figures, title = found["figures"][name], output.metric_title
    p = f", p = {found['mcnemar']['p']:.2g}" if "mcnemar" in found else ""
    between = f"95 % interval {' to '.join(difference_text(name, end) for end in figures['difference_ci95'])}{p}"
    if (better := better_of(task, found)) is not None:
        a, b = (figure_text(name, figures[key]) for key in ("a", "b"))
        by = figure_text(name, abs(figures["difference"]))
        return f"{better} is better: {title} {a} of A and {b} of B, a difference of {by} ({between})"
    least = figure_text(name, found["unseen"])
    return (
        f"no difference can be told: {title} of B less that of A is {difference_text(name, figures['difference'])} ({between}). "
        f"With {num_images:,} image{'s' * (num_images != 1)}, a difference of less than {least} would often go unseen."
    )


def per_class(pair: Pair, classes: Sequence[str]) -> dict[str, dict[str, int]]:
    """By the name of each class: `images`, how many of them A and B have right (`a`, `b`), and how many became `worse` and `better`."""
    a, b = pair.right(pair.a), pair.right(pair.b)
    truth: ArrayLike = pair.truth
    counts = {"images": np.ones_like(a), "a": a, "b": b, WORSE: a & ~b, BETTER: ~a & b}
    by_class = {name: np.bincount(np.asarray(truth)[rows], minlength=len(classes)).tolist() for name, rows in counts.items()}
    return {name: {key: by_class[key][place] for key in counts} for place, name in enumerate(classes)}
