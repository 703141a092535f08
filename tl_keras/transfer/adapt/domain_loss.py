"""What the losses between two domains have in common: a layer that adds one to the loss of the network, in training only."""

from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

Tensor = Any


@dataclass(frozen=True)
class Seen:
    """A batch of one domain as the network sees it.

    Attributes:
        features: what the head reads, float32 (b, d).
        logits: what the head says, float32 (b, k).
    """

    features: Tensor
    logits: Tensor


class DomainLoss(keras.layers.Layer):
    """Hands on the logits of the source, and adds a loss that compares the domains.

    Its inputs are features and logits of the source, then of the target. A method is a subclass with one loss.

    Args:
        num_steps: of the whole training, over which some losses grow.
    """

    weight = 1.0  # of the loss, beside the cross-entropy of the source

    def __init__(self, num_steps: int, **kwargs: Any) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.num_steps = num_steps

    def build(self, input_shape: Any) -> None:
        self.done = self.add_weight(
            name="done", shape=(), dtype="int64", initializer="zeros", trainable=False
        )  # steps; a checkpoint has it

    def call(self, inputs: list[Tensor], training: bool | None = None) -> Tensor:
        source, target = Seen(*inputs[:2]), Seen(*inputs[2:])
        if training:
            self.add_loss(self.weight * self.compare(source, target))
            self.done.assign_add(1)
        return source.logits

    def compare(self, source: Seen, target: Seen) -> Tensor:
        """The loss, a scalar."""
        raise NotImplementedError

    @property
    def share(self) -> Tensor:
        """How much of the training is done, float32 in [0, 1]."""
        return ops.cast(self.done, "float32") / float(self.num_steps)

    @property
    def ramp(self) -> Tensor:
        """From 0 to 1 over the training, most of it in the first fifth: 2 / (1 + exp(-10 share)) - 1.

        Reference: Ganin et al. 2016, JMLR 17(59), sec. 5.2.2.
        """
        return 2.0 / (1.0 + ops.exp(-10.0 * self.share)) - 1.0
