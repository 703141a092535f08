"""Users' own `.keras` files as backbones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from tl_keras.errors import BackboneError
from tl_keras.models.backbone_loading import build_backbone, native_image_size, preprocessing_of_file
from tl_keras.models.backbones import BACKBONES
from tl_keras.models.bundled.network import SmallResNet

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype("float32")


def assert_close(got: Any, wanted: Any) -> None:
    """Compare by the scale of what is wanted: random networks put out features of 1e-16."""
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


def save(model: keras.Model, folder: Path, name: str = "own") -> str:
    model.save(folder / f"{name}.keras")
    return str(folder / f"{name}.keras")


def mobilenet(**options: Any) -> keras.Model:
    options = {"include_top": False, "input_shape": (64, 64, 3), **options}
    return keras.applications.MobileNet(alpha=0.25, weights=None, **options)


def small_network(*first: Any) -> keras.Sequential:
    """Three convolutions at 64, 32 and 16 pixels, and a classifier."""
    stack = [
        layers.Conv2D(4, 3, padding="same"),
        layers.MaxPooling2D(),
        layers.Conv2D(6, 3, padding="same"),
        layers.BatchNormalization(),
    ]
    stack += [
        layers.MaxPooling2D(),
        layers.Conv2D(8, 3, padding="same", name="last"),
        layers.Flatten(),
        layers.Dense(3),
    ]
    return keras.Sequential([keras.Input((64, 64, 3)), *first, *stack])


def features(model: keras.Model, layer: str) -> keras.Model:
    return keras.Model(model.inputs[0], model.get_layer(layer).output)


@pytest.mark.slow
def test_bare_network_of_the_table_gets_its_preprocessing_and_stages(tmp_path: Path) -> None:
    model = mobilenet()
    built = build_backbone(save(model, tmp_path), image_size=(64, 64))
    assert built.row is not None
    assert (built.row.name, built.preprocessing, list(built.stages)[-1]) == (
        "mobilenet_025",
        "minus_one_to_one",
        "stage5",
    )
    assert_close(built.model(PIXELS), model(PIXELS / 127.5 - 1))


@pytest.mark.slow
def test_fixed_image_size_is_rebuilt(tmp_path: Path) -> None:
    model = mobilenet()
    built = build_backbone(save(model, tmp_path), image_size=(96, 80))
    wide = mobilenet(input_shape=(96, 80, 3))
    wide.set_weights(model.get_weights())
    pixels = np.random.default_rng(1).uniform(0, 255, (1, 96, 80, 3)).astype("float32")
    assert built.model.output_shape == (None, 3, 2, 256)
    assert len(built.model.layers) == len(model.layers) + 1  # flat: only the preprocessing is new
    assert_close(built.model(pixels), wide(pixels / 127.5 - 1))


def test_classifier_is_cut_off(tmp_path: Path) -> None:
    model = mobilenet(include_top=True, classes=5)
    built = build_backbone(save(model, tmp_path), image_size=(64, 64))
    assert built.model.output_shape == (None, 2, 2, 256)
    assert_close(built.model(PIXELS), features(model, "conv_pw_13_relu")(PIXELS / 127.5 - 1))


@pytest.mark.slow
@pytest.mark.parametrize("preprocessing", ["auto", "caffe", "none"])
def test_backbone_of_this_package_is_not_preprocessed_twice(preprocessing: str, tmp_path: Path) -> None:
    first = build_backbone("small_resnet", image_size=(64, 64), weights="none", preprocessing=preprocessing)
    second = build_backbone(save(first.model, tmp_path), image_size=(64, 64))
    assert second.row == first.row
    assert second.stages.keys() == first.stages.keys()
    assert second.preprocessing == "none"
    np.testing.assert_array_equal(second.model(PIXELS), first.model(PIXELS))


def test_adapted_normalization_and_nested_blocks_come_back(tmp_path: Path) -> None:
    """EfficientNet begins with a Normalization that has weights; ConvNeXt's stem is a Sequential of fixed image size."""
    normalization = layers.Normalization()
    normalization.adapt(PIXELS)
    stem = keras.Sequential([layers.Conv2D(4, 3, padding="same"), layers.LayerNormalization()], name="stem")
    pixels = keras.Input((64, 64, 3))
    model = keras.Model(pixels, layers.ReLU()(stem(normalization(pixels))))
    path = save(model, tmp_path)
    assert_close(build_backbone(path, image_size=(64, 64)).model(PIXELS), model(PIXELS))
    smaller = build_backbone(path, image_size=(32, 48)).model(PIXELS[:, :32, :48])
    assert_close(smaller[:, :31, :47], model(PIXELS)[:, :31, :47])


