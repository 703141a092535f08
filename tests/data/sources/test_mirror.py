"""The copy of an address: fetched once, then only what changed; each file whole; others wait, and nothing changes beneath a reader."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tl_keras.config import DataConfig
from tl_keras.data.sources import mirror as mirror_module
from tl_keras.data.sources import open_source
from tl_keras.data.sources.addresses import UnreachableError, open_address
from tl_keras.data.sources.mirror import HEADER, LISTING, PARTS, folds_case, home_of, last_mirror, mirror, use_last
from tl_keras.data.sources.objects import images_among, list_objects
from tl_keras.errors import DataError
from tl_keras.progress import Progress

ADDRESS = "memory://pics/photos"


@pytest.fixture
def photos(memory, monkeypatch):
    """Six objects in memory, and what was read of them."""
    for name in ("cat", "dog"):
        for number in range(3):
            memory.pipe(f"/pics/photos/{name}/{number}.png", f"{name} {number}".encode())
    read = []
    plain = type(memory).cat_file

    def cat_file(self, path, start=None, end=None, **more):
        read.append(path.removeprefix("/pics/photos/"))
        return plain(self, path, start=start, end=end, **more)

    monkeypatch.setattr(type(memory), "cat_file", cat_file)
    monkeypatch.setattr(mirror_module, "_held", {})
    return SimpleNamespace(system=memory, read=read)


def listing_of(opened):
    return images_among(list_objects(opened), folds_case=False)


def bring(progress=None):
    opened = open_address(ADDRESS)
    return mirror(opened, home_of(ADDRESS), "photos", listing_of(opened), progress or Progress())


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def let_go():
    """As if this process had ended."""
    for descriptor in mirror_module._held.values():
        os.close(descriptor)
    mirror_module._held.clear()


def test_every_object_is_fetched_once(photos, heard):
    folder = bring(heard)
    assert contents(folder) == {f"{name}/{number}.png": f"{name} {number}".encode() for name in ("cat", "dog") for number in range(3)}
    assert len(photos.read) == 6
    assert heard.lines[0].startswith(f"{ADDRESS}: fetched 6 files, 0.0 MB, in ")
    assert sorted(path.name for path in folder.parent.iterdir()) == [LISTING, "photos"]
    assert bring(heard) == folder
    assert (len(photos.read), len(heard.lines)) == (6, 1)


def test_only_what_changed_is_fetched_and_what_is_gone_goes(photos, heard):
    before = bring()
    let_go()
    photos.read.clear()
    photos.system.pipe("/pics/photos/cat/0.png", b"CAT 0")  # of the same size
    photos.system.pipe("/pics/photos/dog/3.png", b"dog 3")
    photos.system.rm("/pics/photos/dog/0.png")
    after = bring(heard)
    assert sorted(photos.read) == ["cat/0.png", "dog/3.png"]
    assert sorted(contents(after)) == ["cat/0.png", "cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png", "dog/3.png"]
    assert (after / "cat/0.png").read_bytes() == b"CAT 0"
    assert heard.lines[1:] == [f"{ADDRESS}: 1 file of last time is gone"]
    assert not before.exists()


def test_an_object_of_the_same_size_is_another(photos):
    bring()
    photos.system.pipe("/pics/photos/cat/0.png", b"CAT 0")
    assert (bring() / "cat/0.png").read_bytes() == b"CAT 0"


READ = """
import sys
from tl_keras.config import DataConfig
from tl_keras.data.sources import open_source
print(open_source(DataConfig(source=sys.argv[1])).root, flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
def test_nothing_changes_beneath_another_process(photo_folder, own_cache):
    address = f"file://{photo_folder(per_class=1)}"
    photo = Path(address.removeprefix("file://")) / "cat/000.png"

    def mine():
        return open_source(DataConfig(source=address)).root

    with subprocess.Popen([sys.executable, "-c", READ, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        read = Path(other.stdout.readline().strip())
        before = (read / "cat/000.png").read_bytes()
        photo.write_bytes(before + b"1")
        assert mine() != read
        assert (read / "cat/000.png").read_bytes() == before
        other.stdin.close()
    photo.write_bytes(before + b"12")
    mine()
    assert not read.exists()


def test_nothing_changes_beneath_a_process_that_reads(photos):
    before = bring()
    was = contents(before)
    photos.system.pipe("/pics/photos/cat/0.png", b"another")
    photos.system.rm("/pics/photos/dog/0.png")
    after = bring()
    assert after != before
    assert contents(before) == was


def test_a_fetch_that_was_cut_off_goes_on(photos, monkeypatch):
    plain = type(photos.system).cat_file

    def dies(self, path, **more):
        if len(photos.read) == 4:
            raise KeyboardInterrupt
        return plain(self, path, **more)

    monkeypatch.setattr(mirror_module, "BATCH", 1)
    monkeypatch.setattr(type(photos.system), "cat_file", dies)
    with pytest.raises(KeyboardInterrupt):
        bring()
    monkeypatch.setattr(type(photos.system), "cat_file", plain)
    folder = bring()
    assert len(contents(folder)) == 6
    assert len(photos.read) == 6


def test_what_came_with_an_object_that_did_not_is_kept(photos, monkeypatch):
    plain = type(photos.system).cat_file

    def refuses(self, path, **more):
        if path.endswith("cat/1.png"):
            raise PermissionError("Access Denied")
        return plain(self, path, **more)

    monkeypatch.setattr(type(photos.system), "cat_file", refuses)
    with pytest.raises(DataError, match=r"may not be read: .*Access Denied"):
        bring()
    monkeypatch.setattr(type(photos.system), "cat_file", plain)
    bring()
    assert photos.read.count("cat/1.png") == 1
    assert len(photos.read) == 6


@pytest.mark.parametrize("damage", ["remove", "truncate"])
def test_a_file_that_is_missing_or_cut_short_is_fetched_again(photos, damage):
    folder = bring()
    photos.read.clear()
    (folder / "cat/0.png").unlink() if damage == "remove" else (folder / "cat/0.png").write_bytes(b"ca")
    assert bring() == folder
    assert photos.read == ["cat/0.png"]
    assert (folder / "cat/0.png").read_bytes() == b"cat 0"


def test_a_large_object_comes_in_blocks_and_goes_on_after_the_last(photos, monkeypatch):
    photos.system.pipe("/pics/photos/cat/0.png", bytes(range(100)))
    monkeypatch.setattr(mirror_module, "BLOCK", 30)
    folder = bring()
    assert photos.read.count("cat/0.png") == 4
    assert (folder / "cat/0.png").read_bytes() == bytes(range(100))
    (folder / "cat/0.png").unlink()
    parts = folder.parent / PARTS
    parts.mkdir()
    (parts / mirror_module._hashed("cat/0.png")).write_bytes(bytes(range(65)))  # two blocks, and the beginning of one
    photos.read.clear()
    bring()
    assert photos.read.count("cat/0.png") == 2
    assert (folder / "cat/0.png").read_bytes() == bytes(range(100))
    assert not parts.exists()


@pytest.mark.parametrize(
    ("block", "content"),
    [(1000, b"something longer"), (3, b"something longer"), (3, b"CAT 0")],
    ids=["small", "large", "large, of the same size"],
)
def test_an_object_that_changes_while_it_is_fetched_is_told(photos, monkeypatch, block, content):
    monkeypatch.setattr(mirror_module, "BLOCK", block)
    opened = open_address(ADDRESS)
    listing = listing_of(opened)
    photos.system.pipe("/pics/photos/cat/0.png", content)
    with pytest.raises(DataError, match=r"memory://pics/photos: 'cat/0\.png' changed while it was fetched\. Run again\."):
        mirror(opened, home_of(ADDRESS), "photos", listing, Progress())
    assert (bring() / "cat/0.png").read_bytes() == content


def test_an_object_that_is_gone_after_it_was_listed_is_told(photos):
    opened = open_address(ADDRESS)
    listing = listing_of(opened)
    photos.system.rm("/pics/photos/cat/0.png")
    with pytest.raises(DataError, match=r"an object that was listed is gone"):
        mirror(opened, home_of(ADDRESS), "photos", listing, Progress())


def test_too_little_room_is_told_before_anything_is_fetched(photos, monkeypatch):
    monkeypatch.setattr(mirror_module.shutil, "disk_usage", lambda _: SimpleNamespace(free=20))
    with pytest.raises(DataError, match=r"its 6 files take 0\.00 GB, and the disk of .* has 0\.00 GB free\. .* TL_KERAS_CACHE"):
        bring()
    assert photos.read == []


def test_a_cache_that_cannot_be_written_is_told(photos, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TL_KERAS_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"cannot store a copy of memory://pics/photos here .* TL_KERAS_CACHE"):
        bring()


def test_where_links_cannot_be_made_objects_are_fetched_anew(photos, monkeypatch):
    bring()
    photos.read.clear()
    photos.system.pipe("/pics/photos/dog/3.png", b"dog 3")
    monkeypatch.setattr(mirror_module.os, "link", lambda *_: (_ for _ in ()).throw(OSError(95, "not supported")))
    assert len(contents(bring())) == 7
    assert len(photos.read) == 7


HOLD = """
import sys, time
from tl_keras.file_locks import try_lock
file = open(sys.argv[1], "a")
assert try_lock(file.fileno())
print("held", flush=True)
sys.stdin.read()
"""


def test_another_process_that_fetches_is_waited_for(photos, heard):
    home = home_of(ADDRESS)
    home.mkdir(parents=True)
    command = [sys.executable, "-c", HOLD, str(home / mirror_module.LOCK)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        waiting = threading.Thread(target=bring, args=(heard,))
        waiting.start()
        time.sleep(0.5)
        assert heard.lines == [f"{ADDRESS}: another process is fetching it; waiting"]
        assert photos.read == []
        other.stdin.close()
        waiting.join(10)
    assert len(photos.read) == 6


def test_the_last_copy_serves_while_the_store_does_not_answer(photos, heard):
    error = UnreachableError("memory://pics/photos: cannot be reached (no route). Check the network, and the address.")
    home = home_of(ADDRESS)
    with pytest.raises(UnreachableError):
        use_last(home, "photos", error, heard)
    folder = bring()
    found, listing = use_last(home, "photos", error, heard)
    assert found == folder
    assert listing == listing_of(open_address(ADDRESS))
    assert heard.lines[0] == "memory://pics/photos: cannot be reached (no route)."
    assert "going on with the copy of 20" in heard.lines[1]
    (folder / "cat/0.png").unlink()
    assert last_mirror(home, "photos") is None


def test_a_listing_says_everything_whatever_the_names_are(photos):
    photos.system.pipe("/pics/photos/cat/=1+1\n\"'.png", b"0")
    photos.system.pipe("/pics/photos/cat/notes.txt", b"0")
    photos.system.pipe("/pics/photos/more/notes.txt", b"0")
    folder = bring()
    found = last_mirror(home_of(ADDRESS), "photos")
    assert found[1] == listing_of(open_address(ADDRESS))
    assert (folder.parent / LISTING).read_text().splitlines()[0] == ",".join(HEADER)


def test_whether_a_disk_folds_case_is_tried(tmp_path):
    (tmp_path / "x").touch()
    assert folds_case(tmp_path) == (tmp_path / "X").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_state_that_another_run_removes_meanwhile_is_passed_over(tmp_path, monkeypatch):
    kept = tmp_path / ("0" * mirror_module.NAME_LENGTH) / LISTING
    kept.parent.mkdir()
    kept.touch()
    gone = tmp_path / ("1" * mirror_module.NAME_LENGTH) / LISTING
    monkeypatch.setattr(type(tmp_path), "glob", lambda *_: iter([gone, kept]))
    assert mirror_module._states(tmp_path) == [kept.parent]
