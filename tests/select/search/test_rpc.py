"""Chief and workers over gRPC, in threads of one process: the same trials as alone, deaths, refusals, ends."""

import json
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tl_keras.errors import ConfigError, UserError
from tl_keras.select.search import rpc as module
from tl_keras.select.search import supervise as attending
from tl_keras.select.search.chief import private_address
from tl_keras.select.search.local_workers import Death
from tl_keras.select.search.oracles import Outcome, ResumableOracleMixin, best, open_study, outcome_of, outcomes, run_study
from tl_keras.select.search.role import HAS_UNIX_SOCKETS, LOCALHOST, Address, Role, role_in
from tl_keras.select.search.rpc import Chief, Client, connect, serve
from tl_keras.select.search.space import read_space
from tl_keras.select.search.supervise import supervise

SPACE = read_space(
    {
        "features.selection": {"choice": ["none", "anova"]},
        "features.keep": {"float": [0.01, 0.6], "log": True, "when": {"features.selection": "anova"}},
        "train.head_c": {"float": [1e-4, 10.0], "log": True},
        "train.clip_norm": {"choice": [None, 0.1, 1]},
        "train.batch_size": {"int": [1, 64]},
    }
)
GRID = read_space({"train.head_c": {"choice": [0.01, 0.1, 1.0]}, "features.stages": {"choice": ["last", "all"]}})
SECRET = "0123456789abcdef"
ANYWHERE = Address(LOCALHOST, 0, SECRET)
STUDY = "study-0123"
EPOCHS = 9


def space_of(tuner: str) -> Any:
    return GRID if tuner == "grid" else SPACE


def opened(folder: Path, tuner: str = "random", max_trials: int = 12, **options: Any) -> Any:
    wanted = {"objective": "val_loss", "max_trials": max_trials, "max_epochs": EPOCHS, "seed": 0, **options}
    return open_study(folder / "study", tuner, space_of(tuner), **wanted)


def evaluate(_: str, settings: dict[str, Any], share: float) -> dict[str, float]:
    return {"val_loss": (math.log10(settings["train.head_c"]) + 1) ** 2 / share / 3, "val_accuracy": 1 / 3}


def work(address: Address, name: str, tuner: str = "random", judge: Any = evaluate, study: str = STUDY) -> list[Outcome]:
    told: list[Outcome] = []
    with connect(address, name, study) as oracle:
        run_study(oracle, space_of(tuner), judge, told.append, tuner_id=name, max_epochs=EPOCHS)
    return told


@contextmanager
def serving(oracle: Any) -> Iterator[Chief]:
    with serve(ANYWHERE) as chief:
        chief.open(oracle, STUDY)
        yield chief


@contextmanager
def client_of(chief: Chief, name: str) -> Iterator[Client]:
    with connect(chief.address, name, STUDY) as client:
        yield client