def test_frozen_layers_of_a_file_are_thawed(tmp_path: Path) -> None:
    model = small_network(layers.Rescaling(1 / 255))
    model.trainable = False
    built = build_backbone(save(model, tmp_path), image_size=(64, 64))
    assert len(built.model.trainable_weights) == 3 * 2 + 2


def test_unknown_network_with_its_own_rescaling(tmp_path: Path) -> None:
    model = small_network(layers.Rescaling(1 / 255))
    built = build_backbone(save(model, tmp_path), image_size=(64, 64))
    assert (built.row, built.preprocessing, built.model.name) == (None, "none", "own")
    assert_close(built.model(PIXELS), features(model, "last")(PIXELS))
    assert [tensor.shape[1:] for tensor in built.boundaries.values()] == [(64, 64, 4), (32, 32, 6), (16, 16, 8)]
    assert [len(names) for names in built.stages.values()] == [3, 3, 2]


def test_unknown_network_needs_to_be_told_its_preprocessing(tmp_path: Path) -> None:
    model = small_network()
    path = save(model, tmp_path)
    with pytest.raises(BackboneError) as caught:
        build_backbone(path, image_size=(64, 64))
    assert str(caught.value) == (
        f"{path} has no preprocessing before its first convolution, so nothing says what range of pixels it was "
        "trained on. Expected model.preprocessing to be one of 'none', 'zero_to_one', 'minus_one_to_one', 'torch', 'caffe'."
    )
    built = build_backbone(path, image_size=(64, 64), preprocessing="zero_to_one")
    assert_close(built.model(PIXELS), features(model, "last")(PIXELS / 255))


def test_preprocessing_found_in_the_file_is_not_added_again(tmp_path: Path) -> None:
    path = save(small_network(layers.Rescaling(1 / 255, name="scale")), tmp_path)
    with pytest.raises(BackboneError, match=r"begins with the layer 'scale', and pixels would be preprocessed twice\. Expected"):
        build_backbone(path, image_size=(64, 64), preprocessing="torch")


def test_weights_of_a_file_can_be_replaced(tmp_path: Path) -> None:
    model, other = small_network(layers.Rescaling(1 / 255)), small_network(layers.Rescaling(1 / 255))
    path = save(model, tmp_path)
    other.save_weights(tmp_path / "other.weights.h5")
    own = build_backbone(path, image_size=(64, 64)).model.get_weights()
    random = build_backbone(path, image_size=(64, 64), weights="none").model.get_weights()
    given = build_backbone(path, image_size=(64, 64), weights=str(tmp_path / "other.weights.h5")).model.get_weights()
    np.testing.assert_array_equal(own[0], model.get_weights()[0])
    assert not np.array_equal(random[0], own[0])
    np.testing.assert_array_equal(given[0], other.get_weights()[0])
    with pytest.raises(BackboneError, match="backbone 'own' has no published weights"):
        build_backbone(path, image_size=(64, 64), weights="imagenet")


def test_native_image_size_is_that_of_the_file(tmp_path: Path) -> None:
    assert native_image_size(save(small_network(), tmp_path)) == 64
    assert native_image_size(save(mobilenet(input_shape=(None, None, 3)), tmp_path, "any")) == 224


