"""Losses between two domains by a network that tries to tell them apart, and a backbone that is trained to make that impossible."""

from typing import Any

import keras
from keras import layers, ops

from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.transfer.adapt.discrepancy import SMALL
from tl_keras.transfer.adapt.domain_loss import DomainLoss, Seen, Tensor

UNITS = 256  # of each of the two hidden layers of a discriminator
PRODUCTS = 1_024  # of random features and probabilities, which stand for all products of the two


def reverse_gradient(x: Tensor, share: Tensor) -> Tensor:
    """The same values; on its way back, the gradient is multiplied by -share.

    Reference: Ganin et al. 2016, JMLR 17(59), eqs. 16 and 17.
    """

    return ops.stop_gradient((1.0 + share) * x) - share * x


class _Adversarial(DomainLoss):
    """A discriminator that learns to tell the domains apart; what it learns from is told to hinder it."""

    weight = 0.1  # at 1, where the source is fitted, the backbone learns from the discriminator alone, and predictions collapse

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        hidden = [layers.Dense(UNITS, activation="relu", kernel_initializer=keras.initializers.HeNormal(seed)) for seed in (0, 1)]
        last = layers.Dense(1, kernel_initializer=keras.initializers.GlorotUniform(0))
        self.discriminator = keras.Sequential([*hidden, last], name="discriminator")
        self.discriminator.build((None, self.num_inputs(input_shape)))

    def num_inputs(self, input_shape: Any) -> int:
        """The width of what the discriminator sees."""
        width: int = input_shape[0][-1]
        return width

    def losses_of(self, values: Tensor, *, is_source: bool) -> Tensor:
        """The discriminator's cross-entropy for each row, (b,)."""
        logits = self.discriminator(reverse_gradient(values, self.ramp))[:, 0]
        return ops.softplus(-logits if is_source else logits)


class Discriminator(_Adversarial):
    """DANN: the domains cannot be told by the features.

    Reference: Ganin et al. 2016, JMLR 17(59), arXiv:1505.07818.
    """

    def compare(self, source: Seen, target: Seen) -> Tensor:
        of_source = self.losses_of(_unit(source.features), is_source=True)
        return ops.mean(of_source) + ops.mean(self.losses_of(_unit(target.features), is_source=False))


class ConditionalDiscriminator(_Adversarial):
    """CDAN+E: the domains cannot be told by features and predicted classes together; images of which the network is sure count more.

    Reference: Long et al. 2018, arXiv:1705.10667, eqs. 7 to 9.
    """

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self.projections = [
            self.add_weight(
                name=name, shape=(shape[-1], PRODUCTS), initializer=keras.initializers.RandomNormal(0, 1, seed), trainable=False
            )
            for seed, (name, shape) in enumerate(zip(("of_features", "of_classes"), input_shape, strict=False))
        ]

    def num_inputs(self, input_shape: Any) -> int:
        return PRODUCTS

    def compare(self, source: Seen, target: Seen) -> Tensor:
        return self._mean(source, is_source=True) + self._mean(target, is_source=False)

    def _mean(self, seen: Seen, *, is_source: bool) -> Tensor:
        p = ops.stop_gradient(SINGLE_LABEL.answers_op(seen.logits))
        sure = 1.0 + ops.exp(ops.sum(p * ops.log(p + SMALL), axis=1))
        products = (_unit(seen.features) @ self.projections[0]) * (p @ self.projections[1]) / PRODUCTS**0.5
        losses = self.losses_of(products, is_source=is_source)
        return ops.sum(sure * losses) / ops.sum(sure)


def _unit(features: Tensor) -> Tensor:
    """Rows (b, d) of length sqrt(d), so that what a discriminator sees has the same size for every backbone."""
    mean = ops.sqrt(ops.mean(ops.square(features), axis=1, keepdims=True))
    return features / (mean + SMALL)
