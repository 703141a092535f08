"""A classifier's file: Keras alone loads it, and the classes come back from it in their order."""

import json
import zipfile

import keras
import numpy as np
import pytest

from tl_keras.models.saved import read_classes, save_classifier

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
