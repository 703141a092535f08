"""A classifier's file: Keras alone loads it, and the classes come back from it in their order."""

import json
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from tl_keras.models.saved import read_classes, read_more, read_weights, save_classifier, write_model, write_weights

CLASSES = ("zebra", "Löwe, groß", 'an "ant"')


@pytest.fixture(scope="module")
def model():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])


def test_classes_come_back_in_order_and_keras_loads_the_file(tmp_path, model):
    path = tmp_path / "model.keras"
    save_classifier(path, model, CLASSES)
    assert read_classes(path) == CLASSES
    assert json.loads(zipfile.ZipFile(path).read("classes.json")) == list(CLASSES)  # as a reader without this package does
    loaded, pixels = keras.models.load_model(path), np.ones((1, 4), np.float32)
    np.testing.assert_array_equal(loaded(pixels), model(pixels))
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.keras"]


def test_a_file_that_keras_saved_has_no_classes(tmp_path, model):
    model.save(tmp_path / "model.keras")
    assert read_classes(tmp_path / "model.keras") is None


def test_names_that_are_not_utf_8_come_back(tmp_path, model):
    save_classifier(tmp_path / "model.keras", model, ("gr\udcfcn", "b", "c"))
    assert read_classes(tmp_path / "model.keras") == ("gr\udcfcn", "b", "c")


def test_what_is_not_a_whole_file_is_a_value_error(tmp_path):
    (tmp_path / "model.keras").write_bytes(b"PK cut short")
    with pytest.raises(ValueError, match=r"model\.keras: File is not a zip file"):
        read_classes(tmp_path / "model.keras")


def values_of(path):
    """The bytes of each array in an HDF5 file."""
    names = []
    with h5py.File(path) as file:
        file.visit(names.append)
        return {name: np.asarray(file[name]).tobytes() for name in names if isinstance(file[name], h5py.Dataset)}


@pytest.mark.slow
def test_weights_and_the_optimiser_s_state_are_what_keras_writes(tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dropout(0.5), keras.layers.BatchNormalization()])
    model.compile("adam", "mse")
    model.fit(np.ones((4, 4)), np.ones((4, 3)), verbose=0)
    ours, theirs = tmp_path / "ours.weights.h5", tmp_path / "theirs.weights.h5"
    write_weights(ours, model)
    assert read_more(ours) == []
    model.save_weights(theirs)
    found = [values_of(path) for path in (ours, theirs)]
    assert found[0] == found[1]
    assert any("optimizer" in name for name in found[0])
    before = [value.copy() for value in model.get_weights()]
    model.set_weights([np.zeros_like(value) for value in before])
    model.load_weights(ours)
    for value, wanted in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, wanted)


def test_further_arrays_come_back_and_do_not_disturb_the_weights(tmp_path, model):
    file, more = tmp_path / "model.weights.h5", [np.array([1, 2], np.uint32), np.float32(0.1), np.zeros((2, 3))]
    write_weights(file, model, more)
    for found, expected in zip(read_more(file), more, strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    before = model.get_weights()
    read_weights(file, model)
    for value, wanted in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, wanted)


def test_a_whole_model_is_what_keras_loads(tmp_path, model):
    write_model(tmp_path / "backbone.keras", model)
    pixels = np.ones((1, 4), np.float32)
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "backbone.keras")(pixels), model(pixels))
    with zipfile.ZipFile(tmp_path / "backbone.keras") as archive:
        assert archive.testzip() is None


@pytest.mark.parametrize("write", [write_model, write_weights, lambda path, model: save_classifier(path, model, CLASSES)])
def test_a_full_disk_is_an_error_that_names_the_file_and_leaves_what_was_there(tmp_path, model, monkeypatch, write):
    path = tmp_path / "model.weights.h5"
    path.write_text("old")

    def refuse(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write(path, model)
    assert caught.value.filename == str(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.weights.h5"]
    assert path.read_text() == "old"


def test_weights_with_a_flipped_bit_are_not_read(tmp_path, model):
    path, other = tmp_path / "a.weights.h5", keras.models.clone_model(model)
    write_weights(path, model)
    read_weights(path, other)
    for ours, theirs in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    content = bytearray(path.read_bytes())
    content[content.index(model.get_weights()[0].tobytes()) + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.weights\.h5: its numbers are not those that were written"):
        read_weights(path, other)


def test_weights_that_keras_wrote_have_no_checksum_and_are_read(tmp_path, model):
    path, other = tmp_path / "a.weights.h5", keras.models.clone_model(model)
    model.save_weights(path)
    read_weights(path, other)
    np.testing.assert_array_equal(other.get_weights()[0], model.get_weights()[0])
