"""`export`: which formats, on which images, with which bounds, and what is left in the run folder."""

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import tl_keras
from tl_keras import packages, run
from tl_keras.config import Config
from tl_keras.data.index import Index
from tl_keras.deploy.export import read_exports
from tl_keras.errors import BackboneError, ConfigError, ExportError, RunFolderError
from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.trained_run import open_run
from tl_keras.workflows import export as workflow

Run = tuple[Path, Path]


@pytest.fixture
def copied(trained: Run, tmp_path: Path) -> Path:
    return shutil.copytree(trained[0], tmp_path / "R")


@pytest.fixture
def images(tmp_path: Path) -> Callable[..., Any]:
    """A run of files of these kinds for each split, of which nothing but the images is there."""

    def make(**kinds: tuple[str, ...]) -> Any:
        indexes = {}
        for split in ("test", "val", "train"):
            names = [f"{split}{number}.{kind.lower()}" for number, kind in enumerate(kinds.get(split, ()))]
            for name, kind in zip(names, kinds.get(split, ()), strict=True):
                picture = Image.fromarray(np.random.default_rng(len(name)).integers(0, 256, (8, 8, 3), np.uint8))
                picture.convert("1" if kind == "BMP" else "RGB").save(tmp_path / name, kind)
            labels = np.arange(len(names), dtype=np.int32) % 2
            indexes[split] = Index(root=tmp_path, paths=tuple(names), labels=labels, classes=("a", "b"), output=SINGLE_LABEL)
        return SimpleNamespace(images=lambda split, root: indexes[split])

    return make


def names_of(seen: workflow.Seen) -> list[str]:
    return [path.name for path in seen.files]


def test_images_are_of_test_and_filled_up_by_others_where_they_are_few(images: Any, tmp_path: Path, heard: Any) -> None:
    made = images(test=("PNG", "TIFF", "PNG"), val=("PNG",) * 2, train=("PNG",) * 9)
    seen = workflow.images_to_compare(made, tmp_path, 2, heard)
    assert (names_of(seen), seen.num_test, seen.labels.tolist()) == (["test0.png", "test2.png"], 2, [0, 0])
    assert dict(seen.refused) == {"TIFF": 1}
    seen = workflow.images_to_compare(made, tmp_path, 6, heard)
    assert names_of(seen) == ["test0.png", "test2.png", "val0.png", "val1.png", "train0.png", "train4.png"]
    assert seen.num_test == 2
    with pytest.raises(ExportError, match="none of the run's images is there to compare the export with"):
        workflow.images_to_compare(images(), tmp_path, 6, heard)


def test_images_that_tensorflow_does_not_decode_are_compared_where_there_are_no_others(images: Any, tmp_path: Path, heard: Any) -> None:
    seen = workflow.images_to_compare(images(test=("BMP", "TIFF")), tmp_path, 6, heard)
    assert names_of(seen) == ["test0.bmp", "test1.tiff"]
    assert heard.lines == [
        "the signature 'bytes' will refuse 2 of 2 test images, which TensorFlow does not decode: 1 1-bit BMP, 1 TIFF",
        "no test image is left to compare that signature on; the two that take pixels are compared",
    ]


@pytest.mark.slow
def test_a_format_that_misses_a_bound_is_not_kept_and_the_status_is_3(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["export", str(copied), "--format", "onnx", "--set", "export.max_probability_difference=1e-12"]) == 3
    said = capsys.readouterr().out
    assert "model.onnx: is not kept: its signature 'float' differs from the model by" in said.replace("\n", " ")
    assert not (copied / "export" / "model.onnx").exists()
    assert run.main(["export", str(copied), "--format", "onnx", "--set", "export.parity_images=5"]) == 0
    record = json.loads((copied / "export" / "export.json").read_text())
    row = record["formats"]["onnx"]
    assert (row["file"], row["agreement"], row["bytes"]) == ("model.onnx", 1.0, (copied / "export" / "model.onnx").stat().st_size)
    assert row["accuracy"] == record["model"]["accuracy"]
    assert set(row["sha256"]) == {"model.onnx"}
    assert (len(record["images"]), record["test_images"]) == (5, 5)
    assert run.main(["export", str(copied), "--format", "openvino"]) == 0
    record = json.loads((copied / "export" / "export.json").read_text())
    assert list(record["formats"]) == ["onnx", "openvino"]  # what was exported before is still told
    assert (len(record["images"]), record["test_images"]) == (30, 6)
    sums = record["formats"]["openvino"]["sha256"]
    assert set(sums) == {"openvino/model.bin", "openvino/model.xml"}
    card = json.loads((copied / "export" / "model_card.json").read_text())
    assert card["formats"] == record["formats"]
    metrics = json.loads((copied / "metrics.json").read_text())
    assert {name: card["test"][name] for name in ("accuracy", "accuracy_ci95", "log_loss")} == {
        name: metrics["test"][name] for name in ("accuracy", "accuracy_ci95", "log_loss")
    }
    text = (copied / "export" / "model_card.md").read_text()
    for digest in (*sums.values(), *row["sha256"].values()):
        assert digest in text
    assert hashlib.sha256((copied / "export" / "openvino" / "model.bin").read_bytes()).hexdigest() == sums["openvino/model.bin"]
    assert "weights: not known here" in text  # they are random


