"""Arrays and pipelines become class folders whose pixels are the same to the bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tl_keras.cache import cache_folder
from tl_keras.config import DataConfig
from tl_keras.data import images
from tl_keras.data.sources import open_source
from tl_keras.data.sources.arrays import save_images
from tl_keras.errors import DataError

X = np.random.default_rng(0).integers(0, 256, (12, 9, 7, 3)).astype(np.uint8)
Y = np.arange(12) % 3


def content(folder: Path) -> dict[str, Any]:
    return {path.relative_to(folder).as_posix(): np.asarray(Image.open(path)) for path in sorted(folder.rglob("*.png"))}


def test_pixels_and_labels_are_those_of_the_arrays(own_store: Path) -> None:
    folder = save_images(X, Y)
    found = content(folder)
    assert list(found) == [f"{label}/{number:07d}.png" for label in range(3) for number in range(label, 12, 3)]
    for path, pixels in found.items():
        np.testing.assert_array_equal(pixels, X[int(path[2:9])])
    index = open_source(DataConfig(source=str(folder)))
    assert index.classes == ("0", "1", "2")
    np.testing.assert_array_equal(images.decode((folder / index.paths[0]).read_bytes(), "x"), X[0])


def test_the_same_images_are_the_same_folder_and_others_another(own_store: Path) -> None:
    folder = save_images(X, Y)
    assert save_images(X.copy(), Y.tolist()) == folder
    assert save_images(zip(X, Y, strict=True)) == folder
    changed = X.copy()
    changed[3, 0, 0, 0] ^= 1
    assert save_images(changed, Y) != folder
    assert save_images(X, Y[::-1]) != folder
    assert len(list((cache_folder() / "arrays").iterdir())) == 3


@pytest.mark.parametrize("batch", [None, 5])
def test_a_pipeline_is_read_whether_it_is_batched_or_not(batch: int | None, own_store: Path) -> None:
    dataset = tf.data.Dataset.from_tensor_slices((X, Y))
    assert save_images(dataset if batch is None else dataset.batch(batch)) == save_images(X, Y)


def test_images_of_many_sizes_and_grey_ones(own_store: Path, tmp_path: Path) -> None:
    pairs = [(X[0], "cat"), (X[1][:5], "dog"), (X[2][..., 0], b"dog"), (X[3][..., :1], "cat")]
    folder = save_images(pairs, folder=tmp_path / "mine")
    assert folder == tmp_path / "mine"
    assert {path: pixels.shape for path, pixels in content(folder).items()} == {
        "cat/0000000.png": (9, 7, 3),
        "cat/0000003.png": (9, 7),
        "dog/0000001.png": (5, 7, 3),
        "dog/0000002.png": (9, 7),
    }


def test_numbers_are_in_order(own_store: Path) -> None:
    folder = save_images(X, np.arange(12))
    assert open_source(DataConfig(source=str(folder))).classes == tuple(f"{number:02d}" for number in range(12))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((X / 255, Y), r"images: number 0 is an array of float64 \(9, 7, 3\), expected uint8 .* become such by \(255 \* x\)"),
        ((X[..., :2], Y), r"images: number 0 is an array of uint8 \(9, 7, 2\), expected uint8 \(height, width, 3\)"),
        ((X, np.eye(3, dtype=int)[Y]), r"labels: number 0 is an array of int64 \(3,\), expected a text or a whole number. .*argmax"),
        ((X, [[3.0, 1.0]] * 12), r"labels: number 0 is \[3.0, 1.0\], expected fractions .* whose sum is 1. Votes become such by votes / "),
        ((X, [[1.5, -0.5]] * 12), r"labels: number 0 is \[1.5, -0.5\], expected fractions of 0 or more whose sum is 1\.$"),
        ((X, [[np.nan, 1.0]] * 12), r"labels: number 0 is \[nan, 1.0\], expected fractions"),
        ((X, [*[[0.5, 0.5]] * 11, "cat"]), "labels: got texts or whole numbers, and soft labels. Give all of one kind."),
        ((X, [*[[0.5, 0.5]] * 11, [0.5, 0.5, 0.0]]), "labels: got soft labels of 2 and of 3 classes. Give all of one kind."),
        ((X, Y / 2), r"labels: number 0 is an array of float64 \(\), expected a text or a whole number\.$"),
        ((X, Y[:5]), "labels: got 5 for 12 images. Give one for each."),
        ((X, None), "labels: got none. Give one for each image."),
        ((X, ["a/b"] * 12), "labels: number 0 is 'a/b', which no class folder can be called."),
        ((list(X), None), r"images: an item is an array of uint8 \(9, 7, 3\), expected a pair of an image and its label."),
        (([], None), "images: got none."),
        ((X, ["train"] * 12), "labels: number 0 is 'train', which no class folder can be called."),
        ((X, [b"caf\xe9"] * 12), r"labels: number 0 is b'caf\\xe9', which is not UTF-8. Decode it, as by .decode\('latin-1'\)."),
        ((X, ["\udce9"] * 12), r"labels: number 0 is '\\udce9', which is not UTF-8"),
        ((X, [None] * 12), "labels: number 0 is an array of object .*, expected a text or a whole number."),
        ((iter(X), Y), "labels: for an iterator of images, give pairs"),
        (
            (zip(X[:, :9], np.eye(12, 9, dtype=int), strict=True), None),
            r"labels: number 0 is an array of int64 \(9,\), expected a text or a whole number",
        ),
    ],
)
def test_what_is_no_image_or_label_is_refused_and_nothing_is_left(given: tuple[Any, Any], message: str, own_store: Path) -> None:
    with pytest.raises(DataError, match=message):
        save_images(*given)
    assert not any((cache_folder() / "arrays").iterdir())


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match=r"is there already. Give a folder that is not."):
        save_images(X, Y, folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("batch", [None, 5])
def test_soft_labels_make_a_table(batch: int | None, own_store: Path) -> None:
    shares = np.random.default_rng(0).dirichlet(np.full(11, 0.2), 12).astype(np.float32) + np.eye(11, dtype=np.float32)[np.arange(12) % 11]
    shares /= 2
    table = save_images(X, shares)
    index = open_source(DataConfig(source=str(table)))
    assert index.classes == tuple(f"{label:02d}" for label in range(11))
    numbers = [int(path[:7]) for path in index.paths]
    assert index.shares is not None
    np.testing.assert_allclose(index.shares, shares[numbers], rtol=1e-6)
    np.testing.assert_array_equal(images.decode((table.parent / index.paths[2]).read_bytes(), "x"), X[numbers[2]])
    dataset = tf.data.Dataset.from_tensor_slices((X, shares))
    assert save_images(dataset if batch is None else dataset.batch(batch)) == table
    assert save_images(X, shares[::-1]) != table
