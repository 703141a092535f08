"""An index: some of it, what it takes of memory, and files that are gone."""

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tl_keras.config import DataConfig
from tl_keras.data import splits
from tl_keras.data.index import UNLABELLED, Index
from tl_keras.data.sources import open_source
from tl_keras.data.texts import packed
from tl_keras.errors import DataError
from tl_keras.progress import Progress


def test_take_keeps_what_is_known_of_each_file() -> None:
    index = Index(
        root=Path("photos"),
        classes=("cat", "dog"),
        paths=("1", "2", "3", "4"),
        labels=np.array([0, 1, UNLABELLED, 1], np.int32),
        given=("train", "train", "val", "test"),
        groups=("p", "q", "p", "r"),
        domains=("x", "x", "y", "y"),
        ids=np.array([b"a", b"b", b"c", b"d"], "S16"),
        shares=np.arange(8, dtype=np.float32).reshape(4, 2),
    )
    found = index.take(np.array([3, 0]))
    assert (found.paths, found.groups, found.domains, found.given) == (("4", "1"), ("r", "p"), ("y", "x"), None)
    assert found.ids is not None
    assert (found.labels.tolist(), found.ids.tolist()) == ([1, 0], [b"d", b"a"])
    assert index.labelled.tolist() == [True, True, False, True]
    assert found.shares is found.learned
    assert found.shares is not None
    assert found.shares.tolist() == [[6, 7], [0, 1]]
    bare = replace(index, groups=None, domains=None, ids=None, shares=None).take(np.array([1]))
    assert (bare.groups, bare.domains, bare.ids, bare.shares) == (None, None, None, None)
    assert bare.learned is bare.labels


def test_an_index_has_one_value_for_each_file() -> None:
    with pytest.raises(ValueError, match="groups must have one value for each of 2 paths"):
        Index(root=Path(), classes=("a",), paths=("1", "2"), labels=np.zeros(2, np.int32), groups=("p",))


def test_ten_million_images_are_listed_and_cut_in_two_gigabytes(tmp_path) -> None:
    num, draws = 20_000, np.random.default_rng(0)
    split = splits.cut(_drawn(1000, draws), np.ones(1000, bool), val_fraction=0.1, test_fraction=0.1, seed=0)  # imports what it needs
    splits.write_splits(tmp_path / "splits.csv", _drawn(1000, draws), split)
    splits.read_splits(tmp_path / "splits.csv", Path())
    tracemalloc.start()
    try:
        index = _drawn(num, draws)
        assert tracemalloc.get_traced_memory()[0] < 64 * num  # bytes
        index.take(np.arange(0, num, 2))
        split = splits.cut(index, np.ones(num, bool), val_fraction=0.1, test_fraction=0.1, seed=0)
        splits.write_splits(tmp_path / "splits.csv", index, split)
        assert tracemalloc.get_traced_memory()[1] < 200 * num
        del index, split
        tracemalloc.reset_peak()
        assert len(splits.read_splits(tmp_path / "splits.csv", Path())[0].paths) == num
        assert tracemalloc.get_traced_memory()[1] < 200 * num
    finally:
        tracemalloc.stop()


def _drawn(num: int, draws: np.random.Generator) -> Index:
    return Index(
        root=Path("shards"),
        classes=("cat", "dog"),
        paths=packed(f"train-{row // 1000:06d}.tar/{row % 1000:06d}.jpg" for row in range(num)),
        labels=draws.integers(2, size=num, dtype=np.int32),
        ids=np.frombuffer(draws.bytes(16 * num), "S16"),
    )


def test_files_that_are_gone_or_were_replaced_are_told(photo_folder):
    root = photo_folder()
    index = open_source(DataConfig(source=str(root))).take(np.array([1, 4, 7, 10])).identified(Progress())

    def told(index=index):
        with pytest.raises(DataError) as caught:
            index.require_unchanged(index.identify(Progress()), "test images")
        return str(caught.value)

    index.require_unchanged(index.ids, "test images")
    gone = np.array([b""] * 4, "S16")  # what could not be read before may still not be
    replace(index, ids=gone).require_unchanged(gone, "test images")
    one, other = root / index.paths[1], root / index.paths[2]
    one.write_bytes(other.read_bytes())
    assert told() == (
        f"{root}: of 4 test images, 1 is not what the run knows; the first is {index.paths[1]}. "
        "Put them back, or say with --data where they are."
    )
    other.unlink()
    assert told().startswith(f"{root}: of 4 test images, 1 is missing and 1 is not what the run knows; ")
    assert told(replace(index, ids=None)).startswith(f"{root}: of 4 test images, 1 is missing; the first is {index.paths[2]}.")
