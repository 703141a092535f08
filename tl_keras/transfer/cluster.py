"""A cluster of Ray, and pieces of work that are handed out to its actors.

Where the cluster is, Ray's own rules say: `RAY_ADDRESS`, else one that runs on this machine, else one is started here for as long as it is
needed. No setting says it, for a configuration may come from a stranger. Knows neither networks nor features: what an actor does, others
say.

Why actors of Ray's core and not Ray Data (2.60): there an image that ends its process is tried for ever; where actors take the cores of
every machine, reading waits for one for ever; and rows go through tables of pyarrow. What it would add are the few lines of `hand_out`.
"""

import logging
import os
import signal
import socket
import sys
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tl_keras.config import Config
from tl_keras.errors import ClusterError, ConfigError, UserError, first_line
from tl_keras.packages import require_packages
from tl_keras.runtime import place

NONE = "none"
LOCAL = "local"  # the address of a cluster that Ray is to start on this machine
MOST_CORES = 8  # of an actor without a GPU: beyond, two processes are faster than one
AT_ONCE = 2  # pieces in the hands of an actor: it decodes one while the other is computed
MOST_LOSSES = 3  # actors that are lost with one piece, or one after the other as they open
ANSWER_S = 5.0  # that a cluster has for its first answer; Ray itself waits for minutes
PATIENCE_S = 60.0  # until a user hears that the cluster has no room
QUIET = {  # what Ray reads when it is imported, or starts a cluster
    "RAY_USAGE_STATS_ENABLED": "0",  # it reports each cluster to its makers; nothing is sent from here
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # silences a note on a change to come
}

Task = TypeVar("Task")
Result = TypeVar("Result")


class LostError(Exception):
    """An actor or its machine is gone, and with it what it had in hand."""


@dataclass(frozen=True)
class Plan:
    """The actors that a cluster has room for: how many, and the CPUs and GPUs of each."""

    num: int
    cpus: int
    gpus: int

    def __str__(self) -> str:
        each = f"{self.cpus} CPU{'s' * (self.cpus != 1)}" + " and a GPU" * bool(self.gpus)
        return f"{self.num} actor{'s' * (self.num != 1)} of {each}{' each' * (self.num != 1)}"


