"""Which objects become files: names in a store are any text."""

import pytest
from fsspec import AbstractFileSystem

from tl_keras.data.archives import LARGEST
from tl_keras.data.sources import objects
from tl_keras.data.sources.addresses import Opened
from tl_keras.data.sources.objects import Object, images_among, list_objects, named_among
from tl_keras.data.walk import UNSTORABLE
from tl_keras.errors import DataError

HOSTILE = [
    "../evil.png",
    "cat/../../evil.png",
    "cat/../evil.png",
    "./cat/0.png",
    "/etc/evil.png",
    "cat//0.png",
    "cat/a\0b.png",
    "cat/" + "n" * 300 + ".png",
    "/".join(["deep"] * 70) + "/0.png",
    "/".join(["x" * 200] * 20) + ".png",
    "cat/\ud800.png",
]


def listed(*paths, folds_case=False, size=1):
    return images_among([Object(path, size, "v") for path in sorted(paths)], folds_case=folds_case)


def kept(*paths, **more):
    return [each.path for each in listed(*paths, **more).objects]


def test_images_by_their_endings_and_what_has_none_are_fetched_and_the_rest_is_counted():
    found = listed("cat/0.JPG", "cat/1.avif", "cat/2", "cat/notes.txt", "dog/0.png", "readme.md", "cat/x.tar")
    assert [each.path for each in found.objects] == ["cat/0.JPG", "cat/1.avif", "cat/2", "dog/0.png"]
    assert found.left_out == {("cat", ".txt"): 1, ("cat", ".tar"): 1, ("", ".md"): 1}
    assert found.folders == ["cat", "dog"]


def test_a_folder_that_holds_no_image_is_there_as_on_a_disk():
    assert listed("cat/0.png", "notes/a/readme.txt", "empty/").folders == ["cat", "empty", "notes", "notes/a"]


def test_hidden_objects_junk_and_runs_are_not_seen():
    found = listed(
        "cat/.0.png", ".git/0.png", "cat/Thumbs.db", "__MACOSX/cat/0.png", "runs/R/config.yaml", "runs/R/metrics.json", "runs/R/c.png"
    )
    assert (found.objects, found.folders, found.left_out) == ([], [], {})
    assert kept("R/config.yaml", "R/c.png") == ["R/c.png"]  # a class like any other
    assert kept("config.yaml", "metrics.json", "cat/0.png") == ["cat/0.png"]  # the folder that was asked for is one, whatever lies in it


@pytest.mark.parametrize("path", HOSTILE)
def test_a_name_that_no_file_can_have_is_counted(path):
    found = listed(path, "cat/ok.png")
    assert [each.path for each in found.objects] == ["cat/ok.png"]
    assert found.folders == ["cat"]
    assert sum(found.left_out.values()) == 1
    assert {kind for _, kind in found.left_out} == {UNSTORABLE}


def test_an_object_that_is_a_folder_too_gives_way():
    assert kept("cat/0.png", "cat/0.png/inner.png") == ["cat/0.png/inner.png"]


def test_names_that_differ_in_case_are_one_only_where_the_disk_takes_them_for_one():
    paths = ("Cat/0.png", "cat/1.png", "dog/A.png", "dog/a.png", "dog/\u00e9.png", "dog/e\u0301.png")
    assert kept(*paths) == sorted(paths)
    found = listed(*paths, folds_case=True)
    assert [each.path for each in found.objects] == ["Cat/0.png", "dog/A.png", "dog/e\u0301.png"]
    assert found.left_out == {("cat", UNSTORABLE): 1, ("dog", UNSTORABLE): 2}
    assert found.folders == ["Cat", "dog"]


def test_an_object_larger_than_any_image_is_left_out():
    assert kept("cat/0.png", size=LARGEST + 1) == []


@pytest.mark.parametrize(("path", "possible"), [("cat/a:b.png", False), ("cat/con.png", False), ("cat /0.png", False), ("cat/0.png", True)])
def test_names_that_windows_refuses_are_counted_there(monkeypatch, path, possible):
    monkeypatch.setattr(objects.os, "name", "nt")
    objects._is_possible_folder.cache_clear()
    assert bool(kept(path)) == possible
    objects._is_possible_folder.cache_clear()


class Folders(AbstractFileSystem):
    """A web server of some folders: name -> entries, whose names end in '/' where they are folders; None for one that is not listed."""

    cachable = False

    def __init__(self, folders, size=3):
        super().__init__()
        self.folders, self.size = folders, size

    def ls(self, path, detail=True):
        if path.rstrip("/") not in self.folders:
            raise FileNotFoundError(path)
        if self.folders[path.rstrip("/")] is None:
            raise PermissionError(13, "Permission denied", path)
        return [{"name": name, "size": None, "type": "directory" if name[-1] == "/" else "file"} for name in self.folders[path.rstrip("/")]]

    def info(self, path):
        return {"size": self.size, "ETag": '"x"'}


TOP = "http://host/photos"


def test_a_web_server_is_walked_and_its_names_are_read():
    folders = {
        TOP: [f"{TOP}/red%20rose/", f"{TOP}/?C=N;O=D", f"{TOP}/", f"{TOP}/%2e%2e/"],  # links by which it sorts, and back
        f"{TOP}/red%20rose": [f"{TOP}/red%20rose/100%25.png", f"{TOP}/", f"{TOP}/red%20rose/%e9.png"],
        f"{TOP}/%2e%2e": [f"{TOP}/%2e%2e/evil.png"],
    }
    opened = Opened(TOP, Folders(folders), TOP, {})
    found = list(list_objects(opened))
    assert [each.path for each in found] == ["../evil.png", "red rose/100%.png", "red rose/\udce9.png"]
    assert found[1] == Object("red rose/100%.png", 3, 'ETag="x"')
    assert [opened.below(each.path) for each in found[1:]] == [f"{TOP}/red%20rose/100%25.png", f"{TOP}/red%20rose/%E9.png"]
    assert [each.path for each in images_among(found, folds_case=False).objects] == ["red rose/100%.png"]
    assert list(list_objects(opened, "nothing")) == []


def test_a_folder_that_cannot_be_listed_is_told_and_not_left_out():
    for folders in ({TOP: [f"{TOP}/a/", f"{TOP}/b/"], f"{TOP}/a": [f"{TOP}/a/0.png"], f"{TOP}/b": None}, {TOP: [f"{TOP}/gone/"]}):
        with pytest.raises(DataError, match=r"^http://host/photos: (may not be read|an object that was listed is gone)"):
            list(list_objects(Opened(TOP, Folders(folders), TOP, {})))


def test_a_file_whose_size_the_server_does_not_say_is_told():
    with pytest.raises(DataError, match=r"^http://host/photos: the server does not say how large '0\.png' is\. Download it, "):
        list(list_objects(Opened(TOP, Folders({TOP: [f"{TOP}/0.png"]}, size=None), TOP, {})))


def test_what_a_table_names_is_checked_too():
    found = named_among(
        [Object(path, 1, "") for path in ("../evil.png", "a/0.png", "a/1.png")], lambda path: "1" not in path, folds_case=False
    )
    assert [each.path for each in found.objects] == ["a/0.png"]
    assert found.folders == ["a"]
