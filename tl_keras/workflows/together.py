"""Several processes on this machine that train one model together: started, watched, and ended all at once where one dies.

Each is the same command with another place in `TF_CONFIG`. Knows processes, and no TensorFlow.
"""

import os
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tl_keras.cores import usable_cpus
from tl_keras.errors import ConfigError, TrainingError
from tl_keras.select.search.local_workers import THREADS, Death, LocalWorkers
from tl_keras.short_forms import normal
from tl_keras.tf_config import TF_CONFIG, Place, config_of

WORKERS = "--workers"
LOOK_S = 0.2  # between two looks at the processes
WORD_S = 5.0  # that the chief has to say itself why all end
LEAVE_S = 30.0  # that the others have to end when the chief is done


class Together:
    """Processes that train together.

    Args:
        team: where they are started.
        scratch: a folder for what those write that are not the chief.
        how: the command that goes on with the run.
    """

    def __init__(self, team: LocalWorkers, count: int, scratch: Path, how: str) -> None:
        self._team, self._scratch, self._how = team, scratch, how
        self._names = ["chief", *(f"worker{index}" for index in range(1, count))]

    def train(self) -> int:
        """Start all, and stay until the chief has ended; its exit status.

        Raises:
            ConfigError: this process is itself one of several.
            TrainingError: one died, whereupon all have been ended.
        """
        if os.environ.get(TF_CONFIG):
            raise ConfigError(f"{WORKERS}: {TF_CONFIG} names the processes already. Unset it, or remove {WORKERS}.")
        addresses = free_addresses(len(self._names))
        for index, name in enumerate(self._names):
            own = {TF_CONFIG: config_of(Place(index, addresses))} | share_of_machine(index, len(self._names), gpus())
            own |= {"TMPDIR": str(self._scratch)} if index else {}
            self._team.start(name, own, shown=index == 0)
        while self._team.is_running(self._names[0]):
            time.sleep(LOOK_S)
            if deaths := self._team.deaths():
                return self._after(deaths)
        if deaths := self._team.deaths():
            return self._after(deaths)
        self._team.wait(LEAVE_S)
        return 0

    def _after(self, deaths: Sequence[Death]) -> int:
        """End the others once one has died; the exit status of the chief, where it has said why it ended."""
        until = time.monotonic() + WORD_S
        while self._team.is_running(self._names[0]) and time.monotonic() < until:
            time.sleep(LOOK_S)
        status = self._team.status(self._names[0])
        self._team.stop()
        if status is not None and status > 0 and any(death.name == self._names[0] for death in deaths):
            return status
        others = "" if len(self._names) == len(deaths) else ", so the others were ended"
        raise TrainingError(f"{'; '.join(f'{death.name} died ({death})' for death in deaths)}{others}. Go on with: {self._how}")


def command_of(words: Sequence[str], run_dir: Path | None) -> list[str]:
    """The command of each process: these words without --workers, and with a run folder where they name none."""
    end = words.index("--") if "--" in words else len(words)
    kept: list[str] = []
    skips = False
    for word in words[:end]:
        flag, equals, _ = word.partition("=")
        is_ours = flag.startswith("--") and normal(flag) == normal(WORKERS)
        if not (skips or is_ours):
            kept.append(word)
        skips = is_ours and not equals
    return [sys.executable, "-m", "tl_keras", *kept, *([] if run_dir is None else ["--run-dir", str(run_dir)]), *words[end:]]


def free_addresses(count: int) -> tuple[str, ...]:
    """Addresses on this machine of which nobody has the port just now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return tuple(f"127.0.0.1:{each.getsockname()[1]}" for each in sockets)


def gpus() -> list[str]:
    """The names of this machine's GPUs of NVIDIA's that this process may use, as CUDA_VISIBLE_DEVICES has them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    return [str(number) for number in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]


def share_of_machine(index: int, count: int, gpus: Sequence[str]) -> dict[str, str]:
    """The environment of one of several processes: its GPUs, where each can have some of its own, and else none; and its cores."""
    each = len(gpus) // count  # as many for all: TensorFlow takes that for granted
    mine = gpus[index * each : (index + 1) * each]
    return {"CUDA_VISIBLE_DEVICES": ",".join(mine) or "-1"} | dict.fromkeys(THREADS, str(max(1, usable_cpus() // count)))
