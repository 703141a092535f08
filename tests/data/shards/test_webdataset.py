"""Tar files of WebDataset: which files are samples, what their labels are, and what is refused."""

import tarfile

import pytest

from tl_keras.data.read_at import PlacedFile
from tl_keras.data.shards.webdataset import webdataset_samples
from tl_keras.errors import DataError


def samples(path):
    return list(webdataset_samples(PlacedFile(str(path)), path.stat().st_size))


def test_images_have_the_labels_of_their_samples(tmp_path, pack):
    files = {
        "b.jpg": b"1", "b.cls": b"dog\n", "b.txt": b"a caption",
        "a.json": b'{"label": 3}', "a.left.png": b"22", "a.right.JPG": b"333",
        "cat/c.webp": b"4444", "cat/c.json": b'{"width": 5}',
        "dog/._d.jpg": b"5", ".e.jpg": b"6", "f.cls": b"7", "g.mp4": b"8",
        "cat/h.jfif": b"11", "cat/i.AVIF": b"12", "cat/README": b"13",
        "u.jpg": b"9", "u.json": b'{"label": -1}', "v.jpg": b"10", "v.cls": b"-1",
    }  # fmt: skip
    path = pack(tmp_path / "x.tar", files)
    found = samples(path)
    assert [(each.name, each.label) for each in found] == [
        ("b.jpg", "dog"),
        ("a.left.png", "3"),
        ("a.right.JPG", "3"),
        ("cat/c.webp", "cat"),
        ("cat/h.jfif", "cat"),
        ("cat/i.AVIF", "cat"),
        ("u.jpg", None),
        ("v.jpg", None),
    ]
    for each in found:
        assert path.read_bytes()[each.start : each.start + each.size] == each.image == files[each.name]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"train/cat/a.jpg": b"1"}, "no train/cat/a.cls or train/cat/a.json, and train/cat is a folder in another one"),
        ({"a.jpg": b"1"}, r"its image 'a.jpg' has no label: no a.cls or a.json"),
        ({"a.jpg": b"1", "a.cls": b"  "}, r"its file 'a.cls' holds no label \('' is not"),
        ({"a.jpg": b"1", "a.json": b"[" * 100_000}, "its file 'a.json' holds no label"),
        ({"a.jpg": b"1", "a.json": b'{"label": true}'}, "its file 'a.json' holds no label, expected 'label' to be"),
        ({"a.jpg": b"1", "a.cls": b"1" * (2**20 + 1)}, "has 1,048,577 bytes, more than any"),
        ({"a/b.jpg": (tarfile.SYMTYPE, "../../etc/passwd")}, "its file 'a/b.jpg' is a link to"),
        ({"a/b.jpg": (tarfile.FIFOTYPE, "")}, "its file 'a/b.jpg' is a FIFO or device"),
    ],
)
def test_what_cannot_be_read_is_told(tmp_path, pack, files, said):
    with pytest.raises(ValueError, match=said):
        samples(pack(tmp_path / "x.tar", files))


@pytest.mark.parametrize("name", ["../a.jpg", "/a.jpg"])
def test_names_that_lead_out_are_refused(tmp_path, pack, name):
    with pytest.raises(DataError, match="would lie outside"):
        samples(pack(tmp_path / "x.tar", {name: b"1", "a.cls": b"1"}))


def test_a_tar_that_was_cut_short_is_refused(tmp_path, pack):
    path = pack(tmp_path / "x.tar", {f"cat/{number}.jpg": bytes(1000) for number in range(30)})
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(DataError, match="is not a plain tar archive, or is damaged"):
        samples(path)
