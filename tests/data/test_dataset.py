"""From an index to pixels and splits, with what the run folder is told of both."""

import csv
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tl_keras.config import DataConfig
from tl_keras.data import dataset, pipeline
from tl_keras.data.sources import open_source
from tl_keras.data.splits import read_splits
from tl_keras.errors import DataError
from tl_keras.progress import Progress
from tl_keras.run_folder import BAD_IMAGES, SCRATCH, SPLITS, RunFolder

SIZE = (16, 16)


class Heard(Progress):
    """Keeps what it was told."""

    def __init__(self):
        self.lines, self.done, self.total = [], 0, 0

    def line(self, text):
        self.lines.append(text)

    @contextmanager
    def bar(self, title, total):
        self.total = total

        def advance(number):
            self.done += number

        yield advance


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run").mkdir()
    return RunFolder(tmp_path / "run")


def prepare(root, run, heard=None, **options):
    config = DataConfig(source=str(root), **options)
    return prepare_index(open_source(config), config, run, heard)


def prepare_index(index, config, run, heard=None):
    """What training does where nothing is frozen."""
    pixels = dataset.open_pixels(index, config, SIZE)
    dataset.keep_pixels(pixels, config, run / SCRATCH)
    dataset.decode(pixels, config, heard or Progress())
    data = dataset.ImageData(index, pixels, dataset.cut(index, config, pixels.bad))
    dataset.write(data, run, heard or Progress())
    return data


def test_prepare_makes_pixels_and_splits(photo_folder, run):
    heard = Heard()
    data = prepare(photo_folder(per_class=10), run, heard)
    assert data.classes == ("cat", "dog")
    assert data.counts() == {"train": 12, "val": 4, "test": 4, "classes": 2}
    assert (heard.done, heard.total, heard.lines) == (20, 20, [])
    together = np.concatenate([data.rows(name) for name in ("train", "val", "test")])
    np.testing.assert_array_equal(np.sort(together), np.arange(20))
    np.testing.assert_array_equal(data.labels("val"), [0, 0, 1, 1])
    assert data.labels("val").tolist() == [data.index.labels[row] for row in data.rows("val")]
    red = data.pixels.read(np.arange(20)).mean(axis=(1, 2))[:, 0]
    assert red[:10].min() > red[10:].max()  # cats are red
    assert not (run / BAD_IMAGES).exists()


def test_bad_files_are_skipped_listed_and_counted(photo_folder, run):
    root = photo_folder(per_class=6)
    (root / "cat/001.jpg").write_text("text, not a photo")
    (root / "dog/003.jpg").write_bytes((root / "dog/003.jpg").read_bytes()[:200])
    (root / "dog/004.png").write_bytes(b"")
    heard = Heard()
    data = prepare(root, run, heard, max_bad_fraction=0.3)
    assert heard.lines == ["skipped 3 of 12 files that do not decode; bad_images.csv lists them"]
    assert sum(len(data.rows(name)) for name in ("train", "val", "test")) == 9
    with (run / BAD_IMAGES).open(newline="") as file:
        header, *rows = list(csv.reader(file))
    assert header == ["path", "reason"]
    assert [path for path, _ in rows] == ["cat/001.jpg", "dog/003.jpg", "dog/004.png"]
    assert [reason.split(" (")[0] for _, reason in rows] == ["is not an image", "is a truncated or damaged JPEG", "is empty"]
    index, split = read_splits(run / SPLITS, root)
    assert not {path for path, _ in rows} & set(index.paths)
    np.testing.assert_array_equal(split, data.split[data.split != ""])


def test_a_continued_run_keeps_its_splits(photo_folder, run):
    root = photo_folder(per_class=8)
    first = prepare(root, run)
    text = (run / SPLITS).read_text()
    index, split = read_splits(run / SPLITS, root)
    config = DataConfig(source=str(root), split_seed=5, val_fraction=0.4)
    again = prepare_index(index, config, run)
    np.testing.assert_array_equal(again.split, first.split)
    np.testing.assert_array_equal(again.split, split)
    assert (run / SPLITS).read_text() == text


def test_given_splits_are_kept(photo_folder, run):
    data = prepare(photo_folder(per_class=2, splits=("train", "val", "test")), run)
    assert data.counts() == {"train": 4, "val": 4, "test": 4, "classes": 2}
    assert {data.index.paths[row].split("/")[0] for row in data.rows("val")} == {"val"}


def test_too_many_bad_files(photo_folder, run):
    root = photo_folder()
    (root / "cat/000.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"^1 of 12 images do not decode, more than data\.max_bad_fraction=0\.05\. First: .*cat/000\.png"):
        prepare(root, run)
    assert not (run / SPLITS).exists()


def test_a_bad_file_is_an_error_where_asked(photo_folder, run):
    root = photo_folder()
    (root / "cat/000.png").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        prepare(root, run, on_bad_image="error", max_bad_fraction=1.0)
    assert str(caught.value).startswith(f"{root / 'cat/000.png'}: is empty (0 bytes). Repair or remove it")


def test_a_class_that_bad_files_empty(photo_folder, run):
    root = photo_folder(per_class=5)
    for number in range(3):
        next((root / "dog").glob(f"00{number}.*")).write_bytes(b"")
    with pytest.raises(DataError, match=r"class 'dog' has 2 images to train on and split \(3 more do not decode\)"):
        prepare(root, run, max_bad_fraction=0.5)


def test_opening_reads_no_file_and_needs_no_folder(photo_folder, tmp_path, monkeypatch):
    config = DataConfig(source=str(photo_folder()))
    monkeypatch.setattr(pipeline.images, "load", lambda *_: pytest.fail("decoded"))
    pixels = dataset.open_pixels(open_source(config), config, SIZE)
    assert (len(pixels.paths), pixels.bad, pixels.good.any()) == (12, {}, False)
    assert len(pixels.ids) == 0
    pixels.identify(Progress())
    assert len(set(pixels.ids)) == 12


@pytest.mark.parametrize(
    ("cache_gb", "cached"), [(4.0, True), (0.0, False), (12 * 16 * 16 * 3 / 1e9, True), (12 * 16 * 16 * 3 / 1.01e9, False)]
)
def test_pixels_are_cached_where_they_fit(photo_folder, run, cache_gb, cached):
    data = prepare(photo_folder(), run, cache_gb=cache_gb)
    assert (run / SCRATCH / "pixels.npy").exists() is cached
    assert data.pixels.read(np.arange(12)).shape == (12, *SIZE, 3)


def test_paths_are_made_when_they_are_asked_for(photo_folder):
    config = DataConfig(source=str(photo_folder()))
    index = open_source(config)
    paths = dataset.open_pixels(index, config, SIZE).paths
    assert len(paths) == 12
    assert paths[3] == index.root / index.paths[3]
    assert paths[:2] == [index.root / path for path in index.paths[:2]]
    assert all(isinstance(path, Path) for path in paths)
