"""Each format but the SavedModel: written, read by a process with its runtime alone, and what it holds besides."""

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tl_keras.config import ExportConfig
from tl_keras.deploy import litert, parity, standalone_reader
from tl_keras.deploy.export import export_model
from tl_keras.deploy.exported import Exported
from tl_keras.deploy.formats import FORMATS
from tl_keras.deploy.onnx_file import without_erfc
from tl_keras.deploy.parity import Reference
from tl_keras.errors import ExportError
from tl_keras.evaluation.novelty import LEAST_IMAGES, Basis, Novelty
from tl_keras.export_formats import EXPORT_FORMATS, KERAS, LITERT, LITERT_DYNAMIC, LITERT_INT8, ONNX, OPENVINO, SAVED_MODEL
from tl_keras.models.folded import freeze
from tl_keras.models.outputs import SINGLE_LABEL, MultiLabel, Regression

SIZE = (16, 12)
OTHERS = [kind for kind in FORMATS if kind != SAVED_MODEL]


def network(num: int) -> keras.Model:
    """A small ConvNeXt block, exact GELU and depthwise convolution included."""
    keras.utils.set_random_seed(0)
    pixels = keras.Input((*SIZE, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(pixels)
    x = keras.layers.Conv2D(8, 3, strides=2, use_bias=False)(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.DepthwiseConv2D(3, padding="same")(x)
    x = keras.layers.LayerNormalization()(x)
    x = keras.layers.Dense(16)(x)
    x = keras.layers.Activation("gelu")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pooled")(x)
    return keras.Model(pixels, keras.layers.Dense(num)(x))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(6):
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (20, 20, 3), np.uint8)).save(folder / f"{number}.png")
    return sorted(folder.iterdir())


def novelty_of(model: keras.Model) -> Novelty:
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.normal(size=(16, 2)))[0].astype(np.float32)
    none = np.zeros(0, np.float32)
    basis = Basis("pooled", (), np.zeros(16, np.float32), directions, none, none)
    return Novelty(basis, np.zeros(2, np.float32), np.ones(2, np.float32), threshold=0.5)


CASES = {
    "single_label": (SINGLE_LABEL, ("cat", "grün", "Zaunkönig")),
    "multi_label": (MultiLabel(thresholds=(0.4, 0.5, 0.6)), ("cat", "grün", "Zaunkönig")),
    "regression": (Regression(mean=40.0, scale=3.0), ("age",)),
}


def exported_as(task: str, files: list[Path]) -> Exported:
    output, classes = CASES[task]
    model = network(len(classes))
    return Exported(model, classes, "crop", output=output, novelty=novelty_of(model) if task == "single_label" else None, calibration=files)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "task"),
    [
        *((kind, "single_label") for kind in OTHERS),
        (KERAS, "multi_label"),
        *((kind, task) for kind in (LITERT, ONNX, OPENVINO) for task in list(CASES)[1:]),
    ],
)
def test_what_is_written_agrees_with_the_model_in_its_own_runtime_alone(kind: str, task: str, files: list[Path], tmp_path: Path) -> None:
    exported = exported_as(task, files)
    reference = Reference.of(exported, files)
    found = export_model(exported, tmp_path / EXPORT_FORMATS[kind].file, reference, ExportConfig(min_agreement=0.5), kind=kind)
    rounded = FORMATS[kind].allowance["float"] is None
    assert found.differences["float"] < (0.05 if rounded else 1e-5)
    assert bool(found.novelty_differences) == (task == "single_label")
    assert found.agreement == (None if task == "regression" else 1) or rounded
    assert found.answers.shape == reference.answers.shape
    assert {name: value > 0 for name, value in found.speed.items()} == {"cold_start_s": True, "single_ms": True, "images_per_second": True}
    assert [path.name for path in tmp_path.iterdir()] == [EXPORT_FORMATS[kind].file]
    require_description(kind, tmp_path / EXPORT_FORMATS[kind].file, exported)


@pytest.mark.slow
def test_rounded_numbers_have_a_novelty_threshold_of_their_own(files: list[Path], tmp_path: Path) -> None:
    exported = replace(exported_as("single_label", files), unseen=files * 4)
    path = tmp_path / EXPORT_FORMATS[LITERT_DYNAMIC].file
    found = export_model(exported, path, Reference.of(exported, files), ExportConfig(min_agreement=0), kind=LITERT_DYNAMIC)
    said = standalone_reader.open_litert(str(path))["float"](exported.pixels(files))
    assert found.novelty_threshold == pytest.approx(said[:, -1].max(), rel=1e-6)  # the 24th of 24, see `conformal`
    assert found.novelty_threshold != exported.novelty.threshold  # type: ignore[union-attr]
    with zipfile.ZipFile(path) as archive:
        assert json.loads(archive.read("model.json"))["novelty_threshold"] == found.novelty_threshold


