"""Words to files: what is there is taken literally, folders are searched, patterns match what they should."""

import os
from pathlib import Path

import pytest

from tl_keras.data.patterns import find_images
from tl_keras.errors import DataError


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with brackets in its name, a folder and files of all kinds in it; the current one."""
    for name in ("new[1]/a.png", "new[1]/b[2].JPG", "new[1]/notes.txt", "new[1]/deeper/c.png", "new1/d.png", "new[1]/.hidden/e.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["new[1]"], ["new[1]/a.png", "new[1]/b[2].JPG", "new[1]/deeper/c.png"]),
        (["new[1]/*.png"], ["new[1]/a.png"]),
        (["new[1]/b[2].JPG"], ["new[1]/b[2].JPG"]),
        (["new[1]/b[[]*"], ["new[1]/b[2].JPG"]),
        (["new[1]/**/*"], ["new[1]/a.png", "new[1]/b[2].JPG", "new[1]/deeper/c.png", "new[1]/notes.txt"]),
        (["new[1]/dee*"], ["new[1]/deeper/c.png"]),
        (["new[0-9]/*"], ["new1/d.png"]),
        (["new*/a.*", "new1"], ["new[1]/a.png", "new1/d.png"]),
        (["new1/d.png", "new1/*"], ["new1/d.png", "new1/d.png"]),  # what is given twice is answered twice
    ],
)
def test_words_lead_to_files(photos: Path, words: list[str], expected: list[str]) -> None:
    for where in ("", f"{photos}/"):
        found, _ = find_images([f"{where}{word}" for word in words])
        assert sorted(map(str, found)) == sorted(f"{where}{path}" for path in expected)


def test_what_a_folder_holds_beside_images_is_counted(photos: Path) -> None:
    assert find_images(["new[1]", "new1"])[1] == {".txt": {"": 1}}


@pytest.mark.parametrize("word", ["nothing", "new[1]/*.gif", "new[1]/.hidden/x", "no/such/*", "new[2"])
def test_what_leads_nowhere_is_told(photos: Path, word: str) -> None:
    with pytest.raises(DataError) as caught:
        find_images(["new1", word])
    assert str(caught.value) == f"{word}: no such file, or no images in it."


def test_a_folder_of_archives_is_told_how_to_give_them(tmp_path: Path) -> None:
    (tmp_path / "0.tar").touch()
    with pytest.raises(DataError) as caught:
        find_images([f"{tmp_path}/"])
    assert str(caught.value) == f"{tmp_path}/: no such file, or no images in it. Give the archives in it: '{tmp_path}/*.tar'."


def test_names_that_are_not_utf_8_are_found(photos: Path) -> None:
    name = os.fsdecode(b"gr\xfcn.png")
    (photos / "new1" / name).touch()
    assert find_images(["new1/g*"])[0] == [Path("new1") / name]
