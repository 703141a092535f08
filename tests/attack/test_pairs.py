"""Two of us at once: each has its own result, or one is told of the other."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PLAIN = ("--set", "features.views=0")


def accuracies(text: str) -> str:
    return next(line for line in text.splitlines() if line.startswith("test accuracy"))


def test_two_evaluations_of_one_run(
    finished: Path, command_line: Any, photo_folder: Callable[..., Path], tmp_path: Path, times: Callable[[int, int], int],
    report: Callable[..., None],
) -> None:  # fmt: skip
    run = shutil.copytree(finished, tmp_path / "run")
    others = [photo_folder(per_class=number) for number in (9, 21)]
    others[0].joinpath("cat").rename(others[0] / "swap")
    others[0].joinpath("dog").rename(others[0] / "cat")
    others[0].joinpath("swap").rename(others[0] / "dog")  # all wrong, so that a mix of the two shows
    arguments = [["--mode", "evaluate", "--run-dir", run, "--data", str(other)] for other in others]
    alone = [accuracies(command_line.run(each).text) for each in arguments]
    assert alone[0] != alone[1]
    for _ in range(times(1, 8)):
        pair = [command_line.start(each) for each in arguments]
        for command in pair:
            assert command.wait() == 0, command.text
        wrong = sum(accuracies(command.text) != wanted for command, wanted in zip(pair, alone, strict=True))
        report("pairs", pairs=1, wrong=wrong)
        assert not wrong


@pytest.mark.parametrize("explicit", [True, False])
def test_two_runs_that_start_at_once(
    explicit: bool, command_line: Any, photos: Path, small: tuple[str, ...], tmp_path: Path, times: Callable[[int, int], int],
    report: Callable[..., None],
) -> None:  # fmt: skip
    for number in range(times(1, 6)):
        folder = tmp_path / str(number)
        folder.mkdir()
        where = ["--run-dir", str(folder / "run")] if explicit else []
        pair = [
            command_line.start(
                ["--mode", "extract", "--data", photos, "--set", f"runtime.seed={seed}", *where, *PLAIN, *small], folder=folder
            )
            for seed in (1, 2)
        ]
        ended = [command.wait() for command in pair]
        runs = [path.parent for path in folder.rglob("metrics.json")]
        seeds = sorted(json.loads((run / "metrics.json").read_text())["seed"] for run in runs)
        told = "\n".join(command.text for command in pair)
        if explicit:  # one has the folder, the other is told, and has not touched it
            assert sorted(ended) == [0, 2], told
            assert seeds == [1 + ended.index(0)]
        else:
            assert ended == [0, 0], told
            assert seeds == [1, 2]
        report("pairs", pairs=1, wrong=0)


def test_two_that_go_on_with_one_run(
    interrupted: tuple[Path, str], command_line: Any, tmp_path: Path, times: Callable[[int, int], int], report: Callable[..., None],
    tools: Any,
) -> None:  # fmt: skip
    broken, wanted = interrupted
    for number in range(times(1, 4)):
        run = tmp_path / str(number)
        shutil.copytree(broken, run)
        pair = [command_line.start(["--mode", "finetune", "--resume", "--run-dir", run]) for _ in range(2)]
        ended = sorted(command.wait() for command in pair)
        told = "\n".join(command.text for command in pair)
        assert ended == [0, 2], told
        wrong = int(tools.digest_of_run(run) != wanted)
        report("pairs", pairs=1, wrong=wrong)
        assert not wrong


def test_a_mistake_in_one_process_leaves_the_run_of_another(
    command_line: Any, photos: Path, small: tuple[str, ...], tmp_path: Path, report: Callable[..., None]
) -> None:
    run = tmp_path / "run"
    arguments = ["--data", photos, "--run-dir", run, *PLAIN, *small]
    slow = command_line.start(["--mode", "extract", *arguments], TL_KERAS_CACHE=str(tmp_path / "cache"))
    wrong = command_line.start(["--mode", "finetune", "--set", "train.unfreeze_from=stage99", *arguments])
    assert wrong.wait() == 2
    assert slow.wait() in (0, 2)
    report("pairs", pairs=1, wrong=0)
    if slow.status == 0:
        assert (run / "model.keras").is_file()
