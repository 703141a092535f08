"""Rules that are fitted on the members' answers: meta-learners, on images that the members have not learned from, and what votes need."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from tl_keras.config import Config
from tl_keras.models.outputs import SINGLE_LABEL, Labels, MultiLabel, Output, Regression
from tl_keras.models.rules import Average, Median, Mixture, Probabilities, Rule, Stacker, Vote, VotePerClass, seen
from tl_keras.transfer.head.probe import LinearProbe, Standardiser, fit_linear_probe
from tl_keras.transfer.head.ridge import fit_ridge

MOST_STEPS = 10_000  # of EM
EM_GAIN = 1e-9  # of the log-likelihood of an image, or a decision, below which EM ends
STACK_PENALTIES = tuple(10.0**power for power in range(-6, 2))  # lambda / n, for numbers of variance 1 that are nearly right

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Meta:
    """A fitted meta-learner, its answers (n, k) to each part when it is fitted on the others, and what there is to report."""

    rule: Rule
    answers: Probabilities
    notes: dict[str, Any]


def rule_of(method: str, output: Output, singles: Probabilities, labels: Labels) -> Rule:
    """The rule of a method that learns nothing, 'average' or 'vote'.

    Args:
        singles: of val, (m, n, k): where an image may have several classes, each member votes by the thresholds that it chooses there.
        labels: of val.
    """
    if method == "average":
        return Average()
    if isinstance(output, MultiLabel):
        return VotePerClass(np.array([output.chosen(one, labels).thresholds for one in singles]))
    return Median() if isinstance(output, Regression) else Vote()


def fit_meta(
    config: Config,
    singles: Probabilities,
    labels: Labels,
    parts: Sequence[Rows],
    class_weights: NDArray[np.float32],
    names: Sequence[str],
    output: Output = SINGLE_LABEL,
) -> Meta:
    """Fit the meta-learner `ensemble.meta`; see `fit_stacker` for the arguments."""
    if config.ensemble.meta == "mixture":
        mixture, answers = fit_mixture(singles, labels, parts, class_weights, output)
        return Meta(mixture, answers, {"weights": dict(zip(names, mixture.weights.tolist(), strict=True))})
    stacker, answers = fit_stacker(singles, labels, parts, class_weights, output)
    return Meta(stacker, answers, {"c": stacker.c})


def mixture_weights(
    members: Probabilities, labels: Labels, class_weights: NDArray[np.float32], output: Output = SINGLE_LABEL
) -> NDArray[np.float64]:
    """The weights (m,) of a mean of answers with the least loss on some images; they are >= 0 and sum to 1.

    Of probabilities it is the log loss, over images or, where an image may have several classes, over all decisions; every label counts as
    often as its class weighs; of soft labels the most probable class is meant. Of numbers it is the squared error.

    Reference: stacking's restriction to a convex combination is Breiman 1996, Machine Learning 24, 49.
    """
    if isinstance(output, Regression):
        return _least_squares(members[..., 0] - labels)
    if isinstance(output, MultiLabel):
        likelihood = np.where(labels, members, 1 - members).reshape(len(members), -1)
        return _likeliest(likelihood, np.full(likelihood.shape[1], 1 / likelihood.shape[1]))
    labels = SINGLE_LABEL.classes_of(labels)
    counts = class_weights[labels] / class_weights[labels].sum(dtype=np.float64)
    return _likeliest(members[:, np.arange(len(labels)), labels], counts)


def _likeliest(likelihood: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weights of a mixture under which labels are most likely, by expectation-maximisation.

    The likelihood of a mixture is concave in its weights, so the least log loss there is, is found.

    Args:
        likelihood: (m, n), what each member gives to the right answer.
        counts: (n,), how much each counts; of sum 1.

    Reference: Dempster, Laird & Rubin 1977, sec. 4.3, with known components.
    """
    likelihood = np.maximum(likelihood, np.finfo(np.float64).tiny)
    weights = np.full(len(likelihood), 1 / len(likelihood))
    before = -np.inf
    for _ in range(MOST_STEPS):
        mixed = weights @ likelihood
        now = float(counts @ np.log(mixed))
        if now - before < EM_GAIN:
            break
        before, weights = now, weights * ((likelihood / mixed) @ counts)
    return weights


