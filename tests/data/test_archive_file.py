"""A file in an archive: read from any place, no more than it says to have, and its damage is its own."""

import io
import os
import random
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from PIL import Image

from tl_keras.data import archives
from tl_keras.data.file_ids import file_id
from tl_keras.data.images import deep_grey_peak, load
from tl_keras.data.regular import open_regular, size_of
from tl_keras.errors import BadImageError

TEXT = b"0123456789" * 1000


@pytest.mark.parametrize("ending", [".zip", ".tar"])
def test_a_file_is_read_from_any_place(tmp_path, ending, pack, read):
    path = pack(tmp_path / f"x{ending}", {"a": TEXT})
    with open_regular(path / "a") as file:
        assert size_of(file) == len(TEXT)
        assert file.read(3) == b"012"
        file.seek(7_005)
        assert file.read(2) == b"56"
        file.seek(-5, os.SEEK_END)
        assert (file.read(3), file.tell(), file.read(), file.read()) == (b"567", 9_998, b"89", b"")
        file.seek(3)
        buffer = bytearray(4)
        assert (file.readinto(buffer), bytes(buffer)) == (4, b"3456")
        file.seek(0)
        assert file.read() == TEXT
        assert io.BufferedReader(open_regular(path / "a")).read() == TEXT


def with_size(path, size):
    """The archive whose only file says to have another size."""
    content = bytearray(path.read_bytes())
    directory = content.index(b"PK\1\2")
    content[directory + 24 : directory + 28] = struct.pack("<I", size)
    path.write_bytes(content)
    return path


def test_a_file_never_yields_more_than_it_says(tmp_path, pack, reason):
    path = with_size(pack(tmp_path / "x.zip", {"a": bytes(50_000_000)}), 1000)
    tracemalloc.start()
    try:
        assert reason(path / "a") == "its checksum is wrong"
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_a_file_that_has_less_than_it_says_is_told(tmp_path, pack, reason):
    assert reason(with_size(pack(tmp_path / "x.zip", {"a": TEXT}), len(TEXT) + 1) / "a") == "it is shorter than it says"
    stored = pack(tmp_path / "y.zip", {"a": TEXT}, method=zipfile.ZIP_STORED)
    assert reason(with_size(stored, len(TEXT) + 100_000) / "a") == "the archive ends before"


def test_a_file_that_says_to_be_larger_than_any_image_is_not_inflated(tmp_path, pack, reason):
    path = with_size(pack(tmp_path / "x.zip", {"a.jpg": b"\xff\xd8\xff" + bytes(1000)}), 4_000_000_000)
    assert reason(path / "a.jpg") == "it says to have 4,000,000,000 bytes, more than any image"
    assert file_id(path / "a.jpg") == b""


def test_a_file_that_says_to_be_larger_than_any_disk_is_told(tmp_path, pack, refusal):
    info = zipfile.ZipInfo("a.png")
    info.extra = struct.pack("<HHQ", 1, 8, 2**64 - 1)  # the size, where the field of four bytes is full
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(info, b"1")
    assert "damaged ('a.png' has 18,446,744,073,709,551,615 bytes)" in refusal(with_size(tmp_path / "x.zip", 2**32 - 1))


def test_an_image_that_is_too_large_for_its_pixels_is_refused_before_it_is_inflated(tmp_path, pack):
    path = pack(tmp_path / "x.zip", {"a.jpg": b"\xff\xd8\xff" + bytes(1000)})
    with pytest.raises(BadImageError, match=r"a\.jpg: is a file of 2,000 MB, more than 3 bytes for each of data.max_megapixels=100"):
        load(with_size(path, 2_000_000_000) / "a.jpg", (8, 8), "crop")


def test_a_header_that_is_not_where_it_should_be_is_told(tmp_path, pack, reason):
    path = pack(tmp_path / "x.zip", {"a": TEXT})
    path.write_bytes(b"XX" + path.read_bytes()[2:])
    assert reason(path / "a") == "the archive does not hold it where it says"


def test_a_damaged_file_is_a_bad_image_and_the_others_are_not(tmp_path, photo_folder, pack):
    photo = (photo_folder(per_class=1, size=(16, 16)) / "cat" / "000.png").read_bytes()
    files = {"0.png": photo, "1.png": photo}
    path = pack(tmp_path / "x.zip", files, method=zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[content.rindex(photo) + len(photo) // 2] ^= 1
    path.write_bytes(content)
    assert load(path / "0.png", (8, 8), "crop").shape == (8, 8, 3)
    with pytest.raises(BadImageError, match=r"x\.zip/1\.png: cannot be read \(its checksum is wrong\)"):
        load(path / "1.png", (8, 8), "crop")


def test_a_tiff_is_looked_at_in_its_place(tmp_path, pack):
    grey = np.random.default_rng(0).integers(0, 4096, (300, 40), np.uint16)
    for compression in (None, "tiff_lzw"):
        Image.fromarray(grey).save(tmp_path / "a.tif", compression=compression)
        path = pack(tmp_path / "x.zip", {"a.tif": (tmp_path / "a.tif").read_bytes()})
        assert deep_grey_peak(path / "a.tif") == grey.max()


def test_a_deflated_stream_of_any_damage_ends_in_an_error_of_ours(tmp_path, pack, read):
    text = "".join(random.Random(0).choices("0123456789", k=3000)).encode()
    path, draws, met = pack(tmp_path / "x.zip", {"a.png": text}), random.Random(1), set()
    whole = path.read_bytes()
    for _ in range(300):
        content = bytearray(whole)
        content[draws.randrange(35, whole.index(b"PK\1\2"))] ^= 1 << draws.randrange(8)
        path.write_bytes(content)
        archives._read.cache_clear()
        try:
            met.add(read(path / "a.png") == text)  # the last bits of a stream mean nothing
        except OSError as error:
            met.add(error.strerror)
    assert met == {True, "it does not inflate", "its checksum is wrong", "it is shorter than it says"}
