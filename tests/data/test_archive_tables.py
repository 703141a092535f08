"""Tables of contents of any make; what cannot be read in place, is damaged or is an attack is told in one line."""

import os
import random
import tarfile
import zipfile

import pytest

from tl_keras.data import archives
from tl_keras.data.places import is_folder
from tl_keras.data.walk import images_below
from tl_keras.errors import DataError

TEXT = b"0123456789" * 1000


def test_names_of_old_zips_are_code_page_437_and_those_of_dos_have_backslashes(tmp_path, pack, read):
    content = bytearray(pack(tmp_path / "x.zip", {"a|gr_n.png": b"1"}, method=zipfile.ZIP_STORED).read_bytes())
    content = content.replace(b"gr_n", "grün".encode("cp437")).replace(b"|", b"\\")
    directory = content.index(b"PK\1\2")
    content[directory + 5] = 0  # made on DOS
    (tmp_path / "x.zip").write_bytes(content)
    assert read(tmp_path / "x.zip/a/grün.png") == b"1"


@pytest.mark.parametrize("name", ["grün", "gru\u0308n", "花"])
def test_names_that_are_utf_8_without_saying_so_are_read_as_that(tmp_path, pack, read, name):
    content = bytearray(pack(tmp_path / "x.zip", {f"{name}.png": b"1"}, method=zipfile.ZIP_STORED).read_bytes())
    for header, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(header) + flags + 1] &= ~8  # the bit that says it, as zip on Linux and macOS leave it
    (tmp_path / "x.zip").write_bytes(content)
    assert read(tmp_path / f"x.zip/{name}.png") == b"1"


def test_an_archive_behind_other_bytes_and_with_a_comment_is_read(tmp_path, pack, read):
    path = pack(tmp_path / "x.zip", {"a": TEXT})
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"a comment"
    path.write_bytes(b"#!/bin/sh\n" + path.read_bytes())
    assert read(path / "a") == TEXT


def test_encrypted_files_are_refused_by_name(tmp_path, pack, refusal):
    path = pack(tmp_path / "x.zip", {"a.png": b"1"}, method=zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    assert refusal(path).endswith("holds 'a.png', which is encrypted. Write the archive again without a password.")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_methods_are_refused_by_name(tmp_path, method, pack, refusal):
    text = refusal(pack(tmp_path / "x.zip", {"a.png": TEXT}, method=method))
    assert "holds 'a.png', which is compressed by " in text
    assert text.endswith("files that are stored or deflated are read. Unpack it, and pack it again with zip -r.")


def test_files_that_share_bytes_are_refused(tmp_path, pack, refusal):
    path = pack(tmp_path / "x.zip", {"a.png": TEXT, "b.png": TEXT}, method=zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    second = content.index(b"PK\1\2", content.index(b"PK\1\2") + 4)
    content[second + 42 : second + 46] = bytes(4)  # where its header lies: at that of the first
    path.write_bytes(content)
    assert "shares bytes with another one, as in a zip bomb." in refusal(path)


@pytest.mark.parametrize("ending", [".zip", ".tar"])
def test_an_archive_that_is_cut_short_is_told(tmp_path, ending, pack, refusal):
    whole = pack(tmp_path / f"x{ending}", {f"{number}.png": os.urandom(300) for number in range(20)}).read_bytes()
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


def test_damage_between_the_files_of_a_tar_does_not_lose_those_behind(tmp_path, pack, refusal):
    path = pack(tmp_path / "x.tar", {f"{number}.png": TEXT for number in range(3)})
    content = bytearray(path.read_bytes())
    content[content.index(b"1.png")] ^= 1  # the header's checksum is wrong now
    path.write_bytes(content)
    assert "damaged (no header and no end at byte 10,752)" in refusal(path)


def test_two_tars_in_one_file_are_told(tmp_path, pack, refusal):
    content = pack(tmp_path / "x.tar", {"a.png": TEXT}).read_bytes()
    (tmp_path / "x.tar").write_bytes(2 * content)
    assert "damaged (more behind its end at byte 10,752, as in several archives in one file)" in refusal(tmp_path / "x.tar")


@pytest.mark.parametrize("content", [b"\x1f\x8b" + bytes(2000), b"no archive" * 200, b"\xff\xd8\xff" + bytes(1000)])
def test_what_is_no_archive_is_told(tmp_path, content, refusal):
    for ending in (".zip", ".tar"):
        (tmp_path / f"x{ending}").write_bytes(content)
        assert "archive, or is damaged (" in refusal(tmp_path / f"x{ending}")


def test_links_of_a_tar_lead_to_its_own_files_or_nowhere(tmp_path, pack, read, reason):
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
    path = pack(tmp_path / "x.tar", files)
    assert [read(path / "b" / name) for name in ("near.png", "hard.png", "chain.png")] == [TEXT] * 3
    assert reason(path / "b/out.png") == "a link to '../../../etc/passwd', which is not a file in the archive"
    assert reason(path / "b/absolute.png") == "a link to '/etc/passwd', which is not a file in the archive"
    assert reason(path / "b/loop.png") == "a link to 'b/loop.png', which is not a file in the archive"
    assert reason(path / "b/folder") == "a link to 'a', which is not a file in the archive"
    assert reason(path / "b/pipe") == "a FIFO or device"
    assert not is_folder(path / "b/folder")


def test_symbolic_links_of_a_zip_are_not_followed(tmp_path, reason):
    info = zipfile.ZipInfo("a.png")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    assert reason(tmp_path / "x.zip/a.png") == "a symbolic link, which is not followed in a zip archive"


def test_a_header_of_a_tar_that_claims_a_gigabyte_is_not_read(tmp_path, refusal):
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


def all_read(path, read):
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
def test_damage_of_any_kind_ends_in_an_error_of_ours(tmp_path, ending, pack, read):
    files = {f"{folder}/{number}.png": TEXT[: number * 100] for folder in "ab" for number in range(4)}
    whole = pack(tmp_path / f"whole{ending}", files).read_bytes()
    draws, path, met = random.Random(0), tmp_path / f"x{ending}", set()
    for _ in range(400):
        path.write_bytes(mutated(whole, draws))
        said, size = all_read(path, read)
        assert size <= 1032 * len(whole)
        assert all(text and "\n" not in text for text in said)
        met.update(text.replace(str(path), "x") for text in said)
    assert len(met) > 5
