"""Memory that will not do is told from shapes, with the figure, before a network runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest

from tl_keras.errors import ConfigError
from tl_keras.transfer import memory
from tl_keras.transfer.memory import available_bytes, backward_bytes, forward_bytes
from tl_keras.transfer.task import Task
from tl_keras.transfer.trunk import Trunk

MakeTask = Callable[..., Task]
MEMINFO = "MemTotal:       16000 kB\nMemFree:         1000 kB\nMemAvailable:    8000 kB\nSwapFree:        2000 kB\n"


def system(root: Path, **files: str) -> Path:
    """A file system with some files; `__` stands for a slash, and `_` for itself."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def group(root: Path, name: str, **files: str) -> None:
    folder = root / "sys/fs/cgroup" / name
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        (folder / f"memory.{file}").write_text(text)


def test_a_machine_without_limits_has_what_is_free_and_swap(tmp_path: Path) -> None:
    system(tmp_path, proc__meminfo=MEMINFO, proc__self__cgroup="0::/user\n")
    group(tmp_path, "user", max="max\n", current="5000\n", stat="anon 1\ninactive_file 2\n")
    assert available_bytes(tmp_path) == 10_000 * 1024


@pytest.mark.parametrize("where", ["user/job", "user", ""], ids=["own", "above", "of the container"])
def test_a_limit_of_any_group_above_counts_and_cached_files_do_not(tmp_path: Path, where: str) -> None:
    system(tmp_path, proc__meminfo=MEMINFO, proc__self__cgroup="0::/user/job\n")
    group(tmp_path, where, max="1000000\n", current="700000\n", stat="anon 1\ninactive_file 200000\n")
    assert available_bytes(tmp_path) == 500_000


def test_older_control_groups_count_too(tmp_path: Path) -> None:
    system(tmp_path, proc__meminfo=MEMINFO, proc__self__cgroup="5:cpu:/x\n4:memory:/x\n0::/\n")
    group(tmp_path, "memory/x", limit_in_bytes="900000\n", usage_in_bytes="100000\n", stat="total_inactive_file 0\n")
    group(tmp_path, "memory", limit_in_bytes="9223372036854771712\n", usage_in_bytes="100000\n", stat="total_inactive_file 0\n")
    assert available_bytes(tmp_path) == 800_000


def test_a_system_that_does_not_tell_is_not_asked_further(tmp_path: Path) -> None:
    assert available_bytes(tmp_path) is None


def test_a_pass_holds_both_sides_of_a_convolution_and_a_step_all_that_kernels_were_given() -> None:
    x = inputs = keras.Input((8, 8, 3))  # 768 bytes
    x = keras.layers.Conv2D(10, 3, padding="same")(x)  # 2560
    x = keras.layers.ReLU()(x)
    x = keras.layers.Conv2D(2, 3, padding="same")(x)  # 512
    x = keras.layers.GlobalAveragePooling2D()(x)  # 8
    model = keras.Model(inputs, keras.layers.Dense(5)(x))
    assert forward_bytes(model) == 768 + 2560
    assert backward_bytes(model) == 768 + 2560 + 8


@pytest.mark.parametrize("mode", ["extract", "finetune", "pretrain"])
def test_large_images_are_refused_with_the_figure_before_anything_runs(
    make_task: MakeTask, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 2_000_000_000)
    monkeypatch.setattr(Trunk, "__call__", lambda *_: pytest.fail("the network runs"))
    told = r"data\.image_size: 5000 x 5000 pixels take at least \d+\.\d GB of memory for a batch of \d+ images in \S+three_stages\.keras"
    with pytest.raises(ConfigError, match=told + r" \(\w+\), and 2\.0 GB are free\. Lower data\.image_size"):
        make_task(mode=mode, data={"image_size": 5000})


@pytest.mark.parametrize(("by_step", "needed"), [(False, {"features": 10}), (True, {"features": 1, "finetune": 10})])
def test_a_smaller_batch_is_named_where_it_helps(
    make_task: MakeTask, monkeypatch: pytest.MonkeyPatch, by_step: bool, needed: dict[str, int]
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 5)
    monkeypatch.setattr(memory, "bytes_needed", lambda *_: needed)
    with pytest.raises(memory.TooLittleMemoryError) as caught:
        make_task()
    assert caught.value.by_step is by_step
    assert ("train.batch_size=8" in str(caught.value)) is by_step


@pytest.mark.parametrize("free", [None, 10**15])
def test_nothing_is_refused_where_memory_will_do_or_is_unknown(make_task: MakeTask, monkeypatch: pytest.MonkeyPatch, free: Any) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: free)
    make_task()
