"""A disk that is full in the middle of a write, whatever is being written: one line, status 2, and --resume goes on."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SMALL = ("--set", "features.views=0", "--set", "data.image_size=32")
COMMANDS: dict[str, tuple[str, ...]] = {
    "extract": ("--mode", "extract", *SMALL),
    "finetune": ("--mode", "finetune", "--set", "train.epochs=2", *SMALL),
    "pretrain": ("--mode", "pretrain", "--set", "train.epochs=1", "--set", "data.image_size=32"),
    "rank": ("--mode", "rank", "small_resnet"),
    "crossval": ("--mode", "crossval", "--set", "crossval.folds=3", "--set", "crossval.repeats=1", *SMALL),
    "search": ("--mode", "search", "--set", "search.max_trials=2", "--set", "search.tuner=random", *SMALL),
}


def check(command: Any) -> str:
    """'done', or 'refused' in one line."""
    assert "Traceback" not in command.text, command.text
    assert command.status in (0, 2), command.text
    return "done" if command.status == 0 else "refused"


@pytest.mark.parametrize("name", COMMANDS)
def test_files_that_cannot_grow(
    name: str, command_line: Any, photos: Path, tmp_path: Path, rng: random.Random, times: Callable[[int, int], int],
    report: Callable[..., None], tools: Any,
) -> None:  # fmt: skip
    """No file may grow beyond a limit, as where a disk or a quota is full: the system refuses the write that would."""
    largest = max(path.stat().st_size for path in Path(__file__).parents[2].joinpath("tl_keras/models/bundled").iterdir())
    for number in range(times(1, 6)):
        limit = rng.choice((2_000, 20_000, 200_000, largest // 2, largest))
        run = tmp_path / str(number)
        limited = command_line.start(
            [*COMMANDS[name], "--data", photos, "--run-dir", run],
            limits={"RLIMIT_FSIZE": limit},
            TL_KERAS_CACHE=str(tmp_path / f"c{number}"),
        )
        limited.wait()
        report("full disks", disks=1, **{check(limited): 1})
        assert run.is_dir() is False or not tools.leftovers(run), limited.text


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_output_to_a_full_device(finished: Path, command_line: Any, photos: Path, tmp_path: Path, report: Callable[..., None]) -> None:
    os.symlink("/dev/full", tmp_path / "found.csv")
    for arguments in (["--output", tmp_path / "found.csv"], ["--output", "/dev/full"]):
        command = command_line.run(["--mode", "predict", "--run-dir", finished, photos, *arguments])
        assert "Traceback" not in command.text, command.text
        report("full disks", disks=1, **{check(command): 1})


def test_explanations_that_cannot_grow(
    finished: Path,
    command_line: Any,
    photos: Path,
    tmp_path: Path,
    times: Callable[[int, int], int],
    report: Callable[..., None],
    tools: Any,
) -> None:
    """A picture takes some tens of kilobytes."""
    run = shutil.copytree(finished, tmp_path / "run")
    for limit in (2_000, 20_000, 200_000)[: times(1, 3)]:
        command = command_line.run(["explain", run, photos], limits={"RLIMIT_FSIZE": limit}, TL_KERAS_CACHE=str(tmp_path / "cache"))
        report("full disks", disks=1, **{check(command): 1})
        assert command.status == 2 or limit > 20_000, command.text
        assert not tools.leftovers(run), command.text
