"""Which files are images: endings first, then bytes; what is left out is counted and told."""

import os
import subprocess
from collections import Counter

import pytest

from tl_keras.data import walk
from tl_keras.data.walk import images_below, left_out_lines

JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(20)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(24)
HEIC = b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic"


@pytest.fixture(autouse=True)
def _no_heic(monkeypatch):
    monkeypatch.setattr(walk, "reads_heic", lambda: False)


def put(root, **files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def test_bytes_decide_where_an_ending_does_not(tmp_path):
    images = {"a.jfif": JPEG, "b.JPE": JPEG, "c.mpo": JPEG, "d": PNG, "e.2020-01-02": PNG, "f.txt": JPEG, "deep/g": JPEG}
    others = {"h.txt": b"text", "i": b"", "j.dng": b"II*\0" + bytes(40), "k.heic": HEIC, "l": HEIC, "m.pdf": b"%PDF", "n.taken today": b"x"}
    put(tmp_path, **images, **others)
    put(tmp_path, **{".hidden": PNG, "deep/Thumbs.db": b"x"})
    os.mkfifo(tmp_path / "pipe")
    found, left_out = images_below(tmp_path)
    assert found == [tmp_path / name for name in ("a.jfif", "b.JPE", "c.mpo", "d", "deep/g", "e.2020-01-02", "f.txt")]
    numbers = {".txt": 1, "": 2, "special": 1, ".dng": 1, ".heic": 2, ".pdf": 1}
    assert left_out == {kind: Counter({"": number}) for kind, number in numbers.items()}


def test_heic_is_read_where_its_decoder_is_installed(tmp_path, monkeypatch):
    put(tmp_path, **{"a.heic": HEIC})
    assert images_below(tmp_path) == ([], {".heic": {"": 1}})
    monkeypatch.setattr(walk, "reads_heic", lambda: True)
    assert images_below(tmp_path) == ([tmp_path / "a.heic"], {})


def test_files_with_the_ending_of_an_image_are_not_opened(tmp_path, monkeypatch):
    put(tmp_path, **{"a.jpg": b"text"})
    monkeypatch.setattr(walk, "open_regular", lambda *_: pytest.fail("opened"))
    assert images_below(tmp_path) == ([tmp_path / "a.jpg"], {})


def test_fifos_sockets_and_links_to_them_are_left_out(tmp_path):
    put(tmp_path, **{"a.jpg": JPEG})
    os.mkfifo(tmp_path / "b.jpg")
    (tmp_path / "c.png").symlink_to("b.jpg")
    (tmp_path / "d.png").symlink_to("/dev/zero")
    (tmp_path / "e.png").symlink_to("gone")  # an image that does not decode, as one that was there when it was listed
    found, left_out = images_below(tmp_path)
    assert found == [tmp_path / "a.jpg", tmp_path / "e.png"]
    assert left_out_lines(left_out) == ["left out 3 files: 3 FIFOs, sockets or devices"]


@pytest.fixture
def deep_folder(tmp_path):
    """A folder with 1,200 folders in one another; Python 3.11's `shutil.rmtree` fails on it, so it does not outlive its test."""
    yield tmp_path
    subprocess.run(["rm", "-rf", "--", tmp_path / "a"], check=True)


@pytest.mark.slow
def test_folders_may_be_nested_a_thousand_deep(deep_folder):
    put(deep_folder, **{"z.jpg": JPEG})
    here = os.open(deep_folder, os.O_RDONLY)
    for _ in range(1_200):
        os.mkdir("a", dir_fd=here)
        inner = os.open("a", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(os.open("b.jpg", os.O_CREAT, dir_fd=here))
    os.close(here)
    found, _ = images_below(deep_folder)
    assert found == [deep_folder / "a/" / "/".join(["a"] * 1_199) / "b.jpg", deep_folder / "z.jpg"]


@pytest.mark.parametrize(
    ("left_out", "lines"),
    [
        ({}, []),
        ({".txt": {"": 1}}, ["left out 1 file: 1 .txt"]),
        (
            {".heic": {"ants": 6}, ".txt": {"ants": 1, "bees": 2}, "": {"beside the classes": 2}},
            [
                "left out 11 files: 6 .heic (ants 6), 3 .txt (bees 2, ants 1), 2 without an ending (beside the classes 2)",
                "to read .heic: pip install pillow-heif",
            ],
        ),
        ({".txt": dict.fromkeys("edcba", 1)}, ["left out 5 files: 5 .txt (a 1, b 1, c 1, ...)"]),
        ({f".{name}": {"": 1} for name in "abcdef"}, ["left out 6 files: 1 .a, 1 .b, 1 .c, 1 .d, 2 of other endings"]),
    ],
)
def test_what_is_told_of_files_left_out(left_out, lines):
    assert left_out_lines(left_out) == lines
