"""Which heads to trust on a target domain without labels.

A head is trusted if its predictions for the target have not collapsed on a few classes, and if on the source it is not much worse than
the head that was not adapted, images that look like the target counting most. Of domains that are near each other, `auto` takes the mean of
all heads that are trusted: the scores that are said to tell the better of two heads, entropy and mixed images, picked worse ones.

Where they are far apart, it takes heads and networks that go further than the mean: BatchNorm statistics of each domain, a head that labels
the target itself, and a network that is trained on both. Log loss on the source does not tell whether these are right, so accuracy
on it judges them, and decides between the last two. `benchmarks/adaptation.py` compares these rules with others.

No score here reads a label of the target.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_keras.adaptations import ADABN, SELF_TRAINING, SOURCE_ONLY
from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.transfer.adapt.scores import (
    diversity,
    effective_classes,
    entropy,
    mixed_agreement,
    mutual_information,
    neighbourhood_density,
    weighted_risk,
)

LEAST_CLASSES = 0.55  # of as many as are predicted on val of the source, below which predictions have collapsed
MOST_RISK = 1.2  # times that of the head that was not adapted, above which a method has lost what the source taught
LEAST_ACCURACY = 0.9  # on val of the source, of that before the backbone was changed
SMALL_RISK = 0.01  # nats, up to which nothing is lost: of two risks near 0 the ratio says nothing
MOST_NEIGHBOURS = 2_000  # images whose predictions are compared with each other


@dataclass(frozen=True)
class Candidate:
    """A head's scores on the target, which need no labels.

    Attributes:
        method: what solved it.
        classes: how many classes it predicts on the target, effectively.
        classes_on_source: likewise on val of the source.
        risk: mean log loss on val of the source, weighted by likeness to the target.
        mixed: see `scores.mixed_agreement`.
        entropy: in nats.
        mutual_information: in nats.
        diversity: in nats.
        density: soft neighbourhood density, which never decides.
        agreement: the share of target images of which it says what the head that was not adapted says.
        accuracy: on val of the source.
    """

    method: str
    classes: float
    classes_on_source: float
    risk: float
    mixed: float
    entropy: float
    mutual_information: float
    diversity: float
    density: float
    agreement: float = 1.0
    accuracy: float = 1.0

    @property
    def collapsed(self) -> bool:
        """Whether it predicts so few classes that its other scores mean nothing."""
        return self.classes < LEAST_CLASSES * self.classes_on_source

    def passes(self, baseline: "Candidate") -> bool:
        """Whether its scores may be trusted."""
        return not self.collapsed and not self.forgets(baseline)

    def holds(self, baseline: "Candidate") -> bool:
        """Whether a backbone that was changed may be trusted: its head is for the target, and of the source little is to be lost.

        Log loss, by which heads on the same features are told, is no measure here: a network that was trained is surer, also where it is
        wrong.
        """
        return not self.collapsed and self.accuracy >= LEAST_ACCURACY * baseline.accuracy

    def outdoes(self, kept: "Candidate", baseline: "Candidate") -> bool:
        """Whether a network that was trained takes the place of the kept head: beside self-training, it loses no more of the source.

        In 11 of 12 runs of `benchmarks/adaptation.py` that told the better of the two; so did `mixed`, with more lost in the twelfth.
        """
        return self.holds(baseline) and (kept.method != SELF_TRAINING or self.accuracy >= kept.accuracy)

    def forgets(self, baseline: "Candidate") -> bool:
        """Whether it has lost some of what the source taught."""
        return self.risk > max(MOST_RISK * baseline.risk, SMALL_RISK)

    @classmethod
    def read(cls, report: Mapping[str, Any]) -> "Candidate":
        """What `report` says."""
        return cls(**{each.name: report[each.name] for each in fields(cls)})

    def report(self) -> dict[str, Any]:
        """As `metrics.json` holds it."""
        return asdict(self) | {"collapsed": self.collapsed}


def judge_candidate(
    method: str,
    on_target: NDArray[np.floating],
    on_mixed: NDArray[np.floating],
    pairs: NDArray[np.integer],
    on_val: NDArray[np.floating],
    val_losses: NDArray[np.floating],
    likeness: NDArray[np.floating],
) -> Candidate:
    """The scores of one head.

    Args:
        on_target: probabilities (m, k) of the target.
        on_mixed: of images of the target with some of another mixed in, (p, k).
        pairs: which images, and which were mixed into them, (2, p), as positions in `on_target`.
        on_val: of val of the source, (v, k).
        val_losses: log loss of each, (v,).
        likeness: how much each looks like the target, (v,).
    """
    said, num_classes = SINGLE_LABEL.decide(on_target), on_target.shape[1]
    return Candidate(
        method=method,
        classes=effective_classes(said, num_classes),
        classes_on_source=effective_classes(SINGLE_LABEL.decide(on_val), num_classes),
        risk=weighted_risk(val_losses, likeness),
        mixed=mixed_agreement(said[pairs[0]], said[pairs[1]], SINGLE_LABEL.decide(on_mixed)),
        entropy=entropy(on_target),
        mutual_information=mutual_information(on_target),
        diversity=diversity(on_target),
        density=neighbourhood_density(on_target[:MOST_NEIGHBOURS]),
    )


def trusted(candidates: Sequence[Candidate]) -> list[str]:
    """The methods whose heads are trusted; the plain head alone where none is.

    Args:
        candidates: heads on the same features; the first is the plain one.
    """
    baseline = candidates[0]
    if baseline.method not in (SOURCE_ONLY, ADABN):
        raise ValueError(f"the first candidate must be {SOURCE_ONLY} or {ADABN}. Received: {baseline.method}")
    return [one.method for one in candidates if one.passes(baseline)] or [baseline.method]
