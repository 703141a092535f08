"""The SavedModel agrees with the model in a process that imports only tensorflow; one that does not is refused."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from tl_keras.data import images
from tl_keras.deploy import export
from tl_keras.errors import ExportError

SIZE = (24, 20)
CLASSES = ("cat", "grün")


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
    return found


@pytest.fixture(scope="module")
def exported(model, files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "saved_model"
    return folder, export.export_saved_model(model, CLASSES, "letterbox", folder, files)


def test_export_agrees_with_the_model(exported):
    _, differences = exported
    assert set(differences) == {"float", "uint8", "bytes"}
    assert max(differences.values()) <= 1e-5


def test_exported_answers_have_names_and_labels(exported, model, files):
    folder, _ = exported
    code = (
        "import sys, json, tensorflow as tf\n"
        "model = tf.saved_model.load(sys.argv[1])\n"
        "data = [open(name, 'rb').read() for name in sys.argv[2:]]\n"
        "answer = model.signatures['bytes'](bytes=tf.constant(data))\n"
        "out = {key: value.numpy().tolist() for key, value in answer.items()}\n"
        "out['class'] = [name.decode() for name in out['class']]; out['classes'] = [name.decode() for name in out['classes']]\n"
        "print(json.dumps(out), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder), *map(str, files)], capture_output=True, text=True, check=True)
    import json

    answer = json.loads(done.stderr.strip().splitlines()[-1])
    assert answer["classes"] == list(CLASSES)
    pixels = np.stack([images.load(file, SIZE, "letterbox") for file in files]).astype(np.float32)
    expected = keras.ops.convert_to_numpy(keras.ops.softmax(model(pixels)))
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)
    assert answer["class"] == [CLASSES[best] for best in expected.argmax(1)]
    np.testing.assert_allclose(answer["probability"], expected.max(1), atol=1e-5)


def test_a_model_that_differs_is_refused_and_leaves_the_old_export(model, files, tmp_path, monkeypatch):
    folder = tmp_path / "saved_model"
    folder.mkdir()
    (folder / "old").touch()
    twin = keras.models.clone_model(model)
    twin.set_weights([weight + 0.1 for weight in model.get_weights()])
    honest = export._archive
    monkeypatch.setattr(export, "_archive", lambda _, classes, resize: honest(twin, classes, resize))
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


def test_parity_choice_spreads_over_what_tensorflow_reads(files, tmp_path):
    many = [tmp_path / f"{number}.{'tif' if number % 2 else 'png'}" for number in range(40)]
    chosen = export.parity_choice(many, 5)
    assert len(chosen) == 5
    assert {path.suffix for path in chosen} == {".png"}
    assert export.parity_choice(many[:3], 5) == [many[0], many[2]]


def test_a_folder_whose_name_is_not_utf_8(tmp_path):
    class Archive:
        def write_out(self, path, verbose):
            Path(path.encode().decode()).mkdir()  # as TensorFlow: no other path will do

    for name in (b"plain", b"r\xfcn"):
        folder = tmp_path / os.fsdecode(name)
        export._write_out(Archive(), folder)
        assert folder.is_dir()
