"""Corruptions: worse with each strength, the same every time, and what each one does."""

import io

import numpy as np
import pytest
from PIL import Image

from tl_keras.evaluation.corruptions import CORRUPTIONS, STRENGTHS

RNG = np.random.default_rng(0)
PHOTO = np.asarray(Image.fromarray(RNG.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((96, 64), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_each_strength_is_further_from_the_photo_and_always_the_same(kind: str) -> None:
    worse = [CORRUPTIONS[kind](PHOTO, strength, 7) for strength in STRENGTHS]
    assert all(each.dtype == np.uint8 and each.shape == PHOTO.shape for each in worse)
    away = [np.abs(each.astype(int) - PHOTO).mean() for each in worse]
    assert 0 < away[0] < away[1] < away[2]
    for strength, each in zip(STRENGTHS, worse, strict=True):
        np.testing.assert_array_equal(CORRUPTIONS[kind](PHOTO, strength, 7), each)


def test_noise_has_its_deviation_and_another_seed_gives_another() -> None:
    grey = np.full((200, 200, 3), 128, np.uint8)
    found = CORRUPTIONS["noise"](grey, 1, 0)
    assert np.std(found.astype(float) - 128) == pytest.approx(0.08 * 255, rel=0.02)
    assert not np.array_equal(found, CORRUPTIONS["noise"](grey, 1, 1))


def test_darkness_multiplies_and_jpeg_is_what_pillow_writes() -> None:
    np.testing.assert_array_equal(CORRUPTIONS["darkness"](np.full((2, 2, 3), 200, np.uint8), 2, 0), 60)
    buffer = io.BytesIO()
    Image.fromarray(PHOTO).save(buffer, "JPEG", quality=7)
    np.testing.assert_array_equal(CORRUPTIONS["jpeg"](PHOTO, 3, 0), np.asarray(Image.open(buffer)))


def test_a_blur_is_as_wide_in_shares_of_the_image() -> None:
    """The width of a blurred edge, of an image twice as large in both directions, is twice as many pixels."""
    edges = []
    for side in (112, 224):
        image = np.zeros((side, side, 3), np.uint8)
        image[:, side // 2 :] = 255
        row = CORRUPTIONS["blur"](image, 3, 0)[side // 2, :, 0]
        edges.append(((row > 25) & (row < 230)).sum())
    assert edges[1] == pytest.approx(2 * edges[0], abs=2)
