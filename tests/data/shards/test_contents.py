"""Tables of contents: names of shards, a round trip, and tables that are damaged."""

import os
from pathlib import Path

import numpy as np
import pytest

from tl_keras.data.shards.contents import Contents, format_of, is_compressed, read_table, shard_numbers, table_file, write_table
from tl_keras.data.texts import packed

NAMES = ["c.jpg", "a.jpg", "Ü.jpg", "b/a.jpg"]


def table_of(shard):
    status = shard.stat()
    return table_file(str(shard), status.st_size, status.st_mtime_ns)


def contents():
    return Contents(
        names=packed(NAMES),
        by_name=np.array(sorted(range(4), key=NAMES.__getitem__), np.int32),
        starts=np.arange(4) * 512,
        sizes=np.arange(4) + 1,
        labels=packed(["x", "y", "x", "x"], shared=True),
        ids=np.array([b"1", b"2", b"3", b"4"], "S16"),
        num_unlabelled=5,
    )


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("train-000001.tar", "webdataset"),
        ("X.TAR", "webdataset"),
        ("a.tfrecord", "tfrecord"),
        ("cifar10-train.tfrecord-00000-of-00001", "tfrecord"),
        ("train-00000-of-01024", "tfrecord"),
        ("x.array_record-00000-of-00001", "array_record"),
        ("x.arrayrecord", "array_record"),
        ("x.tar.gz", None),
        ("x.tfrecord.index", None),
        ("2020-01-of-02", None),
        ("x.zip", None),
    ],
)
def test_shards_are_known_by_their_names(name, found):
    assert format_of(name) == found


def test_compressed_shards_are_known_by_their_names():
    assert all(map(is_compressed, ["x.tar.gz", "x.tgz", "x.tfrecord.gz", "x.tfrecords.ZST", "x-00000-of-00002.gz"]))
    assert not any(map(is_compressed, ["x.gz", "x.tar", "classes.txt.gz", "x.csv.gz"]))


def test_shards_are_numbered_by_the_paths_of_their_images():
    paths = ["train/b.tar/1.jpg", "train/b.tar/x/2.jpg", "a-00000-of-00002/1.jpg", "b.tar/1.jpg", "train/b.tar/3.jpg"]
    assert shard_numbers(paths).tolist() == [0, 0, 1, 2, 0]
    assert shard_numbers(["b.tar/1.jpg", "cat/1.jpg"]) is None
    assert shard_numbers(["b.tar.jpg"]) is None


def test_a_table_is_read_as_it_was_kept(tmp_path):
    write_table(tmp_path / "new" / "x.table", contents())
    found = read_table(tmp_path / "new" / "x.table")
    for mine, its in zip(contents(), found, strict=True):
        np.testing.assert_array_equal(mine, its)
    assert [found.row_of(name) for name in (*NAMES, "", "z", "b")] == [0, 1, 2, 3, None, None, None]


def test_no_table_and_a_damaged_one_are_none(tmp_path):
    assert read_table(tmp_path / "x.table") is None
    write_table(tmp_path / "x.table", contents())
    whole = (tmp_path / "x.table").read_bytes()
    for size in range(0, len(whole), 97):
        (tmp_path / "x.table").write_bytes(whole[:size])
        assert read_table(tmp_path / "x.table") is None
        (tmp_path / "x.table").write_bytes(whole[:size] + bytes([whole[size] ^ 1]) + whole[size + 1 :])
        assert read_table(tmp_path / "x.table") is None


def test_a_shard_that_has_changed_has_another_table(tmp_path, monkeypatch):
    shard = tmp_path / "x.tar"
    shard.write_bytes(b"1")
    before = table_of(shard)
    monkeypatch.chdir(tmp_path)
    assert table_of(Path("x.tar")) == before
    os.utime(shard, (1, 1))
    assert table_of(shard) != before
