"""A linear head on rows that are in parts: each part is summed over by whoever reads it, and the sums are added here, in their order.

For features that no machine's memory holds. What is asked of a part are sums (of rows, losses, gradients) and a few rows, which do not
grow with it; the optimum is that of all rows together, as `probe` solves it. Who answers for the parts is a function: in this process,
or tasks of a cluster.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tl_keras.models.outputs import Labels, Output
from tl_keras.transfer.head.probe import (
    LOSS_GAIN,
    Axes,
    Features,
    LinearProbe,
    LogLoss,
    Matrix,
    StandardisedRows,
    Standardiser,
    best_of_path,
    chunks,
    judge,
    judge_logits,
    objective_of,
    squares,
    sums,
)


@dataclass(frozen=True)
class Part:
    """Some rows in a row.

    Attributes:
        start: the place of the first among all rows.
        features: float32 (n, d), that need not lie in memory.
        labels: as `output` says.
        weights: (n,), how much each row counts beside its class; None where all count alike.
    """

    start: int
    features: Features
    labels: Labels
    weights: NDArray[np.float32] | None
    class_weights: NDArray[np.float32]
    output: Output

    def sums(self) -> Matrix:
        """The sum of the rows, (d,)."""
        return sums(self.features)

    def squares(self, mean: Matrix) -> Matrix:
        """The sum of squares about a mean (d,), (d,)."""
        return squares(self.features, mean)

    def weight(self, standardise: Standardiser) -> float:
        """How much the rows count together."""
        return self._objective(standardise, None).total_weight

    def sampled(self, standardise: Standardiser, step: int) -> NDArray[np.float32]:
        """Each `step`-th of all rows that is in this part, standardised."""
        taken = [self.features[rows][-(self.start + rows.start) % step :: step] for rows in chunks(self.features)]
        return standardise(np.concatenate(taken))

    def loss(self, weights: Matrix, standardise: Standardiser, total_weight: float) -> tuple[float, Matrix, float]:
        """This part's share of the loss of weights (d + 1, k), of its gradient, and of the curvature."""
        return self._objective(standardise, total_weight)(weights)

    def judged(self, weights: Matrix, standardise: Standardiser) -> tuple[float, float]:
        """Sums over the rows of the plain loss and of the metric."""
        loss, metric = judge(weights, self._rows(standardise), self.labels, self.output)
        return loss * len(self.labels), metric * len(self.labels)

    def logits(self, weights: Matrix, standardise: Standardiser) -> NDArray[np.float32]:
        """Of all rows, (n, k)."""
        return np.concatenate(list(self._rows(standardise).mapped(weights, lambda rows, x, logits: logits)))

    def _objective(self, standardise: Standardiser, total_weight: float | None) -> LogLoss:
        return objective_of(self.output, self._rows(standardise), self.labels, self.class_weights, self.weights, total_weight)

    def _rows(self, standardise: Standardiser) -> StandardisedRows:
        return StandardisedRows(self.features, standardise, keep=False, threads=1)


class Parts(Protocol):
    """What answers for all parts of some rows."""

    num: int

    def __call__(self, what: str, *given: Any) -> list[Any]:
        """What a method of each `Part` returns, in their order."""


@threadpool_limits.wrap(limits=1, user_api="blas")
def answer(part: Part, what: str, *given: Any) -> Any:
    """What a method of a part returns."""
    return getattr(part, what)(*given)


def cut(num: int, width: int, most: int) -> list[slice]:
    """At most so many parts of about one size that cover `num` rows in order, and end where chunks of them do."""
    rows = chunks(np.broadcast_to(np.float32(0), (num, width)))
    per_part = -(-len(rows) // most)
    return [slice(rows[at].start, rows[min(at + per_part, len(rows)) - 1].stop) for at in range(0, len(rows), per_part)]


class SummedLoss:
    """The loss of all parts together; see `LogLoss`."""

    loss_gain = LOSS_GAIN  # many read at once, so that the optimum of small features is not too dear

    def __init__(self, parts: Parts, standardise: Standardiser, like: LogLoss) -> None:
        self._parts, self._standardise = parts, standardise
        self.shape, self.total_weight = like.shape, like.total_weight
        self.first_curvature, self.columns = like.first_curvature, like.columns

    def __call__(self, weights: Matrix) -> tuple[float, Matrix, float]:
        losses, gradients, curvatures = zip(*self._parts("loss", weights, self._standardise, self.total_weight), strict=True)
        return float(sum(losses)), np.sum(gradients, axis=0), float(sum(curvatures))


class SampledParts:
    """A sample of the rows of all parts."""

    def __init__(self, parts: Parts, standardise: Standardiser, width: int) -> None:
        self._parts, self._standardise = parts, standardise
        self.shape = parts.num, width

    def sample(self, num: int) -> Iterator[NDArray[np.float32]]:
        """Chunks of about `num` standardised rows, evenly spaced."""
        yield from self._parts("sampled", self._standardise, max(1, self.shape[0] // num))


def fit_standardiser(parts: Parts) -> Standardiser:
    """The one of all rows."""
    mean = np.sum(parts("sums"), axis=0) / parts.num
    return Standardiser.of(mean, np.sum(parts("squares", mean), axis=0) / parts.num)


def fit_on_parts(
    train: Parts,
    val: Parts,
    val_labels: Labels,
    standardise: Standardiser,
    class_weights: NDArray[np.float32],
    output: Output,
    c: float | None = None,
    on_solution: Callable[[LinearProbe], None] | None = None,
) -> LinearProbe:
    """`probe.fit_linear_probe` on parts of rows, of which there are more than features.

    Args:
        val_labels: of the rows of `val`; a metric that is no mean over images needs them all, and the logits.
    """
    width = len(standardise.mean)
    nothing = np.empty((0, width), np.float32)
    total = sum(train("weight", standardise))
    like = objective_of(
        output, StandardisedRows(nothing, standardise), np.empty(0, np.int32), class_weights, np.empty(0), total_weight=total
    )
    axes = Axes.of(SampledParts(train, standardise, width))

    def judged(weights: Matrix) -> tuple[float, float]:
        if not output.metric_is_mean:
            return judge_logits(np.concatenate(val("logits", weights, standardise)), val_labels, output)
        loss, metric = np.sum(val("judged", weights, standardise), axis=0) / val.num
        return float(loss), float(metric)

    return best_of_path(SummedLoss(train, standardise, like), axes, c, judged, on_solution)


class PartsHere:
    """Parts that this process answers for, one after the other."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self.num = sum(len(part.features) for part in parts)

    def __call__(self, what: str, *given: Any) -> list[Any]:
        return [answer(part, what, *given) for part in self._parts]
