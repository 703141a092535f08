"""Shards as a source: the same index as class folders of the same images, paths that open, and what is refused."""

import os
import shutil
from collections import Counter

import numpy as np
import pytest

from tl_keras.config import DataConfig
from tl_keras.data.file_ids import file_id, id_of
from tl_keras.data.shards import reading
from tl_keras.data.sources import check_layout_of, find_root, open_labelled, open_source
from tl_keras.errors import DataError, UnknownClassError
from tl_keras.progress import Progress

KINDS = ["cls", "json", "folders", "tfrecord", "array_record"]


def config_of(folder):
    return DataConfig(source=str(folder))


def refused(folder, check=lambda config: open_source(config)):
    with pytest.raises(DataError) as caught:
        check(config_of(folder))
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(folder), "FOLDER")


def content(index):
    """Each image once for each time that it is there: what it is, its class, its split."""
    splits = [""] * len(index.paths) if index.given is None else index.given
    names = [index.classes[label] for label in index.labels]
    return Counter(zip(index.ids.tolist(), names, splits, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_shards_hold_what_class_folders_of_the_same_images_hold(tmp_path, photo_folder, shards, read, kind):
    photos = photo_folder(("cat", "dog", "emu"), 4, splits=("train", "val", "test"))
    index = open_source(config_of(shards(kind, tmp_path / "shards", photos)))
    expected = open_source(config_of(photos)).identified(Progress())
    assert index.classes == expected.classes
    assert content(index) == content(expected)
    for row, path in enumerate(index.paths):
        image = read(index.root / path)
        assert id_of(image) == index.ids[row] == file_id(index.root / path)
    assert (index.identify(Progress()) == index.ids).all()
    known = open_labelled(config_of(tmp_path / "shards"), ("ant", "cat", "dog", "emu"))
    assert {path.split("-")[0] for path in known.paths} == {"test"}
    assert (known.labels > 0).all()
    assert known.given is None
    with pytest.raises(UnknownClassError, match="a class 'emu', which the model does not know"):
        open_labelled(config_of(tmp_path / "shards"), ("cat", "dog"))
    assert find_root(config_of(tmp_path / "shards")) == tmp_path / "shards"


def test_without_splits_in_their_names_they_are_cut(tmp_path, photo_folder, shards):
    folder = shards("cls", tmp_path / "shards", photo_folder(splits=("some",)))
    assert open_source(config_of(folder)).given is None
    (folder / "train-0.tar").write_bytes((folder / "some-000.tar").read_bytes())
    assert refused(folder, check_layout_of) == (
        "FOLDER: the name of some-000.tar says no split (train, val, test), and that of train-0.tar does. Rename one."
    )
    for file in folder.glob("some-*"):
        file.rename(folder / file.name.replace("some", "validation"))
    (folder / "train-0.tar").unlink()
    assert refused(folder, check_layout_of) == "FOLDER: has shards of val, but none of train. Add some, such as train-000000.tar."


def test_shards_may_lie_in_folders_of_splits(tmp_path, photo_folder, shards):
    flat = shards("cls", tmp_path / "flat", photo_folder(splits=("train", "test")))
    for split in ("train", "test"):
        (tmp_path / "deep" / split).mkdir(parents=True)
        for file in flat.glob(f"{split}-*"):
            shutil.copy(file, tmp_path / "deep" / split / file.name.removeprefix(f"{split}-"))
    found, expected = (open_source(config_of(tmp_path / name)) for name in ("deep", "flat"))
    assert content(found) == content(expected)
    assert found.paths[0] == "train/000.tar/000.png"


def test_one_shard_alone_is_told_what_to_give(tmp_path):
    (tmp_path / "x.tfrecord").touch()
    assert refused(tmp_path / "x.tfrecord", check_layout_of) == f"FOLDER: is one shard. Give the folder that holds it, {tmp_path}."


def test_a_folder_of_class_folders_is_not_one_of_shards(tmp_path, photo_folder):
    photos = photo_folder()
    (photos / "backup.tar").touch()
    assert open_source(config_of(photos)).classes == ("cat", "dog")


def test_numbers_are_named_by_a_file_beside_the_shards(tmp_path, photo_folder, pack):
    image = next(photo_folder().glob("cat/*.png")).read_bytes()
    folder = tmp_path / "shards"
    folder.mkdir()
    pack(
        folder / "0.tar",
        {f"{number}.{end}": image if end == "png" else str(number % 3).encode() for number in range(6) for end in ("png", "cls")},
    )
    assert open_source(config_of(folder)).classes == ("0", "1", "2")
    (folder / "classes.txt").write_text("wolf\nant\ncat\n")
    index = open_source(config_of(folder))
    assert index.classes == ("ant", "cat", "wolf")
    assert [index.classes[label] for label in index.labels] == ["wolf", "ant", "cat"] * 2
    (folder / "classes.txt").write_text("wolf\nant\n")
    assert refused(folder).endswith(
        "classes.txt: names 2 classes, the first of them number 0, and an image is of class 2. Add the others; if the numbers begin with "
        "1, also a first line for 0, such as 'none'."
    )
    (folder / "classes.txt").write_text("crane\nant\ncrane\n")  # a bird and a machine
    assert refused(folder).endswith("classes.txt: names several classes 'crane'. Give each a name of its own, such as 'crane 2'.")


def test_a_number_that_a_record_names_too_is_named_by_a_file_or_by_the_record(tmp_path, photo_folder, example, tfrecord):
    image = next(photo_folder().glob("cat/*.png")).read_bytes()
    folder = tmp_path / "shards"
    folder.mkdir()
    texts = ["background", "ant", "crane", "crane"]
    write = lambda numbers, name="0.tfrecord": tfrecord(  # noqa: E731
        folder / name,
        [example({"image/encoded": image, "image/class/text": texts[label].encode(), "image/class/label": label}) for label in numbers],
    )
    write([2, 1, 2])
    assert open_source(config_of(folder)).classes == ("ant", "crane")
    texts[2] = ""
    write([1, 2])
    texts[2] = "crane"
    write([2], "1.tfrecord")
    assert open_source(config_of(folder)).classes == ("ant", "crane")  # an image with the number alone is of the class of that number
    texts[2] = "Kranich"
    write([1, 2])
    assert refused(folder).startswith("FOLDER: its records give the number 2 the names 'Kranich' and 'crane'. Write classes.txt beside")
    (folder / "1.tfrecord").unlink()
    texts[2] = "crane"
    write([2, 1, 3, 2, 1])
    assert refused(folder) == (
        "FOLDER: its records give the name 'crane' to the numbers 2 and 3. Write classes.txt beside the shards: the name of each class, "
        "one a line, the first for number 0."
    )
    (folder / "classes.txt").write_text("background\nant\ncrane (bird)\ncrane (machine)\n")
    index = open_source(config_of(folder))
    assert [index.classes[label] for label in index.labels] == ["crane (bird)", "ant", "crane (machine)", "crane (bird)", "ant"]
    tfrecord(folder / "1.tfrecord", [example({"image/encoded": image, "image/class/text": b"emu", "image/class/label": -1})])
    assert refused(folder).endswith("but some images have the label 'emu' and no number. Remove the file.")


def test_a_shard_is_read_once(tmp_path, photo_folder, shards, monkeypatch):
    folder = shards("cls", tmp_path / "shards", photo_folder(splits=("train",)))
    read = []
    plain = reading.SAMPLES["webdataset"]
    monkeypatch.setitem(reading.SAMPLES, "webdataset", lambda file, size: read.append(file.path) or plain(file, size))
    first = open_source(config_of(folder))
    assert sorted(read) == [str(path) for path in sorted(folder.iterdir())]
    again = open_source(config_of(folder))
    assert again.paths == first.paths
    assert len(read) == len(set(read))
    os.utime(folder / "train-001.tar", (1, 1))
    open_source(config_of(folder))
    assert read[-1] == str(folder / "train-001.tar")
    assert len(read) == len(set(read)) + 1


def test_a_killed_index_keeps_the_shards_that_were_read(tmp_path, own_store, photo_folder, shards, monkeypatch):
    folder = shards("cls", tmp_path / "shards", photo_folder(splits=("train",)))
    plain, read = reading.SAMPLES["webdataset"], []

    def killed(file, size):
        read.append(file.path)
        yield from plain(file, size)
        if len(read) == 2:
            raise KeyboardInterrupt

    monkeypatch.setitem(reading.SAMPLES, "webdataset", killed)
    with pytest.raises(KeyboardInterrupt):
        open_source(config_of(folder))
    assert [path.suffix for path in (own_store.parent / "shards").iterdir()] == [".table"]
    open_source(config_of(folder))
    assert read.count(read[0]) == 1
    assert read.count(read[1]) == 2


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "train.tfrecord.gz", "a-00000-of-00010.gz", "a.array_record.zst"])
def test_compressed_shards_are_refused_by_their_names(tmp_path, name):
    (tmp_path / name).touch()
    said = refused(tmp_path, check_layout_of)
    assert said.startswith(f"FOLDER/{name}: is compressed as a whole")
    assert (f"gunzip FOLDER/{name}" in said) == name.endswith("gz")


