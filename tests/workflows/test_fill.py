"""`--shard K/N`: several processes fill one store."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tl_keras import run
from tl_keras.arguments import read_options
from tl_keras.errors import ConfigError
from tl_keras.transfer.store import ABOUT, Collection
from tl_keras.transfer.trunk import Trunk

SETS = ["--set", "data.augment.horizontal_flip=true", "--set", "features.views=1"]


def words(data: Path, backbone: Path, *more: object) -> list[str]:
    return [str(word) for word in ("extract", data, "--backbone", backbone, *SETS, *more)]


def stored(cache: Path) -> dict[str, dict[bytes, bytes]]:
    """The rows of each collection; a row that is there twice fails."""
    found: dict[str, dict[bytes, bytes]] = {}
    for about in cache.glob(f"features/*/{ABOUT}"):
        rows = found.setdefault(about.parent.name, {})
        for shard in Collection(about.parent, {}).shards:
            values = np.memmap(shard.path, shard.dtype, "r", shard.offset, shard.shape)
            for each, value in zip(shard.ids.tolist(), values, strict=True):
                assert each not in rows
                rows[each] = value.tobytes()
    return found


@pytest.mark.slow
def test_parts_make_the_store_of_one_run(photo_folder, own_backbone, tmp_path, monkeypatch, capfd):
    data = photo_folder(classes=("cat", "dog"), per_class=8)
    first = next(path for path in data.rglob("*.*") if path.is_file())
    first.with_name(f"copy{first.suffix}").write_bytes(first.read_bytes())
    monkeypatch.setenv("TL_KERAS_CACHE", str(tmp_path / "one"))
    assert run.main(words(data, own_backbone, "--run-dir", tmp_path / "run")) == 0
    monkeypatch.chdir(tmp_path)
    for part in range(3):  # each in a store of its own: at the same time none sees what the others have
        monkeypatch.setenv("TL_KERAS_CACHE", str(tmp_path / f"part{part}"))
        assert run.main(words(data, own_backbone, "--shard", f"{part}/3")) == 0
        assert f"part {part} of 3: " in capfd.readouterr().out
        shutil.copytree(tmp_path / f"part{part}" / "features", tmp_path / "parts" / "features", dirs_exist_ok=True)
    assert not (tmp_path / "saved_models").exists()
    monkeypatch.setenv("TL_KERAS_CACHE", str(tmp_path / "parts"))
    assert stored(tmp_path / "parts") == stored(tmp_path / "one") != {}
    monkeypatch.setattr(Trunk, "__call__", lambda *_: pytest.fail("features are computed again"))
    assert run.main(words(data, own_backbone, "--shard", "2/3")) == 0
    out = capfd.readouterr().out
    assert "; 0 computed now" in out
    assert "all parts are there" in out
    assert run.main(words(data, own_backbone, "--run-dir", tmp_path / "last")) == 0
    one, last = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("run", "last"))
    assert last["test"] == one["test"]
    assert last["features"]["computed"] == 0


@pytest.mark.slow
def test_what_other_parts_have_to_compute_is_told(photo_folder, own_backbone, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("TL_KERAS_CACHE", str(tmp_path / "cache"))
    assert run.main(words(photo_folder(classes=("cat", "dog"), per_class=8), own_backbone, "--shard", "0/2")) == 0
    assert "are not there yet" in capfd.readouterr().out


@pytest.mark.parametrize("text", ["1", "1/1", "3/3", "-1/3", "1/0", "0/0", "1/3/5", "a/b", "1.0/3", "", "¹/3"])
def test_a_part_that_there_is_not(text):
    with pytest.raises(ConfigError, match=r"expected K/N, part K of N parts, from 0/N to N-1/N"):
        read_options(["extract", "photos", f"--shard={text}"])


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (["--run-dir", "R"], "--run-dir: --shard stores features"),
        (["--output-dir", "R"], "--run-dir: --shard stores features"),
        (["--dry-run"], "--dry-run: --shard stores features"),
    ],
)
def test_what_does_nothing_beside_it(more, why):
    with pytest.raises(ConfigError, match=why):
        read_options(["extract", "photos", "--shard", "0/2", *more])


@pytest.mark.parametrize("mode", ["pretrain", "adapt", "rank", "search", "crossval"])
def test_other_modes_take_no_part(mode):
    with pytest.raises(ConfigError, match=f"--shard: {mode} does not use it"):
        read_options([mode, "photos", "--shard", "0/2"])


def test_a_backbone_that_each_part_would_choose(photo_folder, capfd):
    assert run.main(["extract", str(photo_folder(classes=("cat", "dog"), per_class=4)), "--backbone", "auto", "--shard", "0/2"]) == 2
    assert "which each part would choose on its own" in capfd.readouterr().err