def fixed_inside() -> keras.Model:
    return keras.Sequential([keras.Input((64, 64, 3)), layers.Rescaling(1.0), layers.Reshape((32, 128, 3)), layers.Conv2D(2, 3)])


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (
            lambda: keras.Sequential([keras.Input((64,)), layers.Dense(3)]),
            "{path} cannot be a backbone: its input has the shape ",
        ),
        (
            lambda: keras.Sequential([keras.Input((64, 64, 3)), layers.Flatten()]),
            "{path} cannot be a backbone: it has no convol",
        ),
        (
            lambda: keras.Sequential([keras.Input((64, 64, 1)), layers.Conv2D(2, 3)]),
            "{path} cannot be a backbone: its input has",
        ),
        (fixed_inside, "backbone 'own' cannot be rebuilt for image_size=(48, 48): "),
    ],
)
def test_file_that_is_no_backbone_is_refused(model: Any, text: str, tmp_path: Path) -> None:
    path = save(model(), tmp_path)
    with pytest.raises(BackboneError) as caught:
        build_backbone(path, image_size=(48, 48))
    assert str(caught.value).startswith(text.format(path=path))
    assert "\n" not in str(caught.value)


def test_image_too_small_for_an_unknown_network_is_refused(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((64, 64, 3)), layers.Rescaling(1.0), layers.Conv2D(2, 9)])
    with pytest.raises(BackboneError, match=r"cannot be rebuilt for image_size=\(8, 8\).* was saved for \(64, 64\)"):
        build_backbone(save(model, tmp_path), image_size=(8, 8))


def test_image_too_small_for_a_recognised_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"too small for backbone 'mobilenet_025': it needs at least 32 pixels"):
        build_backbone(save(mobilenet(), tmp_path), image_size=(24, 24))


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 cut short"])
def test_file_that_is_not_of_keras_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.keras"
    path.write_bytes(content)
    with pytest.raises(BackboneError, match=r"cannot be a backbone: it is not a \.keras file, or is cut short"):
        build_backbone(str(path), image_size=(64, 64))
    with pytest.raises(BackboneError, match=r"cannot be a backbone: it is not a \.keras file, or is cut short"):
        native_image_size(str(path))


def test_file_with_a_layer_of_the_users_own_is_refused(tmp_path: Path) -> None:
    class Own(layers.Layer):
        def call(self, inputs: Any) -> Any:
            return inputs

    path = save(small_network(Own()), tmp_path)
    with pytest.raises(BackboneError, match=r"cannot be a backbone: .*Own"):
        build_backbone(path, image_size=(64, 64))


# --- preprocessing of the file's own -------------------------------------------------------------------------------


def behind(preprocess: Callable[[Any], Any]) -> keras.Model:
    """A small network behind some preprocessing, as the operations or layers that the file holds."""
    pixels = keras.Input((64, 64, 3))
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="last")(preprocess(pixels))
    return keras.Model(pixels, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))


def by_keras(mode: str) -> Callable[[Any], Any]:
    return lambda pixels: keras.applications.imagenet_utils.preprocess_input(pixels, mode=mode)


def small_resnet(preprocess: Callable[[Any], Any] = lambda pixels: pixels) -> keras.Model:
    pixels = keras.Input((64, 64, 3))
    return keras.Model(pixels, SmallResNet(input_tensor=preprocess(pixels)).outputs[0])


def test_operations_before_a_network_of_the_table_are_its_preprocessing(tmp_path: Path) -> None:
    model = small_resnet(by_keras("caffe"))
    path = save(model, tmp_path)
    built = build_backbone(path, image_size=(64, 64))
    assert built.row is not None
    assert (built.row.name, built.preprocessing) == ("small_resnet", "none")
    assert_close(built.model(PIXELS), model(PIXELS))
    assert built.notes[0] == "own.keras: a small_resnet, cut behind 'stage3_out': all 284,016 weights stay"
    assert built.notes[1].startswith("own.keras: its own preprocessing is used ('")
    with pytest.raises(BackboneError, match=r"would be preprocessed twice\. Expected 'auto' or 'none'\."):
        build_backbone(path, image_size=(64, 64), preprocessing="zero_to_one")


