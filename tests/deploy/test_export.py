"""The SavedModel agrees with the model in a process that imports only tensorflow; one that does not is refused."""

import json
import os
import subprocess
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tl_keras.data import images
from tl_keras.deploy import export
from tl_keras.errors import ExportError

SIZE = (24, 20)
CLASSES = ("cat", "grün")
DECODING = images.Decoding(bit_depth=12)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    pixels = keras.Input((*SIZE, 3))
    x = keras.layers.Rescaling(1 / 64, offset=-2)(pixels)
    x = keras.layers.Conv2D(8, 3, activation="relu")(x)
    x = keras.layers.GlobalMaxPooling2D()(x)
    return keras.Model(pixels, keras.layers.Dense(2)(x))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder, found = tmp_path_factory.mktemp("files"), []
    for number, ending in enumerate(("jpg", "png", "bmp", "gif", "webp")):
        pixels = np.random.default_rng(number).integers(0, 256, (40 + number, 33, 3), np.uint8)
        image = Image.fromarray(pixels)
        exif = Image.Exif()
        exif[0x0112] = 6  # lies on its side
        image.save(folder / f"a.{ending}", **({"exif": exif} if ending == "jpg" else {}))
        found.append(folder / f"a.{ending}")
    Image.fromarray(np.random.default_rng(7).integers(0, 4096, (30, 20), np.uint16)).save(folder / "deep.png")
    return [*found, folder / "deep.png"]


@pytest.fixture(scope="module")
def refused(tmp_path_factory):
    """Files that Pillow decodes and TensorFlow does not."""
    folder = tmp_path_factory.mktemp("refused")
    photo = Image.fromarray(np.random.default_rng(9).integers(0, 256, (30, 20, 3), np.uint8))
    photo.save(folder / "moving.webp", save_all=True, append_images=[photo.rotate(90)])
    photo.convert("1").save(folder / "one_bit.bmp")
    photo.save(folder / "named.jpg", "TIFF")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def exported(model, files, refused, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "saved_model"
    return folder, export.export_saved_model(model, CLASSES, "letterbox", folder, [*files, *refused], DECODING)


@pytest.fixture(scope="module")
def loaded(exported):
    return tf.saved_model.load(exported[0])


def test_export_agrees_with_the_model(exported):
    differences = exported[1].differences
    assert set(differences) == {"float", "uint8", "bytes"}
    assert max(differences.values()) <= 1e-5


def test_files_that_tensorflow_does_not_decode_are_named_with_the_first_line_of_its_error(exported, refused):
    found = exported[1].refused
    assert list(found) == [str(file) for file in refused]
    for why, words in zip(found.values(), ("Expected a still WebP", "Expected a JPEG", "Expected an uncompressed BMP"), strict=True):
        assert why.startswith(words)
        assert not any(part in why for part in ("{{", "node", "[Op", "\n"))


@pytest.mark.parametrize("batch", [1, 2, 3])  # the second as many as there are classes
def test_every_answer_has_the_batch_first_as_tensorflow_serving_wants(loaded, files, batch):
    data = [file.read_bytes() for file in files[:batch]]
    pixels = np.stack([images.load(file, SIZE, "letterbox") for file in files[:batch]])
    inputs = {"bytes": tf.constant(data), "uint8": tf.constant(pixels), "serving_default": tf.constant(pixels, tf.float32)}
    assert set(loaded.signatures) == inputs.keys()
    for name, value in inputs.items():
        answer = loaded.signatures[name](value)
        assert set(answer) == {"class", "probability", "probabilities", "classes"}
        assert {key: tensor.shape[0] for key, tensor in answer.items()} == dict.fromkeys(answer, batch)
        assert {key: spec.shape[0] for key, spec in loaded.signatures[name].structured_outputs.items()} == dict.fromkeys(answer)


def test_exported_answers_have_names_and_labels(loaded, model, files):
    answer = {key: value.numpy() for key, value in loaded.signatures["bytes"](tf.constant([file.read_bytes() for file in files])).items()}
    assert answer["classes"].tolist() == [[label.encode() for label in CLASSES]] * len(files)
    pixels = np.stack([images.load(file, SIZE, "letterbox", DECODING) for file in files]).astype(np.float32)
    expected = keras.ops.convert_to_numpy(keras.ops.softmax(model(pixels)))
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)
    assert answer["class"].tolist() == [CLASSES[best].encode() for best in expected.argmax(1)]
    np.testing.assert_allclose(answer["probability"], expected.max(1), atol=1e-5)


