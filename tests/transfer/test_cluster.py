"""Work handed out to actors: all of it comes back, whoever is lost, and Ray leaves the process as it was."""

import os
import signal
import socket
from collections import deque
from typing import Any

import pytest

from tl_keras.config import Config
from tl_keras.config_file import load_config
from tl_keras.errors import ClusterError, ConfigError
from tl_keras.transfer import cluster
from tl_keras.transfer.cluster import (
    AT_ONCE,
    MOST_LOSSES,
    LostError,
    Plan,
    RayActors,
    address,
    cluster_let_go,
    hand_out,
    is_reached,
    plan,
    reach,
)

ON_RAY = load_config("extract", sets=["runtime.cluster=ray"])


class FakeActors:
    """Actors in this process, which square numbers.

    Args:
        lost_at: (actor, number) at which an actor is lost, both counted from 0; None for any actor.
        never: actors that do not open, and `dead`, those that are lost as they do.
    """

    def __init__(self, lost_at: Any = (), never: Any = (), dead: Any = ()) -> None:
        self.lost_at, self.never, self.dead = set(lost_at), set(never), dead
        self.started, self.stopped, self.gone = 0, list[int](), set[int]()
        self.queue, self.most = deque[tuple[int, int | None, int]](), 0
        self.given = 0

    def start(self) -> tuple[Any, Any]:
        actor, self.started = self.started, self.started + 1
        work = (actor, None, -1 - actor)
        if actor not in self.never:
            self.queue.append(work)
        return actor, work

    def submit(self, actor: Any, task: Any) -> Any:
        self.given += 1
        work = (actor, task, self.given)
        self.queue.append(work)
        self.most = max(self.most, sum(each[0] == actor for each in self.queue))
        return work

    def wait(self, work: list[Any], seconds: float) -> Any | None:
        return self.queue.popleft() if self.queue else None

    def get(self, work: Any) -> Any:
        actor, task, _ = work
        if task is None:
            if actor in self.dead:
                raise LostError("gone")
            return None
        if actor in self.gone or {(actor, task), (None, task)} & self.lost_at:
            self.gone.add(actor)
            raise LostError("gone")
        return task**2

    def stop(self, actor: Any) -> None:
        self.stopped.append(actor)


class LostWithOneDone(FakeActors):
    """The first actor is lost with its first piece; its second is done, and comes after that."""

    def get(self, work: Any) -> Any:
        actor, task, _ = work
        if (actor, task) == (0, 0):
            raise LostError("gone")
        return None if task is None else task**2


def squares(actors: FakeActors, num: int = 2, tasks: int = 20, say: Any = lambda text: None) -> list[tuple[int, int]]:
    return sorted(hand_out(actors, num, range(tasks), say))


EXPECTED = [(number, number**2) for number in range(20)]


def test_all_work_comes_back_with_its_number_and_every_actor_ends() -> None:
    actors = FakeActors()
    assert squares(actors) == EXPECTED
    assert sorted(actors.stopped) == [0, 1]
    assert actors.most == AT_ONCE
    assert squares(FakeActors(), tasks=0) == []


def test_no_more_is_taken_up_than_actors_have_in_hand() -> None:
    taken = []
    found = hand_out(FakeActors(), 2, (taken.append(number) or number for number in range(20)), lambda text: None)
    for done, _ in enumerate(found):
        assert len(taken) <= done + 1 + 2 * AT_ONCE


@pytest.mark.parametrize("lost_at", [[(0, 0)], [(0, 0), (1, 1)], [(1, 19)], [(0, 0), (2, 0), (1, 5)]])
def test_what_a_lost_actor_had_goes_to_another(lost_at: list[tuple[int, int]]) -> None:
    actors, heard = FakeActors(lost_at), list[str]()
    assert squares(actors, say=heard.append) == EXPECTED
    assert actors.started == 2 + len(actors.gone)
    assert sorted(actors.stopped) == list(range(actors.started))
    assert heard == ["an actor of the cluster was lost; another takes its work (gone)"] * len(actors.gone)


def test_one_that_cannot_be_started_again_is_not_waited_for() -> None:
    actors = FakeActors([(0, 0)], never=[2])
    assert squares(actors) == EXPECTED
    assert actors.stopped.count(2) == 1


def test_actors_that_open_late_are_waited_for_and_it_is_said() -> None:
    actors, heard = FakeActors(never=[0, 1]), list[str]()

    def say(text: str) -> None:
        heard.append(text)
        actors.queue.append((0, None, -1))

    assert squares(actors, say=say) == EXPECTED
    assert len(heard) == 1
    assert "no actor has begun yet" in heard[0]


def test_work_that_ends_every_actor_is_given_up() -> None:
    actors = FakeActors([(None, 7)])
    with pytest.raises(ClusterError, match=r"again and again with the same work \(gone\)"):
        squares(actors)
    assert MOST_LOSSES <= len(actors.gone) <= MOST_LOSSES + 1
    assert sorted(set(actors.stopped)) == list(range(actors.started))


