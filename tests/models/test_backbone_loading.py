"""Backbones built by name: preprocessing, published weights, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tl_keras.errors import BackboneError
from tl_keras.models.backbone_loading import build_backbone, native_image_size

SHARED = Path(__file__).parents[2] / "../shared"
PIXELS = np.random.default_rng(0).integers(0, 256, (2, 48, 64, 3)).astype("float32")


@pytest.mark.parametrize("kind", ["none", "zero_to_one", "minus_one_to_one", "torch", "caffe"])
def test_preprocessing_asked_for_goes_in_front(kind: str) -> None:
    built = build_backbone("small_resnet", image_size=(48, 64), weights="none", preprocessing=kind)
    seen = keras.Model(built.model.input, built.model.get_layer("stem_conv").input)(PIXELS)
    modes = {"torch": "torch", "caffe": "caffe", "minus_one_to_one": "tf"}
    if kind in modes:
        wanted = keras.applications.imagenet_utils.preprocess_input(PIXELS.copy(), mode=modes[kind])
    else:
        wanted = PIXELS / 255 if kind == "zero_to_one" else PIXELS
    assert built.preprocessing == kind
    np.testing.assert_allclose(seen, wanted, atol=1e-6 * np.abs(wanted).max())


def test_preprocessing_is_float32_when_the_network_is_not() -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        built = build_backbone("mobilenet_025", image_size=(32, 32), weights="none")
    finally:
        keras.config.set_dtype_policy("float32")
    assert built.model.get_layer("preprocessing").compute_dtype == "float32"
    assert built.model.get_layer("conv1").compute_dtype == "bfloat16"


def test_network_of_a_file_has_the_precision_of_the_run(tmp_path: Path) -> None:
    build_backbone("small_resnet", image_size=(32, 32), weights="none").model.save(tmp_path / "own.keras")
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build_backbone(str(tmp_path / "own.keras"), image_size=(32, 32)).model
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.get_layer("stem_conv").compute_dtype == "bfloat16"
    assert {layer.compute_dtype for layer in model.layers if isinstance(layer, keras.layers.Rescaling)} == {"float32"}


def test_pixels_may_be_uint8() -> None:
    model = build_backbone("small_resnet", image_size=(48, 64), weights="none").model
    np.testing.assert_array_equal(model(PIXELS.astype("uint8")), model(PIXELS))


def test_random_weights_come_only_when_written_out() -> None:
    first, second = (build_backbone("small_resnet", image_size=(32, 32), weights="none").model for _ in range(2))
    assert not np.array_equal(first.get_weights()[0], second.get_weights()[0])


def test_second_backbone_of_a_process_has_the_same_stages() -> None:
    # Keras names unnamed layers by a counter that runs on: activation, then activation_94, ...
    first, second = (build_backbone("mobilenet_v3_small", image_size=(32, 32), weights="none") for _ in range(2))
    assert [len(names) for names in first.stages.values()] == [len(names) for names in second.stages.values()]
    assert [tensor.shape for tensor in first.boundaries.values()] == [t.shape for t in second.boundaries.values()]


@pytest.mark.slow
def test_saved_backbone_loads_in_a_process_without_this_package(tmp_path: Path, python_alone: Callable[..., Any]) -> None:
    pixels = PIXELS[:, :32, :32]
    np.save(tmp_path / "pixels.npy", pixels)
    expected = []
    for kind in ("torch", "caffe"):
        model = build_backbone("small_resnet", image_size=(32, 32), weights="none", preprocessing=kind).model
        model.save(tmp_path / f"{kind}.keras")
        expected.append(model(pixels))
    code = (
        "import keras, numpy, sys; pixels = numpy.load('pixels.npy');"
        "features = [keras.models.load_model(f'{kind}.keras')(pixels) for kind in ('torch', 'caffe')];"
        "assert not any(name.startswith('tl_keras') for name in sys.modules); numpy.save('features.npy', features)"
    )
    python_alone(code, cwd=tmp_path)
    np.testing.assert_allclose(np.load(tmp_path / "features.npy"), expected, rtol=1e-4, atol=1e-6 * np.max(expected))


@pytest.mark.parametrize(
    ("backbone", "options", "text"),
    [
        ("mobilnet_v2", {}, "unknown backbone 'mobilnet_v2'. Did you mean 'mobilenet_v2'? Expected the path of"),
        (
            "zzz",
            {},
            "unknown backbone 'zzz'. Expected the path of a .keras file, the folder or address of a TF-Hub module, keras_hub:PRESET, "
            "or one of: vgg16, vgg19, resnet50,",
        ),
        ("missing.keras", {}, "backbone: there is no file missing.keras."),
        (
            "mobilenet_v2",
            {"preprocessing": "bgr"},
            "model.preprocessing='bgr' is unknown. Expected 'auto', 'none', 'zero_to_one', 'minus_one_to_one', 'torch', 'caffe'.",
        ),
        (
            "efficientnet_b0",
            {"preprocessing": "torch"},
            "model.preprocessing='torch': backbone efficientnet_b0 begins with its own preprocessing, and pixels would be "
            "preprocessed twice. Expected 'auto' or 'none'.",
        ),
        (
            "small_resnet",
            {"weights": "imagenet"},
            "model.weights='imagenet': backbone 'small_resnet' has weights trained on cifar10, none on ImageNet. "
            "Expected 'pretrained', 'none' or a file.",
        ),
        (
            "mobilenet_v2",
            {"image_size": (24, 24)},
            "image_size=(24, 24) is too small for backbone 'mobilenet_v2': it needs at least 32 pixels a side; "
            "it was trained at (224, 224).",
        ),
    ],
)
def test_mistake_is_named_in_one_line(backbone: str, options: dict[str, Any], text: str) -> None:
    with pytest.raises(BackboneError) as caught:
        build_backbone(backbone, **{"image_size": (64, 64), **options})
    assert str(caught.value).startswith(text)
    assert "\n" not in str(caught.value)


def test_native_image_size_knows_names_only_of_the_table() -> None:
    assert native_image_size("nasnet_large") == 331
    assert native_image_size("NASNetLarge") == 331
    with pytest.raises(BackboneError, match="Did you mean 'vgg16'"):
        native_image_size("vg16")


def test_name_in_another_spelling_builds_the_row() -> None:
    built = build_backbone("MobileNet-025", image_size=(32, 32), weights="none")
    assert built.row is not None
    assert built.row.name == "mobilenet_025"


@pytest.mark.slow
@pytest.mark.shared
def test_published_weights_give_the_features_of_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    home = SHARED / "pretrained/keras_home"
    monkeypatch.setenv("KERAS_HOME", str(home))
    photo = next((SHARED / "data/flowers/test/roses").glob("*.jpg"))
    pixels = keras.utils.img_to_array(keras.utils.load_img(photo, target_size=(160, 192)))[None]
    direct = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(160, 192, 3))
    direct.load_weights(home / "models/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5")
    expected = direct(keras.applications.mobilenet_v2.preprocess_input(pixels.copy()))
    got = build_backbone("mobilenet_v2", image_size=(160, 192), weights="imagenet").model(pixels)
    np.testing.assert_allclose(keras.ops.mean(got, (1, 2)), keras.ops.mean(expected, (1, 2)), atol=1e-5)


@pytest.mark.slow
@pytest.mark.shared
def test_file_of_a_bare_network_of_the_table_is_recognised() -> None:
    path = SHARED / "pretrained/mobilenet_v2_inat_bird.keras"
    saved = keras.models.load_model(path, compile=False)
    built = build_backbone(str(path), image_size=(224, 224))
    pixels = np.random.default_rng(1).uniform(0, 255, (1, 224, 224, 3)).astype("float32")
    assert built.row is not None
    assert (built.row.name, built.preprocessing) == ("mobilenet_v2", "minus_one_to_one")
    np.testing.assert_allclose(built.model(pixels), saved(pixels / 127.5 - 1), atol=1e-4)
