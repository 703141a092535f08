"""SavedModels that preprocess images themselves, or end in a classifier, or do not tell."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tl_keras.errors import BackboneError
from tl_keras.models.backbone_loading import BuiltBackbone, build_backbone

SIZE = 16
PIXELS = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3)).astype("float32")
IMAGES = tf.TensorSpec((None, SIZE, SIZE, 3), tf.float32)


def network(library: Any, preprocess: Callable[[Any, Any], Any], *head: Any) -> Any:
    layers = library.layers
    pixels = library.Input((SIZE, SIZE, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(preprocess(layers, pixels)))
    for layer in head:
        x = layer(x)
    return library.Model(pixels, x)


def built(folder: Path, **settings: Any) -> BuiltBackbone:
    return build_backbone(str(folder), image_size=(SIZE, SIZE), **settings)


@pytest.mark.parametrize("library", ["keras", "tf_keras"])
def test_rescaling_inside_of_what_keras_wrote_gets_pixels(library: str, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    if library == "keras":
        model = network(keras, lambda layers, pixels: pixels / 127.5 - 1)
        model.export(folder, verbose=False)
    else:
        tf_keras = pytest.importorskip("tf_keras")
        model = network(tf_keras, lambda layers, pixels: layers.Rescaling(1 / 255)(pixels))
        model.save(folder, save_format="tf")
    found = built(folder)
    assert (found.preprocessing, found.notes) == ("none", ("own: gets pixels 0..255, which its own preprocessing takes",))
    np.testing.assert_allclose(found.model(PIXELS), model(PIXELS), atol=1e-5)
    (note,) = built(folder, preprocessing="torch").notes
    assert note == "own: preprocessing torch, as set, though its own preprocessing takes pixels 0..255"


def test_range_of_what_keras_wrote_without_preprocessing_is_not_guessed(tmp_path: Path) -> None:
    model = network(keras, lambda layers, pixels: pixels, keras.layers.Dense(3, activation="softmax"))
    model.export(tmp_path / "own", verbose=False)
    with pytest.raises(BackboneError) as caught:
        built(tmp_path / "own")
    assert str(caught.value) == (
        f"module {tmp_path}/own was written by Keras, and its graph does not show what range of pixels it was trained on. "
        "Expected model.preprocessing to be one of 'none', 'zero_to_one', 'minus_one_to_one', 'torch', 'caffe'."
    )
    found = built(tmp_path / "own", preprocessing="zero_to_one")
    np.testing.assert_allclose(found.model(PIXELS), model(PIXELS / 255), atol=1e-5)
    assert found.notes == (
        "own: preprocessing zero_to_one, as set",
        "own: its features are a classifier's 3 probabilities; a module without its classifier tells more",
    )


class Module(tf.Module):
    """A module as TF-Hub has them: a convolution behind `scale` x + `offset`."""

    def __init__(self, scale: float, offset: float) -> None:
        super().__init__()
        self.scale, self.offset = scale, offset
        self.kernel = tf.Variable(np.random.default_rng(0).normal(size=(3, 3, 3, 4)), dtype=tf.float32)

    @tf.function(input_signature=[IMAGES])
    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(tf.nn.conv2d(images * self.scale + self.offset, self.kernel, 1, "SAME"), (1, 2))


@pytest.mark.parametrize(
    ("scale", "offset", "kind", "why"),
    [
        (2.0, -1.0, "zero_to_one", "preprocessing zero_to_one, the range that its own preprocessing takes"),
        (1.0, 0.0, "zero_to_one", "preprocessing zero_to_one, TF-Hub's convention"),
        (1 / 255, 0.0, "none", "gets pixels 0..255, which its own preprocessing takes"),
    ],
)
def test_module_gets_what_its_graph_takes_or_what_tf_hub_says(scale: float, offset: float, kind: str, why: str, tmp_path: Path) -> None:
    tf.saved_model.save(Module(scale, offset), str(tmp_path / "m"))
    found = built(tmp_path / "m")
    assert (found.preprocessing, found.notes) == (kind, (f"m: {why}",))
