"""Copies of pictures: planted ones are found, strangers are not, and no candidate is lost to the bands."""

from io import BytesIO
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tl_keras.data import images
from tl_keras.data.check import copies as module
from tl_keras.data.check.copies import BANDS, MOST_BITS, Copy, number_pictures, same_files, same_pictures
from tl_keras.data.check.facts import Facts, examine
from tl_keras.data.file_ids import hash_files

NUM = 40
HOW = ("recompressed", "resized", "mirrored")


@pytest.fixture(autouse=True)
def _own_memory(own_store: Path) -> None:
    """Nothing is known from other tests."""


def scene(seed: int) -> Image.Image:
    """Soft blobs of colour, 120 x 96 pixels."""
    rng = np.random.default_rng(seed)
    layers = [
        np.asarray(Image.fromarray(rng.integers(0, 256, (side, side + 1, 3)).astype(np.uint8)).resize((120, 96), Image.Resampling.BICUBIC))
        for side in (3, 6, 12)
    ]
    return Image.fromarray(np.mean(layers, axis=0).astype(np.uint8))


def copied(image: Image.Image, how: str) -> Image.Image:
    if how == "mirrored":
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if how == "resized":
        image = image.resize((71, 57), Image.Resampling.BICUBIC)
    file = BytesIO()
    image.save(file, "JPEG", quality=40)
    return Image.open(file)


def facts_of(folder: Path, pictures: list[Image.Image]) -> Facts:
    paths = [folder / f"{number:03d}.png" for number in range(len(pictures))]
    for path, picture in zip(paths, pictures, strict=True):
        picture.save(path)
    return examine(paths, hash_files(paths), images.DEFAULT)[0]


@pytest.fixture
def planted(tmp_path: Path) -> Facts:
    """40 pictures, then copies of the first 30."""
    originals = [scene(seed) for seed in range(NUM)]
    return facts_of(tmp_path, [*originals, *(copied(originals[number], HOW[number % 3]) for number in range(30))])


@pytest.mark.slow
def test_planted_copies_are_found_and_nothing_else(planted: Facts) -> None:
    found = same_pictures(planted, np.arange(len(planted)))
    assert [(copy.row, copy.of) for copy in found] == [(NUM + number, number) for number in range(30)]
    assert all(module.LEAST_CORRELATION <= copy.likeness <= 1 for copy in found)
    assert [copy.is_mirrored for copy in found] == [HOW[number % 3] == "mirrored" for number in range(30)]


def test_a_picture_that_is_its_own_mirror_image_is_not_mirrored(tmp_path: Path) -> None:
    pixels = np.asarray(scene(0))
    even = Image.fromarray(np.hstack([pixels, pixels[:, ::-1]]))
    (found,) = same_pictures(facts_of(tmp_path, [even, copied(even, "mirrored")]), np.arange(2))
    assert not found.is_mirrored


def test_only_the_rows_that_are_asked_for_are_compared(planted: Facts) -> None:
    assert same_pictures(planted, np.arange(NUM)) == []
    assert [copy.row for copy in same_pictures(planted, np.array([3, NUM + 3]))] == [NUM + 3]


def test_pictures_of_one_colour_are_nobodys_copies(tmp_path: Path) -> None:
    flat = [Image.new("RGB", (32, 32), (value, value, value)) for value in (10, 11, 200)]
    assert same_pictures(facts_of(tmp_path, flat), np.arange(3)) == []


def test_the_same_bytes_are_not_the_same_picture_twice(planted: Facts) -> None:
    assert same_pictures(np.concatenate([planted[:5], planted[:5]]), np.arange(10)) == []


@pytest.mark.parametrize("chunk", [7, 2**20])
def test_candidates_are_those_of_a_double_loop(planted: Facts, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    found = {
        pair
        for first, second in module._candidates(planted["hash"], planted["mirrored"])
        for pair in zip(first.tolist(), second.tolist(), strict=True)
    }
    edges = np.linspace(0, 128, BANDS + 1).astype(int)

    def bits(value: NDArray[np.uint64]) -> NDArray[np.uint8]:
        return np.unpackbits(value.view(np.uint8))

    def is_candidate(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> bool:
        differ = bits(one) != bits(other)
        return bool(differ.sum() <= MOST_BITS and any(not differ[a:b].any() for a, b in pairwise(edges)))

    hashes, mirrored = planted["hash"].copy(), planted["mirrored"].copy()
    expected = {
        (i, j)
        for i, j in combinations(range(len(planted)), 2)
        if is_candidate(hashes[i], hashes[j]) or is_candidate(hashes[i], mirrored[j])
    }
    assert found == expected
    assert expected


def test_equal_files_lie_beside_the_first_of_them() -> None:
    ids = np.array([b"a", b"b", b"a", b"", b"", b"a", b"b"])
    assert same_files(ids) == [Copy(2, 0, 1.0), Copy(5, 0, 1.0), Copy(6, 1, 1.0)]


def test_copies_of_copies_are_one_picture() -> None:
    pairs = [Copy(4, 3, 0.97), Copy(3, 1, 0.98), Copy(6, 5, 1.0), Copy(7, 5, 0.99), Copy(7, 4, 0.99)]
    assert number_pictures(pairs, 8).tolist() == [0, 1, 2, 1, 1, 1, 1, 1]
    assert number_pictures(pairs[:3], 8).tolist() == [0, 1, 2, 1, 1, 5, 5, 7]


def test_few_pictures_with_many_copies_each_are_found(tmp_path: Path) -> None:
    """Such as a folder that was augmented before: more than a twentieth of all pairs are copies."""
    pictures = [scene(seed).resize((120 - 6 * size, 96 - 5 * size), Image.Resampling.BICUBIC) for seed in range(8) for size in range(8)]
    numbers = number_pictures(same_pictures(facts_of(tmp_path, pictures), np.arange(64)), 64)
    assert numbers.tolist() == np.repeat(np.arange(0, 64, 8), 8).tolist()


def test_strangers_that_are_alike_are_no_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Products on white: a disc in the middle, each of another width, which the colours and a little noise tell apart."""
    y, x = np.mgrid[:96, :120]
    pictures = []
    for number in range(60):
        rng = np.random.default_rng(number)
        pixels = np.full((96, 120, 3), 250.0)
        pixels[((x - 60) ** 2 + (y - 48) ** 2) < rng.uniform(20, 40) ** 2] = rng.uniform(0, 150, 3)
        pictures.append(Image.fromarray(np.clip(pixels + rng.normal(0, 3, pixels.shape), 0, 255).astype(np.uint8)))
    facts = facts_of(tmp_path, pictures)
    assert module._least_likeness(facts["thumbnail"], facts["hash"], facts["mirrored"]) > 0.97
    strict = same_pictures(facts, np.arange(60))
    monkeypatch.setattr(module, "_least_likeness", lambda *_: module.LEAST_CORRELATION)
    assert len(strict) < len(same_pictures(facts, np.arange(60))) / 2
