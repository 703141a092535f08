"""Digits as class folders: written once and whole."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tl_keras.data.sources import digits
from tl_keras.data.sources.class_folders import scan_folder
from tl_keras.data.sources.digits import unpack_digits
from tl_keras.errors import DataError


def test_digits_are_those_of_scikit_learn(own_cache):
    index = scan_folder(unpack_digits())
    data = load_digits()
    assert index.root == own_cache / "digits"
    assert index.classes == tuple("0123456789")
    assert len(index.paths) == 1797
    np.testing.assert_array_equal(np.sort(index.labels), np.sort(data.target))
    for row in (0, 700, 1796):
        number = int(Path(index.paths[row]).stem)
        assert data.target[number] == index.labels[row]
        with Image.open(index.root / index.paths[row]) as image:
            np.testing.assert_allclose(np.asarray(image) * (16 / 255), data.images[number], atol=0.04)


def test_digits_are_written_once(own_cache, monkeypatch):
    first = unpack_digits()
    monkeypatch.setattr(digits, "_write_digits", lambda folder: pytest.fail("written again"))
    assert unpack_digits() == first
    assert sorted(entry.name for entry in own_cache.iterdir()) == ["digits"]


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TL_KERAS_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"digits: cannot unpack a data set here \((Not a directory|File exists)\)\. Set TL_KERAS_CACHE"):
        unpack_digits()


def test_nothing_is_left_of_an_unpacking_that_failed(own_cache, monkeypatch):
    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(DataError, match=r"\(No space left on device\)"):
        unpack_digits()
    assert list(own_cache.iterdir()) == []
