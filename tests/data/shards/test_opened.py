"""Images of shards by their paths: what opens, and what is no such path."""

import os
from concurrent.futures import ThreadPoolExecutor

from tl_keras.config import DataConfig
from tl_keras.data.places import exists, is_file
from tl_keras.data.shards import opened
from tl_keras.data.sources import open_source


def test_images_are_found_once_their_shard_was_read(tmp_path, photo_folder, shards, read):
    folder = shards("tfrecord", tmp_path / "shards", photo_folder(splits=("train",)))
    image = folder / "train-000.tfrecord" / "00000000.png"
    assert opened.find(image) is None
    index = open_source(DataConfig(source=str(folder)))
    assert opened.find(image) is not None
    assert is_file(image)
    assert exists(image)
    assert opened.find(image.with_name("00000009.png")) is None
    assert opened.find(folder / "train-009.tfrecord" / "00000000.png") is None
    assert opened.find(folder / "train-000.tfrecord") is None
    before = read(image)
    with ThreadPoolExecutor(8) as pool:
        files = [index.root / path for path in index.paths] * 5
        assert len(set(pool.map(read, files))) == len(index.paths)
    os.utime(image.parent, (1, 1))
    assert opened.find(image) is None  # it may be another one now
    assert len(before) > 0


def test_a_folder_called_like_a_shard_is_a_folder(tmp_path, read):
    (tmp_path / "x.tar").mkdir()
    (tmp_path / "x.tar" / "a.jpg").write_bytes(b"1")
    assert opened.find(tmp_path / "x.tar" / "a.jpg") is None
    assert read(tmp_path / "x.tar" / "a.jpg") == b"1"