def in_threads(*jobs: Callable[[], Any]) -> list[Any]:
    """Run all at once and return what each returned, or the UserError that it raised."""
    found: list[Any] = [None] * len(jobs)

    def run(place: int) -> None:
        try:
            found[place] = jobs[place]()
        except UserError as error:
            found[place] = error

    threads = [threading.Thread(target=run, args=(place,), name=f"job{place}") for place in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return found


def alone(folder: Path, tuner: str) -> list[Outcome]:
    told: list[Outcome] = []
    run_study(opened(folder, tuner), space_of(tuner), evaluate, told.append, tuner_id="t", max_epochs=EPOCHS)
    return told


def without_time(found: list[Outcome]) -> list[Any]:
    return [(each.settings, each.share, {key: value for key, value in each.metrics.items() if key != "seconds"}) for each in found]


@pytest.mark.slow
@pytest.mark.parametrize("tuner", ["random", "grid", "bayesian", "hyperband"])
def test_two_workers_run_each_trial_once(tmp_path: Path, tuner: str) -> None:
    oracle = opened(tmp_path, tuner)
    with serving(oracle) as chief:
        found = in_threads(*(lambda name=name: work(chief.address, name, tuner) for name in ("a", "b")))
    ran = sorted((each for part in found for each in part), key=lambda each: each.trial)
    assert len(ran) == (6 if tuner == "grid" else 12)
    assert sorted(outcomes(oracle, space_of(tuner), EPOCHS), key=lambda each: each.trial) == ran  # values and metrics, to the bit
    assert outcomes(opened(tmp_path, tuner), space_of(tuner), EPOCHS) == outcomes(oracle, space_of(tuner), EPOCHS)
    if tuner in ("random", "grid"):
        listed = best(outcomes(oracle, space_of(tuner), EPOCHS), "val_loss")
        single = best(alone(tmp_path / "alone", tuner), "val_loss")
        key = lambda each: (each[2]["val_loss"], json.dumps(each[0]))  # noqa: E731 the grid has ties
        assert sorted(without_time(listed), key=key) == sorted(without_time(single), key=key)


@pytest.mark.slow
def test_a_worker_waits_until_the_study_is_opened(tmp_path: Path) -> None:
    oracle = opened(tmp_path, max_trials=3)
    with serve(ANYWHERE) as chief:
        late = threading.Timer(0.8, chief.open, (oracle, STUDY))
        late.start()
        assert len(work(chief.address, "early")) == 3


def test_the_cause_of_a_failure_arrives(tmp_path: Path) -> None:
    cause = "Zürich: the head is too wide. " + "é" * 5000

    def judge(trial: str, settings: dict[str, Any], share: float) -> dict[str, float]:
        if int(trial) == 1:
            raise UserError(cause)
        return {"val_loss": math.nan, "val_accuracy": 0.1} if int(trial) == 2 else evaluate(trial, settings, share)

    oracle = opened(tmp_path, max_trials=4)
    with serving(oracle) as chief:
        work(chief.address, "a", judge=judge)
        ended = list(chief.ended(1))
    causes = [each.cause for each in outcomes(oracle, SPACE, EPOCHS)]
    assert causes[0] is None
    assert causes[1] is not None
    assert cause.startswith(causes[1])
    assert len(causes[1]) > 1900
    assert causes[2:] == ["its loss is not a finite number.", None]
    assert [(outcome_of(trial, SPACE, EPOCHS).cause, worker) for trial, worker in ended] == [(each, "a") for each in causes]


def test_a_worker_of_another_study_is_refused_and_disturbs_nobody(tmp_path: Path) -> None:
    oracle = opened(tmp_path, max_trials=3)
    with serving(oracle) as chief:
        with pytest.raises(UserError, match="worker 'b' was refused: its space, images, settings or version are not the chief's"):
            work(chief.address, "b", study="study-other")
        assert oracle.trials == {}
        assert chief.told() == ["worker 'b' was refused: it works on another study"]
        assert len(work(chief.address, "a")) == 3
        assert chief.is_over()


@pytest.mark.slow
def test_the_time_stops_workers_and_they_keep_what_they_began(tmp_path: Path) -> None:
    oracle = opened(tmp_path, max_trials=60, until=time.monotonic() + 1.5)

    def slow(*given: Any) -> dict[str, float]:
        time.sleep(0.2)
        return evaluate(*given)

    with serving(oracle) as chief:
        found = in_threads(*(lambda name=name: work(chief.address, name, judge=slow) for name in ("a", "b")))
        assert chief.is_over()
    assert 2 <= sum(map(len, found)) < 20
    assert len(outcomes(oracle, SPACE, EPOCHS)) == sum(map(len, found)) == len(oracle.trials)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOCALHOST, 0))
        return int(probe.getsockname()[1])


def test_a_chief_that_is_not_there_is_waited_for_and_then_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHIEF_WAIT_S", 0.5)
    port = free_port()
    with pytest.raises(UserError, match=rf"no chief answered at 127\.0\.0\.1:{port} for 0 s\. Is it running, are KERASTUNER_ORACLE_IP"):
        work(Address(LOCALHOST, port, SECRET), "a")


@pytest.mark.slow
def test_a_chief_that_comes_late_is_found(tmp_path: Path) -> None:
    address, oracle = Address(LOCALHOST, free_port(), SECRET), opened(tmp_path, max_trials=3)

    def late() -> None:
        time.sleep(1)
        with serve(address) as chief:
            chief.open(oracle, STUDY)
            while not chief.is_over():
                time.sleep(0.1)

    assert len(in_threads(lambda: work(address, "a"), late)[0]) == 3


@pytest.mark.slow
def test_a_chief_that_goes_away_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CALL_S", 2.0)
    monkeypatch.setattr(module, "LEAVE_S", 0.1)
    with ExitStack() as stack:
        chief = stack.enter_context(serving(opened(tmp_path)))

        def judge(trial: str, settings: dict[str, Any], share: float) -> dict[str, float]:
            if int(trial) == 2:
                stack.close()
            return evaluate(trial, settings, share)

        with pytest.raises(UserError, match=rf"the chief at {chief.address} is gone; the trials that ended are safe"):
            work(chief.address, "a", judge=judge)
    assert len(outcomes(opened(tmp_path), SPACE, EPOCHS)) == 2


