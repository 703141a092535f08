"""What is remembered of a machine: by what it is about, and beside what others keep."""

from pathlib import Path

import pytest

from tl_keras.transfer import machine_cache as remembered
from tl_keras.transfer.machine_cache import keep, recall


def test_a_value_comes_back_by_all_that_it_is_about(tmp_path: Path) -> None:
    file = tmp_path / "not" / "there" / "costs.json"
    assert recall(file, "a", "b") is None
    keep(file, {"ms": 1.5}, "a", "b")
    keep(file, 2, "a")
    assert recall(file, "a", "b") == {"ms": 1.5}
    assert recall(file, "a") == 2
    assert recall(file, "b") is None
    assert recall(file, "ab") is None


def test_another_machine_remembers_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(tmp_path / "costs.json", 1, "a")
    monkeypatch.setattr(remembered, "cpu_flags", lambda: {"another"})
    assert recall(tmp_path / "costs.json", "a") is None


def test_a_damaged_file_is_written_anew(tmp_path: Path) -> None:
    (tmp_path / "costs.json").write_text("{")
    assert recall(tmp_path / "costs.json", "a") is None
    keep(tmp_path / "costs.json", 1, "a")
    assert recall(tmp_path / "costs.json", "a") == 1


@pytest.mark.parametrize("content", [b"[]", b"null", b"{", b"\xff", b""])
def test_a_file_that_is_damaged_is_begun_anew(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "costs.json").write_bytes(content)
    assert recall(tmp_path / "costs.json", "a") is None
    keep(tmp_path / "costs.json", 2, "a")
    assert recall(tmp_path / "costs.json", "a") == 2
