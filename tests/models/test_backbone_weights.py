"""Weights files of all forms: those that fit are loaded whole, all others are refused by one line."""

import shutil
import socket
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tl_keras.errors import BackboneError
from tl_keras.models import backbone_weights
from tl_keras.models.backbone_loading import build_backbone
from tl_keras.models.backbone_weights import find_weights, load_weights, published_weights_file
from tl_keras.models.backbones import BACKBONES

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def mobilenet(alpha: float = 0.25, **options: Any) -> keras.Model:
    return keras.applications.MobileNet(alpha=alpha, weights=None, **{"include_top": False, **options})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Files of MobileNet 0.25, bare and with a classifier, of others, and of none."""
    folder = tmp_path_factory.mktemp("weights")
    models = {"bare": mobilenet(), "top": mobilenet(include_top=True, classes=7), "half": mobilenet(alpha=0.5)}
    for name, model in models.items():
        model.save_weights(folder / f"{name}.weights.h5")
        model.save(folder / f"{name}.keras")
        model.save(folder / f"{name}.h5")
        np.savez(folder / f"{name}.npz", *model.get_weights())
    shutil.copy(folder / "bare.weights.h5", folder / "renamed.h5")
    for name in ("bare.weights.h5", "bare.h5", "bare.keras"):
        (folder / f"short.{name}").write_bytes((folder / name).read_bytes()[:100_000])
    (folder / "text.h5").write_text("not weights")
    with zipfile.ZipFile(folder / "photos.keras", "w") as archive:
        archive.writestr("photo.jpg", b"")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("form", ["weights.h5", "keras", "h5"])
@pytest.mark.parametrize("name", ["bare", "top"])
def test_file_that_fits_is_loaded_whole(name: str, form: str, folder: Path) -> None:
    built = build_backbone("mobilenet_025", image_size=(32, 48), weights=str(folder / f"{name}.{form}"))
    expected = list(np.load(folder / f"{name}.npz").values())
    for got, wanted in zip(built.model.get_weights(), expected, strict=name == "bare"):
        np.testing.assert_array_equal(got, wanted)


def test_weights_of_our_own_backbone_load(tmp_path: Path) -> None:
    first = build_backbone("small_resnet", image_size=(32, 32), weights="none", preprocessing="caffe").model
    first.save_weights(tmp_path / "x.weights.h5")
    second = build_backbone("small_resnet", image_size=(48, 48), weights=str(tmp_path / "x.weights.h5")).model
    for got, wanted in zip(second.get_weights(), first.get_weights(), strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (
            "half.weights.h5",
            "it holds 135 weight tensors, 135 are expected; a kernel of the file alone is (3, 3, 3, 16), one",
        ),
        (
            "half.keras",
            "it holds 135 weight tensors, 135 are expected; a kernel of the file alone is (3, 3, 3, 16), one",
        ),
        ("half.h5", "layer 'conv1' expects the shapes [(3, 3, 3, 8)], the file has [(3, 3, 3, 16)]."),
    ],
)
def test_file_of_another_width_is_refused(file: str, text: str, folder: Path) -> None:
    with pytest.raises(BackboneError) as caught:
        build_backbone("mobilenet_025", image_size=(32, 32), weights=str(folder / file))
    message = str(caught.value)
    assert message.startswith(f"the weights file {folder / file} does not fit backbone 'mobilenet_025': {text}")
    assert "\n" not in message


def convolutions(number: int) -> keras.Model:
    layers = [keras.layers.Conv2D(4, 3, padding="same") for _ in range(number)]
    return keras.Sequential([keras.Input((8, 8, 4)), *layers], name="stack")


@pytest.mark.parametrize("saved", [2, 4])
@pytest.mark.parametrize("form", ["weights.h5", "keras", "h5"])
def test_file_of_another_depth_is_refused_and_nothing_loaded(form: str, saved: int, tmp_path: Path) -> None:
    path, model, deeper = tmp_path / f"x.{form}", convolutions(3), convolutions(saved)
    (deeper.save_weights if form == "weights.h5" else deeper.save)(path)
    before = model.get_weights()
    with pytest.raises(BackboneError, match="does not fit backbone 'stack': it holds"):
        load_weights(model, None, path)
    for got, wanted in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("form", ["keras", "weights.h5", "h5"])
def test_file_with_the_network_as_one_layer_is_refused(form: str, tmp_path: Path) -> None:
    inner = convolutions(3)
    pixels = keras.Input((8, 8, 4))
    outer = keras.Model(pixels, keras.layers.Dense(2)(keras.Model(inner.inputs[0], inner.outputs[0])(pixels)))
    path = tmp_path / f"nested.{form}"
    (outer.save_weights if form == "weights.h5" else outer.save)(path)
    with pytest.raises(BackboneError) as caught:
        load_weights(convolutions(3), None, path)
    assert str(caught.value) == (
        f"the weights file {path} does not fit backbone 'stack': it is of a model that has its network as one layer. "
        + (f"Use --backbone {path} instead, or save" if form == "keras" else "Save")
        + " the weights of that layer alone: model.get_layer(NAME).save_weights('inner.weights.h5')."
    )


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (
            "missing.h5",
            "model.weights: there is no file {file}. Expected 'pretrained', 'imagenet', 'none' or the path of a",
        ),
        ("", "{file} is not a weights file, or is cut short. Expected a .h5, .weights.h5 or .keras file."),
        ("text.h5", "{file} is not a weights file, or is cut short. Expected a .h5, .weights.h5 or .keras file."),
        ("short.bare.keras", "{file} is not a weights file, or is cut short."),
        ("short.bare.h5", "{file} is damaged or holds no weights of Keras: "),
        ("short.bare.weights.h5", "{file} is damaged or holds no weights of Keras: "),
        ("photos.keras", "{file} is damaged or holds no weights of Keras: "),
        ("renamed.h5", "{file} has the form of a .weights.h5 file: rename it, for Keras looks at the name."),
    ],
)
def test_what_is_no_weights_file_is_refused(file: str, text: str, folder: Path) -> None:
    path = folder / file
    with pytest.raises(BackboneError) as caught:
        build_backbone("small_resnet", image_size=(32, 32), weights=str(path))
    assert str(caught.value).startswith(text.format(file=path))
    assert "\n" not in str(caught.value)


def test_published_file_that_is_not_keras_own_stays_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras itself removes a file whose hash is not the one that it knows."""
    row = BACKBONES["mobilenet_025"]
    file = tmp_path / "models" / row.weights_file
    file.parent.mkdir()
    file.write_bytes(b"of another source")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(BackboneError, match="is not a weights file, or is cut short"):
        find_weights(row.name, row, "pretrained")
    assert file.read_bytes() == b"of another source"