@pytest.mark.parametrize(
    "preprocess",
    [
        by_keras("torch"),
        lambda pixels: pixels * (1 / 255),
        lambda pixels: layers.Rescaling(1 / 127.5, -1)(keras.ops.cast(pixels, "float32")),
        lambda pixels: layers.Normalization(mean=[120.0] * 3, variance=[3600.0] * 3)(pixels),
        lambda pixels: keras.Sequential([layers.Resizing(32, 32), layers.Rescaling(1 / 255)])(pixels),
        lambda pixels: keras.Sequential([layers.RandomFlip(), layers.RandomZoom(0.2), layers.Rescaling(1 / 255)])(pixels),
    ],
)
def test_preprocessing_of_any_form_is_used_as_it_is(preprocess: Callable[[Any], Any], tmp_path: Path) -> None:
    model = behind(preprocess)
    built = build_backbone(save(model, tmp_path), image_size=(64, 64))
    assert built.preprocessing == "none"
    assert_close(built.model(PIXELS), features(model, "last")(PIXELS, training=False))
    assert not any(type(layer).__name__.startswith("Random") for layer in built.model.layers)


def test_preprocessing_of_zero_to_one_gets_it(tmp_path: Path) -> None:
    model = behind(lambda unit: layers.Rescaling(2.0, -1.0, name="stretch")(unit))
    built = build_backbone(save(model, tmp_path), image_size=(64, 64))
    assert built.preprocessing == "zero_to_one"
    assert_close(built.model(PIXELS), features(model, "last")(PIXELS / 255))
    assert built.notes[1] == "own.keras: its own preprocessing is used ('stretch'), behind zero_to_one, the range that it takes"


def test_preprocessing_that_says_nothing_is_asked_for(tmp_path: Path) -> None:
    model = behind(lambda pixels: layers.BatchNormalization(name="first")(pixels))
    path = save(model, tmp_path)
    with pytest.raises(BackboneError) as caught:
        build_backbone(path, image_size=(64, 64))
    assert str(caught.value).startswith(
        f"{path} does something of its own to images before its first convolution ('first'), which does not "
    )
    assert "Set model.preprocessing: 'none', as fits a file that does all of its preprocessing itself, or one of" in str(caught.value)
    assert_close(build_backbone(path, image_size=(64, 64), preprocessing="none").model(PIXELS), features(model, "last")(PIXELS))
    built = build_backbone(path, image_size=(64, 64), preprocessing="zero_to_one")
    assert_close(built.model(PIXELS), features(model, "last")(PIXELS / 255))
    assert built.notes[1].endswith("('first'), behind zero_to_one, as set")


def test_network_of_the_table_saved_without_the_preprocessing_that_it_has_there_is_asked_for() -> None:
    row = BACKBONES["mobilenet_v3_small"]  # include_preprocessing=False
    with pytest.raises(BackboneError, match=r"own\.keras has no preprocessing before its first convolution"):
        preprocessing_of_file("own.keras", row, None, "auto")
    assert preprocessing_of_file("own.keras", row, None, "minus_one_to_one") == "minus_one_to_one"


# --- models of models, and where a network ends --------------------------------------------------------------------


def test_network_inside_of_another_model_is_unrolled_with_what_lies_before_it(tmp_path: Path) -> None:
    """What Keras' guide to transfer learning makes."""
    base = small_resnet()
    base.trainable = False
    pixels = keras.Input((64, 64, 3))
    augmented = keras.Sequential([layers.RandomFlip("horizontal"), layers.RandomRotation(0.1)])(pixels)
    scaled = layers.Rescaling(1 / 127.5, offset=-1, name="scale")(augmented)
    pooled = layers.GlobalAveragePooling2D()(base(scaled, training=False))
    model = keras.Model(pixels, layers.Dense(1)(layers.Dropout(0.2)(pooled)))
    built = build_backbone(save(model, tmp_path), image_size=(64, 64))
    assert built.row is not None
    assert (built.row.name, built.preprocessing, list(built.stages)[-1]) == ("small_resnet", "none", "stage3")
    assert_close(built.model(PIXELS), base(PIXELS / 127.5 - 1))
    assert built.notes == (
        "own.keras: a small_resnet, cut behind 'stage3_out': 284,016 of 284,145 weights stay",
        "own.keras: its own preprocessing is used ('scale')",
    )
    assert not any(isinstance(layer, keras.Model) for layer in built.model.layers)


