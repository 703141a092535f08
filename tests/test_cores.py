"""Cores: those that the system lets this process use."""

import os

import pytest

from tl_keras.cores import schedulable_cpus, usable_cpus


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


def test_a_limit_of_cpu_time_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")  # the way by which joblib hears of a limit without a container
    assert usable_cpus() == 1
