"""Reading shards for the first time: damage and a cache that cannot be written are told."""

import pytest

from tl_keras.data.shards import reading
from tl_keras.data.shards.reading import contents_of, read_shards
from tl_keras.errors import DataError
from tl_keras.progress import Progress


def test_what_is_wrong_with_a_shard_is_one_line(tmp_path, pack, tfrecord):
    shard = pack(tmp_path / "x.tar", {"a.jpg": b"1"})
    with pytest.raises(DataError) as caught:
        contents_of(shard)
    assert str(caught.value) == (
        f"{shard}: cannot be read as a shard: its image 'a.jpg' has no label: no a.cls or a.json, and it lies in no folder. "
        "Mend it, or take it away."
    )
    shard = tmp_path / "x.tfrecord"
    shard.write_bytes(b"\x1f\x8b" + bytes(100))
    with pytest.raises(DataError, match=r"cannot be read as a shard: it is compressed as a whole: unpack it, as with gunzip\. Mend it"):
        read_shards([shard], Progress())


def test_a_cache_that_cannot_be_written_is_told(tmp_path, pack, monkeypatch):
    (tmp_path / "cache").touch()
    monkeypatch.setenv("TL_KERAS_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DataError, match=r"shards: what .*x\.tar holds cannot be kept here \(Not a directory\). Set TL_KERAS_CACHE"):
        contents_of(pack(tmp_path / "x.tar", {"cat/a.jpg": b"1"}))


def test_names_need_not_come_in_their_order(tmp_path, pack):
    found = contents_of(pack(tmp_path / "x.tar", {"cat/b.jpg": b"1", "cat/a.jpg": b"2", "ant/c.jpg": b"3"}))
    assert list(found.names) == ["cat/b.jpg", "cat/a.jpg", "ant/c.jpg"]
    assert [found.row_of(name) for name in found.names] == [0, 1, 2]
    assert found.sizes.tolist() == [1, 1, 1]


def test_processes_that_begin_together_begin_at_different_shards(tmp_path, pack, monkeypatch):
    shards = [pack(tmp_path / f"{number}.tar", {"cat/a.jpg": b"%d" % number}) for number in range(4)]
    read = []
    monkeypatch.setattr(reading, "randrange", lambda num: num - 1)
    monkeypatch.setattr(reading, "contents_of", lambda shard: read.append(shard))
    read_shards(shards, Progress())
    assert read == [shards[3], *shards[:3]]
