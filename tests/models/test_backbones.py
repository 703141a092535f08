"""Every row of the table against the model that it builds and against what keras.applications says of itself."""

from collections.abc import Iterator
from importlib import import_module
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
from keras.src.backend.common import global_state, variables

from tl_keras.errors import BackboneError
from tl_keras.models.backbone_files import find_convolution
from tl_keras.models.backbone_loading import BuiltBackbone, build_backbone, native_image_size
from tl_keras.models.backbones import BACKBONES, Backbone

ROWS = list(BACKBONES.values())
APPLICATIONS = [row for row in ROWS if row.builder.startswith("keras.")]
PIXELS = np.random.default_rng(0).integers(0, 256, (2, 75, 75, 3)).astype("float32")

# What the papers' code feeds to the networks that preprocess inside, whose `preprocess_input` does nothing.
INSIDE = {
    "mobilenet_v3": lambda pixels: pixels / 127.5 - 1,
    "efficientnet_b": lambda pixels: pixels / 255,  # with random weights; test_backbone_weights has the published ones
    "efficientnet_v2_b": lambda pixels: imagenet_mode(pixels, "torch"),
    "efficientnet_v2": lambda pixels: pixels / 128 - 1,
    "convnext": lambda pixels: imagenet_mode(pixels, "torch"),
    "small_resnet": lambda pixels: pixels / 255,
}


def imagenet_mode(pixels: np.ndarray, mode: str) -> np.ndarray:
    return keras.applications.imagenet_utils.preprocess_input(pixels.copy(), mode=mode)


def name_of(row: Backbone) -> str:
    return row.name


FIRST = {row.builder.partition(":")[0]: row for row in reversed(ROWS)}.values()  # of each family


@pytest.fixture(scope="module", params=[row if row in FIRST else pytest.param(row, marks=pytest.mark.slow) for row in ROWS], ids=name_of)
def built(request: pytest.FixtureRequest) -> Iterator[BuiltBackbone]:
    """Each row's model at its least size; without weights, which would take most of the time and gigabytes."""
    row = request.param
    with pytest.MonkeyPatch.context() as patch:
        forget = lambda: global_state.set_global_attribute("uninitialized_variables", [])  # noqa: E731
        patch.setattr(variables, "initialize_all_variables", forget)
        with keras.StatelessScope():
            yield build_backbone(row.name, image_size=(row.min_size, row.min_size), weights="none")


def layers_within(model: keras.Model) -> Iterator[Any]:
    for layer in model.layers:
        yield from layers_within(layer) if isinstance(layer, keras.Model) else [layer]


@pytest.mark.slow
def test_row_counts_its_parameters(built: BuiltBackbone) -> None:
    assert built.model.count_params() == built.row.num_parameters


def test_row_says_whether_it_has_batchnorm(built: BuiltBackbone) -> None:
    found = any(isinstance(layer, keras.layers.BatchNormalization) for layer in layers_within(built.model))
    assert found == built.row.has_batchnorm


def test_row_builds_a_flat_model_from_pixels_to_a_feature_map(built: BuiltBackbone) -> None:
    size = built.row.min_size
    assert built.model.input_shape == (None, size, size, 3)
    assert built.model.input.dtype == "float32"
    assert len(built.model.output_shape) == 4
    nested = [layer for layer in built.model.layers if isinstance(layer, keras.Model)]
    # ConvNeXt's own blocks for stem and downsampling
    assert all(isinstance(layer, keras.Sequential) and built.row.name.startswith("convnext") for layer in nested)


def test_row_has_stages_that_share_out_all_layers_in_order(built: BuiltBackbone) -> None:
    assert list(built.stages) == [f"stage{number}" for number in range(1, len(built.row.stages) + 1)]
    shared_out = [name for names in built.stages.values() for name in names]
    assert sorted(shared_out) == sorted(layer.name for layer in built.model.layers)
    assert "pixels" in built.stages["stage1"]
    assert all(len(names) > 1 for names in built.stages.values())


def test_row_has_one_stage_for_each_resolution(built: BuiltBackbone) -> None:
    shapes = [tensor.shape for tensor in built.boundaries.values()]
    assert all(before[1] >= 2 * after[1] - 1 for before, after in pairwise(shapes)), shapes
    assert built.boundaries[list(built.stages)[-1]] is built.model.output


