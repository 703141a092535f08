"""The target domain: with labels or without, and what is no target."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tl_keras.config import DataConfig
from tl_keras.data.index import UNLABELLED
from tl_keras.data.sources import open_source
from tl_keras.data.target import LEAST_IMAGES, check_target, open_target, require_another
from tl_keras.errors import ConfigError, DataError
from tl_keras.progress import Progress

CLASSES = ("ant", "bee", "fly")


@pytest.fixture(scope="module")
def photos(photo_folder: Callable[..., Path]) -> Path:
    return photo_folder(classes=CLASSES, per_class=10, size=(16, 16))


def opened(target: Path | str | None, photos: Path, heard: Any = None) -> Any:
    config = DataConfig(source=str(photos))
    return open_target(config, None if target is None else str(target), open_source(config), heard or Progress())


@pytest.fixture
def loose(photos: Path, tmp_path: Path) -> Path:
    """The same photos in one folder, and a text beside them."""
    folder = tmp_path / "loose"
    folder.mkdir()
    for number, path in enumerate(sorted(photos.rglob("*.*"))):
        shutil.copy(path, folder / f"{number}{path.suffix}")
    (folder / "notes.txt").write_text("x")
    return folder


def test_a_folder_of_images_has_no_labels(photos: Path, loose: Path, heard: Any) -> None:
    found = opened(loose, photos, heard)
    assert len(found.paths) == 30
    assert found.classes == CLASSES
    assert (found.labels == UNLABELLED).all()
    assert any(line.startswith("target: ") and ".txt" in line for line in heard.lines)


def test_class_folders_have_labels_that_are_positions_in_the_source_s_classes(photos: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(photos, tmp_path / "copy"))
    shutil.rmtree(copy / "ant")
    found = opened(copy, photos)
    assert np.unique(found.labels).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "fly").rename(folder / "wasp"), "has a class 'wasp', which the model does not know."),
        (lambda folder: [path.unlink() for path in folder.glob("[ab]*/*")], "holds 10 images, and fewer than"),
    ],
)
def test_a_target_that_cannot_serve_is_one_line(change: Callable[[Path], Any], words: str, photos: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(photos, tmp_path / "copy"))
    change(copy)
    with pytest.raises(DataError) as caught:
        opened(copy, photos)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_of_unlabelled_images_below_the_target_is_told_where_to_go(loose: Path, photos: Path) -> None:
    with pytest.raises(DataError, match=r"class 'loose'.*Images without labels go straight into the folder that --target names\."):
        opened(loose.parent, photos)


def test_it_is_said_that_only_test_is_read(photos: Path, tmp_path: Path, heard: Any) -> None:
    for split in ("train", "test"):
        shutil.copytree(photos, tmp_path / "split" / split)
    assert len(opened(tmp_path / "split", photos, heard).paths) == 30
    assert heard.lines == ["target: of its folders train, val and test only test is read"]
    opened(photos, photos, heard)
    assert len(heard.lines) == 1


def test_no_target_and_one_that_is_not_there(photos: Path) -> None:
    config = DataConfig(source=str(photos))
    with pytest.raises(ConfigError, match=r"^adapt.target: got none. Give the images of the target domain: --target FOLDER"):
        check_target(config, None)
    with pytest.raises(DataError, match="no such folder"):
        check_target(config, str(photos / "nowhere"))


def test_the_source_itself_is_no_target(photos: Path, loose: Path, heard: Any) -> None:
    config, progress = DataConfig(source=str(photos)), Progress()
    source = open_source(config).identified(progress)
    target = opened(loose, photos).identified(progress)
    with pytest.raises(DataError, match=r"all 30 images are images of the source too"):
        require_another(target, source, progress)
    for number in range(LEAST_IMAGES):
        path = next(loose.glob(f"{number}.*"))
        path.write_bytes(path.read_bytes() + b"x")
    require_another(opened(loose, photos).identified(progress), source, heard)
    assert heard.lines == [f"target: {30 - LEAST_IMAGES} of 30 images are images of the source too; the first is 20.png"]
