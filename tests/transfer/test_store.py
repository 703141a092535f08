"""The store: what was written comes back, whatever was damaged, killed, pruned or written by two at once."""

import ast
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tl_keras.errors import StoreError
from tl_keras.transfer import store as module
from tl_keras.transfer.store import ABANDONED_S, ABOUT, Collection, Store, Stored, describe, feature_folder, prune

DAY_S = 86_400
PEOPLE = {"backbone": "b", "output": "pooled", "view": 0, "image_size": [16, 16]}


def ids_of(*numbers: int) -> NDArray[np.bytes_]:
    return np.array([number.to_bytes(16, "big") for number in numbers], "S16")


def values_of(*numbers: int, shape: tuple[int, ...] = (3,)) -> NDArray[np.float32]:
    """Rows that say which image they are of."""
    return np.stack([np.full(shape, number, np.float32) + np.arange(np.prod(shape)).reshape(shape) / 64 for number in numbers])


def fill(collection: Collection, *numbers: int) -> Path:
    """Write one shard and return its file."""
    before = set(collection.folder.glob("*.shard"))
    collection.write(ids_of(*numbers), values_of(*numbers))
    (path,) = set(collection.folder.glob("*.shard")) - before
    return path


def fresh(collection: Collection) -> Collection:
    """The same collection as a new process sees it."""
    return Collection(collection.folder, collection.about)


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    return Store(tmp_path / "features", 1.0).open("key", PEOPLE)


# --- there and back ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5,), (2, 3, 4)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_rows_come_back_as_float32_in_the_order_asked_for(collection: Collection, shape: tuple[int, ...], dtype: Any) -> None:
    collection.write(ids_of(7, 3), values_of(7, 3, shape=shape).astype(dtype))
    collection.write(ids_of(9), values_of(9, shape=shape).astype(dtype))
    for opened in (collection, fresh(collection)):
        found = opened.read(ids_of(9, 3, 7, 3))
        assert found.dtype == np.float32
        assert opened.row_shape == shape
        np.testing.assert_array_equal(found, values_of(9, 3, 7, 3, shape=shape))
    assert collection.shards[0].dtype == dtype


def test_shards_of_both_precisions_make_one_collection(collection: Collection) -> None:
    collection.write(ids_of(1), values_of(1).astype(np.float16))
    collection.write(ids_of(2), values_of(100_000))
    np.testing.assert_array_equal(collection.read(ids_of(2, 1)), values_of(100_000, 1))


def test_what_is_missing_is_minus_one(collection: Collection) -> None:
    assert (collection.locate(ids_of(1, 2)) == -1).all()
    fill(collection, 5, 3)
    assert collection.locate(ids_of(3, 1, 5, 9)).tolist() == [[0, 1], [-1, -1], [0, 0], [-1, -1]]
    assert collection.has(ids_of(3, 1, 5, 9)).tolist() == [True, False, True, False]
    with pytest.raises(KeyError, match="2 images have no row"):
        collection.read(ids_of(3, 1, 9))


def test_ids_with_zero_bytes_at_the_end_are_ids_like_others(collection: Collection) -> None:
    odd = np.array([b"a" + bytes(15), b"ab" + bytes(14), bytes(15) + b"a"], "S16")
    collection.write(odd, values_of(1, 2, 3))
    for opened in (collection, fresh(collection)):
        assert opened.has(odd).all()
        assert not opened.has(np.array([b"a" + bytes(14) + b"a", b"", b"b"], "S16")).any()
        np.testing.assert_array_equal(opened.read(odd[::-1]), values_of(3, 2, 1))


def test_a_row_that_is_written_twice_is_one_row(collection: Collection) -> None:
    fill(collection, 1, 2)
    collection.write(ids_of(1, 2), values_of(1, 2))  # the same shard
    assert len(collection.shards) == 1
    fill(collection, 2, 3)  # another one, as of a second process
    np.testing.assert_array_equal(fresh(collection).read(ids_of(1, 2, 3)), values_of(1, 2, 3))


def test_another_key_is_another_collection(tmp_path: Path) -> None:
    store = Store(tmp_path, 1.0)
    fill(store.open("one", PEOPLE), 1)
    assert not store.open("two", PEOPLE).has(ids_of(1)).any()
    assert not (tmp_path / "two").exists()  # looking makes nothing


