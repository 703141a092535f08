"""Scripts as processes of their own, one after the other: what the benchmarks share."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def measure(script: str, *arguments: str, cache: str | None = None) -> dict[str, Any]:
    """Run a script of this folder and return the JSON of its last line.

    Args:
        cache: the folder for stored features (`TL_KERAS_CACHE`); None keeps the caller's.
    """
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"} | ({"TL_KERAS_CACHE": cache} if cache else {})
    command = [sys.executable, str(HERE / script), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def ours(mode: str, data: str, *sets: str, backbone: str = "mobilenet_v2", cache: str | None = None) -> dict[str, Any]:
    """Train with this package; see `measured_run.py`."""
    given = [word for each in sets for word in ("--set", each)]
    return measure("measured_run.py", "--mode", mode, "--data", data, "--backbone", backbone, *given, cache=cache)


def median(values: list[float]) -> float:
    """The middle one, or the mean of the middle two."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def print_table(header: list[str], rows: list[list[str]]) -> None:
    """A Markdown table, numbers to the right."""
    print(f"| {' | '.join(header)} |\n|---{'|---:' * (len(header) - 1)}|", flush=True)
    print_rows(rows)


def print_rows(rows: list[list[str]]) -> None:
    """More rows of a table."""
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)