@pytest.mark.slow
def test_the_trial_of_a_dead_worker_is_run_by_another_and_no_other_again(tmp_path: Path) -> None:
    oracle = opened(tmp_path, max_trials=5)
    with serving(oracle) as chief:
        with client_of(chief, "ghost") as ghost:
            taken = ghost.create_trial("ghost")
        survivor = threading.Thread(target=lambda: ran.extend(work(chief.address, "a")), name="survivor")
        ran: list[Outcome] = []
        survivor.start()
        time.sleep(1)
        assert len(ran) == 0  # it waits: the ghost may leave a trial
        assert survivor.is_alive()
        assert not chief.is_over()
        left = chief.requeue("ghost", "the worker died")
        assert left is not None
        assert left.trial_id == taken.trial_id
        assert chief.requeue("ghost", "the worker died") is None
        survivor.join(20)
    assert sorted(each.trial for each in ran) == ["0", "1", "2", "3", "4"]
    assert ran[-1].trial == taken.trial_id
    assert without_time(sorted(ran, key=lambda each: each.trial)) == without_time(alone_of_five(tmp_path / "alone"))


def alone_of_five(folder: Path) -> list[Outcome]:
    told: list[Outcome] = []
    run_study(opened(folder, max_trials=5), SPACE, evaluate, told.append, tuner_id="t", max_epochs=EPOCHS)
    return told


def test_a_trial_that_ends_two_workers_has_failed(tmp_path: Path) -> None:
    oracle = opened(tmp_path, max_trials=2)
    with serving(oracle) as chief:
        for name in ("a", "b"):
            with client_of(chief, name) as client:
                assert client.create_trial(name).trial_id == "0"
            left = chief.requeue(name, f"{name} died")
        assert left is not None
        assert left.status == "FAILED"
        assert [each.trial for each in work(chief.address, "c")] == ["1"]
        assert [(trial.trial_id, worker) for trial, worker in chief.ended(1)] == [("0", "b"), ("1", "c")]
    assert outcomes(opened(tmp_path, max_trials=2), SPACE, EPOCHS)[0].cause == "b died"


def test_deaths_are_remembered_by_a_later_chief(tmp_path: Path) -> None:
    with serving(opened(tmp_path)) as chief, client_of(chief, "a") as client:
        client.create_trial("a")
        chief.requeue("a", "died")
    with serving(opened(tmp_path)) as chief, client_of(chief, "b") as client:
        assert int(client.create_trial("b").trial_id) == 0
        left = chief.requeue("b", "died again")
        assert left is not None
        assert left.status == "FAILED"


def test_a_worker_that_is_started_again_gets_its_trial_again(tmp_path: Path) -> None:
    oracle = opened(tmp_path, max_trials=3)
    with serving(oracle) as chief:
        with client_of(chief, "far") as client:
            first = client.create_trial("far")
        ran = work(chief.address, "far")
        assert ran[0].trial == first.trial_id
        assert sorted(each.trial for each in ran) == ["0", "1", "2"]
        assert chief.told() == ["far was started again during trial 0, which runs again"]
        assert chief.told() == []


def test_a_worker_that_was_thought_dead_is_not_heard(tmp_path: Path) -> None:
    oracle = opened(tmp_path, max_trials=2)
    with serving(oracle) as chief, client_of(chief, "slow") as slow:
        trial = slow.create_trial("slow")
        chief.requeue("slow", "no sign of life")
        ran = work(chief.address, "a")
        slow.update_trial(trial.trial_id, {"val_loss": -1.0, "val_accuracy": 1.0})
        trial.status = "COMPLETED"
        slow.end_trial(trial)
        assert slow.create_trial("slow").status == "STOPPED"
    assert sorted(outcomes(oracle, SPACE, EPOCHS), key=lambda each: each.trial) == sorted(ran, key=lambda each: each.trial)


def test_a_defect_in_a_call_is_the_chief_s_to_raise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(self: Any) -> None:
        raise OSError(28, "No space left on device")

    oracle = opened(tmp_path)
    monkeypatch.setattr(ResumableOracleMixin, "save", save)
    with serving(oracle) as chief:
        with pytest.raises(UserError, match=r"the chief at .* failed \(.*No space left.*; its own output says why"):
            work(chief.address, "a")
        with pytest.raises(OSError, match="No space left"):
            chief.is_over()