def test_optimizer_in_a_file_does_not_matter(tmp_path: Path) -> None:
    model = convolutions(1)
    model.compile("sgd", "mse")
    model.fit(np.ones((2, 8, 8, 4)), np.ones((2, 8, 8, 4)), verbose=0)
    model.save(tmp_path / "x.keras")
    fresh = convolutions(1)
    load_weights(fresh, None, tmp_path / "x.keras")
    np.testing.assert_array_equal(fresh.get_weights()[0], model.get_weights()[0])


# --- published weights


def test_download_that_fails_is_one_line_with_three_ways_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timeouts = []

    def no_network(name: str, *_: Any, **__: Any) -> str:
        timeouts.append(socket.getdefaulttimeout())
        raise Exception("URL fetch failure on https://storage.googleapis.com/x: None -- [Errno -2] Name not known")

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", no_network)
    with pytest.raises(BackboneError) as caught:
        build_backbone("mobilenet_025", image_size=(32, 32))
    assert str(caught.value) == (
        "the weights of backbone 'mobilenet_025' are not on this machine and did not download "
        "(URL fetch failure on https://storage.googleapis.com/x: None -- [Errno -2] Name not known). "
        f"Put the file mobilenet_2_5_128_tf_no_top.h5 into {tmp_path / 'models'}, or give a weights file with "
        "--set model.weights=PATH, or use --backbone small_resnet, which ships with this package."
    )
    assert timeouts == [backbone_weights.DOWNLOAD_TIMEOUT_S]
    assert socket.getdefaulttimeout() is None


@pytest.mark.slow
def test_download_lands_in_keras_home_and_is_loaded(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fetch(name: str, *_: Any, cache_subdir: str, **__: Any) -> str:
        print("Downloading data from", name)
        (tmp_path / cache_subdir).mkdir()
        return str(shutil.copy(folder / "bare.h5", tmp_path / cache_subdir / name))

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", fetch)
    model = build_backbone("mobilenet_025", image_size=(32, 32)).model
    np.testing.assert_array_equal(model.get_weights()[0], np.load(folder / "bare.npz")["arr_0"])
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Downloading data from mobilenet_2_5_128_tf_no_top.h5" in printed.err


def test_bundled_weights_lie_in_the_package() -> None:
    path = published_weights_file(BACKBONES["small_resnet"])
    assert path == Path(backbone_weights.__file__).parent / "bundled" / "small_resnet.weights.h5"


@pytest.mark.slow
def test_published_efficientnet_sees_normalised_pixels(tmp_path: Path) -> None:
    """Its published files hold the deviation where Normalization wants the variance."""
    published = keras.applications.EfficientNetB0(include_top=False, weights=None)
    normalization = next(layer for layer in published.layers if isinstance(layer, keras.layers.Normalization))
    normalization.set_weights([np.array(IMAGENET_MEAN), np.array(IMAGENET_DEVIATION), np.array(0)])
    published.save(tmp_path / "b0.h5")
    built = build_backbone("efficientnet_b0", image_size=(32, 32), weights=str(tmp_path / "b0.h5")).model
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    seen = keras.Model(built.input, built.get_layer("stem_conv_pad").input)(pixels)
    np.testing.assert_allclose(seen, (pixels / 255 - IMAGENET_MEAN) / IMAGENET_DEVIATION, atol=1e-4)


def test_published_deviation_is_squared_once(tmp_path: Path) -> None:
    def network() -> keras.Model:
        return keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Normalization(), keras.layers.Conv2D(2, 3)])

    row, model = BACKBONES["efficientnet_b0"], network()
    model.layers[0].set_weights([np.zeros(3), np.array(IMAGENET_DEVIATION), np.array(0)])
    for _ in range(2):
        model.save_weights(tmp_path / "x.weights.h5")
        model = network()
        load_weights(model, row, tmp_path / "x.weights.h5")
        np.testing.assert_allclose(model.layers[0].variance, np.square(IMAGENET_DEVIATION)[None, None, None], rtol=1e-6)
