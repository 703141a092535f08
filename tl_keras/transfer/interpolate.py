"""The straight line between the weights before and after finetuning: a point on it may be better than its ends.

It costs an evaluation on val for each point, of that part of the network which is not frozen.

Reference: WiSE-FT (Wortsman et al. 2022, arXiv:2109.01903).
"""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from tl_keras.models.outputs import PLAIN_LOSS, Output
from tl_keras.transfer.checkpoints import weights_view

SHARES = tuple(number / 10 for number in range(11))  # of the finetuned weights; the rest are those before

Weights = list[NDArray[Any]]


@dataclass(frozen=True)
class Point:
    """A point on the line.

    Attributes:
        share: of the finetuned weights, in [0, 1].
        figures: on val: `val_loss` and the metric.
    """

    share: float
    figures: dict[str, float]


def interpolate(model: keras.Model, before: Weights, val: Any, output: Output, monitor: str) -> tuple[Point, list[Point]]:
    """Leave in a model the weights of the best point between those before and those that it has.

    Args:
        model: finetuned; its weights are in the order of `before`.
        val: (inputs, targets) batches, once through, as often as asked.
        output: what its outputs mean.
        monitor: the figure on val that chooses; of equals the larger share wins.

    Returns:
        The point that is taken, and all of them.
    """
    after = model.get_weights()
    view = weights_view(model)  # its compilation is not the model's
    view.compile(loss=output.loss(), metrics=output.metrics())
    points: list[Point] = []
    for share in SHARES:
        view.set_weights(between(before, after, share))
        found = view.evaluate(val, verbose=0, return_dict=True)
        points.append(Point(share, {"val_loss": float(found[PLAIN_LOSS]), output.val_metric: float(found[output.metric_name])}))
    best = points[-1]
    for point in reversed(points):
        best = point if output.is_better(monitor, point.figures[monitor], best.figures[monitor]) else best
    view.set_weights(between(before, after, best.share))
    return best, points


def between(before: Weights, after: Weights, share: float) -> Weights:
    """The weights at a share of the way from those before to those after; the ends are exact."""
    if share in (0, 1):
        return after if share else before
    return [np.asarray((1 - share) * a + share * b, b.dtype) for a, b in zip(before, after, strict=True)]
