"""Worker processes: their part of the machine, deaths and their last words, ends without orphans."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tl_keras.select.search import local_workers as module
from tl_keras.select.search.local_workers import LocalWorkers, visible_gpus, worker_environment

SLEEP = [sys.executable, "-c", "import time; print('at work'); time.sleep(60)"]


def test_workers_share_the_cores() -> None:
    three = [worker_environment(number, 3, cpus=8, threads=None, gpus=()) for number in range(3)]
    assert three == [dict.fromkeys(module.THREADS, "2")] * 3
    assert set(worker_environment(0, 16, cpus=8, threads=None, gpus=()).values()) == {"1"}
    assert worker_environment(0, 3, cpus=8, threads=4, gpus=()) == {}  # the configuration has said it


def test_workers_take_turns_on_gpus() -> None:
    five = [worker_environment(number, 5, cpus=16, threads=16, gpus=("2", "GPU-8f")) for number in range(5)]
    assert [each["CUDA_VISIBLE_DEVICES"] for each in five] == ["2", "GPU-8f", "2", "GPU-8f", "2"]
    assert all(each["TF_FORCE_GPU_ALLOW_GROWTH"] == "true" for each in five)


def test_a_worker_s_gpu_is_one_that_its_chief_sees() -> None:
    assert visible_gpus(2, None) == ["0", "1"]
    assert visible_gpus(2, "3, 5") == ["3", "5"]
    assert visible_gpus(0, "") == []


@pytest.mark.parametrize("name", module.THREADS[:2])
def test_the_variables_bound_numpy(name: str) -> None:
    code = "import numpy; from threadpoolctl import threadpool_info; print({each['num_threads'] for each in threadpool_info()})"
    found = subprocess.run([sys.executable, "-c", code], env=os.environ | {name: "1"}, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "{1}"


def waited_deaths(team: LocalWorkers) -> list[module.Death]:
    until = time.monotonic() + 20
    while len(team) and time.monotonic() < until:
        time.sleep(0.05)
    return team.deaths()


def test_a_death_is_told_once_with_its_last_words(tmp_path: Path) -> None:
    code = "import sys; print('at work'); print('ConfigError: no.', file=sys.stderr); sys.exit(2)"
    with LocalWorkers([sys.executable, "-c", code], tmp_path / "logs") as team:
        team.start("worker1", {})
        (death,) = waited_deaths(team)
        assert str(death) == "exit status 2: ConfigError: no."
        assert team.deaths() == []
        assert team.names == ("worker1",)
    assert team.log("worker1").read_text() == "at work\nConfigError: no.\n"


def test_a_signal_leaves_no_words(tmp_path: Path) -> None:
    with LocalWorkers(SLEEP, tmp_path) as team:
        team.start("worker1", {})
        team._processes["worker1"].kill()
        assert [str(each) for each in waited_deaths(team)] == ["signal 9"]


def test_an_end_is_no_death(tmp_path: Path) -> None:
    with LocalWorkers([sys.executable, "-c", ""], tmp_path) as team:
        team.start("worker1", {})
        assert waited_deaths(team) == []


@pytest.mark.slow
def test_workers_end_with_their_context_also_those_that_hear_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOP_S", 1.0)
    deaf = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('at work', flush=True); time.sleep(60)"
    with LocalWorkers([sys.executable, "-c", deaf], tmp_path) as team:
        team.start("worker1", {})
        while "at work" not in team.log("worker1").read_text():
            time.sleep(0.05)
    assert team._processes["worker1"].returncode == -signal.SIGKILL


def test_a_worker_ends_when_its_chief_was_killed(tmp_path: Path) -> None:
    worker = (
        "import time; from tl_keras.select.search.local_workers import end_with_chief\nend_with_chief(); print('at work'); time.sleep(60)"
    )
    chief = (
        "import sys, time; from pathlib import Path; from tl_keras.select.search.local_workers import LocalWorkers\n"
        f"with LocalWorkers([sys.executable, '-c', {worker!r}], Path({str(tmp_path)!r})) as team:\n"
        "    team.start('worker1', {}); print(team._processes['worker1'].pid, flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", chief], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pid, log = int(process.stdout.readline()), tmp_path / "worker1.log"
    until = time.monotonic() + 20
    while "at work" not in log.read_text() and time.monotonic() < until:
        time.sleep(0.05)
    process.kill()
    process.communicate()
    while "the chief is gone" not in log.read_text() and time.monotonic() < until:
        time.sleep(0.05)
    assert log.read_text() == "at work\nthe chief is gone; its run folder has the trials that ended.\n"
    time.sleep(0.2)
    stat = Path(f"/proc/{pid}/stat")
    assert not stat.exists() or stat.read_text().split()[2] == "Z"
