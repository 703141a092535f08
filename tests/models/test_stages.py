"""Stages of graphs that are small enough to see through."""

import keras
import pytest
from keras import layers

from tl_keras.models.stages import boundaries_by_resolution, find_operation, layers_by_stage, parents_of


@pytest.fixture
def residual() -> keras.Model:
    """pixels -> a -> (b -> c) + a = add -> relu -> down -> d; `side` leads nowhere but to the output."""
    pixels = keras.Input((16, 16, 3), name="pixels")
    a = layers.Conv2D(4, 3, padding="same", name="a")(pixels)
    c = layers.Conv2D(4, 3, padding="same", name="c")(layers.ReLU(name="b")(a))
    relu = layers.ReLU(name="relu")(layers.Add(name="add")([a, c]))
    down = layers.ZeroPadding2D(1, name="pad")(relu)
    down = layers.Conv2D(4, 3, strides=2, name="down")(down)
    side = layers.Conv2D(4, 1, strides=2, name="side")(relu)
    return keras.Model(pixels, layers.Add(name="out")([down, side]))


def test_layers_go_to_the_first_stage_that_needs_them(residual: keras.Model) -> None:
    stages = layers_by_stage(residual, [residual.get_layer("add"), residual.get_layer("down")])
    assert {name: set(members) for name, members in stages.items()} == {
        "stage1": {"pixels", "a", "b", "c", "add"},
        "stage2": {"relu", "pad", "down", "side", "out"},  # no boundary needs side and out
    }


def test_resolutions_end_where_one_tensor_passes(residual: keras.Model) -> None:
    boundaries = boundaries_by_resolution(residual, residual.get_layer("a"))
    assert [operation.name for operation in boundaries] == ["relu", "out"]


def test_nearly_equal_resolutions_are_one_stage() -> None:
    pixels = keras.Input((33, 33, 3))
    x = layers.Conv2D(2, 3, strides=2, name="first")(pixels)  # 16
    x = layers.Conv2D(2, 3, name="second")(x)  # 14
    x = layers.ZeroPadding2D(name="pad")(x)  # 16, on its way to
    x = layers.MaxPooling2D(name="third")(x)  # 8
    model = keras.Model(pixels, x)
    assert [operation.name for operation in boundaries_by_resolution(model, model.get_layer("first"))] == [
        "second",
        "third",
    ]


def test_parents_are_those_of_the_graph(residual: keras.Model) -> None:
    parents = parents_of(residual)
    assert {parent.name for parent in parents[id(residual.get_layer("add"))]} == {"a", "c"}


def test_operation_is_found_by_name_or_by_count() -> None:
    pixels = keras.Input((8, 8, 3))
    x = pixels
    for _ in range(3):
        x = layers.Softmax()(x) + 1.0
    model = keras.Model(pixels, layers.ReLU(name="softmax_of_my_own")(x))
    softmaxes = [layer for layer in model.layers if isinstance(layer, layers.Softmax)]
    assert [find_operation(model, f"softmax#{number}") for number in range(4)] == [*softmaxes, None]
    assert find_operation(model, softmaxes[1].name) is softmaxes[1]
    assert find_operation(model, "add#2") is model.operations[-2]
    assert find_operation(model, "softmaxes") is None
