"""Engines: the same numbers from each, for any number of images, whatever becomes of the model afterwards."""

import signal
import sys
from typing import Any, get_args

import keras
import numpy as np
import pytest
import tensorflow as tf

from tl_keras.config import RuntimeConfig
from tl_keras.models import engines, folded
from tl_keras.models.engines import ENGINES, OPENVINO, TENSORFLOW, ConversionError, compile_model, compile_saved

PIXELS = np.random.default_rng(0).integers(0, 256, (37, 12, 10, 3), np.uint8)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """Two outputs of one shape and one of another, named against the order of the graph."""
    keras.utils.set_random_seed(0)
    pixels = keras.Input((12, 10, 3))
    x = keras.layers.Conv2D(4, 3, use_bias=False)(keras.layers.Rescaling(1 / 255)(pixels))
    x = keras.layers.Activation("relu")(keras.layers.BatchNormalization()(x))
    pooled = keras.layers.GlobalAveragePooling2D()(x)
    made = keras.Model(pixels, {"z": pooled, "map": x, "a": keras.layers.GlobalMaxPooling2D()(x)})
    made.layers[3].set_weights([np.random.default_rng(1).uniform(0.5, 1.5, 4) for _ in range(4)])
    return made


@pytest.mark.parametrize(("engine", "tolerance"), list(zip(ENGINES, (1e-5, 1e-5, 3e-2), strict=True)))
def test_each_engine_computes_the_model(model: keras.Model, engine: str, tolerance: float) -> None:
    found, expected = compile_model(model, engine)(PIXELS), model(PIXELS.astype(np.float32), training=False)
    assert {name: values.shape for name, values in found.items()} == {"z": (37, 4), "a": (37, 4), "map": (37, 10, 8, 4)}
    for name, values in found.items():
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, expected[name], atol=tolerance, rtol=tolerance, err_msg=name)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_image_does_not_depend_on_its_company(model: keras.Model, engine: str) -> None:
    run = compile_model(model, engine)
    whole = run(PIXELS)
    for rows in ([0], [36], [5, 3, 1], list(range(30, 37)), list(range(36, -1, -1))):
        for name, values in run(PIXELS[rows]).items():
            np.testing.assert_array_equal(values, whole[name][rows], err_msg=name)


@pytest.mark.parametrize("engine", ENGINES)
def test_what_becomes_of_the_weights_does_not_matter(model: keras.Model, engine: str) -> None:
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    run = compile_model(twin, engine)
    twin.set_weights([weight * 0 for weight in twin.get_weights()])
    np.testing.assert_array_equal(run(PIXELS[:3])["z"], compile_model(model, engine)(PIXELS[:3])["z"])


def test_nothing_is_reported_to_the_makers_of_an_engine(model: keras.Model) -> None:
    """The package `openvino_telemetry` comes with OpenVINO, which imports it where it can."""
    compile_model(model, OPENVINO)
    assert "openvino" in sys.modules
    assert "openvino_telemetry" not in sys.modules


def test_signals_are_handled_after_compiled_models_have_gone(model: keras.Model) -> None:
    """In the order in which they came, not the other one; a process whose stack for signals is gone ends here."""
    models = [compile_model(model, OPENVINO) for _ in range(3)]
    while models:
        del models[0]
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_the_setting_has_every_engine() -> None:
    assert get_args(RuntimeConfig.model_fields["engine"].annotation) == ("auto", *ENGINES)


def test_what_does_not_convert_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    class Outside(keras.layers.Layer):
        def call(self, images: Any) -> Any:
            made = tf.py_function(lambda values: values + 1, [images], tf.float32)
            made.set_shape(images.shape)
            return made

    pixels = keras.Input((12, 10, 3))
    model = keras.Model(pixels, {"out": Outside()(pixels)})
    with pytest.raises(ConversionError, match=r"^No conversion rule found for operations: EagerPyFunc$"):
        compile_model(model, OPENVINO)
    np.testing.assert_array_equal(compile_model(model, TENSORFLOW)(PIXELS)["out"], PIXELS + 1.0)
    monkeypatch.setattr(folded, "FOLDED_BYTES", -1)
    with pytest.raises(ConversionError, match=r"^it is too large for one graph$"):
        compile_model(model, OPENVINO)


# --- finished models -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(model: keras.Model) -> keras.Model:
    return keras.Model(model.input, model.output["z"])


@pytest.mark.parametrize("engine", ["auto", *ENGINES])
def test_a_finished_model_is_in_float32_on_each_engine(finished: keras.Model, engine: str) -> None:
    expected = finished(PIXELS.astype(np.float32), training=False)
    np.testing.assert_allclose(compile_saved(finished, engine)(PIXELS), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("why", ["asked for", "not installed", "does not convert"])
def test_tensorflow_traces_once_for_batches_of_few_sizes(finished: keras.Model, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise ConversionError("no such operation")

    traced, seen = [], set()
    plain = engines.fold

    def fold(model: keras.Model, batch_size: int | None) -> Any:
        traced.append(batch_size)
        run = plain(model, batch_size)
        return lambda pixels: (seen.add(len(pixels)), run(pixels))[1]

    monkeypatch.setattr(engines, "fold", fold)
    if why == "not installed":
        monkeypatch.setattr(engines, "openvino_version", lambda: None)
    elif why == "does not convert":
        monkeypatch.setattr(engines, "_converted", refuse)
    run = compile_saved(finished, "tensorflow" if why == "asked for" else "auto")
    for number in (1, 2, 3, 5, 9, 37):
        assert len(run(PIXELS[:number])) == number
    assert (traced, seen) == ([None], {1, 2, 4, 8, 16, 32})
