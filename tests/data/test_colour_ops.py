"""Every operation against Pillow's, image by image."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from tl_keras.data import colour_ops

FACTORS = (0.0, 0.01, 0.37, 1.0, 1.5, 1.99)
# The operation, the amounts, Pillow's operation, and how many grey levels may lie between them. Pillow cuts the digits of a blend off;
# its autocontrast computes 254.99 in floating point where 255 is exact, and cuts that off too.
TWINS: dict[str, tuple[tuple[float, ...], Callable[[Any, float], Any], int]] = {
    "brightness": (FACTORS, lambda image, factor: ImageEnhance.Brightness(image).enhance(factor), 1),
    "contrast": (FACTORS, lambda image, factor: ImageEnhance.Contrast(image).enhance(factor), 1),
    "saturation": (FACTORS, lambda image, factor: ImageEnhance.Color(image).enhance(factor), 1),
    "sharpness": (FACTORS, lambda image, factor: ImageEnhance.Sharpness(image).enhance(factor), 1),
    "posterize": ((1, 2, 4, 7, 8), lambda image, bits: ImageOps.posterize(image, bits), 0),
    "solarize": ((0, 1, 100, 255, 256), lambda image, threshold: ImageOps.solarize(image, threshold), 0),
    "autocontrast": ((0,), lambda image, _: ImageOps.autocontrast(image), 1),
    "equalize": ((0,), lambda image, _: ImageOps.equalize(image), 0),
}


def pictures() -> np.ndarray:
    """Noise, a narrow range, few values, a ramp, one colour, all black, all white: uint8 (7, 40, 30, 3)."""
    rng, shape = np.random.default_rng(0), (40, 30, 3)
    ramp = np.broadcast_to(np.linspace(3, 250, 40)[:, None, None], shape)
    flat = np.broadcast_to((9, 120, 200), shape)
    some = [rng.integers(0, 256, shape), rng.integers(90, 160, shape), rng.choice([0, 17, 18, 255], shape), ramp, flat]
    return np.array([*some, np.zeros(shape), np.full(shape, 255)]).astype(np.uint8)


def changed(name: str, images: np.ndarray, amounts: Any) -> np.ndarray:
    return getattr(colour_ops, name)(tf.constant(images), tf.constant(amounts, tf.float32)).numpy()


@pytest.mark.parametrize("name", TWINS)
def test_operation_is_that_of_pillow(name: str) -> None:
    amounts, twin, tolerance = TWINS[name]
    images = pictures()
    for amount in amounts:
        expected = np.array([twin(Image.fromarray(image), amount) for image in images]).astype(int)
        found = changed(name, images, np.full(len(images), amount))
        assert found.dtype == np.uint8
        assert np.abs(found - expected).max() <= tolerance, amount


@pytest.mark.parametrize("name", TWINS)
def test_each_image_has_its_own_amount(name: str) -> None:
    amounts = np.resize(TWINS[name][0], 7)
    images = pictures()
    alone = [changed(name, images[place : place + 1], amounts[place : place + 1])[0] for place in range(7)]
    np.testing.assert_array_equal(changed(name, images, amounts), alone)


@pytest.mark.parametrize("name", TWINS)
def test_no_images_are_no_images(name: str) -> None:
    """As when no image of a batch has drawn the operation."""
    assert changed(name, np.zeros((0, 5, 4, 3), np.uint8), np.zeros(0)).shape == (0, 5, 4, 3)


@pytest.mark.parametrize(("name", "amount"), [("brightness", 1), ("contrast", 1), ("saturation", 1), ("sharpness", 1), ("solarize", 256)])
def test_there_is_an_amount_that_changes_nothing(name: str, amount: float) -> None:
    np.testing.assert_array_equal(changed(name, pictures(), np.full(7, amount)), pictures())


def test_sharpness_of_an_image_without_an_inside() -> None:
    images = pictures()[:, :2]
    np.testing.assert_array_equal(changed("sharpness", images, np.full(7, 1.9)), images)
