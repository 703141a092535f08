"""What is asked of paths, on the disk and in archives."""

import os

from tl_keras.data.archives import locate
from tl_keras.data.patterns import find_images
from tl_keras.data.places import exists, identity, is_file, is_folder
from tl_keras.data.walk import images_below


def test_folders_are_listed_as_those_on_the_disk(tmp_path, pack):
    names = ("b/1.png", "b/deep/2.jpg", "a/3.PNG", "a/.hidden.png", "a/notes.txt", "__MACOSX/a/._3.PNG", "a/old.zip", "empty/")
    for ending in (".zip", ".tar"):
        path = pack(tmp_path / f"x{ending}", {name: b"" for name in names if not name.endswith("/")})
        found, left_out = images_below(path)
        assert found == [path / name for name in ("a/3.PNG", "b/1.png", "b/deep/2.jpg")]
        assert left_out == {".txt": {"": 1}, ".zip": {"": 1}}
    assert find_images([str(path / "b")])[0] == [path / "b/1.png", path / "b/deep/2.jpg"]
    assert find_images([str(path / "b/1.png")])[0] == [path / "b/1.png"]


def test_what_is_asked_of_places_in_an_archive(tmp_path, pack, reason):
    path = pack(tmp_path / "x.zip", {"a/0.png": b""})
    assert [is_folder(path / name) for name in ("", "a", "a/0.png", "b")] == [True, True, False, False]
    assert [is_file(path / name) for name in ("", "a", "a/0.png", "a/0.png/x")] == [False, False, True, False]
    assert [exists(path / name) for name in ("", "a", "a/0.png", "b", "../x.zip")] == [True, True, True, False, False]
    assert identity(path / "a") != identity(path)
    assert reason(path / "a/1.png") == "No such file or directory"
    assert reason(path / "a") == "Is a directory"


def test_a_folder_or_a_fifo_that_is_called_like_an_archive_is_none(tmp_path, pack, read):
    (tmp_path / "x.zip").mkdir()
    (tmp_path / "x.zip/a.png").write_bytes(b"1")
    os.mkfifo(tmp_path / "y.tar")
    assert locate(tmp_path / "x.zip/a.png") is None
    assert locate(tmp_path / "y.tar/a.png") is None
    assert read(tmp_path / "x.zip/a.png") == b"1"
    inner = pack(tmp_path / "x.zip/z.zip", {"b": b"2"})
    assert locate(inner / "b") == (str(inner), "b")
