"""Archives as folders: what is read is what was packed, from any thread; and names that a stranger may have made are told."""

import os
import tarfile
import threading
import tracemalloc
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tl_keras.data import archives
from tl_keras.data.archives import opened
from tl_keras.data.file_ids import file_id, hash_files
from tl_keras.data.images import load
from tl_keras.data.walk import images_below

TEXT = b"0123456789" * 1000


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_what_is_read_from_a_zip_is_what_was_packed(tmp_path, method, pack, read):
    files = {"a/0.png": TEXT, "a/b/grün.jpg": b"", "top": os.urandom(1_000_000)}
    path = pack(tmp_path / "x.zip", files, method=method)
    for name, content in files.items():
        assert read(path / name) == content
    assert hash_files([path / name for name in files]).tolist() == [
        file_id(write(tmp_path / str(number), content)) for number, content in enumerate(files.values())
    ]


def write(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_is_read_from_a_tar_is_what_was_packed(tmp_path, form, pack, read):
    files = {"./a/0.png": TEXT, "a/" + "long" * 30 + "/grün.jpg": b"", "top": os.urandom(1_000_000)}
    path = pack(tmp_path / "x.TAR", files, form=form)
    for name, content in files.items():
        assert read(path / name) == content


def test_an_archive_that_changes_is_read_again(tmp_path, pack, read):
    path = pack(tmp_path / "x.zip", {"a": b"1"})
    assert read(path / "a") == b"1"
    pack(path, {"a": b"22"})
    assert read(path / "a") == b"22"
    path.unlink()
    assert file_id(path / "a") == b""


def test_many_threads_read_one_archive(tmp_path, pack, read):
    files = {f"{number}.bin": os.urandom(number * 97) * 3 for number in range(200)}
    for ending in (".zip", ".tar"):
        path = pack(tmp_path / f"x{ending}", files)
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(read, [path / name for name in files])) == list(files.values())


def test_a_table_is_read_once_though_many_threads_need_it(tmp_path, monkeypatch, pack, read):
    path, asked = pack(tmp_path / "x.zip", {"a": b"1"}), []
    table = archives.READERS[".zip"]
    monkeypatch.setitem(archives.READERS, ".zip", lambda *given: asked.append(given) or table(*given))
    threads = [threading.Thread(target=read, args=[path / "a"]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(asked) == 1


def test_archives_that_are_not_needed_any_more_are_closed(tmp_path, pack, read):
    before = len(os.listdir("/proc/self/fd"))
    for number in range(3 * archives._KEPT):
        assert read(pack(tmp_path / f"{number}.zip", {"a": b"1"}) / "a") == b"1"
    assert len(os.listdir("/proc/self/fd")) <= before + archives._KEPT + 1


def test_without_pread_a_lock_does(tmp_path, monkeypatch, pack, read):
    monkeypatch.delattr(os, "pread")
    path = pack(tmp_path / "x.zip", {"a": TEXT, "b": b"b"})
    assert read(path / "b") + read(path / "a") == b"b" + TEXT


def test_many_files_take_little_memory(tmp_path, pack):
    path = pack(tmp_path / "x.zip", {f"c{number % 10}/{number:06d}.jpg": b"" for number in range(10_000)}, method=zipfile.ZIP_STORED)
    tracemalloc.start()
    try:
        archive = opened(str(path))
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(archive.folder("c3")) == 1_000
    assert held < 4e6  # 40 MB for a hundred thousand
    assert peak < 15e6


@pytest.mark.parametrize("ending", [".zip", ".tar"])
@pytest.mark.parametrize("name", ["../a.png", "a/../../b.png", "/etc/passwd", "a/..", ".."])
def test_names_that_lead_out_are_refused(tmp_path, ending, name, pack, refusal):
    text = refusal(pack(tmp_path / f"x{ending}", {"a.png": b"", name: b""}))
    assert text.endswith(f"holds the file {name!r}, which would lie outside of it. Write the archive again without it.")


@pytest.mark.parametrize("name", ["../a.png", "/etc/passwd", "a/.."])
def test_links_whose_own_names_lead_out_are_refused(tmp_path, name, pack, refusal):
    text = refusal(pack(tmp_path / "x.tar", {"a/0.png": b"", name: (tarfile.SYMTYPE, "a/0.png")}))
    assert f"holds the file {name!r}, which would lie outside of it." in text


@pytest.mark.parametrize(("first", "second"), [("a/0.png", "a//0.png"), ("a/0.png", "./a/0.png"), ("a", "a/0.png"), ("a/0.png", "a")])
def test_a_name_that_is_there_twice_is_told(tmp_path, first, second, pack, refusal):
    for ending in (".zip", ".tar"):
        text = refusal(pack(tmp_path / f"x{ending}", {first: b"1", second: b"2"}))
        assert text.endswith(f"holds {second!r} twice, so that which one counts is not known. Write the archive again.")


def test_folders_in_too_many_folders_are_refused(tmp_path, pack, refusal):
    assert "has folders in more than 64 others ('a/a/" in refusal(pack(tmp_path / "x.zip", {"a/" * 64 + "b": b""}))


@pytest.mark.shared
def test_fifty_thousand_images_of_a_zip_are_listed():
    path = Path(__file__).parents[2] / ".." / "shared" / "data" / "cifar10_train.zip"
    found, left_out = images_below(path)
    assert (len(found), left_out) == (50_000, {})
    assert load(found[-1], (32, 32), "crop").shape == (32, 32, 3)
