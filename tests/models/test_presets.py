"""KerasHub's presets as backbones, made here and small; most of it is skipped where KerasHub, an extra, is not installed."""

import json
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tl_keras.config import ModelConfig
from tl_keras.errors import BackboneError
from tl_keras.models.backbone_kinds import BACKBONE_KINDS, PRESET
from tl_keras.models.backbone_loading import BuiltBackbone, build_backbone, native_image_size
from tl_keras.models.classifier import build_classifier, count_parameters, unfreeze

SIZE = 32
PIXELS = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3)).astype("float32")
RESNET = {"input_conv_filters": [64], "block_type": "basic_block"}
SMALL = {**RESNET, "input_conv_kernel_sizes": [3], "stackwise_num_filters": [64, 32], "stackwise_num_blocks": [1, 1]}


@pytest.fixture(scope="module")
def hub() -> Any:
    """KerasHub."""
    return pytest.importorskip("keras_hub", reason="KerasHub, the extra 'hub', is not installed")


@pytest.fixture(scope="module")
def preset(hub: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any]:
    """A folder, and a function of pixels 0..255: what KerasHub itself makes of them."""
    keras.utils.set_random_seed(0)
    folder = tmp_path_factory.mktemp("presets") / "small"
    network = hub.models.ResNetBackbone(stackwise_num_strides=[1, 2], **SMALL)
    converter = hub.layers.ResNetImageConverter(image_size=(SIZE, SIZE), scale=[0.02, 0.01, 0.03], offset=[-1.0, 0.5, 0.2])
    network.save_to_preset(str(folder))
    converter.save_to_preset(str(folder))
    return str(folder), lambda pixels: network(converter(pixels)).numpy()


def refusal(backbone: str, **settings: Any) -> str:
    with pytest.raises(BackboneError) as caught:
        build_backbone(backbone, **{"image_size": (SIZE, SIZE), **settings})
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("prefix", ["", "keras_hub:"])
def test_features_are_those_of_keras_hub(preset: tuple[str, Any], prefix: str) -> None:
    folder, expected = preset
    built = build_backbone(prefix + folder, image_size=(SIZE, SIZE))
    assert native_image_size(prefix + folder) == SIZE
    assert (built.row, built.preprocessing) == (None, "preset")
    np.testing.assert_allclose(built.model(PIXELS), expected(PIXELS), rtol=1e-5, atol=1e-5)


def test_network_is_flat_and_cut_by_resolution(preset: tuple[str, Any]) -> None:
    built = build_backbone(preset[0], image_size=(64, 48))
    assert [tensor.shape[1:] for tensor in built.boundaries.values()] == [(32, 24, 64), (16, 12, 64), (8, 6, 32)]
    assert {type(layer).__module__.split(".")[0] for layer in built.model.layers} == {"keras"}
    assert sum(len(names) for names in built.stages.values()) == len(built.model.layers)


def test_saved_backbone_needs_neither_keras_hub_nor_this_package(
    preset: tuple[str, Any], tmp_path: Path, python_alone: Callable[..., Any]
) -> None:
    model = build_backbone(preset[0], image_size=(SIZE, SIZE)).model
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "pixels.npy", PIXELS)
    code = (
        "import sys; sys.modules['keras_hub'] = sys.modules['tl_keras'] = None\n"
        "import keras, numpy; numpy.save('found.npy', keras.models.load_model('model.keras')(numpy.load('pixels.npy')))"
    )
    python_alone(code, cwd=tmp_path)
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), model(PIXELS), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_batchnorm_inside_of_blocks_stays_still(hub: Any, tmp_path: Path) -> None:
    """KerasHub's EfficientNet, among others, is built of layers that have their BatchNorm inside."""
    blocks = {"stackwise_kernel_sizes": [3, 3], "stackwise_num_repeats": [1, 1]}
    widths = {"stackwise_input_filters": [8, 8], "stackwise_output_filters": [8, 16], "stackwise_expansion_ratios": [1, 4]}
    gates = {"stackwise_strides": [1, 2], "stackwise_squeeze_and_excite_ratios": [0.25, 0.25]}
    kinds = {"stackwise_block_types": ["fused", "unfused"], "width_coefficient": 1.0, "depth_coefficient": 1.0}
    network = hub.models.EfficientNetBackbone(**blocks, **widths, **gates, **kinds)
    network.save_to_preset(str(tmp_path / "blocks"))
    backbone = build_backbone(str(tmp_path / "blocks"), image_size=(SIZE, SIZE), preprocessing="zero_to_one")
    np.testing.assert_allclose(backbone.model(PIXELS), network(PIXELS / 255), atol=1e-6)
    classifier = build_classifier(ModelConfig(), backbone, 2, 0)
    for still in (True, False):
        unfreeze(classifier, "all", freeze_batchnorm=still)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        classifier.model.compile(optimizer="adam", loss=loss, run_eagerly=True)  # quicker than tracing the graph of a step
        before = {weight.path: weight.numpy() for weight in classifier.model.weights}
        classifier.model.fit(PIXELS, np.arange(2), verbose=0)
        moved = {weight.path for weight in classifier.model.weights if not np.array_equal(weight.numpy(), before[weight.path])}
        statistics = {path for path in before if "moving" in path}
        assert len(statistics) > 10
        assert moved & statistics == (set() if still else statistics)