def test_a_taken_port_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    with serve(ANYWHERE) as chief:
        assert chief.address.port > 0
        with pytest.raises(ConfigError, match=rf"cannot serve at {chief.address}: another program has this port"), serve(chief.address):
            pass
    assert capfd.readouterr().err == ""
    with serve(chief.address):
        pass


WHOLE = {"KERASTUNER_TUNER_ID": "worker1", "KERASTUNER_ORACLE_IP": "10.0.0.1", "KERASTUNER_ORACLE_PORT": "8000"}
WITH_TOKEN = WHOLE | {"TL_KERAS_SEARCH_TOKEN": SECRET}


def test_the_environment_says_who_one_is() -> None:
    assert role_in({"HOME": "/"}) is None
    role = role_in(WITH_TOKEN)
    assert role == Role("worker1", Address("10.0.0.1", 8000, SECRET))
    assert SECRET not in repr(role)
    assert role is not None
    assert not role.is_chief
    assert role.variables() == WITH_TOKEN
    chief = role_in(WITH_TOKEN | {"KERASTUNER_TUNER_ID": "chief"})
    assert chief is not None
    assert chief.is_chief
    assert str(Address("::1", 5)) == "[::1]:5"


@pytest.mark.parametrize("missing", list(WHOLE))
def test_half_an_environment_is_refused(missing: str) -> None:
    with pytest.raises(ConfigError, match=f"is set and {missing} is not"):
        role_in({name: value for name, value in WHOLE.items() if name != missing})


@pytest.mark.parametrize("port", ["http", "0", "65536", "-1", "8000.0", "٨"])
def test_a_port_is_a_number(port: str) -> None:
    with pytest.raises(ConfigError, match=rf"KERASTUNER_ORACLE_PORT: got '{port}', expected a port number"):
        role_in(WITH_TOKEN | {"KERASTUNER_ORACLE_PORT": port})


@pytest.mark.parametrize(("token", "got"), [("", "is not set"), ("short", "has 5 characters"), ("é" * 20, "is not ASCII")])
def test_a_search_on_several_machines_has_a_secret(token: str, got: str) -> None:
    with pytest.raises(ConfigError, match=f"TL_KERAS_SEARCH_TOKEN {got}: whoever reaches the chief's port could decide the search"):
        role_in(WHOLE | {"TL_KERAS_SEARCH_TOKEN": token})


@pytest.mark.parametrize("token", ["", SECRET[:-1], SECRET + "0", SECRET[::-1]])
def test_whoever_does_not_know_the_token_is_refused(token: str, tmp_path: Path) -> None:
    with serving(opened(tmp_path, max_trials=2)) as chief:
        stranger = Address(chief.address.ip, chief.address.port, token)
        with pytest.raises(UserError, match="worker 'a': it was refused, as TL_KERAS_SEARCH_TOKEN is not the chief's at 127"):
            work(stranger, "a")
        with connect(stranger, "b", STUDY) as client, pytest.raises(UserError, match="it was refused"):
            client.update_trial("0", {"val_loss": 0.0})
        assert len(work(chief.address, "c")) == 2


def test_calls_that_workers_do_not_need_are_refused(tmp_path: Path) -> None:
    with serving(opened(tmp_path)) as chief, client_of(chief, "a") as client:
        for name in ("GetSpace", "UpdateSpace", "GetTrial"):
            request = getattr(module.protos.get_service(), f"{name}Request")()
            with pytest.raises(UserError, match="workers do not need this call"):
                client._call(getattr(client.stub, name), request)
        assert not chief.is_over()


def test_every_chief_that_is_given_no_token_has_one_of_its_own() -> None:
    with serve(Address(LOCALHOST, 0)) as one, serve(Address(LOCALHOST, 0)) as other:
        assert len({one.address.token, other.address.token}) == 2
        assert len(one.address.token) >= 32


@pytest.mark.skipif(not HAS_UNIX_SOCKETS, reason="this platform has no sockets in the file system")
def test_local_workers_come_through_a_socket_that_only_this_user_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with private_address(Role("chief", Address(LOCALHOST, 0))) as address, serve(address) as chief:
        folder = Path(chief.address.ip.removeprefix("unix:")).parent
        assert folder.stat().st_mode & 0o077 == 0
        chief.open(opened(tmp_path, max_trials=3), STUDY)
        role = role_in(Role("worker1", chief.address).variables())
        assert role == Role("worker1", chief.address)
        assert len(work(chief.address, "worker1")) == 3
    assert not folder.exists()
    for name, value in WITH_TOKEN.items():
        monkeypatch.setenv(name, value)
    with private_address(Role("chief", Address("10.0.0.1", 8000, SECRET))) as address:
        assert address == Address("10.0.0.1", 8000, SECRET)


