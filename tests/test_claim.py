"""A folder belongs to one process at a time, and what a dead one leaves is known to be nobody's."""

import json
import os
import subprocess
import sys
import threading

import pytest

from tl_keras import claim
from tl_keras.claim import CLAIM, clear_left, require_unclaimed, take
from tl_keras.errors import RunFolderError

HOLD = """
import sys
from pathlib import Path
from tl_keras.claim import take
take(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
    """Another process that has claimed a folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_another_process_is_named_until_it_ends(tmp_path, other):
    for attempt in (take, require_unclaimed):
        with pytest.raises(RunFolderError, match=rf"another process \(process {other.pid} on .*, since 2.*\) is working in this folder"):
            attempt(tmp_path)
    other.kill()
    other.communicate()
    require_unclaimed(tmp_path)
    mine = take(tmp_path)
    assert mine.was_left
    assert json.loads((tmp_path / CLAIM).read_text())["process"] == os.getpid()
    mine.release()
    assert not (tmp_path / CLAIM).exists()
    fresh = take(tmp_path)
    assert not fresh.was_left
    fresh.release()


def test_without_locks_the_text_decides(tmp_path, other, monkeypatch):
    monkeypatch.setattr(claim, "try_lock", lambda *_, **__: None)
    with pytest.raises(RunFolderError, match=r"Where that process has ended, remove .*\.claim\."):
        take(tmp_path)
    about = json.loads((tmp_path / CLAIM).read_text())
    (tmp_path / CLAIM).write_text(json.dumps(about | {"host": "elsewhere"}))
    with pytest.raises(RunFolderError, match="on elsewhere"):
        require_unclaimed(tmp_path)
    if about["ticks"] is not None:  # the number of the process is another's now
        (tmp_path / CLAIM).write_text(json.dumps(about | {"ticks": about["ticks"] - 1}))
        require_unclaimed(tmp_path)
    (tmp_path / CLAIM).write_text(json.dumps(about))
    other.kill()
    other.communicate()
    assert take(tmp_path).was_left


def test_a_claim_that_is_empty_or_damaged_says_so_much(tmp_path):
    mine = take(tmp_path)
    for text in ("", "[]", "{"):
        (tmp_path / CLAIM).write_text(text)
        with pytest.raises(RunFolderError, match="another process is working in this folder"):
            require_unclaimed(tmp_path)
    mine.release()


def test_of_many_that_start_at_once_one_gets_the_folder(tmp_path):
    got, refused = [], []

    def attempt():
        try:
            got.append(take(tmp_path))
        except RunFolderError:
            refused.append(1)

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 7)
    got[0].release()


def test_claims_below_a_folder_are_cleared_where_their_processes_are_dead(tmp_path):
    for name in ("folds/1", "folds/2"):
        (tmp_path / name).mkdir(parents=True)
    os.close(take(tmp_path / "folds/1").descriptor)
    alive = take(tmp_path / "folds/2")
    clear_left(tmp_path)
    assert [path.parent.name for path in tmp_path.rglob(CLAIM)] == ["2"]
    alive.release()