def test_images_without_a_label_are_counted(tmp_path, photo_folder, example, tfrecord):
    image = next(photo_folder().glob("cat/*.png")).read_bytes()
    tfrecord(tmp_path / "x-00000-of-00001", [example({"image": image, "label": label}) for label in (0, 1, -1, 1)])
    index = open_source(config_of(tmp_path))
    assert (index.labels.tolist(), index.ignored) == ([0, 1, 1], {"images without a label": {"x-00000-of-00001": 1}})
    assert index.paths == tuple(f"x-00000-of-00001/{number:08d}.png" for number in (0, 1, 3))


def test_one_label_is_too_few(tmp_path, photo_folder, example, tfrecord):
    image = next(photo_folder().glob("cat/*.png")).read_bytes()
    tfrecord(tmp_path / "x.tfrecord", [example({"image": image, "label": 4})])
    assert refused(tmp_path) == "FOLDER: its images have one label only ('4'); a classifier needs at least 2 classes."
    tfrecord(tmp_path / "x.tfrecord", [])
    assert refused(tmp_path) == "FOLDER: none of its shards holds an image with a label."


def test_labels_are_one_for_each_image_as_an_index_has_them(tmp_path, photo_folder, shards):
    index = open_source(config_of(shards("json", tmp_path / "shards", photo_folder(splits=("train",)))))
    assert index.labels.dtype == np.int32
    assert index.ids.shape == (len(index.paths),)
