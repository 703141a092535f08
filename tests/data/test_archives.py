"""Archives as folders: what is read is what was packed, lies are told in one line, and damage of any kind is no more than that."""

import io
import os
import random
import struct
import tarfile
import threading
import tracemalloc
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tl_keras.data import archives
from tl_keras.data.archives import locate, opened
from tl_keras.data.file_ids import file_id, hash_files
from tl_keras.data.images import deep_grey_peak, load
from tl_keras.data.patterns import find_images
from tl_keras.data.places import exists, identity, is_file, is_folder
from tl_keras.data.regular import open_regular, size_of
from tl_keras.data.walk import images_below
from tl_keras.errors import BadImageError, DataError

TEXT = b"0123456789" * 1000


def make_zip(path, files, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def make_tar(path, files, form=tarfile.GNU_FORMAT):
    with tarfile.open(path, "w:", format=form) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            else:
                info.type, info.linkname = content
                archive.addfile(info)
    return path


def make(path, files):
    return make_zip(path, files) if path.suffix == ".zip" else make_tar(path, files)


def read(path):
    with open_regular(path) as file:
        return file.read()


def refusal(path):
    with pytest.raises(DataError) as caught:
        list(archives.opened(str(path)).folder(""))
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def reason(path):
    with pytest.raises(OSError, match=r".") as caught:
        read(path)
    assert caught.value.filename == str(path) or str(path).startswith(caught.value.filename)
    return caught.value.strerror


# --- round trips ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_what_is_read_from_a_zip_is_what_was_packed(tmp_path, method):
    files = {"a/0.png": TEXT, "a/b/grün.jpg": b"", "top": os.urandom(1_000_000)}
    path = make_zip(tmp_path / "x.zip", files, method)
    for name, content in files.items():
        assert read(path / name) == content
    assert hash_files([path / name for name in files]).tolist() == [
        file_id(write(tmp_path / str(number), content)) for number, content in enumerate(files.values())
    ]


def write(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_is_read_from_a_tar_is_what_was_packed(tmp_path, form):
    files = {"./a/0.png": TEXT, "a/" + "long" * 30 + "/grün.jpg": b"", "top": os.urandom(1_000_000)}
    path = make_tar(tmp_path / "x.TAR", files, form)
    for name, content in files.items():
        assert read(path / name) == content


@pytest.mark.parametrize("ending", [".zip", ".tar"])
def test_a_file_is_read_from_any_place(tmp_path, ending):
    path = make(tmp_path / f"x{ending}", {"a": TEXT})
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


def test_names_of_old_zips_are_code_page_437_and_those_of_dos_have_backslashes(tmp_path):
    content = bytearray(make_zip(tmp_path / "x.zip", {"a|gr_n.png": b"1"}, zipfile.ZIP_STORED).read_bytes())
    content = content.replace(b"gr_n", "grün".encode("cp437")).replace(b"|", b"\\")
    directory = content.index(b"PK\1\2")
    content[directory + 5] = 0  # made on DOS
    (tmp_path / "x.zip").write_bytes(content)
    assert read(tmp_path / "x.zip/a/grün.png") == b"1"


def test_an_archive_behind_other_bytes_and_with_a_comment_is_read(tmp_path):
    path = make_zip(tmp_path / "x.zip", {"a": TEXT})
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"a comment"
    path.write_bytes(b"#!/bin/sh\n" + path.read_bytes())
    assert read(path / "a") == TEXT


def test_folders_are_listed_as_those_on_the_disk(tmp_path):
    names = ("b/1.png", "b/deep/2.jpg", "a/3.PNG", "a/.hidden.png", "a/notes.txt", "__MACOSX/a/._3.PNG", "a/old.zip", "empty/")
    for ending in (".zip", ".tar"):
        path = make(tmp_path / f"x{ending}", {name: b"" for name in names if not name.endswith("/")})
        found, left_out = images_below(path)
        assert found == [path / name for name in ("a/3.PNG", "b/1.png", "b/deep/2.jpg")]
        assert left_out == {".txt": {"": 1}, ".zip": {"": 1}}
    assert find_images([str(path / "b")])[0] == [path / "b/1.png", path / "b/deep/2.jpg"]
    assert find_images([str(path / "b/1.png")])[0] == [path / "b/1.png"]


def test_what_is_asked_of_places_in_an_archive(tmp_path):
    path = make_zip(tmp_path / "x.zip", {"a/0.png": b""})
    assert [is_folder(path / name) for name in ("", "a", "a/0.png", "b")] == [True, True, False, False]
    assert [is_file(path / name) for name in ("", "a", "a/0.png", "a/0.png/x")] == [False, False, True, False]
    assert [exists(path / name) for name in ("", "a", "a/0.png", "b", "../x.zip")] == [True, True, True, False, False]
    assert identity(path / "a") != identity(path)
    assert reason(path / "a/1.png") == "No such file or directory"
    assert reason(path / "a") == "Is a directory"


def test_a_tiff_is_looked_at_in_its_place(tmp_path):
    grey = np.random.default_rng(0).integers(0, 4096, (300, 40), np.uint16)
    for compression in (None, "tiff_lzw"):
        Image.fromarray(grey).save(tmp_path / "a.tif", compression=compression)
        path = make_zip(tmp_path / "x.zip", {"a.tif": (tmp_path / "a.tif").read_bytes()})
        assert deep_grey_peak(path / "a.tif") == grey.max()


def test_a_folder_or_a_fifo_that_is_called_like_an_archive_is_none(tmp_path):
    (tmp_path / "x.zip").mkdir()
    (tmp_path / "x.zip/a.png").write_bytes(b"1")
    os.mkfifo(tmp_path / "y.tar")
    assert locate(tmp_path / "x.zip/a.png") is None
    assert locate(tmp_path / "y.tar/a.png") is None
    assert read(tmp_path / "x.zip/a.png") == b"1"
    inner = make_zip(tmp_path / "x.zip/z.zip", {"b": b"2"})
    assert locate(inner / "b") == (str(inner), "b")


def test_an_archive_that_changes_is_read_again(tmp_path):
    path = make_zip(tmp_path / "x.zip", {"a": b"1"})
    assert read(path / "a") == b"1"
    make_zip(path, {"a": b"22"})
    assert read(path / "a") == b"22"
    path.unlink()
    assert file_id(path / "a") == b""


def test_many_threads_read_one_archive(tmp_path):
    files = {f"{number}.bin": os.urandom(number * 97) * 3 for number in range(200)}
    for ending in (".zip", ".tar"):
        path = make(tmp_path / f"x{ending}", files)
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(read, [path / name for name in files])) == list(files.values())


def test_a_table_is_read_once_though_many_threads_need_it(tmp_path, monkeypatch):
    path, asked = make_zip(tmp_path / "x.zip", {"a": b"1"}), []
    table = archives.READERS[".zip"]
    monkeypatch.setitem(archives.READERS, ".zip", lambda *given: asked.append(given) or table(*given))
    threads = [threading.Thread(target=read, args=[path / "a"]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(asked) == 1


def test_archives_that_are_not_needed_any_more_are_closed(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    for number in range(3 * archives._KEPT):
        assert read(make_zip(tmp_path / f"{number}.zip", {"a": b"1"}) / "a") == b"1"
    assert len(os.listdir("/proc/self/fd")) <= before + archives._KEPT + 1


def test_without_pread_a_lock_does(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "pread")
    path = make_zip(tmp_path / "x.zip", {"a": TEXT, "b": b"b"})
    assert read(path / "b") + read(path / "a") == b"b" + TEXT


def test_many_files_take_little_memory(tmp_path):
    path = make_zip(tmp_path / "x.zip", {f"c{number % 10}/{number:06d}.jpg": b"" for number in range(10_000)}, zipfile.ZIP_STORED)
    tracemalloc.start()
    try:
        archive = opened(str(path))
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(archive.folder("c3")) == 1_000
    assert held < 4e6  # 40 MB for a hundred thousand
    assert peak < 15e6


# --- what a stranger may have made ---------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".zip", ".tar"])
@pytest.mark.parametrize("name", ["../a.png", "a/../../b.png", "/etc/passwd", "a/..", ".."])
def test_names_that_lead_out_are_refused(tmp_path, ending, name):
    text = refusal(make(tmp_path / f"x{ending}", {"a.png": b"", name: b""}))
    assert text.endswith(f"holds the file {name!r}, which would lie outside of it. Write the archive again without it.")


@pytest.mark.parametrize("name", ["../a.png", "/etc/passwd", "a/.."])
def test_links_whose_own_names_lead_out_are_refused(tmp_path, name):
    text = refusal(make_tar(tmp_path / "x.tar", {"a/0.png": b"", name: (tarfile.SYMTYPE, "a/0.png")}))
    assert f"holds the file {name!r}, which would lie outside of it." in text


@pytest.mark.parametrize(("first", "second"), [("a/0.png", "a//0.png"), ("a/0.png", "./a/0.png"), ("a", "a/0.png"), ("a/0.png", "a")])
def test_a_name_that_is_there_twice_is_told(tmp_path, first, second):
    for ending in (".zip", ".tar"):
        text = refusal(make(tmp_path / f"x{ending}", {first: b"1", second: b"2"}))
        assert text.endswith(f"holds {second!r} twice, so that which one counts is not known. Write the archive again.")


def test_folders_in_too_many_folders_are_refused(tmp_path):
    assert "has folders in more than 64 others ('a/a/" in refusal(make_zip(tmp_path / "x.zip", {"a/" * 64 + "b": b""}))


def test_encrypted_files_are_refused_by_name(tmp_path):
    path = make_zip(tmp_path / "x.zip", {"a.png": b"1"}, zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    assert refusal(path).endswith("holds 'a.png', which is encrypted. Write the archive again without a password.")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_methods_are_refused_by_name(tmp_path, method):
    text = refusal(make_zip(tmp_path / "x.zip", {"a.png": TEXT}, method))
    assert "holds 'a.png', which is compressed by " in text
    assert text.endswith("files that are stored or deflated are read. Unpack it, and pack it again with zip -r.")


def test_files_that_share_bytes_are_refused(tmp_path):
    path = make_zip(tmp_path / "x.zip", {"a.png": TEXT, "b.png": TEXT}, zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    second = content.index(b"PK\1\2", content.index(b"PK\1\2") + 4)
    content[second + 42 : second + 46] = bytes(4)  # where its header lies: at that of the first
    path.write_bytes(content)
    assert "shares bytes with another one, as in a zip bomb." in refusal(path)


def with_size(path, size):
    """The archive whose only file says to have another size."""
    content = bytearray(path.read_bytes())
    directory = content.index(b"PK\1\2")
    content[directory + 24 : directory + 28] = struct.pack("<I", size)
    path.write_bytes(content)
    return path


def test_a_file_never_yields_more_than_it_says(tmp_path):
    path = with_size(make_zip(tmp_path / "x.zip", {"a": bytes(50_000_000)}), 1000)
    tracemalloc.start()
    try:
        assert reason(path / "a") == "its checksum is wrong"
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_a_file_that_has_less_than_it_says_is_told(tmp_path):
    assert reason(with_size(make_zip(tmp_path / "x.zip", {"a": TEXT}), len(TEXT) + 1) / "a") == "it is shorter than it says"
    stored = make_zip(tmp_path / "y.zip", {"a": TEXT}, zipfile.ZIP_STORED)
    assert reason(with_size(stored, len(TEXT) + 100_000) / "a") == "the archive ends before"


def test_a_file_that_says_to_be_larger_than_any_image_is_not_inflated(tmp_path):
    path = with_size(make_zip(tmp_path / "x.zip", {"a.jpg": b"\xff\xd8\xff" + bytes(1000)}), 4_000_000_000)
    assert reason(path / "a.jpg") == "it says to have 4,000,000,000 bytes, more than any image"
    assert file_id(path / "a.jpg") == b""


def test_an_image_that_is_too_large_for_its_pixels_is_refused_before_it_is_inflated(tmp_path):
    path = make_zip(tmp_path / "x.zip", {"a.jpg": b"\xff\xd8\xff" + bytes(1000)})
    with pytest.raises(BadImageError, match=r"a\.jpg: is a file of 2,000 MB, more than 3 bytes for each of data.max_megapixels=100"):
        load(with_size(path, 2_000_000_000) / "a.jpg", (8, 8), "crop")


def test_a_damaged_file_is_a_bad_image_and_the_others_are_not(tmp_path, photo_folder):
    photo = (photo_folder(per_class=1, size=(16, 16)) / "cat" / "000.png").read_bytes()
    files = {"0.png": photo, "1.png": photo}
    path = make_zip(tmp_path / "x.zip", files, zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[content.rindex(photo) + len(photo) // 2] ^= 1
    path.write_bytes(content)
    assert load(path / "0.png", (8, 8), "crop").shape == (8, 8, 3)
    with pytest.raises(BadImageError, match=r"x\.zip/1\.png: cannot be read \(its checksum is wrong\)"):
        load(path / "1.png", (8, 8), "crop")


def test_a_file_that_says_to_be_larger_than_any_disk_is_told(tmp_path):
    info = zipfile.ZipInfo("a.png")
    info.extra = struct.pack("<HHQ", 1, 8, 2**64 - 1)  # the size, where the field of four bytes is full
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(info, b"1")
    assert "damaged ('a.png' has 18,446,744,073,709,551,615 bytes)" in refusal(with_size(tmp_path / "x.zip", 2**32 - 1))


def test_a_header_that_is_not_where_it_should_be_is_told(tmp_path):
    path = make_zip(tmp_path / "x.zip", {"a": TEXT})
    path.write_bytes(b"XX" + path.read_bytes()[2:])
    assert reason(path / "a") == "the archive does not hold it where it says"


@pytest.mark.parametrize("ending", [".zip", ".tar"])
def test_an_archive_that_is_cut_short_is_told(tmp_path, ending):
    whole = make(tmp_path / f"x{ending}", {f"{number}.png": os.urandom(300) for number in range(20)}).read_bytes()
    end = whole.rindex(b"PK\5\6") if ending == ".zip" else len(whole.rstrip(b"\0")) + 200  # of a tar, within the last file's block
    for size in (0, 10, 600, len(whole) // 2, end):
        path = tmp_path / f"{size}{ending}"
        path.write_bytes(whole[:size])
        if size == 0 and ending == ".tar":
            continue
        kind = "zip" if ending == ".zip" else "plain tar"
        text = refusal(path)
        assert f"is not a {kind} archive, or is damaged (" in text
        assert text.endswith("Copy or download it again.")


def test_damage_between_the_files_of_a_tar_does_not_lose_those_behind(tmp_path):
    path = make_tar(tmp_path / "x.tar", {f"{number}.png": TEXT for number in range(3)})
    content = bytearray(path.read_bytes())
    content[content.index(b"1.png")] ^= 1  # the header's checksum is wrong now
    path.write_bytes(content)
    assert "damaged (no header and no end at byte 10,752)" in refusal(path)


def test_two_tars_in_one_file_are_told(tmp_path):
    content = make_tar(tmp_path / "x.tar", {"a.png": TEXT}).read_bytes()
    (tmp_path / "x.tar").write_bytes(2 * content)
    assert "damaged (more behind its end at byte 10,752, as in several archives in one file)" in refusal(tmp_path / "x.tar")


@pytest.mark.parametrize("content", [b"\x1f\x8b" + bytes(2000), b"no archive" * 200, b"\xff\xd8\xff" + bytes(1000)])
def test_what_is_no_archive_is_told(tmp_path, content):
    for ending in (".zip", ".tar"):
        (tmp_path / f"x{ending}").write_bytes(content)
        assert "archive, or is damaged (" in refusal(tmp_path / f"x{ending}")


def test_links_of_a_tar_lead_to_its_own_files_or_nowhere(tmp_path):
    link, hard = tarfile.SYMTYPE, tarfile.LNKTYPE
    files = {
        "a/0.png": TEXT,
        "b/near.png": (link, "../a/0.png"),
        "b/hard.png": (hard, "a/0.png"),
        "b/chain.png": (link, "near.png"),
        "b/loop.png": (link, "loop.png"),
        "b/out.png": (link, "../../../../etc/passwd"),
        "b/absolute.png": (link, "/etc/passwd"),
        "b/folder": (link, "../a"),
        "b/pipe": (tarfile.FIFOTYPE, ""),
    }
    path = make_tar(tmp_path / "x.tar", files)
    assert [read(path / "b" / name) for name in ("near.png", "hard.png", "chain.png")] == [TEXT] * 3
    assert reason(path / "b/out.png") == "a link to '../../../etc/passwd', which is no file of the archive"
    assert reason(path / "b/absolute.png") == "a link to '/etc/passwd', which is no file of the archive"
    assert reason(path / "b/loop.png") == "a link to 'b/loop.png', which is no file of the archive"
    assert reason(path / "b/folder") == "a link to 'a', which is no file of the archive"
    assert reason(path / "b/pipe") == "a FIFO or device"
    assert not is_folder(path / "b/folder")


def test_symbolic_links_of_a_zip_are_not_followed(tmp_path):
    info = zipfile.ZipInfo("a.png")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    assert reason(tmp_path / "x.zip/a.png") == "a symbolic link, which is not followed in a zip archive"


def test_a_header_of_a_tar_that_claims_a_gigabyte_is_not_read(tmp_path):
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 2**30
    path = tmp_path / "x.tar"
    with path.open("wb") as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        file.truncate(2**31)
    assert "damaged (a header is too long)" in refusal(path)


def mutated(content, draws):
    """One of several kinds of damage."""
    content = bytearray(content)
    kind = draws.randrange(4)
    if kind == 0:
        for _ in range(draws.choice((1, 3, 20))):
            content[draws.randrange(len(content))] = draws.randrange(256)
    elif kind == 1:
        del content[draws.randrange(len(content)) :]
    elif kind == 2:
        start = draws.randrange(len(content))
        content[start:start] = content[draws.randrange(len(content)) :][: draws.randrange(200)]
    else:
        start = draws.randrange(len(content) - 8)
        content[start : start + draws.choice((2, 4, 8))] = draws.choice((b"\xff" * 8, bytes(8), b"\x80" + bytes(7)))[
            : draws.choice((2, 4, 8))
        ]
    return bytes(content)


def all_read(path):
    """What goes wrong when everything in an archive is read, and how many bytes come out."""
    archives._read.cache_clear()
    try:
        found = images_below(path)[0]
    except DataError as error:
        return [str(error)], 0
    size, said = 0, []
    for each in found:
        try:
            size += len(read(each))
        except OSError as error:
            said.append(error.strerror)
    return said, size


@pytest.mark.parametrize("ending", [".zip", ".tar"])
def test_damage_of_any_kind_ends_in_an_error_of_ours(tmp_path, ending):
    files = {f"{folder}/{number}.png": TEXT[: number * 100] for folder in "ab" for number in range(4)}
    whole = make(tmp_path / f"whole{ending}", files).read_bytes()
    draws, path, met = random.Random(0), tmp_path / f"x{ending}", set()
    for _ in range(400):
        path.write_bytes(mutated(whole, draws))
        said, size = all_read(path)
        assert size <= 1032 * len(whole)
        assert all(text and "\n" not in text for text in said)
        met.update(text.replace(str(path), "x") for text in said)
    assert len(met) > 5


def test_a_deflated_stream_of_any_damage_ends_in_an_error_of_ours(tmp_path):
    text = "".join(random.Random(0).choices("0123456789", k=3000)).encode()
    path, draws, met = make_zip(tmp_path / "x.zip", {"a.png": text}), random.Random(1), set()
    whole = path.read_bytes()
    for _ in range(300):
        content = bytearray(whole)
        content[draws.randrange(35, whole.index(b"PK\1\2"))] ^= 1 << draws.randrange(8)
        path.write_bytes(content)
        said, size = all_read(path)
        assert said or size == len(text)  # the last bits of a stream mean nothing
        met.update(said)
    assert met == {"it does not inflate", "its checksum is wrong", "it is shorter than it says"}


@pytest.mark.shared
def test_fifty_thousand_images_of_a_zip_are_listed():
    path = Path(__file__).parents[2] / ".." / "shared" / "data" / "cifar10_train.zip"
    found, left_out = images_below(path)
    assert (len(found), left_out) == (50_000, {})
    assert load(found[-1], (32, 32), "crop").shape == (32, 32, 3)
