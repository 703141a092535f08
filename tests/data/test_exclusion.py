"""Images on a list are left out of train and val, and nothing else moves."""

from pathlib import Path

import numpy as np
import pytest

from tl_keras.config import DataConfig
from tl_keras.data import dataset
from tl_keras.data.exclusion import excluded
from tl_keras.data.found import tell_found
from tl_keras.data.index import Index
from tl_keras.errors import DataError


@pytest.fixture
def index() -> Index:
    paths = tuple(f"{name}/{number}.jpg" for name in ("cat", "dog") for number in range(10))
    return Index(root=Path("photos"), classes=("cat", "dog"), paths=paths, labels=np.repeat(np.arange(2, dtype=np.int32), 10))


def listing(folder: Path, *paths: str, header: str = "path,fault") -> str:
    file = folder / "exclude.csv"
    file.write_text("\n".join([header, *(f"{path},blank" for path in paths)]), encoding="utf-8")
    return str(file)


def test_train_and_val_lose_what_is_listed_and_test_keeps_it(index: Index, tmp_path: Path) -> None:
    before = dataset.cut(index, DataConfig(), {})
    listed = [index.paths[np.flatnonzero((before == split) & (index.labels == 0))[0]] for split in ("train", "test")]
    after = dataset.cut(index, DataConfig(exclude=listing(tmp_path, *listed)), {})
    expected = before.copy()
    expected[index.paths.index(listed[0])] = ""
    np.testing.assert_array_equal(after, expected)


def test_a_class_that_has_nothing_left_is_named(index: Index, tmp_path: Path) -> None:
    config = DataConfig(exclude=listing(tmp_path, *(path for path in index.paths if path.startswith("dog"))))
    with pytest.raises(DataError, match=r"data.exclude: leaves 0 images of class 'dog' in train, expected at least 2"):
        dataset.cut(index, config, {})


def test_what_is_left_out_is_said(index: Index, tmp_path: Path, heard) -> None:  # type: ignore[no-untyped-def]
    split = dataset.cut(index, DataConfig(), {})
    listed = [index.paths[np.flatnonzero(split == name)[0]] for name in ("train", "test")]
    tell_found(index, DataConfig(source="photos", exclude=listing(tmp_path, *listed)), heard)
    assert "data.exclude: 1 image is left out; 1 more is in test, which keeps it" in heard.lines


def test_a_list_of_other_images_is_said(index: Index, tmp_path: Path, heard) -> None:  # type: ignore[no-untyped-def]
    tell_found(index, DataConfig(source="photos", exclude=listing(tmp_path, "bird/0.jpg")), heard)
    assert "data.exclude: none of its paths matches an image here" in heard.lines


def test_a_byte_order_mark_and_other_columns_do_no_harm(index: Index, tmp_path: Path) -> None:
    assert excluded(index, listing(tmp_path, "cat/3.jpg", header="\ufeffpath,fault")).tolist().index(True) == 3


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (None, r"data.exclude: .*exclude.csv cannot be read \(No such file or directory\). Give a CSV file with a column 'path'."),
        ("file,fault\n", r"data.exclude: .*exclude.csv has no column 'path' \(its first line is file,fault\)."),
        ("", r"has no column 'path' \(its first line is empty\)"),
    ],
)
def test_a_list_that_is_none_is_refused(index: Index, tmp_path: Path, write: str | None, message: str) -> None:
    file = tmp_path / "exclude.csv"
    if write is not None:
        file.write_text(write, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        excluded(index, str(file))