@pytest.mark.slow
def test_from_python_with_the_layers_that_lose_most(copied: Path) -> None:
    found = tl_keras.export(copied, formats="litert_int8", settings={"export.min_agreement": 1.0, "export.parity_images": 30})
    if found["missed"]:  # by few images, or none: the weights are random
        assert "The layers that lose most: " in found["missed"][0]
    else:
        assert found["formats"]["litert_int8"]["agreement"] == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"formats": ["onx"]}, r"--format: got 'onx', expected one of saved_model, keras, litert, .*\. Did you mean 'onnx'\?"),
        ({"settings": {"train.epochs": 3}}, "train.epochs: only settings of 'export' can be set here"),
        ({"settings": ["export.min_agreement=2"]}, "export.min_agreement: got 2, expected"),
        ({"settings": ["export.qqq=2"]}, "unknown key 'export.qqq'"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_written(given: dict[str, Any], message: str, trained: Run) -> None:
    with pytest.raises(ConfigError, match=message):
        workflow.export(trained[0], **given)
    assert not (trained[0] / "export").exists()


def test_settings_of_an_export_are_the_runs_own_but_for_those_that_are_given(trained: Run) -> None:
    from tl_keras.config_file import with_own_sections

    config = open_run(trained[0]).config
    changed = with_own_sections(config, ["export"], ["export.min_agreement=0.5"])
    assert changed.export.min_agreement == 0.5
    assert Config.model_validate(changed.model_dump()).replace("export", config.export) == config


@pytest.mark.slow
def test_what_was_exported_answers_in_place_of_the_model(
    copied: Path, trained: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sorted(trained[1].rglob("*.*"))[:5]
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    words = ["predict", str(copied), str(broken), *map(str, files)]
    assert run.main([*words, "--format", "onnx"]) == 2
    assert capfd.readouterr().err.endswith(f"export {copied} --format onnx.\n")
    tl_keras.export(copied, formats=["onnx", "openvino", "litert", "keras"])
    expected = list(tl_keras.predict(copied, [broken, *files]))
    for name in ("onnx", "openvino", "litert", "keras"):
        capfd.readouterr()
        found = list(tl_keras.predict(copied, [broken, *files], format=name))
        assert "XNNPACK" not in capfd.readouterr().err
        assert [each.label for each in found] == [each.label for each in expected]
        for one, other in zip(found[1:], expected[1:], strict=True):
            assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
    assert run.main([*words, "--format", "onnx", "--format", "litert"]) == 2
    assert "--format: got onnx and litert; predict takes one" in capfd.readouterr().err
    monkeypatch.setattr(packages, "is_installed", lambda name: name not in ("tf2onnx", "onnx"))
    assert len(list(tl_keras.predict(copied, files, format="onnx"))) == len(files)  # the converter is not needed any more
    (copied / "export" / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(RunFolderError, match=r"model\.onnx: does not load or answer \(.*\)\. Export it again\.$"):
        list(tl_keras.predict(copied, files, format="onnx"))


class Reads(tf.Module):
    """A SavedModel that reads a file of whoever loads it."""

    @tf.function(input_signature=[tf.TensorSpec((None, 16, 16, 3), tf.float32, name="pixels")])
    def __call__(self, pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": tf.zeros((tf.shape(pixels)[0], 3)) + tf.cast(tf.strings.length(tf.io.read_file("secret")), tf.float32)}


def test_what_a_stranger_exported_is_looked_at_before_it_runs(copied: Path, trained: Run, tmp_path: Path) -> None:
    folder = copied / "export" / "saved_model"
    made = Reads()
    tf.saved_model.save(made, folder, signatures={"serving_default": made.__call__})
    with pytest.raises(BackboneError, match=r"saved_model: is refused, because its graph does more than compute.*ReadFile"):
        list(tl_keras.predict(copied, next(trained[1].rglob("*.*")), format="saved_model"))
    with zipfile.ZipFile(copied / "export" / "model.keras", "w") as archive:
        archive.write(folder / "saved_model.pb", "assets/layers/own/saved_model.pb")
    with pytest.raises(BackboneError, match=r"model\.keras: is refused, because its graph does more than compute.*ReadFile"):
        list(tl_keras.predict(copied, next(trained[1].rglob("*.*")), format="keras"))
    pixels = keras.Input((16, 16, 3))
    keras.Model(pixels, keras.layers.Lambda(lambda x: x[:, 0, 0, :])(pixels)).save(copied / "export" / "model.keras")
    with pytest.raises(RunFolderError, match=r"model\.keras: does not load or answer \(.*Export it again"):
        list(tl_keras.predict(copied, next(trained[1].rglob("*.*")), format="keras"))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (("n", 3), None),
        (("n", 2), "model.onnx: tells other outputs than the model of this run. Export it again."),
        ((1, 3), "model.onnx: does not load or answer ("),
    ],
)
def test_an_export_of_another_model_is_told_in_a_line(copied: Path, trained: Run, shape: tuple[Any, int], message: str | None) -> None:
    import onnx
    from onnx import helper

    start, end = (helper.make_tensor(name, onnx.TensorProto.INT64, [1], [value]) for name, value in (("start", 0), ("end", shape[1])))
    axis = helper.make_tensor("axis", onnx.TensorProto.INT64, [1], [1])
    nodes = [
        helper.make_node("ReduceMean", ["pixels"], ["means"], axes=[1, 2], keepdims=0),
        helper.make_node("Slice", ["means", "start", "end", "axis"], ["probabilities"]),
    ]
    told = helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, shape)
    given = helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, (shape[0], 16, 16, 3))
    graph = helper.make_graph(nodes, "other", [given], [told], [start, end, axis])
    (copied / "export").mkdir()
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), copied / "export" / "model.onnx")
    files = sorted(trained[1].rglob("*.*"))[:2]
    if message is None:
        assert len(list(tl_keras.predict(copied, files, format="onnx"))) == 2
    else:
        with pytest.raises(RunFolderError) as caught:
            list(tl_keras.predict(copied, files, format="onnx"))
        assert message in str(caught.value)


