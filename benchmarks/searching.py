"""A hundred trials with each tuner: how long, what was won, and whether a kill or workers change it.

    python benchmarks/searching.py --data FOLDER [--config configs/search_head.yaml] [--trials 100] [--tuners random grid ...]

For each tuner a whole search by the command line, imports and the winner's run included; the same killed (SIGKILL) once a half
of its trials have ended, and resumed; the same by a chief and two workers, `--workers 2`. Features are computed before.
'repeated' counts trials that ended before the kill and ran again. 'same list' compares trials.csv, sorted by loss, with that of
the whole search: settings, and losses to 1e-5; where a tuner learns from what has ended, it depends on who ends first.
"""

import argparse
import csv
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from processes import print_table

TUNERS = ("bayesian", "random", "hyperband", "grid")
TRIAL = re.compile(r"^trial (\d+)  ")


def command(options: argparse.Namespace, tuner: str, run: Path, *more: str) -> list[str]:
    sets = ["--set", f"search.tuner={tuner}", "--set", f"search.max_trials={options.trials}"]
    base = [sys.executable, "-m", "tl_keras.run", "--mode", "search"]
    return [*base, "--config", options.config, "--data", options.data, *sets, "--run-dir", str(run), *more]


def resumed(run: Path) -> list[str]:
    return [sys.executable, "-m", "tl_keras.run", "--mode", "search", "--run-dir", str(run), "--resume"]


def trials_told(line: list[str], kill_after: int | None = None) -> list[str]:
    """Run a command and return the trials that it says have ended; with `kill_after`, kill it once so many have."""
    told: list[str] = []
    process = subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}
    )
    for text in process.stdout:  # type: ignore[union-attr]
        if found := TRIAL.match(text):
            told.append(found[1])
            if len(told) == kill_after:
                process.send_signal(signal.SIGKILL)
    if process.wait() not in (0, -signal.SIGKILL if kill_after else 0):
        sys.exit(f"{' '.join(line)} ended with {process.returncode}")
    return told


def ranked(run: Path) -> list[dict[str, str]]:
    """The lines of trials.csv, the best first."""
    with (run / "trials.csv").open(newline="") as file:
        return sorted(csv.DictReader(file), key=lambda each: float(each["val_loss"]))


def same(one: list[dict[str, str]], other: list[dict[str, str]]) -> bool:
    ignored = ("trial", "seconds", "val_loss", "val_accuracy")
    settings = [[{name: each[name] for name in each if name not in ignored} for each in both] for both in (one, other)]
    close = len(one) == len(other) and all(abs(float(a["val_loss"]) - float(b["val_loss"])) < 1e-5 for a, b in zip(one, other, strict=True))
    return close and settings[0] == settings[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--config", default="configs/search_head.yaml")
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--tuners", nargs="+", default=TUNERS)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        trials_told(command(options, "random", Path(folder) / "warm"))  # so that no tuner pays for the pass over the images
        for tuner in options.tuners:
            whole, killed, shared = (Path(folder) / f"{tuner}-{name}" for name in ("whole", "killed", "shared"))
            started = time.perf_counter()
            trials_told(command(options, tuner, whole))
            seconds = time.perf_counter() - started
            before = trials_told(command(options, tuner, killed), kill_after=options.trials // 2)
            after = trials_told(resumed(killed))
            started = time.perf_counter()
            trials_told(command(options, tuner, shared, "--workers", "2"))
            by_two = time.perf_counter() - started
            list_of = {run: ranked(run) for run in (whole, killed, shared)}
            rows.append(
                [
                    tuner,
                    f"{seconds:.0f}",
                    f"{float(list_of[whole][0]['val_loss']):.4f}",
                    f"{len(before)} + {len(after)}",
                    str(len(set(before) & set(after))),
                    "yes" if same(list_of[whole], list_of[killed]) else "no",
                    f"{by_two:.0f}",
                    "yes" if same(list_of[whole], list_of[shared]) else "no",
                ]
            )
    header = ["tuner", "s", "best val loss", "trials before + after the kill", "repeated", "same list", "two workers, s", "same list"]
    print_table(header, rows)


if __name__ == "__main__":
    main()
