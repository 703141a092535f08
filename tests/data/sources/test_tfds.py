"""TFDS as class folders: written once and whole, bytes untouched; nothing is fetched that was not asked for."""

import socket
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tl_keras.config import DataConfig
from tl_keras.data.sources import open_source
from tl_keras.data.sources import tfds as tfds_source
from tl_keras.errors import DataError

NAMES = ("10", "tom cat", "wire/hair")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A prepared TFDS set of JPEG and PNG files: its folder, and the bytes of each split and class."""
    import tensorflow_datasets as tfds

    folder = tmp_path_factory.mktemp("tfds")
    sizes = {"train": 4, "validation": 1, "test": 2}
    rng = np.random.default_rng(0)
    written, examples = {}, {}
    for split, number in sizes.items():
        examples[split] = []
        for label, name in enumerate(NAMES):
            for i in range(number):
                file = folder / f"{split}{label}{i}.{'jpeg' if i % 2 else 'png'}"
                Image.fromarray(rng.integers(0, 256, (8, 9, 3), np.uint8)).save(file)
                written.setdefault((tfds_source.TFDS_SPLITS[split], name.replace("/", "_")), set()).add(file.read_bytes())
                examples[split].append({"image": str(file), "label": name})
    examples["extra"] = examples["test"]
    features = tfds.features.FeaturesDict({"image": tfds.features.Image(), "label": tfds.features.ClassLabel(names=NAMES)})
    builder = store(folder / "data", "tiny_cats", features, examples)
    return Path(builder.data_dir), written


def store(folder, name, features, examples):
    import tensorflow_datasets as tfds

    return tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version="1.0.0",
        features=features,
        split_datasets={split: list(enumerate(rows)) for split, rows in examples.items()},
        data_dir=str(folder),
        disable_shuffling=True,
    )


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


class SlowBuilder:
    """In the place of a TFDS builder whose data are not on disk."""

    def __init__(self, folder, download):
        self.data_dir = str(folder)
        self.download_and_prepare = download


def download(monkeypatch, folder, fetch, timeout_s=5.0):
    monkeypatch.setattr("tensorflow_datasets.builder", lambda *_, **__: SlowBuilder(folder, fetch))
    with pytest.raises(DataError) as caught:
        tfds_source.named_tfds("tf_flowers", download=True, timeout_s=timeout_s)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("mnist", True),
        ("tf_flowers:3.0.1", True),
        ("cifar10_corrupted/brightness_1:1.0.0", True),
        ("Data", False),
        ("a/b/c", False),
        ("./mnist", False),
        ("/mnist", False),
        ("~", False),
        ("my data", False),
    ],
)
def test_the_form_of_a_tfds_name(source, expected):
    assert tfds_source.looks_like_tfds(source) is expected


@pytest.mark.slow
def test_a_prepared_folder_becomes_class_folders_of_the_same_bytes(prepared, own_cache, no_network):
    folder, written = prepared
    index = open_source(DataConfig(source=str(folder)))
    assert index.root.parent == own_cache / "tfds"
    assert index.root.name.startswith("tiny_cats-1.0.0-")
    assert index.classes == ("10", "tom cat", "wire_hair")
    found = {}
    for path, label, split in zip(index.paths, index.labels, index.given, strict=True):
        found.setdefault((split, index.classes[label]), set()).add((index.root / path).read_bytes())
    assert found == written
    assert {Path(path).suffix for path in index.paths} == {".png", ".jpeg"}


def test_a_prepared_set_is_unpacked_once(prepared, own_cache, monkeypatch):
    tfds_source.prepared_tfds(prepared[0])
    monkeypatch.setattr(tfds_source, "_write_tfds", lambda *_: pytest.fail("written again"))
    tfds_source.prepared_tfds(prepared[0])


def test_a_set_on_disk_is_found_by_name(prepared, own_cache, monkeypatch, no_network):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared[0].parents[1]))
    index = open_source(DataConfig(source="tiny_cats"))
    assert len(index.paths) == 21


def test_unlabelled_examples_are_left_out(tmp_path, own_cache, photo_folder):
    import tensorflow_datasets as tfds

    file = str(photo_folder() / "cat/000.png")
    features = tfds.features.FeaturesDict({"image": tfds.features.Image(), "label": tfds.features.ClassLabel(names=("a", "b"))})
    train = [{"image": file, "label": label} for label in ("a", "b")]
    builder = store(tmp_path / "data", "half_labelled", features, {"train": train, "test": [{"image": file, "label": -1}]})
    index = open_source(DataConfig(source=str(builder.data_dir)))
    assert index.given == ("train", "train")


@pytest.mark.parametrize(
    ("data", "ending"), [(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + b"\0\0\xff\xff" * 2 + b"\x08\2\0\0\0", "png"), (b"", "jpg"), (b"text", "jpg")]
)
def test_an_image_is_named_by_its_first_bytes_however_large_it_says_it_is(data, ending, tmp_path):
    tfds_source._write_image(tmp_path, "1", data)
    assert (tmp_path / f"1.{ending}").read_bytes() == data


def test_a_set_without_classes(tmp_path, own_cache):
    import tensorflow_datasets as tfds

    features = tfds.features.FeaturesDict({"image": tfds.features.Image(), "label": tfds.features.Text()})
    examples = {"train": [{"image": np.zeros((4, 4, 3), np.uint8), "label": "x"}]}
    builder = store(tmp_path / "data", "captions", features, examples)
    with pytest.raises(DataError, match=r"captions/1\.0\.0: holds image, label; a classifier needs an 'image' and a class 'label'\."):
        tfds_source.prepared_tfds(Path(builder.data_dir))


def test_a_set_without_train(tmp_path, own_cache):
    import tensorflow_datasets as tfds

    features = tfds.features.FeaturesDict({"image": tfds.features.Image(), "label": tfds.features.ClassLabel(num_classes=2)})
    examples = {"test": [{"image": np.zeros((4, 4, 3), np.uint8), "label": 1}]}
    builder = store(tmp_path / "data", "only_test", features, examples)
    with pytest.raises(DataError, match=r"only_test/1\.0\.0: has no split 'train' \(it has test\)\."):
        tfds_source.prepared_tfds(Path(builder.data_dir))


@pytest.mark.filterwarnings("default")  # TFDS leaves the reader's files to the garbage collector
def test_a_prepared_folder_that_is_damaged(prepared, tmp_path, own_cache):
    import shutil

    broken = tmp_path / "tiny_cats/1.0.0"
    shutil.copytree(prepared[0], broken)
    for file in broken.glob("*train.tfrecord*"):
        file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"1\.0\.0: cannot be read \(.*\)\. Prepare the set with TFDS again\."):
        tfds_source.prepared_tfds(broken)
    assert not list(own_cache.glob("tfds/*"))
    (broken / "dataset_info.json").write_text("{")
    with pytest.raises(DataError, match=r"1\.0\.0: is not a complete TFDS data set \(.*\)\. Prepare it again\."):
        tfds_source.prepared_tfds(broken)


@pytest.fixture
def empty_tfds(tmp_path, monkeypatch, no_network):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    return tmp_path / "tfds"


def test_an_unknown_name_gets_the_nearest(empty_tfds):
    with pytest.raises(DataError, match=r"^tf_flower: no such folder, and no TFDS data set of that name\. Did you mean 'tf_flowers'\?$"):
        tfds_source.named_tfds("tf_flower", download=False, timeout_s=1)
    with pytest.raises(DataError, match=r"of that name\. Give a folder of class folders, 'digits' or a TFDS name\.$"):
        tfds_source.named_tfds("qqqqqqqqqqqq", download=True, timeout_s=1)


def test_a_known_name_that_is_not_on_disk(empty_tfds):
    with pytest.raises(DataError) as caught:
        tfds_source.named_tfds("tf_flowers", download=False, timeout_s=1)
    expected = f"tf_flowers: a TFDS data set that is not on disk (looked in {empty_tfds}/tf_flowers/3.0.1). Add --set data.download=true"
    assert str(caught.value).startswith(expected)


@pytest.mark.parametrize("name", ["tf_flowers:9.9.9", "tf_flowers/sunny"])
def test_a_version_or_configuration_that_there_is_not(empty_tfds, name):
    with pytest.raises(DataError, match=rf"^{name}: TFDS cannot open it \(.*\)\.$"):
        tfds_source.named_tfds(name, download=True, timeout_s=1)


def test_a_download_that_fails(tmp_path, monkeypatch):
    def fetch():
        raise ConnectionError("no route\nto host")

    expected = "tf_flowers: the download failed (ConnectionError: no route). Is there a network?"
    assert download(monkeypatch, tmp_path, fetch) == expected


def test_a_download_that_takes_too_long(tmp_path, monkeypatch):
    done = threading.Event()
    message = download(monkeypatch, tmp_path, lambda: done.wait(20), timeout_s=0.1)
    done.set()
    assert message.startswith("tf_flowers: the download took more than 0.1 s. Raise data.download_timeout_s")


def test_a_download_that_succeeds_is_unpacked(prepared, tmp_path, own_cache, monkeypatch):
    import shutil

    import tensorflow_datasets as tfds

    target = tmp_path / "tiny_cats/1.0.0"
    whole = tfds.builder_from_directory(str(prepared[0]))
    builder = SlowBuilder(target, lambda: shutil.copytree(prepared[0], target))
    builder.info, builder.as_dataset = whole.info, whole.as_dataset
    monkeypatch.setattr(tfds_source, "require_inside", lambda *_: None)  # the shards that it names are those of the first
    monkeypatch.setattr("tensorflow_datasets.builder", lambda *_, **__: builder)
    config = DataConfig(source="tiny_cats", download=True)
    assert len(open_source(config).paths) == 21
