"""TrivialAugment and RandAugment: for each image operations drawn from a table, which nobody has to tune for a data set.

A layer is one operation for each image of a batch. What moves pixels becomes a matrix, which `augment` composes with its
own, so that pixels are interpolated once; what changes colours is done after that, the images of a batch sorted by
operation. Where this differs from the papers: of two operations the one that moves pixels comes first; turns and shears
are about the centre, not a corner; shifts are fractions of the side; and what comes in from outside is filled as
`data.augment.fill_mode` says.

References: Müller & Hutter 2021, arXiv:2103.10158 (TrivialAugment); Cubuk et al. 2019, arXiv:1909.13719 (RandAugment).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from tl_keras.config import AugmentConfig
from tl_keras.data import colour_ops
from tl_keras.data.affine import affine
from tl_keras.data.draws import Draws, between
from tl_keras.data.precise import precise

Change = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


@dataclass(frozen=True)
class Op:
    """An operation, and how much of it an image gets.

    Attributes:
        trivial: the amounts at magnitude 0 and 30 in TrivialAugment, in its wide space.
        rand: the same in RandAugment.
        change: of colours, see `colour_ops`; None where pixels move, or nothing happens.
        both_ways: whether half of the images get the amount to the other side.
        around: what no change is, where that is not 0.
    """

    trivial: tuple[float, float] = (0.0, 0.0)
    rand: tuple[float, float] = (0.0, 0.0)
    change: Change | None = None
    both_ways: bool = False
    around: float = 0.0


def _factor(change: Change) -> Op:
    return Op((0.0, 0.99), (0.0, 0.9), change, both_ways=True, around=1.0)


OPS = {
    "identity": Op(),
    "shear_x": Op((0.0, 0.99), (0.0, 0.3), both_ways=True),
    "shear_y": Op((0.0, 0.99), (0.0, 0.3), both_ways=True),
    "shift_x": Op((0.0, 32 / 224), (0.0, 150 / 331), both_ways=True),  # TrivialAugment: 32 pixels, whatever the image; here as if of 224
    "shift_y": Op((0.0, 32 / 224), (0.0, 150 / 331), both_ways=True),
    "rotation": Op((0.0, 135.0), (0.0, 30.0), both_ways=True),
    "brightness": _factor(colour_ops.brightness),
    "saturation": _factor(colour_ops.saturation),
    "contrast": _factor(colour_ops.contrast),
    "sharpness": _factor(colour_ops.sharpness),
    "posterize": Op((8.0, 2.0), (8.0, 4.0), colour_ops.posterize),
    "solarize": Op((256.0, 0.0), (256.0, 0.0), colour_ops.solarize),
    "autocontrast": Op(change=colour_ops.autocontrast),
    "equalize": Op(change=colour_ops.equalize),
}
NUMBERS = {name: number for number, name in enumerate(OPS)}
CHANGES = [op.change for op in OPS.values() if op.change]
KINDS = [1 + CHANGES.index(op.change) if op.change else 0 for op in OPS.values()]  # of each operation: which of the changes, or none
MAGNITUDES = 30  # the largest


@dataclass(frozen=True)
class Layer:
    """One operation for each image of a batch.

    Attributes:
        op: int32 `(b,)`, positions in `OPS`.
        amount: float32 `(b,)`, in the unit of the operation.
    """

    op: tf.Tensor
    amount: tf.Tensor

    def amount_of(self, name: str) -> tf.Tensor:
        """Float32 `(b,)`: the amount where this is the image's operation, else 0."""
        return tf.where(self.op == NUMBERS[name], self.amount, 0.0)


def layers(augment: AugmentConfig, draws: Draws) -> list[Layer]:
    """The operations of each image, in their order; none where `data.augment.auto` is none."""
    if augment.auto == "none":
        return []
    if augment.auto == "trivial":
        magnitude = tf.floor(draws["auto_magnitude"] * (MAGNITUDES + 1)) / MAGNITUDES
        return [_layer([op.trivial for op in OPS.values()], magnitude, draws, 1)]
    magnitude = tf.constant(augment.rand_magnitude / MAGNITUDES)
    return [_layer([op.rand for op in OPS.values()], magnitude, draws, number) for number in range(1, augment.rand_ops + 1)]


def _layer(space: list[tuple[float, float]], magnitude: tf.Tensor, draws: Draws, number: int) -> Layer:
    """A layer whose amounts lie at a magnitude, a scalar or `(b,)` in [0, 1], of the way from low to high."""
    op = tf.cast(tf.floor(draws[f"auto_op_{number}"] * len(OPS)), tf.int32)
    low, high = (tf.gather(tf.constant(ends), op) for ends in zip(*space, strict=True))
    mirrored = tf.gather([each.both_ways for each in OPS.values()], op) & (draws[f"auto_sign_{number}"] < 0.5)
    amount = between(low, high, magnitude)
    return Layer(op, tf.gather([each.around for each in OPS.values()], op) + tf.where(mirrored, -amount, amount))


def matrix(layer: Layer, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """`(b, 3, 3)`: from an output pixel to the input pixel it shows, both from the image's centre; the identity for changes of colour."""
    angle = layer.amount_of("rotation") * (math.pi / 180)
    cos, sin = precise(tf.cos, angle), precise(tf.sin, angle)  # at most one amount of an image is not 0, so they add up
    x, y = layer.amount_of("shift_x") * width, layer.amount_of("shift_y") * height
    return affine(cos, layer.amount_of("shear_x") - sin, x, layer.amount_of("shear_y") + sin, cos, y)


def recolour(layer: Layer, images: tf.Tensor) -> tf.Tensor:
    """Each image, uint8 `(b, h, w, 3)`, after its operation, where that changes colours."""
    kinds = tf.gather(KINDS, layer.op)
    parts = [tf.dynamic_partition(each, kinds, 1 + len(CHANGES)) for each in (tf.range(tf.size(kinds)), images, layer.amount)]
    places, still, amounts = parts[0], parts[1][0], parts[2][1:]
    changed = [change(part, amount) for change, part, amount in zip(CHANGES, parts[1][1:], amounts, strict=True)]
    return tf.dynamic_stitch(places, [still, *changed])
