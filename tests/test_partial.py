"""What a killed process was writing is cleared, what a running one writes is not, and a folder is never missing."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tl_keras import partial
from tl_keras.partial import REPLACED, clear_partial, partial_folder, replace_folder
from tl_keras.run_folder import write_atomically

LEFT = ".0123456789abcdef.partial"
KILLED = """
import os, signal, sys
from pathlib import Path
from tl_keras import partial, run_folder
path = Path(sys.argv[1])
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
def fill(temporary): temporary.mkdir(); (temporary / "new").touch()
if sys.argv[2] == "while writing":
    run_folder.write_atomically(path, die)
partial._exchange = lambda *_: False
rename, done = Path.rename, []
def rename_once(one, other):
    if done: die()
    done.append(other)
    return rename(one, other)
Path.rename = rename_once
run_folder.write_atomically(path, fill)
"""


def killed(path, when):
    ended = subprocess.run([sys.executable, "-c", KILLED, str(path), when], check=False)
    assert ended.returncode == -9


def test_names_do_not_depend_on_the_process(tmp_path):
    with partial_folder(tmp_path) as one, partial_folder(tmp_path) as other:
        assert one != other
        assert str(os.getpid()) not in {one.name, other.name}
    assert list(tmp_path.iterdir()) == []


def test_what_is_being_written_is_left_alone_and_what_a_kill_left_is_cleared(tmp_path):
    killed(tmp_path / "a.txt", "while writing")
    assert len(list(tmp_path.iterdir())) == 1
    with partial_folder(tmp_path) as mine:
        clear_partial(tmp_path)
        assert list(tmp_path.iterdir()) == [mine]
    (tmp_path / "deep" / "er" / LEFT).mkdir(parents=True)
    (tmp_path / ".mine.partial").mkdir()
    clear_partial(tmp_path)
    assert (tmp_path / "deep" / "er" / LEFT).exists()
    clear_partial(tmp_path, "**/")
    assert sorted(path.name for path in tmp_path.rglob("*")) == [".mine.partial", "deep", "er"]
    clear_partial(tmp_path / "missing")


def test_without_locks_age_decides(tmp_path, monkeypatch):
    monkeypatch.setattr(partial, "try_lock", lambda _: None)
    old, young = tmp_path / LEFT, tmp_path / LEFT.replace("0", "1")
    for folder in (old, young):
        folder.mkdir()
        (folder / "a.txt").touch()
    before = time.time() - 2 * partial.ABANDONED_S
    for path in (old / "a.txt", old, young):
        os.utime(path, (before, before))
    with partial_folder(tmp_path) as mine:
        clear_partial(tmp_path)
        assert sorted(tmp_path.iterdir()) == sorted([mine, young])


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_folder_is_replaced(tmp_path, monkeypatch, can_exchange):
    if not can_exchange:
        monkeypatch.setattr(partial, "_exchange", lambda *_: False)
    place = tmp_path / "model"
    for content in ("one", "two"):
        with partial_folder(tmp_path) as folder:
            (folder / "model").mkdir()
            (folder / "model" / content).touch()
            replace_folder(folder / "model", place)
    assert [entry.name for entry in place.iterdir()] == ["two"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no call for it")
def test_two_folders_change_places_in_one_step(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not partial._exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this file system cannot")
    assert (tmp_path / "a" / "b").exists()


def test_a_kill_between_the_two_renames_leaves_the_old_folder(tmp_path):
    place = tmp_path / "model"
    place.mkdir()
    (place / "old").touch()
    killed(place, "between")
    assert not place.exists()
    clear_partial(tmp_path)
    assert [entry.name for entry in place.iterdir()] == ["old"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_an_interrupt_between_the_two_renames_leaves_the_old_folder(tmp_path):
    with partial_folder(tmp_path) as folder:
        (folder / REPLACED / "model").mkdir(parents=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_an_error_names_the_file_that_is_meant(tmp_path):
    def fill(temporary):
        raise OSError(28, "No space left on device", str(temporary))

    with pytest.raises(OSError, match="No space") as caught:
        write_atomically(tmp_path / "a.txt", fill)
    assert caught.value.filename == str(tmp_path / "a.txt")
    with pytest.raises(FileNotFoundError) as missing:
        write_atomically(tmp_path / "a.txt", lambda _: Path("/there/is/none").read_bytes())
    assert missing.value.filename == "/there/is/none"
