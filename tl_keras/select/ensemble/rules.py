"""Rules that make one answer of several: what is averaged, voted or learned from what members say.

Knows probabilities and labels only. `models.combined` has the same rules as layers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tl_keras.models.combined import LEAST_SEEN, TIE
from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.transfer.probe import LinearProbe, Standardiser, fit_linear_probe

MOST_STEPS = 10_000  # of EM
SETTLED = 1e-9  # gain of the log-likelihood an image, below which EM ends

Probabilities = NDArray[np.float64]  # of m members (m, n, k), or of one (n, k)
Labels = NDArray[np.int32]
Rows = NDArray[np.int64]


def average(members: Probabilities) -> Probabilities:
    """The mean of the members' probabilities: (m, n, k) -> (n, k)."""
    found: Probabilities = members.mean(axis=0)
    return found


def vote(members: Probabilities) -> Probabilities:
    """The share of members that put a class first, ties settled by the mean probability: (m, n, k) -> (n, k)."""
    votes = SINGLE_LABEL.targets(SINGLE_LABEL.decide(members), members.shape[-1])
    found: Probabilities = (votes.mean(axis=0, dtype=np.float64) + TIE * members.mean(axis=0)) / (1 + TIE)
    return found


def mixture_weights(members: Probabilities, labels: Labels, class_weights: NDArray[np.float32]) -> NDArray[np.float64]:
    """The weights (m,) of a mean of probabilities under which the labels are most likely, by expectation-maximisation.

    Every label counts as often as its class weighs.

    The likelihood of a mixture is concave in its weights, so the least log loss there is, is found. They are >= 0 and sum to 1.

    Reference: Dempster, Laird & Rubin 1977, sec. 4.3, with known components; stacking's restriction to a convex
    combination is Breiman 1996, Machine Learning 24, 49.
    """
    likelihood = np.maximum(members[:, np.arange(len(labels)), labels], np.finfo(np.float64).tiny)
    counts = class_weights[labels] / class_weights[labels].sum(dtype=np.float64)
    weights = np.full(len(members), 1 / len(members))
    before = -np.inf
    for _ in range(MOST_STEPS):
        mixed = weights @ likelihood
        now = float(counts @ np.log(mixed))
        if now - before < SETTLED:
            break
        before, weights = now, weights * ((likelihood / mixed) @ counts)
    return weights


@dataclass(frozen=True)
class Stacker:
    """A linear meta-learner: kernel float32 (m k, k) and bias (k,) on the logarithms of members' probabilities.

    Attributes:
        penalty: by which it was found, scikit-learn's C.
    """

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]
    penalty: float

    def __call__(self, members: Probabilities) -> Probabilities:
        """(m, n, k) -> (n, k)."""
        return np.exp(SINGLE_LABEL.log_probabilities((seen(members) @ self.kernel + self.bias).astype(np.float64)))


@dataclass(frozen=True)
class Mixture:
    """A weighted mean of probabilities: weights (m,) >= 0 that sum to 1."""

    weights: NDArray[np.float64]

    def __call__(self, members: Probabilities) -> Probabilities:
        """(m, n, k) -> (n, k)."""
        found: Probabilities = np.tensordot(self.weights, members, axes=1)
        return found


def seen(members: Probabilities) -> NDArray[np.float32]:
    """What a linear meta-learner sees: float32 (n, m k), the logarithms member by member."""
    logarithms = SINGLE_LABEL.logits(members, LEAST_SEEN).astype(np.float32)
    return np.concatenate(list(logarithms), axis=1)


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
        labels: int32 (n,).
        parts: positions of the images of each fold, which together are all; the penalty with the lowest mean log loss over them is
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
        fit_linear_probe(*pairs, identity, class_weights, on_penalty=lambda found, path=path: path.update({found.penalty: found}))
        paths.append(path)
    shared = [penalty for penalty in paths[0] if all(penalty in path for path in paths)]
    penalty = min(shared, key=lambda each: float(np.mean([path[each].val_loss for path in paths])))
    answers = np.empty(members.shape[1:])
    for part, path in zip(parts, paths, strict=True):
        answers[part] = _stacker(path[penalty])(members[:, part])
    everything = features, labels
    whole = fit_linear_probe(everything, everything, identity, class_weights, penalty)
    return _stacker(whole), answers


def _stacker(probe: LinearProbe) -> Stacker:
    return Stacker(probe.kernel, probe.bias, probe.penalty)
