"""A network made by hand that finds red, green and blue squares on grey noise, and images with one or two of them."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from tl_keras.evaluation.explain.explainer import Explainer
from tl_keras.models.outputs import SINGLE_LABEL

SIDE, OBJECT = 48, 12
Scene = tuple[NDArray[np.uint8], list[tuple[int, int]]]


def make_scene(seed: int, *colours: int) -> Scene:
    """Noise with squares of some colours (0: red) that do not overlap, and the first row and column of each."""
    random, places = np.random.default_rng(seed), list[tuple[int, int]]()
    pixels = random.integers(60, 190, (SIDE, SIDE, 3)).astype(np.uint8)
    for colour in colours:
        while True:
            row, column = random.integers(0, SIDE - OBJECT + 1, 2).tolist()
            if all(max(abs(row - other[0]), abs(column - other[1])) >= OBJECT for other in places):
                break
        pixels[row : row + OBJECT, column : column + OBJECT] = np.where(np.arange(3) == colour, 230, 30)
        places.append((row, column))
    return pixels, places


@pytest.fixture(scope="session")
def scene() -> Callable[..., Scene]:
    """`scene(seed, 0, 2)` is an image with a red and a blue square, and where they begin; squares have 12 of 48 pixels a side."""
    return make_scene


@pytest.fixture(scope="session")
def finder() -> Explainer:
    """A convolution with a channel for each colour, and others that see noise; a second one; the mean; a head."""
    random = np.random.default_rng(0)
    pixels = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1.0)(pixels)
    first = keras.layers.Conv2D(9, 4, strides=4, activation="relu")
    last = keras.layers.Conv2D(6, 1, activation="relu", name="last")
    x = last(first(x))
    logits = keras.layers.Dense(3, name="logits")
    model = keras.Model(pixels, logits(keras.layers.GlobalAveragePooling2D()(x)))
    kernel, middle, head = np.zeros((4, 4, 3, 9)), np.zeros((1, 1, 9, 6)), np.zeros((6, 3))
    kernel[..., 3:] = random.normal(0, 0.1, (4, 4, 3, 6))
    for colour in range(3):
        kernel[..., colour] = np.where(np.arange(3) == colour, 1.0, -0.6) / 16
        middle[0, 0, colour, colour] = 1.0
        head[colour, colour] = 40.0
    middle[0, 0, 3:, 3:] = random.normal(0, 0.2, (6, 3))
    head[3:] = random.normal(0, 0.5, (3, 3))
    first.set_weights([kernel, np.full(9, -0.2)])
    last.set_weights([middle, np.zeros(6)])
    logits.set_weights([head, np.zeros(3)])
    return Explainer(model, SINGLE_LABEL, {"stage1": first.output, "stage2": last.output})


@pytest.fixture
def linear() -> Callable[..., Explainer]:
    """`linear(weights)` has one output for each of the rows of weights (k, 8, 8, 3), and no stage."""

    def make(weights: NDArray[np.float64], output: Any = SINGLE_LABEL) -> Explainer:
        pixels = keras.Input(weights.shape[1:])
        dense = keras.layers.Dense(len(weights))
        model = keras.Model(pixels, dense(keras.layers.Flatten()(pixels)))
        dense.set_weights([weights.reshape(len(weights), -1).T, np.zeros(len(weights))])
        return Explainer(model, output, {})

    return make