def test_refresh_reads_what_another_process_wrote(collection: Collection) -> None:
    other = fresh(collection)
    fill(collection, 1)
    assert not other.has(ids_of(1)).any()
    other.refresh()
    np.testing.assert_array_equal(other.read(ids_of(1)), values_of(1))
    other.refresh()
    assert len(other.shards) == 1


def test_headers_are_parsed_by_one_thread(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.11's `ast`, which NumPy parses headers with, fails now and then in several threads at once."""
    for number in range(20):
        fill(collection, number)
    parsed_by: list[int] = []

    def recording(header: str) -> Any:
        parsed_by.append(threading.get_ident())
        return literal_eval(header)

    literal_eval = ast.literal_eval
    monkeypatch.setattr(ast, "literal_eval", recording)
    assert len(fresh(collection).shards) == 20
    assert len(parsed_by) == 40
    assert set(parsed_by) == {threading.get_ident()}


def test_more_shards_than_are_kept_open(collection: Collection) -> None:
    numbers = range(module.OPEN_SHARDS + 5)
    for number in numbers:
        fill(collection, number)
    np.testing.assert_array_equal(collection.read(ids_of(*numbers)), values_of(*numbers))
    np.testing.assert_array_equal(collection.read(ids_of(*reversed(numbers))), values_of(*reversed(numbers)))
    assert module._map_file.cache_info().currsize <= module.OPEN_SHARDS


# --- damage --------------------------------------------------------------------------------------------------------


def flip(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


DAMAGES = {"flipped": flip, "cut": lambda data: data[: len(data) // 2], "cut by one": lambda data: data[:-1], "empty": lambda _: b""}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_shard_is_removed_and_the_others_stay(collection: Collection, damage: str) -> None:
    victim, good = fill(collection, 1, 2), fill(collection, 3)
    victim.write_bytes(DAMAGES[damage](victim.read_bytes()))
    again = fresh(collection)
    assert again.has(ids_of(1, 2, 3)).tolist() == [False, False, True]
    assert not victim.exists()
    assert good.exists()
    again.write(ids_of(1, 2), values_of(1, 2))
    np.testing.assert_array_equal(fresh(collection).read(ids_of(3, 2, 1)), values_of(3, 2, 1))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_shard_of_another_network_stops_nobody(tmp_path: Path, damage: str) -> None:
    store = Store(tmp_path, 1.0)
    victim = fill(store.open("other", PEOPLE), 1, 2)
    fill(store.open("good", PEOPLE), 1)
    victim.write_bytes(DAMAGES[damage](victim.read_bytes()))
    assert {each.folder.name for each in describe(tmp_path)} == {"other", "good"}
    store.require_room(1)


def test_a_collection_that_lost_its_description_is_described_again(collection: Collection) -> None:
    fill(collection, 1)
    (collection.folder / ABOUT).unlink()
    assert fresh(collection).has(ids_of(1)).all()
    (stored,) = describe(collection.folder.parent)
    assert stored.about == PEOPLE


def test_a_shard_that_another_process_writes_is_neither_read_nor_removed(collection: Collection) -> None:
    good = fill(collection, 1)
    leftover = good.with_name(f".123456.{good.name}")
    leftover.write_bytes(good.read_bytes()[:40])
    again = fresh(collection)
    assert len(again.shards) == 1
    assert [each.rows for each in describe(collection.folder.parent)] == [1]
    assert list(prune(collection.folder.parent, max_bytes=10**9)) == []
    assert leftover.exists()
    os.utime(leftover, (time.time() - 2 * ABANDONED_S,) * 2)
    assert len(fresh(collection).shards) == 1
    assert leftover.exists()
    assert list(prune(collection.folder.parent, max_bytes=10**9)) == []
    assert not leftover.exists()
    assert good.exists()


def test_a_failed_write_leaves_nothing(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(collection, 1)

    def full(path: Path, data: Any) -> int:
        with path.open("wb") as file:
            file.write(bytes(data)[:10])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(StoreError, match=r"features cannot be kept here \(No space left on device\)\. Free the disk"):
            collection.write(ids_of(2), values_of(2))
    assert sorted(path.suffix for path in collection.folder.iterdir()) == [".json", ".shard"]
    assert collection.has(ids_of(1, 2)).tolist() == fresh(collection).has(ids_of(1, 2)).tolist() == [True, False]


# --- two at once, and killed ---------------------------------------------------------------------------------------


WRITE_MANY = """
import sys
from pathlib import Path
import numpy as np
from tl_keras.transfer.store import Collection

collection = Collection(Path(sys.argv[1]), {"backbone": "b"})
for number in range(0, 60, int(sys.argv[2])):
    both = [number, number + 1000]
    ids = np.array([each.to_bytes(16, "big") for each in both], "S16")
    collection.write(ids, np.float32(both)[:, None] + np.arange(3, dtype=np.float32) / 64)
    collection.refresh()
"""


def test_two_processes_on_one_collection_lose_nothing(collection: Collection) -> None:
    # One writes all, the other every second: half of the shards are written by both, to the same names.
    command = [sys.executable, "-c", WRITE_MANY, str(collection.folder)]
    processes = [subprocess.Popen([*command, str(step)]) for step in (1, 2)]
    assert [process.wait(120) for process in processes] == [0, 0]
    again = fresh(collection)
    numbers = [number for start in range(60) for number in (start, start + 1000)]
    np.testing.assert_array_equal(again.read(ids_of(*numbers)), values_of(*numbers))
    assert len(again.shards) == 60
    assert not list(collection.folder.glob(".*"))


COMPUTE = """
import hashlib, os, sys, time
from pathlib import Path
import numpy as np
from tl_keras.transfer.store import Collection

folder, log = Path(sys.argv[1]), Path(sys.argv[2])
ids = np.array([hashlib.sha256(bytes([n])).digest()[:16] for n in range(120)], "S16")
collection = Collection(folder, {"backbone": "b"})
missing = np.flatnonzero(~collection.has(ids))
print("ready", flush=True)
for start in range(0, len(missing), 4):
    rows = missing[start : start + 4]
    with log.open("a") as file:
        file.write("".join(f"{row}\\n" for row in rows))
    time.sleep(0.002)
    values = np.stack([np.random.default_rng(row).normal(size=(2, 2, 64)).astype(np.float16) for row in rows])
    collection.write(ids[rows], values)
np.save(sys.argv[3], collection.read(ids))
"""


def compute(folder: Path, kill_after_s: float | None = None) -> int:
    arguments = [str(folder / name) for name in ("store", "log", "out.npy")]
    process = subprocess.Popen([sys.executable, "-c", COMPUTE, *arguments], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        process.kill()
    process.communicate(timeout=120)
    return process.returncode


@pytest.mark.slow
def test_killed_ten_times_equals_undisturbed(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    assert compute(whole) == 0
    chance = random.Random(0)
    kills = sum(compute(broken, chance.uniform(0, 0.02)) == -signal.SIGKILL for _ in range(10))
    assert kills >= 5
    assert compute(broken) == 0
    assert (broken / "out.npy").read_bytes() == (whole / "out.npy").read_bytes()
    found = Collection(broken / "store", {})
    assert sum(len(shard.ids) for shard in found.shards) == 120  # no image lies in two shards
    lines = (broken / "log").read_text().split()
    assert 120 <= len(lines) <= 120 + 4 * kills  # a kill costs the shard in progress, no other
    assert (whole / "log").read_text().split() == [str(row) for row in range(120)]


# --- size ----------------------------------------------------------------------------------------------------------


def test_the_limit_is_on_all_collections_together(tmp_path: Path) -> None:
    sizes = [fill(Store(tmp_path, 1).open(key, PEOPLE), *range(50)).stat().st_size for key in ("one", "two")]
    store = Store(tmp_path, (sum(sizes) + 500) / 1e9)
    assert store.room() == pytest.approx(500, abs=1)
    store.require_room(499)
    with pytest.raises(StoreError) as caught:
        Store(tmp_path, sum(sizes) / 1e9).require_room(30_000_000)
    assert str(caught.value) == (
        f"{tmp_path}: 0.03 GB of features are needed and 0.00 GB are free under features.max_gb={sum(sizes) / 1e9:g} and on the disk. "
        "Raise it, free the disk, or take features.stages=last. To remove features that were stored before: tl-keras cache prune --all."
    )


def test_too_little_room_names_the_limit_to_prune_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = Stored(tmp_path, {}, 1, 5_000_000_000, 0.0)
    monkeypatch.setattr(module, "describe", lambda _: [stored])
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10**12}))
    with pytest.raises(StoreError, match=r"tl-keras cache prune --max-gb 3\.99\.$"):
        Store(tmp_path, 6.0).require_room(2_001_000_000)


def test_a_full_disk_is_said_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 100_000_000}))
    store = Store(tmp_path / "none" / "yet", 20.0)
    assert store.room() == 90_000_000
    store.require_room(90_000_000)
    with pytest.raises(StoreError) as caught:
        store.require_room(120_000_000)
    assert str(caught.value) == (
        f"{store.root}: 0.12 GB of features are needed and 0.09 GB are free under features.max_gb=20 and on the disk. "
        "Raise it, free the disk, or take features.stages=last."
    )
    assert not (tmp_path / "none").exists()


def test_more_than_the_limit_is_no_room_and_not_less(tmp_path: Path) -> None:
    fill(Store(tmp_path, 1).open("one", PEOPLE), *range(50))
    with pytest.raises(StoreError, match=r"0\.00 GB are free under features\.max_gb=0 and"):
        Store(tmp_path, 0).require_room(1)


def make_three(root: Path) -> dict[str, int]:
    """Collections unused for three, two and one days, and their bytes."""
    sizes = {}
    for days, name in ((1, "new"), (3, "old"), (2, "middle")):
        sizes[name] = fill(Store(root, 1).open(name, {**PEOPLE, "output": name}), *range(10 * days)).stat().st_size
        os.utime(root / name / ABOUT, (time.time() - days * DAY_S,) * 2)
    return sizes


def test_describe_tells_the_longest_unused_first(tmp_path: Path) -> None:
    assert describe(tmp_path / "none") == []
    sizes = make_three(tmp_path)
    (tmp_path / "precision.json").write_text("{}")
    (tmp_path / "foreign").mkdir()
    found = describe(tmp_path)
    assert [each.folder.name for each in found] == ["old", "middle", "new"]
    assert [each.rows for each in found] == [30, 20, 10]
    assert [each.bytes for each in found] == [sizes[each.folder.name] for each in found]
    assert [each.about["output"] for each in found] == ["old", "middle", "new"]
    assert [each.idle_s / DAY_S for each in found] == pytest.approx([3, 2, 1], abs=0.01)


def test_opening_is_use(tmp_path: Path) -> None:
    make_three(tmp_path)
    Store(tmp_path, 1).open("old", PEOPLE)
    assert [each.folder.name for each in describe(tmp_path)] == ["middle", "new", "old"]
    assert json.loads((tmp_path / "old" / ABOUT).read_text())["output"] == "old"


@pytest.mark.parametrize(
    ("days", "keep", "gone"),
    [
        (0, (), ["old", "middle", "new"]),
        (1.5, (), ["old", "middle"]),
        (4, (), []),
        (0, ("new",), ["old", "middle"]),
        (0, ("new", "middle"), ["old"]),
        (2.5, ("new",), ["old"]),
        (0, ("new", "middle", "old"), []),
    ],
)
def test_prune_by_age_and_size(tmp_path: Path, days: float, keep: tuple[str, ...], gone: list[str]) -> None:
    sizes = make_three(tmp_path)
    removed = list(prune(tmp_path, older_than_s=days * DAY_S, max_bytes=sum(sizes[name] for name in keep)))
    assert [each.folder.name for each in removed] == gone
    assert {folder.name for folder in tmp_path.iterdir()} == {"old", "middle", "new"} - set(gone)


def test_prune_while_a_collection_is_read(collection: Collection) -> None:
    fill(collection, 1, 2)
    before = collection.read(ids_of(1))
    assert len(list(prune(collection.folder.parent))) == 1
    assert not collection.folder.exists()
    np.testing.assert_array_equal(collection.read(ids_of(1, 2)), values_of(1, 2))  # it has the file open
    np.testing.assert_array_equal(before, values_of(1))
    assert not fresh(collection).has(ids_of(1, 2)).any()
    fill(collection, 3)  # and writes on
    assert fresh(collection).has(ids_of(1, 3)).tolist() == [False, True]
    assert describe(collection.folder.parent)[0].about == PEOPLE


def test_the_store_lies_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TL_KERAS_CACHE", str(tmp_path))
    assert feature_folder() == tmp_path / "features"