def test_classifier_around_a_network_without_preprocessing_gets_that_of_the_table(tmp_path: Path) -> None:
    base = small_resnet()
    model = keras.Sequential([base, layers.GlobalAveragePooling2D(), layers.Dense(3)])
    built = build_backbone(save(model, tmp_path), image_size=(64, 64))
    assert_close(built.model(PIXELS), base(PIXELS / 255))
    assert built.notes[1] == "own.keras: preprocessing zero_to_one, as small_resnet wants it"


def vit(head: Callable[[Any], Any]) -> keras.Model:
    pixels = keras.Input((64, 64, 3))
    patches = layers.Conv2D(16, 8, strides=8)(layers.Rescaling(1 / 255)(pixels))
    tokens = layers.Reshape((64, 16))(patches)
    tokens = layers.Add(name="tokens")([tokens, layers.MultiHeadAttention(2, 8)(tokens, tokens)])
    return keras.Model(pixels, head(tokens))


def test_network_that_ends_in_tokens_keeps_its_attention(tmp_path: Path) -> None:
    model = vit(lambda tokens: layers.Dense(3)(layers.GlobalAveragePooling1D(name="mean")(layers.LayerNormalization()(tokens))))
    built = build_backbone(save(model, tmp_path), image_size=(64, 64))
    assert_close(built.model(PIXELS), features(model, "mean")(PIXELS))
    assert built.notes[0] == "own.keras: cut behind 'mean': 4,208 of 4,259 weights stay"
    assert list(built.stages) == ["stage1"]


def test_tokens_without_a_vector_are_refused(tmp_path: Path) -> None:
    path = save(vit(lambda tokens: tokens), tmp_path)
    with pytest.raises(BackboneError, match=r"it outputs tokens or a sequence, \(None, 64, 16\)\. Expected a feature map"):
        build_backbone(path, image_size=(64, 64))


def test_two_networks_side_by_side_both_stay(tmp_path: Path) -> None:
    pixels = keras.Input((64, 64, 3))
    scaled = layers.Rescaling(1 / 255)(pixels)
    branches = [layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, name=f"conv{number}")(scaled)) for number in (1, 2)]
    model = keras.Model(pixels, layers.Dense(3)(layers.Concatenate(name="both")(branches)))
    built = build_backbone(save(model, tmp_path), image_size=(64, 64))
    assert_close(built.model(PIXELS), features(model, "both")(PIXELS))


def test_layer_without_weights_that_is_called_again_is_a_layer_for_each_call(tmp_path: Path) -> None:
    pixels, relu = keras.Input((64, 64, 3)), layers.ReLU(name="relu")
    x = layers.MaxPooling2D()(relu(layers.Conv2D(4, 3, padding="same")(layers.Rescaling(1 / 127.5, -1)(pixels))))
    maps = keras.Model(pixels, relu(layers.Conv2D(6, 3, padding="same")(x)))
    model = keras.Model(pixels, layers.Dense(3)(layers.GlobalAveragePooling2D()(maps.output)))
    built = build_backbone(save(model, tmp_path), image_size=(64, 64))
    assert_close(built.model(PIXELS), maps(PIXELS))
    assert [tensor.shape[1:] for tensor in built.boundaries.values()] == [(64, 64, 4), (32, 32, 6)]


def test_layer_with_weights_that_is_called_again_is_refused(tmp_path: Path) -> None:
    pixels, last = keras.Input((64, 64, 3)), layers.Conv2D(3, 3, padding="same", name="shared")
    model = keras.Model(pixels, last(last(layers.Rescaling(1 / 255)(pixels))))
    with pytest.raises(BackboneError, match="its layer 'shared' is called more than once, and a backbone's layers share no weights"):
        build_backbone(save(model, tmp_path), image_size=(64, 64))
