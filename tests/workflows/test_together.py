"""Processes that train together: how they are started, and that they end together."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tl_keras
from tl_keras.errors import ConfigError, TrainingError
from tl_keras.select.search.local_workers import LocalWorkers
from tl_keras.tf_config import place_in
from tl_keras.workflows import together
from tl_keras.workflows.together import Together, command_of, gpus, share_of_machine

HOW = "tl-keras finetune --resume"
MODULE = [sys.executable, "-m", "tl_keras"]


@pytest.mark.parametrize(
    ("words", "run_dir", "expected"),
    [
        (["finetune", "photos", "--workers", "2"], "R", ["finetune", "photos", "--run-dir", "R"]),
        (["--Workers=2", "finetune", "--run-dir", "R"], None, ["finetune", "--run-dir", "R"]),
        (["finetune", "--workers", "2", "--", "--workers"], "R", ["finetune", "--run-dir", "R", "--", "--workers"]),
    ],
)
def test_each_process_has_the_command_without_workers(words, run_dir, expected):
    assert command_of(words, None if run_dir is None else Path(run_dir)) == MODULE + expected


@pytest.mark.parametrize(
    ("gpus", "expected"),
    [([], ["-1", "-1"]), (["0"], ["-1", "-1"]), (["0", "1"], ["0", "1"]), (["0", "1", "GPU-a", "3", "4"], ["0,1", "GPU-a,3"])],
)
def test_gpus_are_shared_out_where_each_process_can_have_some(gpus, expected, monkeypatch):
    monkeypatch.setattr(together, "usable_cpus", lambda: 7)
    found = [share_of_machine(index, 2, gpus) for index in range(2)]
    assert [each["CUDA_VISIBLE_DEVICES"] for each in found] == expected
    assert {each["TF_NUM_INTRAOP_THREADS"] for each in found} == {"3"}


@pytest.mark.parametrize(("visible", "expected"), [("1,GPU-a", ["1", "GPU-a"]), ("", []), ("-1", [])])
def test_gpus_that_are_hidden_are_left_alone(visible, expected, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus() == expected


def train(code: str, folder: Path, count: int = 3) -> int:
    """Start processes of this code, in which `index` is each one's place, and stay until they have ended."""
    begin = "import json, os, sys, time, signal; index = json.loads(os.environ['TF_CONFIG'])['task']['index']\n"
    with LocalWorkers([sys.executable, "-c", begin + code], folder) as team:
        return Together(team, count, folder, HOW).train()


def test_all_end_well(tmp_path):
    assert train(f"open({str(tmp_path)!r} + f'/{{index}}.txt', 'w').write(os.environ['TF_CONFIG'])", tmp_path) == 0
    places = [place_in({"TF_CONFIG": (tmp_path / f"{index}.txt").read_text()}) for index in range(3)]
    assert [place.index for place in places] == [0, 1, 2]
    assert len({place.addresses for place in places}) == 1


def test_where_one_is_killed_all_end_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(together, "WORD_S", 0.3)
    kills = "os.kill(os.getpid(), signal.SIGKILL) if index == 2 else time.sleep(60)"
    begun = time.monotonic()
    with pytest.raises(TrainingError, match=rf"^worker2 died \(signal 9\), so the others were ended\. Go on with: {HOW}$"):
        train(kills, tmp_path)
    assert time.monotonic() - begun < 15


def test_where_the_chief_has_said_why_its_status_is_enough(tmp_path):
    assert train("sys.exit(2)", tmp_path) == 2


def test_one_of_several_starts_no_others(tmp_path, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": {}}))
    with pytest.raises(ConfigError, match=r"^--workers: TF_CONFIG names the processes already\. Unset it, or remove --workers\.$"):
        train("", tmp_path)


@pytest.mark.slow
def test_two_processes_train_one_model_and_end_together(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(Path(tl_keras.__file__).parents[1]), "TL_KERAS_CACHE": str(tmp_path / "cache")}
    line = ["finetune", "digits", "--epochs", "40", "--set", "data.per_class=12", "--set", "train.unfreeze_from=stage3"]
    command = [*MODULE, *line, "--set", "train.save_minutes=0.001", "--workers", "2", "--run-dir", str(tmp_path / "R")]
    process = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    history = tmp_path / "R" / "history.csv"
    while process.poll() is None and not (history.is_file() and "finetune,2," in history.read_text()):
        time.sleep(0.1)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == 2
    os.kill(int(children[1]), signal.SIGKILL)
    told = process.communicate(timeout=60)[1].splitlines()
    assert process.returncode == 2
    assert any(line.startswith("TrainingError: ") and "--resume" in line for line in told)
    assert not any(Path(f"/proc/{child}").exists() for child in children)
    assert (tmp_path / "R" / "checkpoints" / "finetune.json").is_file()
