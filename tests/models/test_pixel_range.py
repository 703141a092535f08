"""The range of pixels that a network's own preprocessing takes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tl_keras.models.pixel_range import range_wanted

MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
BGR_MEAN = np.array([103.939, 116.779, 123.68])


def padded(images: Any) -> Any:
    return np.pad(images, ((0, 0), (3, 3), (3, 3), (0, 0)))


@pytest.mark.parametrize(
    ("see", "wanted"),
    [
        (lambda x: x, None),
        (lambda x: x[..., ::-1], None),
        (padded, None),
        (lambda x: x * 0.9995, None),  # a BatchNorm that has learned nothing
        (lambda x: x / 2, None),
        (lambda x: x / 255 / 255, None),
        (lambda x: x / 255, "none"),
        (lambda x: x / 127.5 - 1, "none"),
        (lambda x: padded(x / 255), "none"),
        (lambda x: (x / 255 - MEAN) / DEVIATION, "none"),
        (lambda x: x[..., ::-1] - BGR_MEAN, "none"),
        (lambda x: padded(x[..., ::-1] - BGR_MEAN), "none"),
        (lambda x: (x - 128) / 60, "none"),
        (lambda x: x[:, ::4, ::4] / 255, "none"),
        (lambda x: x.mean(-1, keepdims=True) / 255, "none"),
        (lambda x: (x - x.mean((1, 2, 3), keepdims=True)) / x.std((1, 2, 3), keepdims=True), "none"),
        (lambda x: x * 2 - 1, "zero_to_one"),
        (lambda x: x - 0.5, "zero_to_one"),
        (lambda x: (x - MEAN) / DEVIATION, "zero_to_one"),
        (lambda x: (x * 255)[..., ::-1] - BGR_MEAN, "zero_to_one"),
        (lambda x: ((x + 1) / 2 - MEAN) / DEVIATION, "minus_one_to_one"),
    ],
)
@pytest.mark.parametrize("size", [(64, 64), (224, 160)])
def test_range_is_that_which_makes_sense_behind_the_preprocessing(see: Callable[[Any], Any], wanted: str | None, size: Any) -> None:
    assert range_wanted(see, size) == wanted
