"""The sheet: originals and the views that training shows, in their places."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tl_keras.config import AugmentConfig, TrainConfig
from tl_keras.data.augment import augment_batch
from tl_keras.data.augment_sheet import GAP, HEADER, views_of, write_sheet
from tl_keras.data.draws import draw
from tl_keras.data.mixing import mix_of

CROP = AugmentConfig(horizontal_flip=True)


def photos(num: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num, height, width, 3), dtype=np.uint8)


def cells(path: Path, height: int, width: int) -> list[list[np.ndarray]]:
    """The images of a sheet, row by row."""
    sheet = np.asarray(Image.open(path).convert("RGB"))
    tops = range(HEADER + GAP, sheet.shape[0], height + GAP)
    return [[sheet[top : top + height, left : left + width] for left in range(GAP, sheet.shape[1], width + GAP)] for top in tops]


def test_each_row_is_an_image_and_its_views(tmp_path: Path) -> None:
    images = photos(3, 100, 120)
    write_sheet(tmp_path / "sheet.png", images, CROP, 5, num_views=4)
    found = cells(tmp_path / "sheet.png", 100, 120)
    assert [len(row) for row in found] == [5, 5, 5]
    for place, row in enumerate(found):
        np.testing.assert_array_equal(row[0], images[place])
        for epoch, view in enumerate(row[1:]):
            numbers = draw(5, tf.constant(epoch, tf.int64), tf.constant(place, tf.int64))
            expected = augment_batch(CROP, tf.constant(images[place : place + 1]), numbers[None])
            np.testing.assert_allclose(view.astype(int), expected[0], rtol=0, atol=1)  # a graph may round in another order


def test_small_images_are_enlarged_by_a_whole_number(tmp_path: Path) -> None:
    images = photos(2, 8, 10)
    write_sheet(tmp_path / "sheet.png", images, AugmentConfig(policy="none"), 0, num_views=1)
    for place, row in enumerate(cells(tmp_path / "sheet.png", 96, 120)):
        for cell in row:  # without augmentation a view is the image
            np.testing.assert_array_equal(cell, images[place].repeat(12, axis=0).repeat(12, axis=1))


@pytest.mark.slow
def test_views_depend_on_the_seed() -> None:
    images = photos(2, 16, 16)
    first, same, other = (views_of(images, CROP, seed, 2) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert (np.array(first) != other).any(axis=(2, 3, 4)).all()
    assert (first[0] != first[1]).any()


def test_mixed_images_are_shown_mixed() -> None:
    images, none = photos(4, 16, 16), AugmentConfig(policy="none")
    (found,) = views_of(images, none, 0, 1, mix_of(TrainConfig(cutmix_alpha=1.0), 0))
    own, other = (found == images).all(axis=-1), (found == np.roll(images, -1, axis=0)).all(axis=-1)
    assert (own | other).all()
    assert not own.all()
