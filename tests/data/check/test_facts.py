"""What a look at an image tells, and that it is remembered by content."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from tl_keras.cache import cache_folder
from tl_keras.data import images
from tl_keras.data.check import facts as module
from tl_keras.data.check.facts import FACT, Facts, examine
from tl_keras.data.file_ids import hash_files

Picture = NDArray[np.uint8]


@pytest.fixture(autouse=True)
def _own_memory(own_store: Path) -> None:
    """Nothing is known from other tests."""


def scene(seed: int, size: tuple[int, int] = (60, 80)) -> Picture:
    """Soft blobs of colour, (h, w, 3): like a photo, its hash says something of it."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC))


def look(folder: Path, *pictures: Picture) -> Facts:
    paths = [folder / f"{number}.png" for number in range(len(pictures))]
    for path, picture in zip(paths, pictures, strict=True):
        Image.fromarray(picture).save(path)
    found, bad = examine(paths, hash_files(paths), images.DEFAULT)
    assert not bad
    return found


def test_light_is_that_of_the_pixels(tmp_path: Path) -> None:
    picture = scene(0)
    (found,) = look(tmp_path, picture)
    grey = picture @ np.array([0.299, 0.587, 0.114])
    laplacian = np.array(
        [
            [
                sum(grey[min(max(y + dy, 0), 59), min(max(x + dx, 0), 79)] - grey[y, x] for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)))
                for x in range(80)
            ]
            for y in range(60)
        ]
    )
    assert (found["height"], found["width"], found["format"]) == (60, 80, b"png")
    assert found["brightness"] == pytest.approx(grey.mean(), rel=1e-4)
    assert found["contrast"] == pytest.approx(grey.std(), rel=1e-4)
    assert found["saturation"] == pytest.approx((picture.max(-1).astype(int) - picture.min(-1)).mean(), rel=1e-4)
    assert found["sharpness"] == pytest.approx(laplacian.std() / grey.std(), rel=1e-3)


def test_one_colour_has_no_sharpness(tmp_path: Path) -> None:
    (found,) = look(tmp_path, np.full((8, 8, 3), 77, np.uint8))
    assert (found["contrast"], found["sharpness"]) == (0, 0)


def test_a_blurred_image_is_less_sharp(tmp_path: Path) -> None:
    noisy = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    blurred = np.asarray(Image.fromarray(noisy).filter(ImageFilter.GaussianBlur(3)))
    sharp, soft = look(tmp_path, noisy, blurred)
    assert soft["sharpness"] < 0.2 * sharp["sharpness"]


def test_the_mirrored_hash_is_that_of_the_mirror_image(tmp_path: Path) -> None:
    picture = scene(1, (72, 72))  # which 8 and 9 divide: else the columns that are added up are others from the other side
    here, mirror = look(tmp_path, picture, picture[:, ::-1])
    np.testing.assert_array_equal(here["mirrored"], mirror["hash"])
    np.testing.assert_array_equal(here["hash"], mirror["mirrored"])
    assert (here["hash"] != here["mirrored"]).any()


def test_a_file_that_does_not_decode_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"\xff\xd8\xff" + bytes(50))
    found, bad = examine([path], hash_files([path]), images.DEFAULT)
    assert list(bad) == [0]
    assert "broken.jpg: is a truncated or damaged JPEG" in bad[0]
    assert found[0] == np.zeros((), FACT)


def test_what_is_known_is_not_decoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = look(tmp_path, scene(0), scene(1))
    looks: list[Path] = []

    def counted(path: Path, at: Callable[..., object], decoding: images.Decoding) -> object:
        looks.append(path)
        return plain(path, at, decoding)

    plain = images.look
    monkeypatch.setattr(module.images, "look", counted)
    again = look(tmp_path, scene(0), scene(1), scene(2))
    np.testing.assert_array_equal(again[:2], before)
    assert looks == [tmp_path / "2.png"]


def test_other_settings_of_decoding_are_another_memory(tmp_path: Path) -> None:
    path = tmp_path / "grey.png"
    Image.fromarray(np.full((8, 8), 4095, np.uint16)).save(path)
    white, dark = (examine([path], hash_files([path]), images.Decoding(bit_depth=depth))[0][0] for depth in (12, 16))
    assert white["brightness"] == pytest.approx(255)
    assert dark["brightness"] < 20


def test_a_lower_limit_of_pixels_holds_for_what_is_known_too(tmp_path: Path) -> None:
    look(tmp_path, scene(0))
    path = tmp_path / "0.png"
    assert list(examine([path], hash_files([path]), images.Decoding(max_megapixels=0.001))[1]) == [0]


def test_a_damaged_memory_is_written_anew(tmp_path: Path) -> None:
    before = look(tmp_path, scene(0))
    (file,) = (cache_folder() / "facts").iterdir()
    file.write_bytes(b"\x93NUMPY" + bytes(20))
    np.testing.assert_array_equal(look(tmp_path, scene(0)), before)
    assert np.load(file).dtype == FACT