def answers_of(model, files, refused):
    """What a SavedModel answers that agrees and refuses some files."""
    pixels = np.stack([images.load(file, SIZE, "crop") for file in files]).astype(np.float32)
    expected = keras.ops.convert_to_numpy(keras.ops.softmax(model(pixels)))
    taken = [str(file) not in refused for file in files]
    return {"float": expected, "uint8": expected, "bytes": expected[taken]}, refused


def test_only_pixels_are_compared_where_no_file_is_of_a_kind_that_tensorflow_decodes(model, refused, monkeypatch):
    said = {str(file): "Expected another" for file in refused}
    monkeypatch.setattr(export, "_answers", lambda *_: answers_of(model, refused, said))
    found = export.compare(model, "crop", None, refused, name="out")
    assert set(found.differences) == {"float", "uint8"}
    assert found.refused == said


def test_a_file_that_tensorflow_finds_damaged_is_left_out_and_an_export_that_takes_none_is_refused(model, files, monkeypatch):
    said = {str(files[1]): "Invalid PNG"}
    monkeypatch.setattr(export, "_answers", lambda *_: answers_of(model, files, said))
    found = export.compare(model, "crop", None, files, name="out")
    assert max(found.differences.values()) <= 1e-5
    assert found.refused == said
    said |= {str(file): "Invalid" for file in files}
    with pytest.raises(ExportError, match=r"^RUN/out: its signature 'bytes' takes no test image \(Invalid\)\.$"):
        export.compare(model, "crop", None, files, name="RUN/out")


def test_a_saved_model_that_does_not_load_is_told_in_one_line_by_its_own_name(model, files, tmp_path, monkeypatch):
    def run(command, **_):
        Path(command[-1]).write_text(json.dumps({"failed": f"SavedModel file does not exist at: {tmp_path}/.1.temporary/saved_model.pb"}))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    reason = r"does not answer with tensorflow alone \(SavedModel file does not exist at: RUN/out/saved_model\.pb\)\."
    with pytest.raises(ExportError, match=f"^RUN/out: {reason}$"):
        export.compare(model, "crop", tmp_path / ".1.temporary", files[:1], name="RUN/out")


def test_a_process_that_dies_is_told(model, files, tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, -11, "", "noise"))
    with pytest.raises(ExportError, match=r"^out: does not load with tensorflow alone \(its process was ended by signal 11\)\.$"):
        export.compare(model, "crop", tmp_path, files[:1], name="out")


def test_a_model_that_differs_is_refused_and_leaves_the_old_export(model, files, tmp_path, monkeypatch):
    folder = tmp_path / "saved_model"
    folder.mkdir()
    (folder / "old").touch()
    twin = keras.models.clone_model(model)
    twin.set_weights([weight + 0.1 for weight in model.get_weights()])
    honest = export._archive
    monkeypatch.setattr(export, "_archive", lambda _, *settings: honest(twin, *settings))
    with pytest.raises(ExportError, match="differs from the model by"):
        export.export_saved_model(model, CLASSES, "crop", folder, files[:1])
    assert [entry.name for entry in folder.iterdir()] == ["old"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["saved_model"]


@pytest.mark.parametrize("name", ["float", "uint8", "bytes"])
def test_check_refuses_a_difference_and_a_nan(name):
    export.check({name: 0.0})
    for wrong in (0.1, float("nan")):
        with pytest.raises(ExportError, match=f"'{name}'"):
            export.check({name: wrong})


def test_a_folder_whose_name_is_not_utf_8(tmp_path):
    class Archive:
        def write_out(self, path, verbose):
            Path(path.encode().decode()).mkdir()  # as TensorFlow: no other path will do

    for name in (b"plain", b"r\xfcn"):
        folder = tmp_path / os.fsdecode(name)
        export._write_out(Archive(), folder)
        assert folder.is_dir()


def test_what_is_refused_is_counted_and_the_rest_spread(files, refused, tmp_path):
    many = [tmp_path / f"{number}.jpg" for number in range(40)]
    for number, file in enumerate(many):
        file.write_bytes((refused if number % 4 == 1 else files)[number % 3].read_bytes())
    counts, chosen = export.refused_by(many, 5)
    assert counts == {"animated WebP": 3, "TIFF": 4, "1-bit BMP": 3}
    assert chosen == [many[number] for number in (0, 8, 16, 24, 32)]
    assert export.describe(counts, 40) == (
        "the signature 'bytes' will refuse 10 of 40 test images, which TensorFlow does not decode: 4 TIFF, 3 1-bit BMP, 3 animated WebP"
    )
    assert export.refused_by(refused, 5) == ({"animated WebP": 1, "TIFF": 1, "1-bit BMP": 1}, [])
    assert export.spread(many[:3], 5) == many[:3]
