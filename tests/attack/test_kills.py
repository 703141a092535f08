"""Killed at any moment, and gone on with: the result is that of a run that nobody killed, and nothing is left behind."""

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
ONE_VIEW = ("--set", "features.views=1")
SEARCH = ("--mode", "search", "--set", "search.max_trials=4", "--set", "search.tuner=random", *ONE_VIEW)
COMMANDS: dict[str, tuple[str, ...]] = {  # what is killed -> its arguments beside --data, --run-dir and what is small
    "extract": ("--mode", "extract", *ONE_VIEW),
    "finetune": ("--mode", "finetune", "--set", "train.epochs=3", *ONE_VIEW),
    "finetune pixels": ("--mode", "finetune", "--set", "train.epochs=2", "--set", "train.unfreeze_from=all", *ONE_VIEW),
    "rank": ("--mode", "rank", "small_resnet"),
    "crossval": ("--mode", "crossval", "--set", "crossval.folds=3", "--set", "crossval.repeats=1", *ONE_VIEW),
    "crossval finetune": (
        "--mode", "crossval", "--set", "crossval.folds=2", "--set", "crossval.repeats=1", "--set", "crossval.training=finetune",
        "--set", "train.epochs=1", *ONE_VIEW,
    ),
    "search": SEARCH,
    "search workers": (*SEARCH, "--workers", "2"),
    "ensemble": ("--mode", "ensemble", "small_resnet", "small_resnet", "--set", "ensemble.method=bagging", "--set", "ensemble.resamples=3"),
}  # fmt: skip
NAMED = ("rank", "ensemble")  # these name their networks
BEGUN = {  # what is in a run folder once the part that takes long has begun: a single kill waits for it, many come at any time
    "finetune": "checkpoints/finetune.json",
    "search workers": "study-*/trial_*",
    "export": "export/.*.partial/*",
    "explain": "explanations/.*.partial/new/*",
}
USES = ("evaluate", "predict", "explain", "export")  # of a run that is finished
NAMES = tuple(COMMANDS) if os.environ.get("ATTACK") == "full" else ("extract", "finetune")  # the others take minutes


def go_on(command_line: Any, arguments: list[str], run: Path, **environment: str) -> str:
    """What a user does after a kill: the same command again, and where that says so, --resume; the text of the last one."""
    again = command_line.run(arguments, **environment)
    if again.status == 2 and "--resume" in again.text:
        again = command_line.run(["--mode", arguments[1], "--resume", "--run-dir", str(run)], **environment)
    assert again.status == 0, f"dead end: {again.text}"
    return str(again.text)


@pytest.mark.parametrize("name", NAMES)
def test_a_killed_run_ends_as_if_nobody_had_killed_it(
    name: str, command_line: Any, photos: Path, small: tuple[str, ...], tmp_path: Path, rng: random.Random,
    times: Callable[[int, int], int], report: Callable[..., None], tools: Any,
) -> None:  # fmt: skip
    begun = None if tools.FULL else BEGUN.get(name)
    unkilled = COMMANDS[name if begun is None else name.removesuffix(" workers")]  # one process finds what its workers find
    options = ["--data", str(photos), *(() if name in NAMED else small)]
    arguments = [*COMMANDS[name], *options]
    started = time.perf_counter()
    whole = command_line.run([*unkilled, *options, "--run-dir", tmp_path / "whole"], TL_KERAS_CACHE=str(tmp_path / "cache"))
    seconds = time.perf_counter() - started
    assert whole.status == 0, whole.text
    wanted = tools.digest_of_run(tmp_path / "whole")
    for number in range(times(1, 12)):
        run, cache = tmp_path / str(number), str(tmp_path / f"cache{number}")
        which = SIGNALS[number % 3] if times(0, 1) else rng.choice(SIGNALS)
        killed = command_line.start([*arguments, "--run-dir", run], TL_KERAS_CACHE=cache)
        if begun is None:
            time.sleep(rng.uniform(0.05, 0.98) * seconds)
        else:
            tools.wait_for(run, begun, killed)
        killed.kill(which)
        status = killed.wait()
        tracebacks = int("Traceback" in killed.text)
        if status == 0:
            continue  # it was quicker than the signal
        go_on(command_line, [*arguments, "--run-dir", str(run)], run, TL_KERAS_CACHE=cache)
        different = int(tools.digest_of_run(run) != wanted)
        left = tools.leftovers(run) + tools.leftovers(Path(cache))
        report("kills", kills=1, different=different, leftovers=len(left), tracebacks=tracebacks)
        assert not tracebacks, killed.text
        assert not different
        assert not left
        assert status in (-9, -15, 130, 143)


@pytest.mark.parametrize("mode", USES)
def test_a_killed_use_of_a_run_leaves_the_run_as_it_was(
    mode: str, finished: Path, command_line: Any, photos: Path, tmp_path: Path, rng: random.Random, times: Callable[[int, int], int],
    report: Callable[..., None], tools: Any,
) -> None:  # fmt: skip
    begun, run = None if tools.FULL else BEGUN.get(mode), shutil.copytree(finished, tmp_path / "run")
    output = tmp_path / "found.csv"
    more = {"predict": [str(photos), "--output", str(output)], "explain": [str(photos)]}
    arguments = ["--mode", mode, "--run-dir", str(run), *more.get(mode, ())]
    before = tools.weights_bytes(run / "model.keras")
    seconds = 0.0
    if begun is None:
        started = time.perf_counter()
        whole = command_line.run(arguments)
        seconds = time.perf_counter() - started
        assert whole.status == 0, whole.text
    wanted = output.read_bytes() if mode == "predict" else b""
    for number in range(times(1, 12)):
        output.unlink(missing_ok=True)
        killed = command_line.start(arguments)
        if begun is None:
            time.sleep(rng.uniform(0.05, 0.98) * seconds)
        else:
            tools.wait_for(run, begun, killed)
        killed.kill(SIGNALS[number % 3])
        status = killed.wait()
        if status == 0:
            continue
        assert not output.exists() or output.read_bytes() == wanted
        again = command_line.run(arguments)
        assert again.status == 0, again.text
        different = int(tools.weights_bytes(run / "model.keras") != before or (mode == "predict" and output.read_bytes() != wanted))
        left = tools.leftovers(tmp_path)
        report("kills", kills=1, different=different, leftovers=len(left), tracebacks=int("Traceback" in killed.text))
        assert "Traceback" not in killed.text, killed.text
        assert not different
        assert not left