def test_what_would_wait_for_ever_is_not_opened(copied: Path, trained: Run) -> None:
    image = next(trained[1].rglob("*.*"))
    (copied / "export" / "openvino").mkdir(parents=True)
    for name, format in (("model.onnx", "onnx"), ("openvino/model.bin", "openvino")):
        os.mkfifo(copied / "export" / name)
        with pytest.raises(RunFolderError, match=r"does not load or answer \(.*not a regular file"):
            list(tl_keras.predict(copied, image, format=format))


ROW = {"file": "f", "bytes": 1, "sha256": {"f": "0"}, "agreement": 1, "largest_difference": {}, "single_ms": 1, "images_per_second": 1}


@pytest.mark.parametrize(
    "row", [{}, [], ROW | {"images_per_second": "x"}, ROW | {"sha256": {"f": 1}}, ROW | {"novelty_threshold": []}, ROW | {"bytes": 1e999}]
)
def test_a_record_that_says_nothing_of_an_export_is_damaged(row: Any, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"")
    record = {"formats": {"onnx": ROW, "openvino": ROW}}
    (tmp_path / "export.json").write_text(json.dumps(record))
    assert read_exports(tmp_path) == {"onnx": ROW}
    (tmp_path / "export.json").write_text(json.dumps({"formats": {"openvino": row}}))
    with pytest.raises(RunFolderError, match=r"export\.json: is damaged"):
        read_exports(tmp_path)
