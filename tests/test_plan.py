"""The plan of a training run: memory first, from shapes, then a batch of each phase."""

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tl_keras.config import Config
from tl_keras.errors import ConfigError
from tl_keras.progress import Progress
from tl_keras.transfer import memory
from tl_keras.workflows.plan import make_plan

plan = import_module("tl_keras.workflows.plan")


def config_of(photos: Path, **data: Any) -> Config:
    return Config.model_validate(
        {
            "mode": "finetune",
            "data": {"source": str(photos), "image_size": 16} | data,
            "model": {"backbone": "small_resnet", "weights": "none"},
            "train": {"epochs": 2, "batch_size": 8},
        }
    )


@pytest.fixture(scope="module")
def photos(photo_folder: Callable[..., Path]) -> Path:
    return photo_folder(per_class=8)


def test_images_that_memory_cannot_hold_are_refused_before_a_batch_is_made(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 2_000_000_000)
    monkeypatch.setattr(plan, "timed", lambda *_, **__: pytest.fail("a batch was made"))
    monkeypatch.setattr(plan, "decode_seconds", lambda *_: pytest.fail("an image was decoded"))
    with pytest.raises(ConfigError, match=r"5000 x 5000 pixels take at least \d+\.\d GB of memory .* 2\.0 GB are free"):
        make_plan(config_of(photos, image_size=5000), Progress())


def test_where_a_batch_may_not_fit_a_part_of_it_is_timed(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(plan, "timed", lambda call, model, size, **_: sizes.append(size) or 1.0)
    needed = memory.bytes_needed
    monkeypatch.setattr(plan, "available_bytes", lambda: plan.REALLY_TAKEN * max(seen[-1].values()) // 2)
    seen: list[dict[str, int]] = []
    monkeypatch.setattr(plan, "bytes_needed", lambda *given: seen.append(needed(*given)) or seen[-1])
    found = make_plan(config_of(photos), Progress())
    assert sizes == [4, 4]  # of batches of 8
    assert [row[0] for row in found.phases] == ["decoding", "head", "finetune"]
    assert found.phases[2][-1] == "8 s"  # 2 epochs of 2 steps of 2 s


@pytest.mark.slow
def test_a_system_without_resource_limits_is_estimated_from_shapes(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    monkeypatch.setattr(plan, "timed", lambda *_, **__: 1.0)
    found = make_plan(config_of(photos), Progress())
    assert plan.peak_memory_gb() == 0
    assert 0 < found.memory_gb < 1


@pytest.mark.parametrize(
    ("lowest", "line"),
    [
        ("stage3", r"mixup_alpha: got 0\.2, but finetuning from stage3 up learns from stored features"),
        ("stage7", r"got 'stage7', expected 'all' or one of stage1, stage2, stage3"),
    ],
)
def test_what_would_stop_the_run_stops_the_plan(photos: Path, lowest: str, line: str) -> None:
    config = config_of(photos).replace("train.unfreeze_from", lowest).replace("train.mixup_alpha", 0.2)
    with pytest.raises(ConfigError, match=line):
        make_plan(config, Progress())


def test_images_are_decoded_in_each_epoch_where_pixels_have_no_room(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "timed", lambda *_, **__: 0.0)
    monkeypatch.setattr(plan, "decode_seconds", lambda *_: 10.0)
    config = config_of(photos)
    for unfreeze, cache_gb, times in (("all", 1.0, 1), ("all", 0.0, 3), ("stage3", 0.0, 1)):
        found = make_plan(config.replace("train.unfreeze_from", unfreeze).replace("data.cache_gb", cache_gb), Progress())
        assert (found.phases[0][-1], found.seconds) == (f"{10 * times} s", 10 * times)