def test_actors_that_are_lost_as_they_begin_are_given_up() -> None:
    actors = FakeActors(dead=range(100))
    with pytest.raises(ClusterError, match="as they begin"):
        squares(actors)
    assert actors.started <= 2 * MOST_LOSSES + 2
    assert squares(FakeActors(dead=[0, 1])) == EXPECTED


def test_an_interrupt_ends_the_actors() -> None:
    actors = FakeActors()
    found = hand_out(actors, 3, range(20), lambda text: None)
    next(found)
    found.close()
    assert sorted(actors.stopped) == [0, 1, 2]


@pytest.mark.parametrize(
    ("nodes", "threads", "expected"),
    [
        ([{"CPU": 2.0}], None, Plan(1, 2, 0)),
        ([{"CPU": 1.0}, {"CPU": 1.0}], None, Plan(2, 1, 0)),
        ([{"CPU": 12.0}], None, Plan(2, 6, 0)),
        ([{"CPU": 64.0}, {"CPU": 16.0}, {}], None, Plan(10, 8, 0)),
        ([{"CPU": 8.0}], 3, Plan(2, 3, 0)),
        ([{"CPU": 16.0, "GPU": 4.0}, {"CPU": 64.0}], None, Plan(4, 4, 1)),
        ([{"CPU": 16.0, "GPU": 4.0}, {"CPU": 8.0, "GPU": 1.0}], 2, Plan(5, 2, 1)),
        ([{"GPU": 2.0}], None, Plan(2, 0, 1)),
    ],
)
def test_plan(nodes: list[dict[str, float]], threads: int | None, expected: Plan) -> None:
    assert plan(nodes, threads) == expected


def test_a_cluster_without_room() -> None:
    with pytest.raises(ClusterError, match=r"no machine of the cluster has 4 CPUs .* they have \[0, 2\]"):
        plan([{"CPU": 2.0}, {}], 4)


def test_a_plan_in_words() -> None:
    assert str(Plan(1, 2, 0)) == "1 actor of 2 CPUs"
    assert str(Plan(3, 1, 1)) == "3 actors of 1 CPU and a GPU each"


def test_without_ray_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tl_keras.packages.is_installed", lambda package: False)
    with pytest.raises(ConfigError, match=r"^runtime\.cluster=ray: needs ray, not installed here\. Install it: pip install ray\.$"):
        reach(ON_RAY)


@pytest.mark.parametrize("mode", ["extract", "pretrain"])
def test_what_uses_no_cluster_reaches_none(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "require_packages", lambda *_: pytest.fail("asked for"))
    reach(Config(mode=mode))
    assert not is_reached()


@pytest.mark.parametrize("mode", ["search", "crossval"])
def test_many_runs_reach_no_cluster_each(mode: str) -> None:
    with pytest.raises(ConfigError, match=r"runtime\.cluster: got 'ray', expected 'none' with mode: .* Fill the store by extract first\."):
        load_config(mode, sets=["runtime.cluster=ray"])


def test_the_address_is_what_ray_says(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert address() == "local"
    file = tmp_path / "ray" / "ray_current_cluster"
    file.parent.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as server:
        there = f"127.0.0.1:{server.getsockname()[1]}"
        file.write_text(there)
        assert address() == there
        for told in ("local", there, f"ray://{there}"):
            monkeypatch.setenv("RAY_ADDRESS", told)
            assert address() == told
    with pytest.raises(ClusterError, match=rf"^RAY_ADDRESS: got 'ray://{there}', where no cluster answers\."):
        address()
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert address() == "local"  # the one that ran here was killed, and its file stays


@pytest.mark.slow
def test_ray_is_started_works_loses_an_actor_and_ends(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "local")  # not one that runs here for somebody else
    monkeypatch.setenv("HOME", str(tmp_path))

    class Squares:
        def open(self, folder: str) -> None:
            self.folder = folder

        def work(self, number: int) -> int:
            if number == 3 and not os.path.exists(f"{self.folder}/lost"):
                open(f"{self.folder}/lost", "w").close()
                os._exit(1)
            if number == 99:
                raise ClusterError("as it is")
            return number**2

    before, handlers = dict(os.environ), [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with cluster_let_go():
        reach(ON_RAY)
        assert is_reached()
        assert handlers == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        actors = RayActors(Squares, (str(tmp_path),), Plan(2, 0, 0))
        heard = list[str]()
        assert sorted(hand_out(actors, 2, range(20), heard.append)) == EXPECTED
        assert len(heard) == 1
        with pytest.raises(ClusterError, match=r"^as it is$"):
            list(hand_out(actors, 1, [99], heard.append))
    assert not is_reached()
    assert dict(os.environ) == before
    assert handlers == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]


def test_what_an_actor_had_done_when_it_was_lost_counts() -> None:
    assert squares(LostWithOneDone()) == EXPECTED