def _least_squares(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weights with the least squared error of a weighted mean of numbers.

    Least squares under weights >= 0, with a row that draws their sum to 1, gives multiples of these weights: for any direction w, the best
    multiple leaves e / (1 + e) of the squared error e of the mean, which is least where e is.

    Args:
        errors: (m, n), of each member.
    """
    size = np.sqrt((errors**2).sum(axis=1).min())
    scaled = errors.T / (size or 1.0)
    found, _ = nnls(np.vstack([scaled, np.ones(len(errors))]), np.append(np.zeros(len(scaled)), 1.0))
    return np.asarray(found / found.sum())


def fit_mixture(
    members: Probabilities, labels: Labels, parts: Sequence[Rows], class_weights: NDArray[np.float32], output: Output = SINGLE_LABEL
) -> tuple[Mixture, Probabilities]:
    """Fit the weights of a mean; see `fit_stacker`."""
    answers = np.empty(members.shape[1:])
    for part in parts:
        others = np.setdiff1d(np.arange(len(labels)), part)
        answers[part] = Mixture(mixture_weights(members[:, others], labels[others], class_weights, output))(members[:, part])
    return Mixture(mixture_weights(members, labels, class_weights, output)), answers


def fit_stacker(
    members: Probabilities, labels: Labels, parts: Sequence[Rows], class_weights: NDArray[np.float32], output: Output = SINGLE_LABEL
) -> tuple[Stacker, Probabilities]:
    """Fit a linear meta-learner on answers of members to images that they have not learned from.

    It is logistic regression, or of numbers ridge regression, whose penalty leave-one-out chooses.

    Reference: Wolpert 1992, Neural Networks 5, 241; probabilities as inputs: Ting & Witten 1999, JAIR 10, 271; numbers: Breiman 1996,
    Machine Learning 24, 49.

    Args:
        members: (m, n, k), out of fold.
        labels: of the n images, as `output` says; soft ones are learned whole.
        parts: positions of the images of each fold, which together are all; the C with the lowest mean log loss over them is
            taken.
        class_weights: float32 (k,), the weight of each class.
        output: what answers and labels are.

    Returns:
        The meta-learner, fitted on all images, and the answers (n, k) that it gives to each part when fitted on the others.
    """
    if isinstance(output, Regression):
        return _fit_ridge_stacker(members, labels, parts, output)
    features, identity = seen(members, output), Standardiser.identity(members.shape[0] * members.shape[2])
    paths: list[dict[float, LinearProbe]] = []
    for part in parts:
        others, path = np.setdiff1d(np.arange(len(labels)), part), dict[float, LinearProbe]()
        pairs = (features[others], labels[others]), (features[part], labels[part])
        note = partial(_note, path)
        fit_linear_probe(*pairs, identity, class_weights, on_solution=note, output=output)
        paths.append(path)
    shared = [each for each in paths[0] if all(each in path for path in paths)]
    c = min(shared, key=lambda each: float(np.mean([path[each].val_loss for path in paths])))
    answers = np.empty(members.shape[1:])
    for part, path in zip(parts, paths, strict=True):
        answers[part] = _stacker(path[c], output)(members[:, part])
    everything = features, labels
    return _stacker(fit_linear_probe(everything, everything, identity, class_weights, c, output=output), output), answers


def _note(path: dict[float, LinearProbe], found: LinearProbe) -> None:
    path[found.c] = found


def _stacker(probe: LinearProbe, output: Output) -> Stacker:
    return Stacker(probe.kernel, probe.bias, probe.c, output)


def _fit_ridge_stacker(members: Probabilities, labels: Labels, parts: Sequence[Rows], output: Regression) -> tuple[Stacker, Probabilities]:
    features, targets, everything = seen(members, output), output.targets(labels, 1), np.arange(len(labels))

    def fit(rows: Rows) -> Stacker:
        found = fit_ridge(features[rows], targets[rows], Standardiser.identity(len(members)), STACK_PENALTIES)
        return Stacker(found.kernel, found.bias, 1 / (found.penalty * len(rows)), output)

    answers = np.empty(members.shape[1:])
    for part in parts:
        answers[part] = fit(np.setdiff1d(everything, part))(members[:, part])
    return fit(everything), answers
