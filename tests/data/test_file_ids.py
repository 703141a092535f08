"""Ids of files: by content alone, whole where a file cannot be read, and a number from each."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from tl_keras.data import file_ids as content
from tl_keras.data.file_ids import IdList, hash_file, hash_files, id_of, numbers, to_hex


def write(folder, *texts):
    paths = [folder / f"{number}.png" for number in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_bytes(text)
    return paths


def test_a_hash_is_that_of_the_bytes_in_any_number_of_reads(tmp_path, monkeypatch):
    (path,) = write(tmp_path, b"0123456789" * 7)
    monkeypatch.setattr(content, "_READ_BYTES", 16)
    assert hash_file(path) == hashlib.sha256(b"0123456789" * 7).hexdigest()


def test_ids_follow_the_content_not_the_name(tmp_path):
    paths = write(tmp_path, b"a", b"b", b"a")
    ids = hash_files(paths)
    assert ids.dtype == "S16"
    assert ids[0] == ids[2] != ids[1]
    assert ids[0].ljust(16, b"\0") == hashlib.sha256(b"a").digest()[:16]
    paths[1].rename(tmp_path / "elsewhere.jpg")
    np.testing.assert_array_equal(hash_files([tmp_path / "elsewhere.jpg", paths[0]]), ids[[1, 0]])
    paths[0].write_bytes(b"c")
    assert hash_files(paths[:1])[0] not in ids


def test_a_file_that_cannot_be_read_has_the_empty_id(tmp_path):
    paths = write(tmp_path, b"a", b"b")
    paths[0].unlink()
    (tmp_path / "folder").mkdir()
    ids = hash_files([*paths, tmp_path / "folder"])
    assert (ids == b"").tolist() == [True, False, True]


def test_every_file_is_hashed_and_counted_in_small_queues(tmp_path, monkeypatch):
    paths = write(tmp_path, *(bytes([number]) for number in range(11)))
    whole = hash_files(paths)
    monkeypatch.setattr(content, "_HASHED_AT_ONCE", 4)
    done = []
    np.testing.assert_array_equal(hash_files(paths, done.append), whole)
    assert done == [4, 4, 3]
    assert len(hash_files([])) == 0


def test_numbers_are_the_first_four_bytes():
    ids = np.array([b"\x01\x02\x03\x04" + b"x" * 12, b"\xff" * 16, b"\x05"], "S16")
    assert numbers(ids).tolist() == [0x04030201, 2**32 - 1, 5]
    assert numbers(ids).dtype == np.int64
    assert numbers(ids[::2]).tolist() == [0x04030201, 5]


def test_tensorflow_is_not_imported():
    script = "import sys, tl_keras.data.file_ids, tl_keras.transfer.store; sys.exit(bool({'tensorflow', 'keras'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_the_id_of_one_file_is_that_of_many_though_it_ends_in_zero(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"photo")
    monkeypatch.setattr(content, "_hash", lambda *_, **__: "ab" * 15 + "00" * 17)
    ids = content.hash_files([tmp_path / "a"])
    assert content.file_id(tmp_path / "a") == ids[0] == b"\xab" * 15


def test_of_a_file_in_memory_the_id_is_the_same(tmp_path):
    ending = next(text for text in (b"%d" % number for number in range(10_000)) if hashlib.sha256(text).digest()[15] == 0)
    for path in write(tmp_path, b"abc", ending):
        assert id_of(path.read_bytes()) == content.file_id(path)


def test_ids_as_text_come_back():
    ids = np.array([b"a\0\0b", b"\xff" * 16, b""], "S16")
    texts = [to_hex(content) for content in ids]
    assert [len(text) for text in texts] == [32, 32, 32]
    found = IdList()
    assert found.ids().shape == (0,)
    found = IdList()
    for text in texts:
        found.append(text)
    assert found.ids().tolist() == ids.tolist()
    for text in ("abcd", "zz" * 16):
        with pytest.raises(ValueError, match=r"hexadecimal|is not an id"):
            IdList().append(text)


def test_of_a_file_that_is_not_an_image_the_beginning_and_the_size_are_hashed(tmp_path, monkeypatch):
    monkeypatch.setattr(content, "_READ_BYTES", 128)
    text, jpeg = b"t" * 200, b"\xff\xd8\xff" + b"t" * 197
    one, end, size = hash_files(write(tmp_path, text, text[:-1] + b"!", text + b"t"))
    assert one == end != size
    assert hash_files(write(tmp_path, jpeg))[0].ljust(16, b"\0") == hashlib.sha256(jpeg).digest()[:16]
    with (tmp_path / "sparse.jpg").open("wb") as file:
        file.truncate(2**40)  # a terabyte: hashed whole, it would take half an hour
    assert content.file_id(tmp_path / "sparse.jpg") != b""
