"""Cores: those that the system and the limits of a container leave to this process."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tl_keras import cores
from tl_keras.cores import schedulable_cpus, usable_cpus

WriteFiles = Callable[..., Path]


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WriteFiles:
    """`system(groups, {file: text})`: a file system with control groups, on a machine of 8 cores."""
    monkeypatch.setattr(cores, "schedulable_cpus", lambda: 8)

    def write(groups: str, files: dict[str, str]) -> Path:
        for name, text in {"proc/self/cgroup": groups, **{f"sys/fs/cgroup/{name}": text for name, text in files.items()}}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


def test_no_more_are_used_than_the_system_runs_us_on() -> None:
    assert 1 <= usable_cpus() <= schedulable_cpus() <= (os.cpu_count() or 1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no process to cores")
def test_a_process_that_is_pinned_to_a_core_uses_one() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert (schedulable_cpus(), usable_cpus()) == (1, 1)
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),  # inside of a container
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "1600000 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "1000 100000\n"}, 1),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "max 100000\n"}, 3),  # of a group above
        ("4:cpu,cpuacct:/x\n0::/\n", {"cpu/x/cpu.cfs_quota_us": "500000\n", "cpu/x/cpu.cfs_period_us": "100000\n"}, 5),
        ("4:cpu,cpuacct:/host\n", {"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ("", {}, 8),
    ],
)
def test_limits_of_cpu_time_count(groups: str, files: dict[str, str], expected: int, system: WriteFiles) -> None:
    assert usable_cpus(system(groups, files)) == expected
