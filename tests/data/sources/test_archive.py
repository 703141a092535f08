"""An archive as a source: where its class folders are looked for, and what is said of one that cannot be read in place."""

import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tl_keras.config import DataConfig
from tl_keras.data.sources import absolute_source, check_layout_of, check_source, find_root, is_there, open_labelled, open_source
from tl_keras.errors import DataError


def make_zip(path, *names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    return path


def class_folders(*folders):
    return [f"{folder}/{number}.png" for folder in folders for number in range(3)]


def config_of(path):
    return DataConfig(source=str(path))


def error_of(path):
    with pytest.raises(DataError) as caught:
        check_layout_of(config_of(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("folders", "top"),
    [
        (("a", "b"), ""),
        (("photos/a", "photos/b"), "photos"),
        (("x/y/photos/a", "x/y/photos/b"), "x/y/photos"),
        (("train/a", "train/b"), ""),
        (("photos/train/a", "photos/train/b", "photos/test/a", "photos/test/b"), "photos"),
        (("photos/Train/a", "photos/Train/b"), "photos"),
        (("photos/a", "photos/b", "__MACOSX/photos/a", ".hidden/c"), "photos"),
    ],
)
def test_an_only_folder_is_gone_down(tmp_path, folders, top):
    path = make_zip(tmp_path / "x.zip", "README.txt", *class_folders(*folders))
    index = open_source(config_of(path))
    assert (index.root, index.classes) == (path / top if top else path, ("a", "b"))
    check_layout_of(config_of(path))


@pytest.mark.parametrize(("prefix", "top"), [("", ""), ("photos/", "photos"), ("x/photos/", "x/photos"), ("photos/train/", "photos")])
def test_nested_classes_are_not_gone_down_into(tmp_path, prefix, top):
    path = make_zip(tmp_path / "x.zip", *class_folders(f"{prefix}animal/cat", f"{prefix}animal/dog"))
    index = open_source(DataConfig(source=str(path), nested_classes=True))
    assert (index.root, index.classes) == (path / top if top else path, ("animal/cat", "animal/dog"))


def test_an_archive_and_its_folder_have_the_same_index(tmp_path):
    names = class_folders("photos/train/b/deep", "photos/train/a", "photos/val/a", "photos/val/b")
    path = make_zip(tmp_path / "x.zip", *names)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path)
    with tarfile.open(tmp_path / "x.tar", "w:") as archive:
        archive.add(tmp_path / "photos", "./photos")
    folder = open_source(config_of(tmp_path / "photos"))
    for source in (path, tmp_path / "x.tar", tmp_path / "x.tar/photos", path / "photos"):
        found = open_source(config_of(source))
        assert (found.classes, found.paths, found.given) == (folder.classes, folder.paths, folder.given)
        np.testing.assert_array_equal(found.labels, folder.labels)


def test_a_class_alone_is_enough_for_a_model_that_knows_it(tmp_path):
    path = make_zip(tmp_path / "x.zip", *class_folders("photos/a"))
    index = open_labelled(config_of(path), ("a", "b"))
    assert (index.root, index.paths) == (path / "photos", ("a/0.png", "a/1.png", "a/2.png"))


def test_layouts_are_refused_as_those_on_the_disk_are(tmp_path):
    path = make_zip(tmp_path / "x.zip", *class_folders("a"))
    assert error_of(path) == f"{path}: one class only ('a'); a classifier needs at least 2 class folders."
    assert error_of(make_zip(tmp_path / "y.zip", "a.png")).startswith(f"{tmp_path / 'y.zip'}: no class folders found. It holds images")
    assert "hold the same folders" in error_of(make_zip(tmp_path / "z.zip", *class_folders("a/train", "a/test", "b/train", "b/test")))


@pytest.mark.parametrize(
    ("name", "command"),
    [("a.tar.gz", "gunzip --keep"), ("a.TGZ", "gunzip --keep"), ("a.tar.bz2", "bunzip2 --keep"), ("a.txz", "unxz --keep")],
)
def test_a_compressed_tar_is_refused_with_what_makes_a_plain_one(tmp_path, name, command):
    path = tmp_path / name
    path.touch()
    with pytest.raises(DataError) as caught:
        check_source(config_of(path))
    assert str(caught.value) == (
        f"{path}: is a compressed tar archive, of which no file can be read without unpacking all before it. "
        f"Make a plain one: {command} {path}. Then give that, or a .zip file, or a folder."
    )


def test_what_is_no_archive_is_told_before_anything_is_read(tmp_path):
    path = tmp_path / "x.zip"
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(DataError, match=r"x\.zip: is not a zip archive, or is damaged \(File is not a zip file\)"):
        check_source(config_of(path))


def test_a_folder_that_an_archive_does_not_hold(tmp_path):
    path = make_zip(tmp_path / "x.zip", *class_folders("photos/a", "photos/b"))
    assert error_of(path / "fotos") == f"{path}/fotos: no such folder. Give a folder of class folders, 'digits' or a TFDS name."


def test_an_archive_is_found_from_any_folder_later(tmp_path, monkeypatch):
    path = make_zip(tmp_path / "x.zip", *class_folders("photos/a", "photos/b"))
    monkeypatch.chdir(tmp_path)
    assert absolute_source("x.zip") == str(path)
    assert absolute_source("x.zip/photos") == str(path / "photos")
    assert (is_there("x.zip/photos"), is_there("x.zip/fotos"), is_there("y.zip")) == (True, False, False)
    assert find_root(config_of("x.zip")) == Path("x.zip/photos")
