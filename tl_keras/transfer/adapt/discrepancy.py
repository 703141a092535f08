"""Losses between two domains that need no further network."""

from keras import ops

from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.transfer.adapt.domain_loss import DomainLoss, Seen, Tensor
from tl_keras.transfer.adapt.measures import WIDTHS

TEMPERATURE = 2.5  # of the probabilities whose confusion counts, as in the paper
SMALL = 1e-8


class ClassConfusion(DomainLoss):
    """Minimum class confusion: how much the probabilities of one image are shared between classes, over images of the target.

    Images of which the network is unsure count less, and each class as much as any other, so that a class cannot be given up.

    Reference: MCC (Jin et al. 2020, arXiv:1912.03699), eqs. 2 to 6.
    """

    def compare(self, source: Seen, target: Seen) -> Tensor:
        return class_confusion(target.logits)


class MeanDiscrepancy(DomainLoss):
    """The squared maximum mean discrepancy of the features, and that of the probabilities.

    Reference: DAN (Long et al. 2015, arXiv:1502.02791), with the same mean of kernels as `measures.squared_mmd`.
    """

    def compare(self, source: Seen, target: Seen) -> Tensor:
        said = (SINGLE_LABEL.answers_op(each.logits) for each in (source, target))
        return self.ramp * (squared_mmd(source.features, target.features) + squared_mmd(*said))


class CovarianceDistance(DomainLoss):
    """The squared distance between the covariances of the features.

    Reference: Deep CORAL (Sun & Saenko 2016, arXiv:1607.01719), eq. 1, over 4 d and not 4 d^2, by which nothing is left of 1,280 features.
    """

    def compare(self, source: Seen, target: Seen) -> Tensor:
        difference = covariance(source.features) - covariance(target.features)
        return self.ramp * ops.sum(ops.square(difference)) / (4.0 * difference.shape[0])


def class_confusion(logits: Tensor) -> Tensor:
    """The loss of MCC for logits (b, k): in [0, 1 - 1/k], a scalar."""
    p = SINGLE_LABEL.answers_op(logits / TEMPERATURE)
    sure = 1.0 + ops.exp(ops.sum(p * ops.log(p + SMALL), axis=1))  # 1 + exp(-entropy)
    weights = ops.cast(ops.shape(p)[0], "float32") * sure / ops.sum(sure)
    confusion = ops.transpose(p * weights[:, None]) @ p
    confusion = confusion / (ops.sum(confusion, axis=1, keepdims=True) + SMALL)
    return (ops.sum(confusion) - ops.trace(confusion)) / p.shape[1]


def squared_mmd(x: Tensor, y: Tensor) -> Tensor:
    """Squared maximum mean discrepancy of rows (n, d) and (m, d), biased and so never negative; the kernel's width follows the rows."""
    rows = ops.concatenate([x, y])
    size = ops.sum(ops.square(rows), axis=1)
    distances = ops.maximum(size[:, None] + size[None] - 2.0 * rows @ ops.transpose(rows), 0.0)
    num = ops.cast(ops.shape(rows)[0], "float32")
    mean = ops.stop_gradient(ops.sum(distances) / (num * (num - 1.0))) + SMALL
    kernel = sum(ops.exp(-width * distances / mean) for width in WIDTHS) / len(WIDTHS)
    first = ops.shape(x)[0]
    return ops.mean(kernel[:first, :first]) + ops.mean(kernel[first:, first:]) - 2.0 * ops.mean(kernel[:first, first:])


def covariance(x: Tensor) -> Tensor:
    """(d, d) of rows (n, d); of one row, zeros."""
    centred = x - ops.mean(x, axis=0)
    return ops.transpose(centred) @ centred / ops.maximum(ops.cast(ops.shape(x)[0], "float32") - 1.0, 1.0)