def test_a_threshold_of_its_own_takes_images_enough_and_numbers_that_are_rounded(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = replace(exported_as("single_label", files), unseen=(files * 4)[:LEAST_IMAGES])
    told = np.linspace(0, 1, 4 * LEAST_IMAGES, dtype=np.float32).reshape(-1, 4)
    monkeypatch.setattr(parity, "ask", lambda form, artifact, pixels, name: parity.Said({"float": told[: len(pixels)]}, {}, {}))

    def own(kind: str, exported: Exported) -> float:
        return parity.with_own_threshold(exported, FORMATS[kind], tmp_path, name="out").novelty.threshold  # type: ignore[union-attr]

    assert own(LITERT_INT8, exported) == told[-1, -1]
    assert own(LITERT_INT8, replace(exported, unseen=exported.unseen[1:])) == own(ONNX, exported) == 0.5
    assert parity.with_own_threshold(replace(exported, novelty=None), FORMATS[LITERT_INT8], tmp_path, name="out").novelty is None


def require_description(kind: str, path: Path, exported: Exported) -> None:
    """What a program has to know besides the graph lies in the file."""
    if kind == ONNX:
        import onnx

        told = {each.key: each.value for each in onnx.load(path).metadata_props}["tl_keras"]
    elif kind == OPENVINO:
        import openvino

        told = openvino.Core().read_model(path / "model.xml").get_rt_info("tl_keras").astype(str)
    else:
        with zipfile.ZipFile(path) as archive:
            told = archive.read("model.json").decode()
            assert archive.read("labels.txt").decode().splitlines() == list(exported.classes)
    assert json.loads(told) == json.loads(json.dumps(exported.description))


def test_the_description_says_what_the_numbers_mean(files: list[Path]) -> None:
    single, several, number = (exported_as(task, files).description for task in CASES)
    assert (single["classes"], single["outputs"], single["novelty_threshold"]) == (
        ["cat", "grün", "Zaunkönig"],
        ["novelty", "probabilities"],
        0.5,
    )
    assert single["input"]["shape"] == [None, *SIZE, 3]
    assert several["thresholds"] == [0.4, 0.5, 0.6]
    assert (number["outputs"], number["task"]) == (["value"], "regression")


def test_formats_and_their_texts_are_one_table() -> None:
    assert list(FORMATS) == list(EXPORT_FORMATS)
    assert len({row.file for row in EXPORT_FORMATS.values()}) == len(FORMATS)
    for row in FORMATS.values():
        assert set(row.needs) <= set(standalone_reader.RUNTIMES)
        assert next(iter(row.allowance)) == "float"


def test_erfc_becomes_what_onnx_has_with_the_same_numbers() -> None:
    pixels = keras.Input((*SIZE, 3))
    frozen = freeze(keras.Model(pixels, {"out": keras.ops.gelu(pixels / 64 - 2, approximate=False)}), None, tf.float32)
    graph = frozen.graph.as_graph_def()
    assert "Erfc" in {node.op for node in graph.node}
    new = without_erfc(graph)
    assert "Erfc" not in {node.op for node in new.node}
    values = np.linspace(0, 255, 3 * SIZE[0] * SIZE[1], dtype=np.float32).reshape(1, *SIZE, 3)
    again = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(new, name=""), []).prune("pixels:0", "out:0")
    np.testing.assert_allclose(again(tf.constant(values)), tf.nest.flatten(frozen(tf.constant(values)))[0], atol=1e-6)


def test_an_operator_that_litert_lacks_is_named(files: list[Path], tmp_path: Path) -> None:
    pixels = keras.Input((*SIZE, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.ops.erfinv(pixels / 300))
    with pytest.raises(ExportError, match=r"^LiteRT has no built-in operator for Erfinv of this network; take onnx or openvino$"):
        litert.write_litert(litert.plain, Exported(keras.Model(pixels, x), ("a", "b", "c"), "crop"), tmp_path / "model.tflite")


def test_a_layer_of_another_package_is_refused_as_keras_would_not_load_it(files: list[Path], tmp_path: Path) -> None:
    class Own(keras.layers.Layer):
        def call(self, pixels: Any) -> Any:
            return keras.ops.mean(pixels, axis=(1, 2))

    pixels = keras.Input((*SIZE, 3))
    exported = Exported(keras.Model(pixels, Own(name="mine")(pixels)), ("a", "b", "c"), "crop")
    with pytest.raises(ExportError, match=r"^its layer 'mine' is of .*, without which Keras does not load it; take saved_model$"):
        FORMATS[KERAS].write(exported, tmp_path / "model.keras")
    assert not list(tmp_path.iterdir())


def test_int8_names_the_layers_that_lose_most_and_wants_images(files: list[Path]) -> None:
    exported = exported_as("single_label", files)
    found = litert.layers_that_lose_most(exported)
    assert 0 < len(found) <= litert.MOST_NAMED
    with pytest.raises(ExportError, match="int8 takes the ranges of its numbers from training images, and none is there"):
        FORMATS[LITERT_INT8].write(replace(exported, calibration=()), Path("unused"))
