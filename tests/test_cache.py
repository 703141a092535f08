"""The folder that later runs share."""

from pathlib import Path

import pytest

from tl_keras.cache import cache_folder


def test_cache_folder_has_a_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TL_KERAS_CACHE")
    assert cache_folder() == Path.home() / ".cache/tl_keras"
    monkeypatch.setenv("TL_KERAS_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
