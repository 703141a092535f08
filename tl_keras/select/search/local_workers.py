"""Worker processes on the chief's own machine: how each is started, watched and stopped, and what it gets of cores and GPUs.

Knows processes, and nothing of studies.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

CHIEF_PROCESS = "TL_KERAS_CHIEF_PROCESS"  # in a local worker's environment: whose child it is
STOP_S = 10.0  # that a worker has to end after Ctrl-C, before it is killed
WATCH_S = 0.5  # between two looks whether the chief still lives
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
MEMORY_AS_NEEDED = {"TF_FORCE_GPU_ALLOW_GROWTH": "true"}  # else the first process takes a GPU's whole memory


def worker_environment(number: int, workers: int, *, cpus: int, threads: int | None, gpus: Sequence[str]) -> dict[str, str]:
    """What a worker's environment has that the chief's has not: its share of the machine.

    Args:
        number: of this worker, from 0.
        workers: how many there are.
        cpus: cores of the machine.
        threads: what the configuration says, which is obeyed; None for a share of the cores.
        gpus: names of GPUs, as CUDA_VISIBLE_DEVICES has them; workers take turns.
    """
    share = {} if threads is not None else dict.fromkeys(THREADS, str(max(1, cpus // workers)))
    device = {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)], **MEMORY_AS_NEEDED} if gpus else {}
    return share | device


def visible_gpus(count: int, visible: str | None) -> list[str]:
    """The names of the GPUs that this process sees: those in its CUDA_VISIBLE_DEVICES, else their numbers."""
    return [name.strip() for name in visible.split(",")][:count] if visible else [str(number) for number in range(count)]


@dataclass(frozen=True)
class Death:
    """A worker that ended in another way than by having nothing left to do.

    Attributes:
        name: of the worker.
        status: 'signal 9' or 'exit status 2'.
        last: the last line that it wrote; empty where a signal left it no word.
    """

    name: str
    status: str
    last: str

    def __str__(self) -> str:
        return f"{self.status}: {self.last}" if self.last else self.status


class LocalWorkers:
    """Processes that are stopped when this context is left."""

    def __init__(self, command: Sequence[str], logs: Path) -> None:
        self._command, self._logs = command, logs
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._seen: set[str] = set()

    def start(self, name: str, environment: Mapping[str, str], *, shown: bool = False) -> None:
        """Start one.

        Args:
            name: of the worker, and of its log.
            environment: beside this process' own.
            shown: whether it writes where this process does, and has no log.
        """
        self._logs.mkdir(exist_ok=True)
        whole = os.environ | environment | {CHIEF_PROCESS: str(os.getpid()), "PYTHONUNBUFFERED": "1"}
        if shown:
            self._processes[name] = start_process(self._command, whole, None)
            return
        with self.log(name).open("ab") as log:
            # a session of its own: Ctrl-C is for the chief, which stops its workers itself
            self._processes[name] = start_process(self._command, whole, log)

    @property
    def names(self) -> tuple[str, ...]:
        """Of all that were started."""
        return tuple(self._processes)

    def log(self, name: str) -> Path:
        """Where a worker's output is."""
        return self._logs / f"{name}.log"

    def status(self, name: str) -> int | None:
        """The exit status of a worker, minus a signal's number where one ended it; None where it runs."""
        return self._processes[name].poll()

    def is_running(self, name: str) -> bool:
        """Whether a worker has not ended."""
        return self.status(name) is None

    def __len__(self) -> int:
        """How many are running."""
        return sum(process.poll() is None for process in self._processes.values())

    def deaths(self) -> list[Death]:
        """Those that died since the last time."""
        ended = {name: process.poll() for name, process in self._processes.items() if name not in self._seen}
        self._seen |= {name for name, status in ended.items() if status is not None}
        return [self._death(name, status) for name, status in ended.items() if status]

    def _death(self, name: str, status: int) -> Death:
        if status < 0:
            return Death(name, f"signal {-status}", "")
        if not self.log(name).is_file():
            return Death(name, f"exit status {status}", "")
        lines = self.log(name).read_text(encoding="utf-8", errors="replace").split("\n")
        return Death(name, f"exit status {status}", next((line.strip() for line in reversed(lines) if line.strip()), ""))

    def stop(self) -> None:
        """End those that are running, by Ctrl-C, so that they clear up, and by force where they take long."""
        until = time.monotonic() + STOP_S
        for process in self._processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        for process in self._processes.values():
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def wait(self, timeout_s: float) -> None:
        """Let those that have nothing left to do end by themselves."""
        until = time.monotonic() + timeout_s
        while len(self) and time.monotonic() < until:
            time.sleep(0.05)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


def start_process(command: Sequence[str], environment: Mapping[str, str], log: IO[bytes] | None) -> "subprocess.Popen[bytes]":
    """Start a process that reads no terminal, and writes to a log, or where this process does."""
    errors = None if log is None else subprocess.STDOUT
    return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=errors, start_new_session=True)


def end_with_chief(last: str = "the chief is gone; its run folder has the trials that ended.") -> None:
    """In a local worker: end, with a last word, when the chief has, also where that was killed and could stop nobody."""
    chief = os.environ.get(CHIEF_PROCESS)
    if chief is not None:
        threading.Thread(target=_watch, args=(int(chief), last), name="watch-chief", daemon=True).start()


def _watch(chief: int, last: str) -> None:
    while os.getppid() == chief:
        time.sleep(WATCH_S)
    print(last, file=sys.stderr, flush=True)
    os._exit(2)