@pytest.mark.slow
def test_weights_are_the_presets_or_random_or_of_a_file(preset: tuple[str, Any], tmp_path: Path) -> None:
    own = build_backbone(preset[0], image_size=(SIZE, SIZE)).model
    random = build_backbone(preset[0], image_size=(SIZE, SIZE), weights="none").model
    assert not np.allclose(own(PIXELS), random(PIXELS), atol=1e-3)
    random.save_weights(tmp_path / "random.weights.h5")
    given = build_backbone(preset[0], image_size=(SIZE, SIZE), weights=str(tmp_path / "random.weights.h5")).model
    np.testing.assert_array_equal(given(PIXELS), random(PIXELS))


def test_network_has_the_precision_of_the_run(preset: tuple[str, Any]) -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build_backbone(preset[0], image_size=(SIZE, SIZE)).model
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.get_layer("preprocessing").compute_dtype == "float32"
    assert model.get_layer("conv1_conv").compute_dtype == "bfloat16"


def test_preprocessing_asked_for_takes_the_presets_place(preset: tuple[str, Any]) -> None:
    built = build_backbone(preset[0], image_size=(SIZE, SIZE), preprocessing="zero_to_one")
    seen = keras.Model(built.model.input, built.model.get_layer("preprocessing").output)(PIXELS)
    np.testing.assert_allclose(seen, PIXELS / 255, rtol=1e-6)
    assert built.preprocessing == "zero_to_one"


def test_preset_without_a_converter_needs_to_be_told(hub: Any, tmp_path: Path) -> None:
    hub.models.ResNetBackbone(stackwise_num_strides=[1, 2], **SMALL).save_to_preset(str(tmp_path / "bare"))
    folder = str(tmp_path / "bare")
    assert native_image_size(folder) == 224
    assert refusal(folder).startswith(f"{folder} has no preprocessing before its first convolution, so nothing says what range")
    assert build_backbone(folder, image_size=(SIZE, SIZE), preprocessing="torch").preprocessing == "torch"


