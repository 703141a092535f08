"""Which operations an image gets, and how much of them; what they do to pixels is in `test_augment` and `test_colour_ops`."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tl_keras.config import AugmentConfig
from tl_keras.data.augment import augment_batch
from tl_keras.data.auto_augment import CHANGES, NUMBERS, OPS, Layer, layers, matrix, recolour
from tl_keras.data.draws import DRAWS, MOST_OPS

# The ends of each space as the papers have them, from weak to strong, without the sign: TrivialAugment's wide space (its table 1) and
# RandAugment's (as in torchvision). Factors of a blend are what is added to 1.
PAPERS = {
    "identity": ((0, 0), (0, 0)),
    "shear_x": ((0, 0.99), (0, 0.3)),
    "shear_y": ((0, 0.99), (0, 0.3)),
    "shift_x": ((0, 32 / 224), (0, 150 / 331)),
    "shift_y": ((0, 32 / 224), (0, 150 / 331)),
    "rotation": ((0, 135), (0, 30)),
    "brightness": ((1, 1.99), (1, 1.9)),
    "saturation": ((1, 1.99), (1, 1.9)),
    "contrast": ((1, 1.99), (1, 1.9)),
    "sharpness": ((1, 1.99), (1, 1.9)),
    "posterize": ((8, 2), (8, 4)),
    "solarize": ((256, 0), (256, 0)),
    "autocontrast": ((0, 0), (0, 0)),
    "equalize": ((0, 0), (0, 0)),
}
SIGNED = list(PAPERS)[1:10]


def draws(num: int = 2000, **fixed: float) -> dict[str, tf.Tensor]:
    """Uniform numbers of so many images."""
    rows = np.random.default_rng(0).random((num, len(DRAWS)), dtype=np.float32)
    return {name: tf.fill([num], fixed[name]) if name in fixed else tf.constant(column) for name, column in zip(DRAWS, rows.T, strict=True)}


def of(**options: Any) -> AugmentConfig:
    return AugmentConfig(random_resized_crop=None, **options)


def pixels(num: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (num, 20, 21, 3), dtype=np.uint8)


def test_operations_are_those_of_the_papers() -> None:
    assert list(OPS) == list(PAPERS)
    assert [name for name, op in OPS.items() if op.both_ways] == SIGNED


@pytest.mark.parametrize("name", PAPERS)
@pytest.mark.parametrize(("end", "magnitude"), [(0, 0.0), (1, 0.999)])
@pytest.mark.parametrize(("sign", "uniform"), [(1, 0.7), (-1, 0.2)])
def test_amounts_reach_from_end_to_end(name: str, end: int, magnitude: float, sign: int, uniform: float) -> None:
    chosen = draws(3, auto_magnitude=magnitude, auto_op_1=(NUMBERS[name] + 0.5) / len(OPS), auto_sign_1=uniform)
    for space, augment in enumerate((of(auto="trivial"), of(auto="rand", rand_ops=1, rand_magnitude=30 * end))):
        (layer,) = layers(augment, chosen)
        weak, strong = PAPERS[name][space][0], PAPERS[name][space][end]
        expected = weak + sign * (strong - weak) if name in SIGNED else strong
        assert layer.op.numpy().tolist() == [NUMBERS[name]] * 3
        np.testing.assert_allclose(layer.amount, np.full(3, expected), rtol=1e-6)


def test_operations_signs_and_strengths_are_uniform() -> None:
    (layer,) = layers(of(auto="trivial"), draws(20_000))
    counts = np.bincount(layer.op, minlength=len(OPS))
    assert stats.chisquare(counts).pvalue > 0.01
    amounts = layer.amount.numpy()[layer.op.numpy() == NUMBERS["rotation"]]
    assert 0.45 < (amounts > 0).mean() < 0.55
    assert len(np.unique(np.abs(amounts).round(3))) == 31  # as in the paper, which has a grid
    assert stats.kstest(np.abs(amounts) / 135, "uniform").pvalue > 1e-6


@pytest.mark.parametrize("number", range(1, MOST_OPS + 1))
def test_rand_has_as_many_layers_as_asked_for_each_drawn_anew(number: int) -> None:
    found = layers(of(auto="rand", rand_ops=number), draws())
    assert len(found) == number
    assert len({layer.op.numpy().tobytes() for layer in found}) == number
    assert layers(of(), draws()) == []


def test_most_ops_is_what_the_setting_allows() -> None:
    assert any(getattr(mark, "le", None) == MOST_OPS for mark in AugmentConfig.model_fields["rand_ops"].metadata)


def test_what_changes_colours_leaves_geometry_alone_and_the_other_way_round() -> None:
    images = tf.constant(pixels(3))
    for name, op in OPS.items():
        layer = Layer(tf.fill([3], NUMBERS[name]), tf.fill([3], 0.5 if op.change is None else 1.5))
        moves = not np.array_equal(matrix(layer, tf.constant(20.0), tf.constant(21.0)), np.tile(np.eye(3), (3, 1, 1)))
        recolours = not np.array_equal(recolour(layer, images), images)
        assert (moves, recolours) == (op.change is None and name != "identity", op.change is not None), name


def test_each_image_of_a_batch_gets_its_own_change() -> None:
    images = pixels(40)
    (layer,) = layers(of(auto="trivial"), draws(40))
    found = recolour(layer, tf.constant(images)).numpy()
    assert len({op for op in layer.op.numpy() if list(OPS.values())[op].change}) == len(CHANGES)  # else there is nothing to see
    for place, op in enumerate(layer.op.numpy()):
        change = list(OPS.values())[op].change
        one = images[place : place + 1]
        np.testing.assert_array_equal(
            found[place : place + 1], one if change is None else change(tf.constant(one), layer.amount[place, None])
        )


def test_changes_of_layers_follow_each_other() -> None:
    images = pixels(60)
    rows = np.random.default_rng(2).random((60, len(DRAWS)), dtype=np.float32)
    augment = of(auto="rand", rand_magnitude=20)
    first, second = layers(augment, dict(zip(DRAWS, rows.T, strict=True)))
    still = [all(list(OPS.values())[op].change or op == 0 for op in ops) for ops in zip(first.op.numpy(), second.op.numpy(), strict=True)]
    assert sum(still) > 10
    expected = recolour(second, recolour(first, tf.constant(images))).numpy()
    np.testing.assert_array_equal(augment_batch(augment, tf.constant(images), tf.constant(rows)).numpy()[still], expected[still])
