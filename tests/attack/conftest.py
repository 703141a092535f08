"""What the attacks share: the command line in processes that can be killed, small photographs, and a table of what was found.

Run small in every test run; `ATTACK=full python -m pytest tests/attack -q` runs as many as the closing table of a release needs.
"""

import csv
import hashlib
import json
import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

FULL = os.environ.get("ATTACK") == "full"
TABLE: dict[str, dict[str, int]] = {}  # attack -> figure -> number
UNSTEADY = ("seconds", "path", "ms")  # columns of a run's CSV files that differ between equal runs
LIMIT_S = 120.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here takes its time."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The figures of all attacks as a table."""
    if TABLE:
        terminalreporter.section("attacks")
    for name, figures in TABLE.items():
        terminalreporter.line(f"{name:<28}" + "  ".join(f"{number} {figure}" for figure, number in figures.items()))


@pytest.fixture(scope="session")
def report() -> Callable[..., None]:
    """Add to the figures of an attack: `report("kills", kills=1, tracebacks=0)`."""

    def add(attack: str, **figures: int) -> None:
        row = TABLE.setdefault(attack, {})
        for figure, number in figures.items():
            row[figure.replace("_", " ")] = row.get(figure.replace("_", " "), 0) + number

    return add


@pytest.fixture(scope="session")
def times() -> Callable[[int, int], int]:
    """How often to attack: `times(few, many)`."""
    return lambda few, many: many if FULL else few


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Random draws that depend on the test's name alone."""
    return random.Random(request.node.nodeid.partition("::")[2])


@dataclass
class Command:
    """One process of the command line."""

    pid: int
    output: Path
    ended: "queue.Queue[int]" = field(default_factory=queue.Queue)
    status: int | None = None

    def wait(self, limit_s: float = LIMIT_S) -> int:
        """Its exit status, negative for a signal; a process that hangs is killed and fails the test."""
        if self.status is None:
            try:
                self.status = self.ended.get(timeout=limit_s)
            except queue.Empty:
                self.kill(signal.SIGKILL)
                raise AssertionError(f"still running after {limit_s:g} s: {self.text}") from None
        return self.status

    def kill(self, number: signal.Signals) -> None:
        """Send a signal to it, and with SIGKILL to all that it started, as the end of a container does."""
        with suppress(ProcessLookupError):
            (os.killpg if number is signal.SIGKILL else os.kill)(self.pid, number)

    @property
    def text(self) -> str:
        """What it has printed."""
        return self.output.read_text(encoding="utf-8", errors="surrogateescape") if self.output.exists() else ""


class CommandLine:
    """Starts the command line in processes; see `server`."""

    def __init__(self, folder: Path) -> None:
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_NUM_INTRAOP_THREADS": "1", "COLUMNS": "200"}
        self._folder, self._number = folder, 0
        self._server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("server.py"))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
            cwd=Path(__file__).parents[2],
        )  # fmt: skip
        self._started: queue.Queue[int] = queue.Queue()
        self._running: dict[int, Command] = {}
        self._early: dict[int, int] = {}
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        assert self._started.get(timeout=LIMIT_S) == 1

    def _listen(self) -> None:
        assert self._server.stdout is not None
        for line in self._server.stdout:
            found = json.loads(line)
            if "status" not in found:
                self._started.put(found.get("pid", 1))
            elif found["pid"] in self._running:
                self._running.pop(found["pid"]).ended.put(found["status"])
            else:
                self._early[found["pid"]] = found["status"]

    def start(
        self, arguments: Sequence[str | Path], *, folder: Path | None = None, limits: Mapping[str, int] | None = None, **environment: str
    ) -> Command:
        """Start a command; `limits` are of `resource`, `environment` is added to this process' own."""
        self._number += 1
        output = self._folder / f"{self._number}.txt"
        variables = {"TL_KERAS_CACHE": os.environ["TL_KERAS_CACHE"], **environment}
        job = {
            "arguments": [str(each) for each in arguments], "folder": str(folder or self._folder), "environment": variables,
            "output": str(output), "limits": dict(limits or {}),
        }  # fmt: skip
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(job) + "\n")
        self._server.stdin.flush()
        pid = self._started.get(timeout=LIMIT_S)
        command = self._running[pid] = Command(pid, output)
        if pid in self._early:
            command.ended.put(self._early.pop(pid))
        return command

    def run(self, arguments: Sequence[str | Path], **options: Any) -> Command:
        """Start a command and wait for its end."""
        command = self.start(arguments, **options)
        command.wait()
        return command

    def close(self) -> None:
        """End the server."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(timeout=LIMIT_S)
        self._listener.join(timeout=LIMIT_S)  # it reads to the end
        self._server.stdout.close()


@pytest.fixture(scope="session")
def command_line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """The command line in processes that start in a fraction of a second."""
    made = CommandLine(tmp_path_factory.mktemp("outputs"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def photos(photo_folder: Callable[..., Path]) -> Path:
    """Two classes of twelve small photographs."""
    return photo_folder(per_class=12)


@pytest.fixture(scope="session")
def small(own_backbone: str) -> tuple[str, ...]:
    """Options of a run that takes a second: a network of one convolution; where `ATTACK=full`, the bundled one."""
    return ("--set", "data.image_size=32") if FULL else ("--backbone", own_backbone, "--set", "data.image_size=16")


@pytest.fixture(scope="session")
def finished(command_line: Any, photos: Path, small: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `extract` that has ended. Not to be changed: take a copy."""
    run = tmp_path_factory.mktemp("finished") / "run"
    done = command_line.run(["--mode", "extract", "--data", photos, "--run-dir", run, *small])
    assert done.status == 0, done.text
    return run