def test_converter_that_does_something_of_its_own_is_refused(preset: tuple[str, Any], hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked of the class, whatever the class does: here nothing else."""
    own = hub.layers.ResNetImageConverter
    monkeypatch.setattr(own, "call", lambda self, inputs: hub.layers.ImageConverter.call(self, inputs))
    assert refusal(preset[0]) == (
        f"preset {preset[0]} cannot be a backbone: its ResNetImageConverter does more to images than to scale and shift them; "
        "say what with model.preprocessing."
    )
    assert build_backbone(preset[0], image_size=(SIZE, SIZE), preprocessing="torch").preprocessing == "torch"


@pytest.mark.slow
def test_network_without_feature_maps_is_refused(hub: Any, tmp_path: Path) -> None:
    vit = hub.models.ViTBackbone(
        image_shape=(SIZE, SIZE, 3), patch_size=8, num_layers=1, num_heads=1, hidden_dim=8, mlp_dim=8, dropout_rate=0.0
    )
    bert = hub.models.BertBackbone(vocabulary_size=9, num_layers=1, num_heads=1, hidden_dim=8, intermediate_dim=8, max_sequence_length=4)
    for name, network, text in (("vit", vit, "it outputs (None, 17, 8), not a feature map"), ("bert", bert, "its input has the shape (")):
        network.save_to_preset(str(tmp_path / name))
        assert refusal(str(tmp_path / name), preprocessing="none").startswith(f"preset {tmp_path / name} cannot be a backbone: {text}")


@pytest.mark.parametrize("damaged", ["config.json", "model.weights.h5", "image_converter.json"])
def test_damaged_preset_is_refused_in_one_line(preset: tuple[str, Any], tmp_path: Path, damaged: str) -> None:
    for file in Path(preset[0]).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes()[:100] if file.name == damaged else file.read_bytes())
    assert refusal(str(tmp_path)).startswith(f"preset {tmp_path} cannot be a backbone: it does not load (")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "start"),
    [
        (
            "resnet_18_imagnet",
            "unknown preset 'resnet_18_imagnet'. Did you mean 'keras_hub:resnet_18_imagenet'? Expected a name of KerasHub, ",
        ),
        ("no/such/folder", "unknown preset 'no/such/folder'. Expected a name of KerasHub, kaggle://..., hf://... or a folder "),
        ("resnet_18_imagenet", "the preset keras_hub:resnet_18_imagenet is not on this machine and did not download ("),
        (
            "kaggle://keras/resnetv1/keras/resnet_18_imagenet/3",
            "the preset keras_hub:kaggle://keras/resnetv1/keras/resnet_18_imagenet/3 is not on ",
        ),
        ("hf://keras/resnet_18_imagenet", "the preset hf://keras/resnet_18_imagenet is not on this machine and did not download ("),
        ("kaggle://keras/resnetv1", "the preset keras_hub:kaggle://keras/resnetv1 is not on this machine and did not download ("),
    ],
)
def test_preset_that_is_not_there_is_refused_at_once(
    hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, start: str
) -> None:
    def nobody(*_: Any, **__: Any) -> Any:
        raise socket.gaierror("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    started = time.perf_counter()
    for call in (native_image_size, refusal):
        if call is native_image_size:
            with pytest.raises(BackboneError) as caught:
                call(f"keras_hub:{name}")
            assert str(caught.value).startswith(start)
        else:
            assert refusal(f"keras_hub:{name}").startswith(start)
    assert time.perf_counter() - started < 5


@pytest.mark.slow
def test_preset_in_the_cache_needs_no_network(preset: tuple[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kagglehub.cache import Cache
    from kagglehub.handle import parse_model_handle

    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("this must not be reached"))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    handle, cache = parse_model_handle("keras/resnetv1/keras/resnet_18_imagenet/3"), Cache()
    for file in Path(preset[0]).iterdir():
        kept = Path(cache.get_path(handle, file.name))
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(file.read_bytes())
        cache.mark_as_complete(handle, file.name)
    found = build_backbone("keras_hub:kaggle://keras/resnetv1/keras/resnet_18_imagenet/3", image_size=(SIZE, SIZE)).model(PIXELS)
    np.testing.assert_allclose(found, preset[1](PIXELS), rtol=1e-5, atol=1e-5)


def test_without_keras_hub_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    (tmp_path / "config.json").write_text(json.dumps({}))
    (tmp_path / "metadata.json").write_text(json.dumps({}))
    for backbone in ("keras_hub:resnet_18_imagenet", str(tmp_path)):
        text = refusal(backbone)
        assert text.startswith("a KerasHub preset needs KerasHub, which is not installed (")
        assert text.endswith('Install it: pip install "keras-hub>=0.32,<0.33".')


def test_install_line_is_what_the_extra_of_this_project_installs() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert [f'pip install "{each}"' for each in project["optional-dependencies"]["hub"]] == [BACKBONE_KINDS[PRESET].needs]


# --- ResNet-18 -----------------------------------------------------------------------------------------------------


def resnet18() -> keras.Model:
    """He et al. 2016, arXiv:1512.03385, table 1, 18 layers; convolutions without bias, of Keras' layers alone."""
    layers = keras.layers

    def convolve(x: Any, filters: int, size: int, strides: int) -> Any:
        return layers.BatchNormalization()(layers.Conv2D(filters, size, strides, "same", use_bias=False)(x))

    pixels = keras.Input((224, 224, 3))
    x = layers.MaxPooling2D(3, 2, "same")(layers.ReLU()(convolve(layers.Rescaling(1 / 255)(pixels), 64, 7, 2)))
    for filters in (64, 128, 256, 512):
        for block in range(2):
            strides = 2 if filters > 64 and block == 0 else 1
            shortcut = convolve(x, filters, 1, strides) if strides == 2 else x
            x = layers.ReLU()(convolve(x, filters, 3, strides))
            x = layers.ReLU()(layers.Add()([convolve(x, filters, 3, 1), shortcut]))
    return keras.Model(pixels, x)


def built_of(backbone: str) -> BuiltBackbone:
    return build_backbone(backbone, image_size=(SIZE, SIZE), weights="none")


def count(built: BuiltBackbone) -> tuple[int, int]:
    """Parameters outside of BatchNorm's moving statistics, of a classifier of ten classes and of its head."""
    classifier = build_classifier(ModelConfig(), built, 10, 0)
    unfreeze(classifier, "all", freeze_batchnorm=False)
    return count_parameters(classifier.model)["trainable"], count_parameters(classifier.head)["trainable"]


@pytest.mark.slow
def test_resnet18_from_a_file_has_the_parameters_of_the_paper(tmp_path: Path) -> None:
    resnet18().save(tmp_path / "resnet18.keras")
    built = built_of(str(tmp_path / "resnet18.keras"))
    assert count(built) == (11_181_642, 5_130)
    assert len(built.stages) == 5


@pytest.mark.slow
def test_resnet18_of_keras_hub_has_the_parameters_of_the_paper(hub: Any, tmp_path: Path) -> None:
    sizes = {"stackwise_num_filters": [64, 128, 256, 512], "stackwise_num_blocks": [2] * 4, "stackwise_num_strides": [1, 2, 2, 2]}
    hub.models.ResNetBackbone(input_conv_kernel_sizes=[7], **RESNET, **sizes).save_to_preset(str(tmp_path / "resnet18"))
    hub.layers.ResNetImageConverter(scale=1 / 255).save_to_preset(str(tmp_path / "resnet18"))
    assert count(built_of(str(tmp_path / "resnet18"))) == (11_181_642, 5_130)
