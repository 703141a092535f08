"""Features in object storage: what one machine has computed, the others have."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tl_keras import run
from tl_keras.errors import ConfigError, StoreError
from tl_keras.transfer.shared_store import VARIABLE, SharedStore
from tl_keras.transfer.store import Store, open_store
from tl_keras.transfer.trunk import Trunk

IDS = np.array([b"a", b"b", b"c"], "S16")
VALUES = np.arange(6, dtype=np.float32).reshape(3, 2)
KEY, ABOUT = "k" * 32, {"backbone": "small"}


@pytest.fixture
def shared(memory: Any, monkeypatch: pytest.MonkeyPatch) -> SharedStore:
    monkeypatch.setenv(VARIABLE, "memory://bucket/features/")
    found = SharedStore.of_environment()
    assert found is not None
    return found


def names(system: Any, folder: str = f"/bucket/features/{KEY}") -> set[str]:
    return {path.rpartition("/")[2] for path in system.ls(folder, detail=False)} if system.exists(folder) else set()


def test_without_the_variable_nothing_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert open_store(1.0).shared is None
    monkeypatch.setenv(VARIABLE, "")
    assert open_store(1.0).shared is None


def test_what_one_machine_writes_another_reads(shared: SharedStore, tmp_path: Path, memory: Any) -> None:
    one, two = (Store(tmp_path / name, 1.0, shared) for name in ("one", "two"))
    empty = two.open(KEY, ABOUT)
    assert not empty.has(IDS).any()
    one.open(KEY, ABOUT).write(IDS[:2], VALUES[:2])
    assert len(names(memory)) == 1
    two.refresh()
    np.testing.assert_array_equal(empty.read(IDS[:2]), VALUES[:2])
    empty.write(IDS[2:], VALUES[2:])
    three = Store(tmp_path / "three", 1.0, shared).open(KEY, ABOUT)
    np.testing.assert_array_equal(three.read(IDS), VALUES)


def test_what_was_computed_before_is_sent(shared: SharedStore, tmp_path: Path, memory: Any) -> None:
    Store(tmp_path / "one", 1.0).open(KEY, ABOUT).write(IDS, VALUES)
    assert not names(memory)
    Store(tmp_path / "one", 1.0, shared).open(KEY, ABOUT)
    assert len(names(memory)) == 1


def test_what_is_damaged_there_is_not_believed(shared: SharedStore, tmp_path: Path, memory: Any) -> None:
    Store(tmp_path / "one", 1.0, shared).open(KEY, ABOUT).write(IDS, VALUES)
    [name] = names(memory)
    memory.pipe(f"/bucket/features/{KEY}/{name}", memory.cat_file(f"/bucket/features/{KEY}/{name}")[:-1] + b"x")
    assert not Store(tmp_path / "two", 1.0, shared).open(KEY, ABOUT).has(IDS).any()


@pytest.mark.parametrize("name", ["a.txt", ".hidden.shard.tmp", "sub/a.shard"])
def test_other_objects_are_left_alone(name: str, shared: SharedStore, tmp_path: Path, memory: Any) -> None:
    memory.pipe(f"/bucket/features/{KEY}/{name}", b"x")
    Store(tmp_path / "one", 1.0, shared).open(KEY, ABOUT)
    assert not list((tmp_path / "one").rglob("*.*"))


def test_no_room_is_said_before_anything_is_fetched(shared: SharedStore, tmp_path: Path, memory: Any) -> None:
    Store(tmp_path / "one", 1.0, shared).open(KEY, ABOUT).write(IDS, VALUES)
    with pytest.raises(StoreError, match="features are needed"):
        Store(tmp_path / "two", 0.0, shared).open(KEY, ABOUT)
    assert not list((tmp_path / "two").rglob("*.shard"))


def test_what_cannot_be_sent_stays_and_is_sent_later(
    shared: SharedStore, tmp_path: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = Store(tmp_path / "one", 1.0, shared).open(KEY, ABOUT)
    with monkeypatch.context() as patch:
        patch.setattr(type(memory), "put_file", lambda *_, **__: (_ for _ in ()).throw(PermissionError("no")))
        with pytest.raises(StoreError, match=rf"{VARIABLE}: memory://bucket/features/: .*\(no\).* sent by the next run"):
            collection.write(IDS, VALUES)
    again = Store(tmp_path / "one", 1.0, shared).open(KEY, ABOUT)
    np.testing.assert_array_equal(again.read(IDS), VALUES)
    assert len(names(memory)) == 1


@pytest.mark.parametrize("address", ["s3:/bucket", "s4://bucket/features", "a::b://c", "s3://"])
def test_an_address_that_there_is_not(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, address)
    with pytest.raises(ConfigError, match=f"{VARIABLE}: "):
        open_store(1.0)


@pytest.mark.slow
def test_two_machines_fill_a_bucket_and_a_third_trains(
    s3: Any, photo_folder: Any, own_backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VARIABLE, "s3://pics/features")
    words = ["extract", str(photo_folder(classes=("cat", "dog"), per_class=8)), "--backbone", own_backbone]
    for part in range(2):
        monkeypatch.setenv("TL_KERAS_CACHE", str(tmp_path / f"machine{part}"))
        assert run.main([*words, "--shard", f"{part}/2"]) == 0
    assert "sent to the shared store" in capfd.readouterr().out
    monkeypatch.setenv("TL_KERAS_CACHE", str(tmp_path / "third"))
    monkeypatch.setattr(Trunk, "__call__", lambda *_: pytest.fail("features are computed again"))
    assert run.main([*words, "--run-dir", str(tmp_path / "run")]) == 0


@pytest.mark.slow
def test_a_bucket_that_there_is_not(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "s3://nobodys/features")
    store = Store(tmp_path, 1.0, SharedStore.of_environment())
    with pytest.raises(StoreError, match=VARIABLE):
        store.open(KEY, ABOUT).write(IDS, VALUES)
