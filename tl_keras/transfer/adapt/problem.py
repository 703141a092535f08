"""A problem of domain adaptation on stored features, and a linear head solved for it by one of the methods of `ADAPTATIONS`.

Every method ends as a kernel and a bias for raw features of the target: what a method does to the features of the target is an affine
map, which is folded into the head. So the model needs no further step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_keras.adaptations import ADABN, SELF_TRAINING, SOURCE_ONLY
from tl_keras.config import Config
from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.transfer.adapt.affine import Affine, MappedFeatures, sample
from tl_keras.transfer.adapt.alignment import ALIGNMENTS, same
from tl_keras.transfer.adapt.label_shift import class_ratios
from tl_keras.transfer.adapt.self_training import ROUNDS, ROWS, Stacked, surest
from tl_keras.transfer.adapt.transport import optimal_transport
from tl_keras.transfer.adapt.weighting import WEIGHTINGS
from tl_keras.transfer.head.probe import Axes, Features, LinearProbe, Pair, StandardisedRows, Standardiser, fit_linear_probe
from tl_keras.transfer.losses import class_weight_vector

Weights = NDArray[np.float32]


@dataclass(frozen=True)
class DomainProblem:
    """Two domains: labelled features of the source, and features of the target.

    Attributes:
        config: its `train.class_weights` and `train.head_c` say how heads are solved; its seed, what methods draw.
        train: of the source, to learn from: features (n, d) and labels int32 (n,).
        val: of the source, to choose C by.
        target: features (m, d).
        classes: names, k of them.
        weights: float32 (n,), how much each source image counts beside its class; None where all count alike.
        axes: principal axes of rows much like those of `train`; None where they are to be measured.
    """

    config: Config
    train: Pair
    val: Pair
    target: Features
    classes: tuple[str, ...]
    weights: Weights | None = None
    axes: Axes | None = None

    def sampled(self, most: int) -> "DomainProblem":
        """The same of at most so many rows of each domain, in memory."""
        rows, features = sample(self.train[0], most, self.rng)
        weights = None if self.weights is None else self.weights[rows]
        target = sample(self.target, most, self.rng)[1]
        return replace(self, train=(features, np.asarray(self.train[1])[rows]), target=target, weights=weights)

    @property
    def rng(self) -> np.random.Generator:
        """A fresh stream for one method, the same for each."""
        return np.random.default_rng(self.config.runtime.seed)


@dataclass(frozen=True)
class AdaptedHead:
    """A linear head for raw features of the target, and what it was solved by.

    Attributes:
        probe: kernel (d, k), bias (k,), and its figures on val of the source, as that was mapped.
        on_source: the same for raw features of the source.
        domains: the features that it is for.
        maps: what was done to the features of the source, and to those of the target, which is in `probe` already; None for a mean of
            heads, which may have different ones.
    """

    probe: LinearProbe
    on_source: LinearProbe
    domains: DomainProblem
    maps: tuple[Affine, Affine] | None = None


def solve(problem: DomainProblem, method: str) -> AdaptedHead:
    """Solve the head by a method of `ADAPTATIONS`."""
    return METHODS[method](problem, method)


def _plain(problem: DomainProblem, _: str) -> AdaptedHead:
    return _solved(problem, same(problem.train[0], problem.target, problem.rng), None)


def _aligned(problem: DomainProblem, method: str) -> AdaptedHead:
    return _solved(problem, ALIGNMENTS[method](problem.train[0], problem.target, problem.rng), None)


def _transported(problem: DomainProblem, _: str) -> AdaptedHead:
    return _solved(problem, optimal_transport(*problem.train, problem.target, problem.rng), None)


def _weighted(problem: DomainProblem, method: str) -> AdaptedHead:
    weights = WEIGHTINGS[method](problem.train[0], problem.target, problem.rng)
    return _solved(problem, same(problem.train[0], problem.target, problem.rng), weights)


def _label_shifted(problem: DomainProblem, _: str) -> AdaptedHead:
    before = _plain(problem, SOURCE_ONLY).probe
    said = [SINGLE_LABEL.decide(SINGLE_LABEL.answers(before.logits(features))) for features in (problem.val[0], problem.target)]
    ratios = class_ratios(said[0], np.asarray(problem.val[1]), said[1], len(problem.classes))
    return _solved(problem, same(problem.train[0], problem.target, problem.rng), ratios[problem.train[1]])


def _self_trained(problem: DomainProblem, _: str) -> AdaptedHead:
    """The plain head, solved anew in each round with what it then says of the target, both domains counting alike; C stays."""
    found, few = _plain(problem, SOURCE_ONLY), problem.sampled(ROWS)
    everything = Stacked(few.train[0], few.target)
    axes = Axes.of(StandardisedRows(everything, Standardiser.fit(everything)))
    fixed = problem.config.replace("train.head_c", found.probe.c)
    for number in range(1, ROUNDS + 1):
        own = few if number < ROUNDS else problem
        answers = SINGLE_LABEL.answers(found.probe.logits(own.target))
        rows = surest(answers, number / ROUNDS)
        labelled = own.target if len(rows) == len(own.target) else own.target[slice(None)][rows]
        found = _plain(replace(own, config=fixed, axes=axes, **_beside(own, labelled, SINGLE_LABEL.decide(answers)[rows])), SOURCE_ONLY)
    return replace(found, domains=problem)


def _beside(problem: DomainProblem, features: Features, said: NDArray[np.integer]) -> dict[str, Any]:
    """What to learn from where some of the target is labelled: it counts as much as the source does."""
    of_source = np.ones(len(problem.train[1]), np.float32) if problem.weights is None else problem.weights
    of_target = np.full(len(said), of_source.sum() / len(said), np.float32)
    labels = np.concatenate([np.asarray(problem.train[1]), said]).astype(np.int32)
    return {"train": (Stacked(problem.train[0], features), labels), "weights": np.concatenate([of_source, of_target])}


def _solved(problem: DomainProblem, maps: tuple[Affine, Affine], weights: Weights | None) -> AdaptedHead:
    (features, labels), (val, val_labels), config = problem.train, problem.val, problem.config
    source, target = maps
    seen, seen_val = MappedFeatures(features, source), MappedFeatures(val, source)
    standardise = Standardiser.fit(seen)
    by_class = class_weight_vector(config.train.class_weights, labels, problem.classes)
    own = weights if problem.weights is None else problem.weights if weights is None else problem.weights * weights
    probe = fit_linear_probe(
        (seen, labels), (seen_val, val_labels), standardise, by_class, config.train.head_c, weights=own, axes=problem.axes
    )
    mapped = probe.on_raw(standardise)
    return AdaptedHead(_before(target, mapped), _before(source, mapped), problem, maps)


def _before(mapping: Affine, head: LinearProbe) -> LinearProbe:
    """The head for features as they are before they are mapped."""
    kernel, bias = mapping.fold(head.kernel, head.bias)
    return replace(head, kernel=kernel, bias=bias)


def mean_head(problem: DomainProblem, heads: Sequence[AdaptedHead]) -> AdaptedHead:
    """The mean of the logits of several heads, each on the same scale on the target; its figures on val are measured anew."""
    spreads = [_spread(head.probe.logits(problem.target)) for head in heads]
    scale = float(np.exp(np.mean(np.log(spreads))))

    def mean(of: Sequence[LinearProbe]) -> LinearProbe:
        shares = [scale / (spread * len(heads)) for spread in spreads]
        kernel = sum(share * one.kernel for share, one in zip(shares, of, strict=True))
        bias = sum(share * one.bias for share, one in zip(shares, of, strict=True))
        return replace(of[0], kernel=np.asarray(kernel, np.float32), bias=np.asarray(bias, np.float32))

    return measured_head(problem, mean([head.probe for head in heads]), mean([head.on_source for head in heads]))


def measured_head(problem: DomainProblem, on_target: LinearProbe, on_source: LinearProbe) -> AdaptedHead:
    """A head that was not solved as a whole, with its figures on val of the source."""
    logits, labels = on_source.logits(problem.val[0]), problem.val[1]
    figures: Any = {"val_loss": float(SINGLE_LABEL.plain_losses(logits, labels).mean()), "val_metric": SINGLE_LABEL.metric(logits, labels)}
    return AdaptedHead(replace(on_target, **figures), replace(on_source, **figures), problem)


def _spread(logits: NDArray[np.floating]) -> float:
    """How far the logits (m, k) of an image are apart; 1 where they all are the same."""
    return float((logits - logits.mean(axis=1, keepdims=True)).std()) or 1.0


METHODS: dict[str, Callable[[DomainProblem, str], AdaptedHead]] = {
    SOURCE_ONLY: _plain,
    ADABN: _plain,  # on features of other statistics
    **dict.fromkeys(ALIGNMENTS, _aligned),
    "optimal_transport": _transported,
    **dict.fromkeys(WEIGHTINGS, _weighted),
    "label_shift": _label_shifted,
    SELF_TRAINING: _self_trained,
}
