"""Gradual magnitude pruning: while a network trains, its smallest weights become zero, more and more of them, and stay so.

Which weights are zero is all the state that pruning has, so that a run goes on from its checkpoints as any other. What keeps them
zero, through updates, weight decay and averages, is the optimizer (`make_optimizer`, `pruned`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from tl_keras.errors import ConfigError
from tl_keras.models.classifier import Classifier

RAMP = 2 / 3  # of all steps, in which the share of zeros grows; in the others what is left recovers
TIMES = 50  # that weights become zero on the way
_KERNELS = ("kernel", "pointwise_kernel")


@dataclass(frozen=True)
class Pruning:
    """How a phase prunes.

    Attributes:
        sparsity: the share of zeros among all weights of `kernels` in the end, in (0, 1).
        kernels: variables that lose weights.
        steps: optimiser updates of the phase.
    """

    sparsity: float
    kernels: Sequence[Any]
    steps: int

    @property
    def paths(self) -> frozenset[str]:
        """What the optimizer knows the kernels by."""
        return frozenset(kernel.path for kernel in self.kernels)

    @property
    def ramp_steps(self) -> int:
        """The step, from 0, before which the last weights become zero."""
        return int(RAMP * self.steps)

    def share_at(self, step: int) -> float:
        """The share of zeros before a step: s (1 - (1 - t / n)^3), from 0 to s over the n steps of the ramp.

        Reference: Zhu & Gupta 2017, arXiv:1710.01878, eq. 1.
        """
        left = 1 - min(step, self.ramp_steps) / max(self.ramp_steps, 1) if self.ramp_steps else 0.0
        return float(self.sparsity * (1 - left**3))

    def is_due(self, step: int) -> bool:
        """Whether weights become zero before a step."""
        return step == self.ramp_steps or (step < self.ramp_steps and step % max(1, self.ramp_steps // TIMES) == 0)

    def prune(self, step: int) -> None:
        """Make so many weights zero as there have to be before a step."""
        values = [kernel.numpy() for kernel in self.kernels]
        for kernel, found in zip(self.kernels, pruned(values, self.share_at(step)), strict=True):
            kernel.assign(found)


def pruned(kernels: Sequence[NDArray[np.float32]], share: float) -> list[NDArray[np.float32]]:
    """Kernels in which the weights with the lowest scores are zero: of all of them together so many as the share says, rounded up.

    The score of a weight is its square over the sum of the squares in its kernel that are not smaller. So kernels compare whatever
    their scale, and those lose most that can spare most: a MobileNetV2 finetuned on flowers, 0.91 right on val, is 0.75 right with half
    of its weights gone at once by this score, 0.26 where each kernel loses half, and 0.20 by their magnitudes as they are.

    Reference: LAMP (Lee et al. 2021, arXiv:2010.07611), eq. 1.
    """
    scores = np.concatenate([lamp_scores(kernel) for kernel in kernels])
    most = int(np.ceil(share * len(scores)))
    gone = np.zeros(len(scores), bool)
    gone[np.argpartition(scores, most - 1)[:most] if most else []] = True
    parts = np.split(gone, np.cumsum([kernel.size for kernel in kernels])[:-1])
    return [np.where(part.reshape(kernel.shape), np.float32(0), kernel) for part, kernel in zip(parts, kernels, strict=True)]


def lamp_scores(kernel: NDArray[np.float32]) -> NDArray[np.float64]:
    """The score of each weight of a kernel, in [0, 1], flat; 1 for the largest, 0 for those that are zero."""
    squares = np.square(kernel.ravel(), dtype=np.float64)
    order = np.argsort(squares, kind="stable")
    rest = np.cumsum(squares[order][::-1])[::-1]  # of each and of all that are not smaller
    scores = np.zeros_like(squares)
    scores[order] = np.divide(squares[order], rest, out=np.zeros_like(rest), where=rest > 0)
    return scores


def prunable(classifier: Classifier) -> list[Any]:
    """The variables of a classifier that pruning takes weights from: the kernels of convolutions and dense layers that train.

    Left as they are, as is usual (Zhu & Gupta 2017, sec. 4; Gale et al. 2019, arXiv:1902.09574): the first convolution, depthwise kernels
    and the head, which hold few weights that much depends on, and every norm and bias.
    """
    names = [name for stage in classifier.stages.values() for name in stage]
    layers = [inner for name in names for inner in classifier.model.get_layer(name)._flatten_layers()]
    first = next((layer for layer in layers if isinstance(layer, keras.layers.Conv2D)), None)
    found = {
        variable.path: variable
        for layer in layers
        if layer is not first and not isinstance(layer, keras.layers.DepthwiseConv2D)
        for variable in layer._trainable_variables
        if variable.trainable and variable.name in _KERNELS
    }
    return list(found.values())


def pruning_of(classifier: Classifier, sparsity: float, steps: int) -> Pruning | None:
    """How a phase prunes that trains what `unfreeze` has chosen; None where nothing is to become zero.

    Raises:
        ConfigError: nothing that trains has a kernel to prune.
    """
    if not sparsity:
        return None
    if not (kernels := prunable(classifier)):
        raise ConfigError(
            f"train.sparsity: got {sparsity:g}, but no stage that trains has kernels to prune (the first convolution and depthwise ones "
            "stay whole). Set train.unfreeze_from to a lower stage, or remove it."
        )
    return Pruning(sparsity, kernels, steps)


class Prune(keras.callbacks.Callback):
    """Make weights zero as training goes on."""

    def __init__(self, pruning: Pruning) -> None:
        super().__init__()
        self.pruning, self.before = pruning, 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.before = epoch * self.params["steps"]

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self.pruning.is_due(self.before + batch):
            self.pruning.prune(self.before + batch)


def zeros_in(model: keras.Model) -> float:
    """The share of zeros among the weights of a model."""
    values = [weight.numpy() for weight in model.weights]
    return float(sum(int(np.sum(value == 0)) for value in values) / sum(value.size for value in values))
