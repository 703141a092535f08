"""A convolution with a group for each channel becomes a depthwise one: the same numbers, from files as from the table."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tl_keras.models.backbone_loading import build_backbone
from tl_keras.models.depthwise import is_depthwise, with_depthwise

SIZE = (32, 32)


def network(**grouped: Any) -> keras.Model:
    pixels = keras.Input((*SIZE, 3), name="pixels")
    x = keras.layers.Rescaling(1 / 255, name="preprocessing")(pixels)
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="stem")(x)
    y = keras.layers.Conv2D(**{"filters": 8, "kernel_size": 5, "groups": 8, "padding": "same", "name": "spatial", **grouped})(x)
    x = y if y.shape != x.shape else keras.layers.Add(name="sum")([x, y])
    return keras.Model(pixels, keras.layers.Conv2D(6, 3, strides=2, padding="same", name="last")(x), name="net")


def images() -> Any:
    return np.random.default_rng(0).uniform(0, 255, (2, *SIZE, 3)).astype(np.float32)


@pytest.mark.parametrize(
    "grouped",
    [
        {},
        {"strides": 2, "padding": "valid"},
        {"dilation_rate": 2, "use_bias": False},
        {"activation": "gelu", "kernel_regularizer": "l2"},
    ],
)
def test_outputs_are_the_same(grouped: dict[str, Any]) -> None:
    model = network(**grouped)
    for weight in model.weights:
        weight.assign(np.random.default_rng(1).normal(0, 0.3, weight.shape))
    twin = with_depthwise(model)
    layer = twin.get_layer("spatial")
    assert type(layer) is keras.layers.DepthwiseConv2D
    assert [each.name for each in twin.layers] == [each.name for each in model.layers]
    np.testing.assert_allclose(twin(images()), model(images()), rtol=1e-5, atol=1e-5)
    assert len(twin.losses) == len(model.losses)
    np.testing.assert_allclose(twin.losses, model.losses, rtol=1e-6)
    assert type(model.get_layer("spatial")) is keras.layers.Conv2D  # which is left as it was


@pytest.mark.parametrize("grouped", [{"groups": 4}, {"groups": 1}, {"filters": 16}], ids=["wider groups", "one group", "more filters"])
def test_other_convolutions_stay(grouped: dict[str, Any]) -> None:
    model = network(**grouped)
    assert with_depthwise(model) is model


def test_a_backbone_from_a_file_has_it(tmp_path: Path) -> None:
    model = network()
    model.save(tmp_path / "net.keras")
    built = build_backbone(str(tmp_path / "net.keras"), image_size=SIZE)
    assert type(built.model.get_layer("spatial")) is keras.layers.DepthwiseConv2D
    np.testing.assert_allclose(built.model(images()), model(images()), rtol=1e-5, atol=1e-5)
    assert built.boundaries["stage1"].shape[1:3] == (16, 16)


@pytest.mark.slow
def test_the_rows_of_convnext_have_it() -> None:
    built = build_backbone("convnext_tiny", image_size=SIZE, weights="none")
    found = [layer for layer in built.model.layers if isinstance(layer, keras.layers.DepthwiseConv2D)]
    assert len(found) == 18
    assert not any(map(is_depthwise, built.model.layers))
    assert set().union(*built.stages.values()) == {layer.name for layer in built.model.layers}