def test_row_cuts_its_stages_where_one_tensor_passes(built: BuiltBackbone) -> None:
    for stage, tensor in list(built.boundaries.items())[:-1]:
        if built.row.name.startswith("nasnet") and stage != "stage1":
            with pytest.raises(ValueError, match="not connected"):
                keras.Model(tensor, built.model.output)
        else:
            assert keras.Model(tensor, built.model.output).output_shape == built.model.output_shape


def test_row_feeds_its_first_convolution_what_its_weights_were_trained_on(built: BuiltBackbone) -> None:
    row, size = built.row, built.row.min_size
    pixels = PIXELS[:, :size, :size]
    inside = [INSIDE[prefix] for prefix in INSIDE if row.name.startswith(prefix)]
    expected = (inside or [import_module(row.builder.partition(":")[0]).preprocess_input])[0](pixels.copy())
    seen = np.asarray(keras.Model(built.model.input, _before_first_convolution(built.model))(pixels))
    np.testing.assert_allclose(seen, expected, atol=2e-5 * np.abs(expected).max())


def _before_first_convolution(model: keras.Model) -> Any:
    tensor = find_convolution(model).input
    padding = [layer for layer in model.layers if isinstance(layer, keras.layers.ZeroPadding2D) and layer.output is tensor]
    return padding[0].input if padding else tensor


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_row_refuses_images_below_its_least_size(row: Backbone) -> None:
    size = row.min_size - 1
    with pytest.raises(BackboneError) as caught:
        build_backbone(row.name, image_size=(224, size))
    assert str(caught.value) == (
        f"image_size=(224, {size}) is too small for backbone '{row.name}': it needs at least {row.min_size} pixels a side; "
        f"it was trained at ({row.image_size}, {row.image_size})."
    )


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_row_is_complete(row: Backbone) -> None:
    assert row.name == row.name.lower()
    assert native_image_size(row.name) == row.image_size >= row.min_size
    assert row.preprocessing in ("caffe", "minus_one_to_one", "zero_to_one", "torch", "none")
    assert row.licence in ("Apache-2.0", "MIT", "BSD-3-Clause", "CC-BY-4.0")
    year_month, _, number = row.paper.partition(".")
    assert len(year_month) == 4
    assert len(number) in (4, 5)
    assert (year_month + number).isdecimal()


class Stand:
    """Stands in for every layer and tensor, so that a builder runs through its code without building anything."""

    shape = (None, 8, 8, 8)
    dtype = "float32"

    def __init__(self, *arguments: Any, **options: Any) -> None: ...

    def __call__(self, *arguments: Any, **options: Any) -> "Stand":
        return self

    def __add__(self, other: Any) -> "Stand":
        return self

    __radd__ = __mul__ = __rmul__ = __truediv__ = __add__

    def load_weights(self, path: str) -> None: ...


class StandInLayers:
    def __getattr__(self, name: str) -> type[Stand]:
        return Stand


@pytest.mark.parametrize("row", APPLICATIONS, ids=name_of)
def test_row_agrees_with_keras_on_weights_file_and_sizes(row: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    builder = getattr(import_module(row.builder.partition(":")[0]), row.builder.partition(":")[2])
    module = import_module(builder.__module__)
    module = getattr(module, "resnet", module)  # where V2 is built
    asked: dict[str, Any] = {}

    def get_file(name: str, *_: Any, **__: Any) -> str:
        asked["file"] = name
        return name

    def input_shape(shape: Any, default_size: int, min_size: int, **_: Any) -> tuple[int, int, int]:
        asked.update(default_size=default_size, min_size=min_size)
        return shape or (default_size, default_size, 3)

    for name, value in vars(module).copy().items():
        if isinstance(value, type) and issubclass(value, keras.layers.Layer):
            monkeypatch.setattr(module, name, Stand)
    monkeypatch.setattr(module, "layers", StandInLayers())
    monkeypatch.setattr(module, "file_utils", SimpleNamespace(get_file=get_file, exists=lambda path: False))
    monkeypatch.setattr(module.imagenet_utils, "obtain_input_shape", input_shape)
    monkeypatch.setattr(module.imagenet_utils, "correct_pad", lambda *_: ((0, 1), (0, 1)))
    builder(include_top=False, weights="imagenet", input_shape=(row.image_size, row.image_size, 3), **row.arguments)
    assert asked.pop("file") == row.weights_file
    if asked:  # MobileNetV3 names no size
        assert asked == {"default_size": row.image_size, "min_size": row.min_size}
