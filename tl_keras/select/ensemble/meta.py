"""Meta-learners: rules that are fitted on the members' predictions for images that they have not learned from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_keras.config import Config
from tl_keras.models.outputs import SINGLE_LABEL, Labels
from tl_keras.models.rules import Mixture, Probabilities, Rule, Stacker, seen
from tl_keras.transfer.head.probe import LinearProbe, Standardiser, fit_linear_probe

MOST_STEPS = 10_000  # of EM
EM_GAIN = 1e-9  # of the log-likelihood an image, below which EM ends

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Meta:
    """A fitted meta-learner, its answers (n, k) to each part when it is fitted on the others, and what there is to report."""

    rule: Rule
    answers: Probabilities
    notes: dict[str, Any]


def fit_meta(
    config: Config,
    singles: Probabilities,
    labels: Labels,
    parts: Sequence[Rows],
    class_weights: NDArray[np.float32],
    names: Sequence[str],
) -> Meta:
    """Fit the meta-learner `ensemble.meta`; see `fit_stacker` for the arguments."""
    if config.ensemble.meta == "mixture":
        mixture, answers = fit_mixture(singles, labels, parts, class_weights)
        return Meta(mixture, answers, {"weights": dict(zip(names, mixture.weights.tolist(), strict=True))})
    stacker, answers = fit_stacker(singles, labels, parts, class_weights)
    return Meta(stacker, answers, {"c": stacker.c})


def mixture_weights(members: Probabilities, labels: Labels, class_weights: NDArray[np.float32]) -> NDArray[np.float64]:
    """The weights (m,) of a mean of probabilities under which the labels are most likely, by expectation-maximisation.

    Every label counts as often as its class weighs; of soft labels the most probable class is meant.

    The likelihood of a mixture is concave in its weights, so the least log loss there is, is found. They are >= 0 and sum to 1.

    Reference: Dempster, Laird & Rubin 1977, sec. 4.3, with known components; stacking's restriction to a convex
    combination is Breiman 1996, Machine Learning 24, 49.
    """
    labels = SINGLE_LABEL.classes_of(labels)
    likelihood = np.maximum(members[:, np.arange(len(labels)), labels], np.finfo(np.float64).tiny)
    counts = class_weights[labels] / class_weights[labels].sum(dtype=np.float64)
    weights = np.full(len(members), 1 / len(members))
    before = -np.inf
    for _ in range(MOST_STEPS):
        mixed = weights @ likelihood
        now = float(counts @ np.log(mixed))
        if now - before < EM_GAIN:
            break
        before, weights = now, weights * ((likelihood / mixed) @ counts)
    return weights


def fit_mixture(
    members: Probabilities, labels: Labels, parts: Sequence[Rows], class_weights: NDArray[np.float32]
) -> tuple[Mixture, Probabilities]:
    """Fit the weights of a mean; see `fit_stacker`."""
    answers = np.empty(members.shape[1:])
    for part in parts:
        others = np.setdiff1d(np.arange(len(labels)), part)
        answers[part] = Mixture(mixture_weights(members[:, others], labels[others], class_weights))(members[:, part])
    return Mixture(mixture_weights(members, labels, class_weights)), answers


def fit_stacker(
    members: Probabilities, labels: Labels, parts: Sequence[Rows], class_weights: NDArray[np.float32]
) -> tuple[Stacker, Probabilities]:
    """Fit a linear meta-learner on answers of members to images that they have not learned from.

    Reference: Wolpert 1992, Neural Networks 5, 241; probabilities as inputs: Ting & Witten 1999, JAIR 10, 271.

    Args:
        members: (m, n, k), out of fold.
        labels: int32 (n,), or soft ones.
        parts: positions of the images of each fold, which together are all; the C with the lowest mean log loss over them is
            taken.
        class_weights: float32 (k,), the weight of each class.

    Returns:
        The meta-learner, fitted on all images, and the answers (n, k) that it gives to each part when fitted on the others.
    """
    features, identity = seen(members), Standardiser.identity(members.shape[0] * members.shape[2])
    paths: list[dict[float, LinearProbe]] = []
    for part in parts:
        others, path = np.setdiff1d(np.arange(len(labels)), part), dict[float, LinearProbe]()
        pairs = (features[others], labels[others]), (features[part], labels[part])
        fit_linear_probe(*pairs, identity, class_weights, on_solution=lambda found, path=path: path.update({found.c: found}))
        paths.append(path)
    shared = [each for each in paths[0] if all(each in path for path in paths)]
    c = min(shared, key=lambda each: float(np.mean([path[each].val_loss for path in paths])))
    answers = np.empty(members.shape[1:])
    for part, path in zip(parts, paths, strict=True):
        answers[part] = _stacker(path[c])(members[:, part])
    everything = features, labels
    whole = fit_linear_probe(everything, everything, identity, class_weights, c)
    return _stacker(whole), answers


def _stacker(probe: LinearProbe) -> Stacker:
    return Stacker(probe.kernel, probe.bias, probe.c)