@pytest.fixture(scope="session")
def interrupted(command_line: Any, photos: Path, small: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run of `finetune` that was killed once it had a checkpoint, and the digest of one that was not. Not to be changed: take a copy."""
    folder = tmp_path_factory.mktemp("interrupted")
    arguments = ["--mode", "finetune", "--data", photos, "--set", "train.epochs=2", "--set", "features.views=0", *small]
    assert command_line.run([*arguments, "--run-dir", folder / "whole"]).status == 0
    run = folder / "run"
    running = command_line.start([*arguments, "--run-dir", run], TL_KERAS_CACHE=str(folder / "cache"))
    wait_for(run, "checkpoints/finetune.json", running)
    running.kill(signal.SIGKILL)
    if running.wait() == 0:
        pytest.skip("it was quicker than the kill")
    return run, digest_of_run(folder / "whole")


def wait_for(folder: Path, pattern: str, running: Command) -> None:
    """Wait until a folder has a file or folder of a pattern, or the command that makes it has ended."""
    while not list(folder.glob(pattern)) and running.ended.empty():
        time.sleep(0.01)


def digest_of_run(run: Path) -> str:
    """A hash of everything in a run folder that equal runs have equal: weights, predictions, history, splits."""
    digest = hashlib.sha256()
    for file in sorted(path for path in run.rglob("*") if path.is_file()):
        name = file.relative_to(run).as_posix()
        if file.suffix == ".keras":
            digest.update(name.encode() + weights_bytes(file))
        elif file.suffix == ".csv":
            digest.update(name.encode() + "\n".join(map(str, steady_rows(file))).encode())
    return digest.hexdigest()


def steady_rows(file: Path) -> list[list[str]]:
    """The rows of a CSV file without what differs between equal runs."""
    with file.open(newline="", encoding="utf-8", errors="surrogateescape") as lines:
        rows = list(csv.reader(lines))
    kept = [place for place, name in enumerate(rows[0]) if name not in UNSTEADY] if rows else []
    return [[row[place] for place in kept if place < len(row)] for row in rows]


def weights_bytes(file: Path) -> bytes:
    """The values of all weights of a `.keras` file, in the order of their names."""
    import io

    import h5py
    import numpy as np

    parts: list[bytes] = []
    with zipfile.ZipFile(file) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as weights:
        weights.visititems(
            lambda name, item: parts.append(name.encode() + np.asarray(item).tobytes()) if isinstance(item, h5py.Dataset) else None
        )
    return b"".join(sorted(parts))


def leftovers(folder: Path) -> list[str]:
    """Temporary files and scratch below a folder, which no finished run leaves."""
    return [
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.name.startswith(".") or path.name == "scratch" or path.name.endswith(".tmp")
    ]


@pytest.fixture(scope="session")
def tools() -> Any:
    """The functions of this file that tests call."""
    return sys.modules[__name__]