class Team:
    """Local workers that are none: some names, of which some still live and some have just died."""

    def __init__(self, names: tuple[str, ...] = (), alive: int = 0, dead: tuple[Death, ...] = ()) -> None:
        self.names, self.alive, self.dead = names, alive, list(dead)

    def __len__(self) -> int:
        return self.alive

    def deaths(self) -> list[Death]:
        dead, self.dead = self.dead, []
        return dead

    def wait(self, timeout_s: float) -> None:
        pass


def attended(chief: Chief, team: Any) -> tuple[list[str], list[str]]:
    told: list[str] = []
    said: list[str] = []
    supervise(chief, team, lambda trial, worker: told.append(f"{trial.trial_id} {worker}"), said.append, how="-m x --resume")
    return told, said


def test_a_chief_attends_to_deaths_and_ends_with_the_last_trial(tmp_path: Path) -> None:
    with serving(opened(tmp_path, max_trials=3)) as chief:
        with client_of(chief, "worker1") as client:
            client.create_trial("worker1")
        team = Team(("worker1", "worker2"), 1, (Death("worker1", "signal 9", ""),))
        (told, said), ran = in_threads(lambda: attended(chief, team), lambda: work(chief.address, "worker2"))
    assert sorted(told) == ["0 worker2", "1 worker2", "2 worker2"]
    assert said == ["worker1 died (signal 9) during trial 0, which another will run"]
    assert len(ran) == 3


def test_the_death_of_the_last_worker_ends_the_search(tmp_path: Path) -> None:
    with serving(opened(tmp_path)) as chief:
        team = Team(("worker1",), 0, (Death("worker1", "exit status 2", "DataError: no such folder."),))
        with pytest.raises(
            UserError, match=r"the last worker died \(exit status 2: DataError: no such folder\.\).*continue with: python -m x"
        ):
            attended(chief, team)


def test_a_trial_that_fails_with_the_last_worker_is_told_first(tmp_path: Path) -> None:
    with serving(opened(tmp_path)) as chief:
        for name in ("worker1", "worker2"):
            with client_of(chief, name) as client:
                assert int(client.create_trial(name).trial_id) == 0
            if name == "worker1":
                chief.requeue(name, "died")
        told: list[str] = []
        team: Any = Team(("worker1", "worker2"), 0, (Death("worker2", "signal 9", ""),))
        with pytest.raises(UserError, match=r"the last worker died \(signal 9\)"):
            supervise(chief, team, lambda trial, worker: told.append(f"{worker}: {trial.message}"), lambda line: None, how="")
    assert told == ["worker2: workers died during it, the last: signal 9"]


def test_a_guest_goes_on_where_the_last_local_worker_died(tmp_path: Path) -> None:
    with serving(opened(tmp_path, max_trials=3)) as chief, client_of(chief, "far") as client:
        client.create_trial("far")
        team = Team(("local1",), 0, (Death("local1", "signal 9", ""),))
        (_, said), ran = in_threads(lambda: attended(chief, team), lambda: work(chief.address, "far"))
    assert "local1 died (signal 9)" in said
    assert len(ran) == 3


@pytest.mark.slow
def test_silence_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attending, "QUIET_S", 0.5)
    with serving(opened(tmp_path, max_trials=1)) as chief:

        def come() -> list[Outcome]:
            time.sleep(1)
            with client_of(chief, "far") as client:
                client.create_trial("far")
            time.sleep(1)
            return work(chief.address, "far")

        (_, said), _ = in_threads(lambda: attended(chief, Team()), come)
    assert said[0] == "no worker has asked for a trial: start one, as docs/search-cluster.md shows"
    assert any(line.startswith("waiting for far (trial 0, for 0 min). A worker that died is started again under its name") for line in said)


@pytest.mark.parametrize("name", ["/tmp/x", "../../x", ""])
def test_a_chief_of_a_stranger_whose_trial_is_no_number(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Response:
        trial = module.engine.Trial(module.HyperParameters(), name or " ", module.engine.TrialStatus.RUNNING).to_proto()

    monkeypatch.setattr(Client, "_call", lambda *_: Response())
    client = Client(module.grpc.insecure_channel("127.0.0.1:1"), Address(LOCALHOST, 1, "x" * 16), "w", "study")
    with pytest.raises(UserError, match="is not the number of a trial"):
        client.create_trial("w")