def plan(nodes: Sequence[Mapping[str, float]], threads: int | None = None) -> Plan:
    """A GPU for each actor where there are GPUs, with its share of the machine's cores; else as few actors as use all cores.

    Args:
        nodes: the resources of each machine, as Ray calls them.
        threads: the cores of each actor; None decides by the machines.

    Raises:
        ClusterError: no machine has room for an actor.
    """
    with_gpu = [node for node in nodes if node.get("GPU", 0) >= 1]
    if with_gpu:
        share = min(int(node.get("CPU", 0) // int(node["GPU"])) for node in with_gpu)
        return Plan(sum(int(node["GPU"]) for node in with_gpu), min(threads or share, share), 1)
    cores = [int(node.get("CPU", 0)) for node in nodes]
    each = threads or max(range(1, MOST_CORES + 1), key=lambda size: (sum(num // size * size for num in cores), size))
    num = sum(num // each for num in cores)
    if not num:
        raise ClusterError(
            f"runtime.cluster: no machine of the cluster has {each} CPU{'s' * (each != 1)} for an actor; they have {sorted(cores)}. "
            "Give Ray more (ray start --num-cpus), or set a smaller runtime.threads."
        )
    return Plan(num, each, 0)


def uses_cluster(config: Config) -> bool:
    """Whether a run lets a cluster compute: in the modes whose frozen features are long to compute, if it is asked for."""
    return config.mode in ("extract", "finetune") and config.runtime.cluster != NONE


def reach(config: Config) -> None:
    """Connect this process to the cluster that a run is to use; where it is connected, or none is used, nothing is done.

    Raises:
        ConfigError: Ray is not installed, or this is one of several processes that train together.
        ClusterError: no cluster answers.
    """
    if not uses_cluster(config) or is_reached():
        return
    if place() is not None:
        raise ConfigError(
            "runtime.cluster: got 'ray' in one of several processes that train together. Store the features before, with --shard or by a "
            "run of its own, and set runtime.cluster=none."
        )
    require_packages("runtime.cluster=ray", ["ray"])
    found = address()
    with _quietly():
        import ray

        try:
            ray.init(found, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        except (OSError, RuntimeError, ValueError) as error:  # ConnectionError among them
            fault = "Ray does not start here" if found == LOCAL else f"the cluster at {found} does not take this process"
            raise ClusterError(f"runtime.cluster: {fault} ({first_line(error)}). Mend that, or set runtime.cluster=none.") from error


def address() -> str:
    """Where the cluster is by Ray's own rules; `LOCAL` where one has to be started.

    Raises:
        ClusterError: RAY_ADDRESS says where, and nobody answers there.
    """
    told = os.environ.get("RAY_ADDRESS", "")
    if told not in ("", "auto"):
        if not _answers(told):
            raise ClusterError(f"RAY_ADDRESS: got '{told}', where no cluster answers. Start it (ray start), or remove the variable.")
        return told
    file = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")
    found = file.read_text(encoding="utf-8").strip() if file.is_file() else ""
    return found if found and _answers(found) else LOCAL  # the file of one that was killed stays


def _answers(address: str) -> bool:
    """Whether somebody listens at HOST:PORT; true of what is no such address, of which Ray knows what it means."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return True
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_S).close()
    except OSError:
        return False
    return True


def is_reached() -> bool:
    """Whether this process is connected to a cluster."""
    return "ray" in sys.modules and sys.modules["ray"].is_initialized()


@contextmanager
def cluster_let_go() -> Iterator[None]:
    """Disconnect, at the end, from a cluster that was reached meanwhile; one that was started for it ends, and what Ray has told
    its processes by way of this one's environment goes.
    """
    before, there = is_reached(), set(os.environ)
    try:
        yield
    finally:
        if is_reached() and not before:
            sys.modules["ray"].shutdown()
            for name in set(os.environ) - there:
                if name.startswith("RAY_"):
                    del os.environ[name]


@contextmanager
def _quietly() -> Iterator[None]:
    """Let Ray start without messages to its makers, and without handlers of its own for signals, which are the process's."""
    before = dict(os.environ)
    handler, logger = signal.getsignal(signal.SIGTERM), logging.getLogger("ray")
    level = logger.level
    logger.setLevel(logging.ERROR)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        yield
    finally:
        logger.setLevel(level)
        for name in {*QUIET, "PYTHONBREAKPOINT"} - before.keys():  # the last is Ray's own debugger
            os.environ.pop(name, None)
        if signal.getsignal(signal.SIGTERM) is not handler:
            signal.signal(signal.SIGTERM, handler)


def resources() -> list[dict[str, float]]:
    """What each machine of the cluster that is reached has, as Ray calls it."""
    return [node["Resources"] for node in sys.modules["ray"].nodes() if node["Alive"]]


class Actors(Protocol):
    """Actors of one kind, as `hand_out` uses them; what they are called, and what their work is called, is up to them."""

    def start(self) -> tuple[Any, Any]:
        """Start one: the actor, and what is done once it is open."""

    def submit(self, actor: Any, task: Any) -> Any:
        """Give it a piece of work."""

    def wait(self, work: list[Any], seconds: float) -> Any | None:
        """One piece that is done, or has failed; None where there is none after so many seconds."""

    def get(self, work: Any) -> Any:
        """What came of it; raises LostError, or what the work has raised."""

    def stop(self, actor: Any) -> None:
        """End one, whatever it does."""


def result_of(work: Any) -> Any:
    """What came of work that Ray does, or of a list of such.

    Raises:
        LostError: its process, its machine or what it put out is gone.
        UserError: as the work raised it.
    """
    ray = sys.modules["ray"]
    try:
        return ray.get(work)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        raise LostError(first_line(error)) from error


class RayActors:
    """Actors of Ray.

    Args:
        kind: a class with the methods `open` and `work`.
        opening: arguments of `open`, the same for all.
        wanted: see `plan`.
    """

    def __init__(self, kind: type, opening: tuple[Any, ...], wanted: Plan) -> None:
        self._ray = sys.modules["ray"]
        self._kind = self._ray.remote(kind).options(num_cpus=wanted.cpus, num_gpus=wanted.gpus, max_concurrency=AT_ONCE)
        self._opening = [self._ray.put(each) for each in opening]

    def start(self) -> tuple[Any, Any]:
        actor = self._kind.remote()
        return actor, actor.open.remote(*self._opening)

    def submit(self, actor: Any, task: Any) -> Any:
        return actor.work.remote(task)

    def wait(self, work: list[Any], seconds: float) -> Any | None:
        done, _ = self._ray.wait(work, num_returns=1, timeout=seconds)
        return done[0] if done else None

    def get(self, work: Any) -> Any:
        return result_of(work)

    def stop(self, actor: Any) -> None:
        self._ray.kill(actor)


def hand_out(actors: Actors, num: int, tasks: Iterable[Task], say: Callable[[str], None]) -> Generator[tuple[int, Any], None, None]:
    """What actors make of pieces of work, each with its number, in the order in which they are done.

    An actor gets a few pieces at once, and more only when what it made is taken here, so that neither pieces nor results pile up. What an
    actor had when it was lost goes to another, and a new one is started in its place.

    Args:
        num: of actors.
        say: is told of lost actors, and where the cluster has no room.

    Raises:
        ClusterError: actors are lost again and again.
    """
    coming, again, losses = enumerate(tasks), deque[tuple[int, Task]](), Counter[int]()
    running: dict[Any, tuple[Any, tuple[int, Task] | None]] = {}  # work -> its actor, and its piece; None while that opens
    held: dict[Any, int] = {}  # pieces of each actor that is open
    opening: set[Any] = set()
    failed = 0  # actors that were lost as they opened, one after the other

    def start() -> None:
        actor, work = actors.start()
        opening.add(actor)
        running[work] = actor, None

    def give() -> None:
        for number, actor in product(range(AT_ONCE), list(held)):  # each its first, then each its second
            if held[actor] == number and (piece := again.popleft() if again else next(coming, None)) is not None:
                running[actors.submit(actor, piece[1])] = actor, piece
                held[actor] += 1

    def lose(actor: Any, error: LostError) -> None:
        if held.pop(actor, None) is not None or actor in opening:
            say(f"an actor of the cluster was lost; another takes its work ({error})")
            opening.discard(actor)
            actors.stop(actor)
            start()

    try:
        for _ in range(num):
            start()
        while True:
            give()
            if held and not any(piece for _, piece in running.values()):
                return
            work = actors.wait(list(running), PATIENCE_S)
            if work is None:
                if not held:
                    say("runtime.cluster: no actor has begun yet; the cluster is busy, or has lost machines")
                continue
            actor, piece = running.pop(work)
            try:
                result = actors.get(work)
            except LostError as error:
                if piece is None:
                    failed += 1
                else:
                    again.append(piece)
                    losses[piece[0]] += 1
                if failed == MOST_LOSSES * num or MOST_LOSSES in losses.values():
                    raise ClusterError(
                        f"runtime.cluster: actors are lost again and again {'with the same work' if piece else 'as they begin'} ({error}). "
                        "Most often their machine has too little memory; the logs of Ray there say."
                    ) from error
                lose(actor, error)
                continue
            if piece is None:
                opening.discard(actor)
                held[actor], failed = 0, 0
                continue
            if actor in held:  # else it was lost with its other piece
                held[actor] -= 1
            yield piece[0], result
    finally:
        for actor in [*held, *opening]:
            actors.stop(actor)
