"""Where the images of a table lie: relative and absolute paths, those of Windows, and names without endings."""

from pathlib import Path

import pytest

from tl_keras.data.sources.table_paths import below_one_folder, find_files


@pytest.mark.parametrize(
    ("texts", "root", "paths"),
    [
        (["a.png", "./b/c.png", "b//d.png"], "photos", ["a.png", "b/c.png", "b/d.png"]),
        (["b\\c.png", "b/../d.png"], "photos", ["b/c.png", "d.png"]),
        (["/data/photos/a.png", "b/c.png"], "/data/photos", ["a.png", "b/c.png"]),
        (["/data/x/a.png", "/data/x/y/b.png"], "/data/x", ["a.png", "y/b.png"]),
        (["../x/a.png", "b.png"], "/data", ["x/a.png", "photos/b.png"]),
        (["/one/a.png", "/two/b.png"], "/", ["one/a.png", "two/b.png"]),
        (["/data/photos2/a.png"], "/data/photos2", ["a.png"]),
    ],
)
def test_all_images_lie_below_one_folder(monkeypatch, texts, root, paths):
    monkeypatch.setattr("os.getcwd", lambda: "/data")
    assert below_one_folder(texts, Path("photos")) == (Path(root), paths)


def test_a_name_without_ending_is_that_of_the_only_image_of_its_folder(tmp_path):
    for name in ("a.jpg", "deep/b.v2.PNG", "c.jpg", "c.png", "d.txt", "e", "f.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    paths = ["a", "deep/b.v2", "c", "c.png", "d", "e", "f.jpg", "g", "gone/h"]
    assert find_files(tmp_path, paths) == ["a.jpg", "deep/b.v2.PNG", None, "c.png", None, "e", "f.jpg", None, None]
