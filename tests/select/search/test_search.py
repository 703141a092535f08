"""The search mode: trials on stored features and whole trainings, a kill, other spaces, what it leaves."""

import csv
import gc
import json
import os
import pickle
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework.func_graph import FuncGraph

from tl_keras import run_folder, workflows
from tl_keras.config import Config
from tl_keras.config_file import to_yaml
from tl_keras.data.sources import open_source
from tl_keras.errors import ConfigError, RunFolderError, TrainingError, UserError
from tl_keras.progress import Progress
from tl_keras.run_folder import RunFolder
from tl_keras.select.search.head_trials import HeadTrials
from tl_keras.select.search.oracles import Outcome
from tl_keras.select.search.role import HAS_UNIX_SOCKETS, LOCALHOST, Address, Role
from tl_keras.select.search.rpc import serve
from tl_keras.select.search.space import read_space
from tl_keras.select.search.study_files import study_digest
from tl_keras.trained_run import write_config
from tl_keras.transfer.head.problem import HeadProblem
from tl_keras.transfer.trunk import Trunk
from tl_keras.workflows.evaluate import evaluate
from tl_keras.workflows.search import search
from tl_keras.workflows.search_worker import work
from tl_keras.workflows.together import free_addresses
from tl_keras.workflows.train import train

pytestmark = pytest.mark.usefixtures("own_store")
PhotoFolder = Callable[..., Path]
PythonAlone = Callable[..., subprocess.CompletedProcess[str]]
workflow = import_module("tl_keras.workflows.search")  # the package has the function under this name
HEADS = {"train.head_c": {"choice": [0.001, 0.01, 0.1]}, "features.stages": {"choice": ["last", "all"]}}
RATES = {"train.learning_rate": {"choice": [1e-3, 1e-2]}}
BRIEF = {"epochs": 1, "batch_size": 8}


def config_of(photos: Path, **sections: Any) -> Config:
    data = {"source": str(photos), "image_size": 16} | sections.pop("data", {})
    wanted = {"space": HEADS, "tuner": "grid", "max_trials": 10} | sections.pop("search", {})
    return Config.model_validate({"mode": "search", "data": data, "search": wanted, **sections})


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


@dataclass(frozen=True)
class Searched:
    """A search that came to its end. Not to be changed.

    Attributes:
        passed: how many images went through a trunk, call by call.
        scored: the splits that each training run was measured on; None where it was not told.
    """

    run: Path
    result: dict[str, Any]
    lines: list[str]
    passed: list[int]
    scored: list[Any]


def searched(config: Config, run: Path) -> Searched:
    """Search with a store of its own, and note what is done."""
    progress, found = Progress(), Searched(run, {}, [], [], [])
    progress.line = found.lines.append  # type: ignore[method-assign]
    call, train = Trunk.__call__, workflow.train
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TL_KERAS_CACHE", str(run.parent / "cache"))
        patch.setattr(Trunk, "__call__", lambda self, pixels: found.passed.append(len(pixels)) or call(self, pixels))
        patch.setattr(workflow, "train", lambda *given, **options: found.scored.append(options.get("scored")) or train(*given, **options))
        found.result.update(search(config, run, progress=progress))
    return found


def stand_in(config: Config, folder: Path, **_: Any) -> dict[str, Any]:
    """Stands in for a training run, with the results that a search reads; the lower the learning rate, the better they are."""
    folder.mkdir(parents=True)
    metrics = {"mode": config.mode, "val": {"log_loss": config.train.learning_rate or 1.0, "accuracy": 0.5}}
    run_folder.write_json(folder / run_folder.METRICS, metrics)
    (folder / run_folder.MODEL).touch()
    return metrics


def solved_loss(run: Path) -> float:
    """The log loss on val of a run's head as it was solved, before its temperature."""
    (line,) = rows_of(run / run_folder.HISTORY)
    return float(line["val_loss"])


@pytest.mark.slow
def test_a_trial_scores_what_a_training_of_its_settings_scores(photos: Path, own_backbone: str, tmp_path: Path) -> None:
    settings = {"model": {"backbone": own_backbone}, "features": {"views": 1}, "train": {"class_weights": {"cat": 5.0}}}
    config = config_of(photos, **settings).replace("mode", "extract")
    found = HeadTrials(open_source(config.data), Progress())(config, 1.0)
    metrics = train(config, tmp_path / "R")
    assert found["val_accuracy"] == metrics["val"]["accuracy"]
    assert found["val_loss"] == pytest.approx(solved_loss(tmp_path / "R"), abs=1e-5)


@pytest.fixture(scope="module")
def grid(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Searched:
    """A search over the whole grid."""
    return searched(config_of(photos), tmp_path_factory.mktemp("grid") / "R")


@pytest.fixture(scope="module")
def short(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Searched:
    """A search that ends before its grid does, and whose trial is worse than the settings as they stand."""
    space = {"train.head_c": {"choice": [1e-9, 1e-8]}}
    return searched(config_of(photos, search={"space": space, "max_trials": 1}), tmp_path_factory.mktemp("short") / "R")


@pytest.mark.slow
def test_a_grid_that_is_cut_short_is_said_to_be(grid: Searched, short: Searched) -> None:
    for found, told in ((short, True), (grid, False)):
        assert any("ended the grid" in line for line in found.lines) is told


def test_settings_of_the_head_share_one_backbone(photos: Path, own_backbone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def config_with(sections: dict[str, Any]) -> Config:
        model = {"backbone": own_backbone} | sections.get("model", {})
        return config_of(photos, **sections | {"model": model}).replace("mode", "extract")

    built = []
    module = import_module("tl_keras.select.search.head_trials")
    real = module.open_features
    monkeypatch.setattr(module, "open_features", lambda *given: built.append(1) or real(*given))
    trials = HeadTrials(open_source(config_of(photos).data), Progress())
    heads = (
        {"features": {"selection": "anova", "keep": 0.2}},
        {"features": {"selection": "anova", "keep": 0.3}},
        {"train": {"head_c": 0.1}},
        {"model": {"dropout": 0.5}},
    )
    for sections in heads:
        trials(config_with(sections), 1.0)
    assert len(built) == 1
    for sections in ({"model": {"pooling": "max"}}, {"features": {"stages": "last"}}, {"data": {"resize": "stretch"}}):
        trials(config_with(sections), 1.0)
    assert len(built) == 4


def test_a_share_is_of_train_alone_and_keeps_classes(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    real = HeadProblem.solve

    def solve(self, config, train, val):
        sizes.append((self.labels[train], len(val)))
        return real(self, config, train, val)

    monkeypatch.setattr(HeadProblem, "solve", solve)
    config = config_of(photos).model_copy(update={"mode": "extract"})
    trials = HeadTrials(open_source(config.data), Progress())
    for share in (0.25, 1.0):
        trials(config, share)
    assert [len(labels) for labels, _ in sizes] == [7, 28]
    np.testing.assert_allclose(np.bincount(sizes[0][0]), [3.5, 3.5], atol=0.5)
    assert [num for _, num in sizes] == [6, 6]


@pytest.mark.parametrize("tuner", ["grid", *(pytest.param(each, marks=pytest.mark.slow) for each in ("random", "bayesian", "hyperband"))])
def test_every_tuner_leaves_a_run_that_is_the_best_on_val(
    photos: Path, own_backbone: str, grid: Searched, tmp_path: Path, tuner: str
) -> None:
    if tuner == "grid":
        run, result = grid.run, grid.result
    else:
        run, epochs = tmp_path / "R", {"max_epochs": 3} if tuner == "hyperband" else {}
        result = search(config_of(photos, search={"tuner": tuner, **epochs}, model={"backbone": own_backbone}), run)
    trials = rows_of(run / run_folder.TRIALS)
    assert len(trials) == result["trials"]
    assert len(trials) == 6 if tuner != "hyperband" else 1 < len(trials) <= 10
    whole = [float(line["val_loss"]) for line in trials if line["share"] == "1"]
    assert result["score"] == pytest.approx(min([*whole, result["baseline"]["val_loss"]]), rel=1e-4)
    assert result["score"] <= result["baseline"]["val_loss"]
    assert solved_loss(run / run_folder.BEST) == pytest.approx(result["score"], abs=1e-5)
    assert "test" in result["metrics"]
    assert json.loads((run / run_folder.SEARCH).read_text()) == json.loads(json.dumps(result))
    assert (run / run_folder.TRIALS_PICTURE).read_bytes().startswith(b"\x89PNG")
    assert list((run / "tensorboard").rglob("events.*"))
    again = evaluate(run / run_folder.BEST)["test"]
    assert again["confusion_matrix"] == result["metrics"]["test"]["confusion_matrix"]


def test_trials_share_one_pass_and_never_see_test(grid: Searched) -> None:
    assert sum(grid.passed) == 2 * 40  # the last stage, and all
    assert grid.scored == [None]  # only the winner is trained in full, and only it is measured on test


def test_a_better_default_is_trained_and_said(short: Searched) -> None:
    assert short.result["settings"] == {}
    assert short.result["score"] == short.result["baseline"]["val_loss"]
    assert "no trial is better on val than the initial settings, which are used" in short.lines


@pytest.mark.slow
def test_a_killed_search_goes_on(photos: Path, grid: Searched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = grid.result
    monkeypatch.setattr(workflow, "train", stand_in)  # of the winner
    calls = []
    real = HeadTrials.__call__

    def killed(self: HeadTrials, *given: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(self, *given)

    monkeypatch.setattr(HeadTrials, "__call__", killed)
    with pytest.raises(KeyboardInterrupt):
        search(config_of(photos), tmp_path / "R")
    with pytest.raises(RunFolderError, match="holds another run already"):
        search(config_of(photos), tmp_path / "R")
    assert len(rows_of(tmp_path / "R" / run_folder.TRIALS)) == 2
    calls.clear()
    monkeypatch.setattr(HeadTrials, "__call__", lambda self, *given: calls.append(1) or real(self, *given))
    result = search(config_of(photos), tmp_path / "R", resume=True)
    assert len(calls) == 1 + 4  # the default, and the trials that had not ended
    assert {key: result[key] for key in ("settings", "score", "trials")} == {key: whole[key] for key in ("settings", "score", "trials")}
    with pytest.raises(RunFolderError, match="this search is finished"):
        search(config_of(photos), tmp_path / "R", resume=True)


def test_a_winner_that_was_trained_is_taken_while_it_is_the_best(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[float | None] = []

    def train(config: Config, folder: Path, **_: Any) -> None:
        trained.append(config.train.head_c)
        stand_in(config, folder)
        write_config(RunFolder(folder), config)

    monkeypatch.setattr(workflow, "train", train)
    space = {"train.head_c": {"float": [0.01, 1]}}
    config, run = config_of(photos, search={"space": space}), RunFolder(tmp_path)
    found = [
        Outcome(name, {"train.head_c": c}, 1.0, {"val_loss": loss, "val_accuracy": 1.0}, None)
        for name, c, loss in (("0", 0.1, 0.5), ("1", 0.2, 0.4), ("2", 0.3, 0.45))
    ]
    baseline = {"val_loss": 0.9, "val_accuracy": 0.5}
    for number in (1, 1, 2, 3):  # it was killed before it had written what was found, and went on for longer
        result = workflow.finish(config, open_source(config.data), read_space(space), found[:number], baseline, run, Progress())
    assert trained == [0.1, 0.2]
    assert result["settings"] == {"train.head_c": 0.2}


def test_a_study_of_another_space_is_not_used(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow, "run_trials", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        search(config_of(photos), tmp_path / "R")
    run_folder.write_text(tmp_path / "R" / run_folder.CONFIG, to_yaml(config_of(photos, search={"space": RATES})))
    with pytest.raises(RunFolderError, match=r"holds study-\w+, a study of another space, of other images or of another version"):
        search(config_of(photos), tmp_path / "R", resume=True)
    assert list((tmp_path / "R").glob("study-*"))


def finetuning_config(photos: Path, backbone: str, **search: Any) -> Config:
    wanted = {"space": RATES, "trial": "finetune", "keep_models": 1, **search}
    return config_of(photos, search=wanted, train=BRIEF, features={"views": 0}, model={"backbone": backbone})


def num_graphs() -> int:
    gc.collect()
    return sum(type(each) is FuncGraph and each.name == "one_step_on_data" for each in gc.get_objects())


@pytest.fixture(scope="module")
def finetuned(photos: Path, own_backbone: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Searched, int]:
    """A search whose trials are training runs, and how many graphs of them it left in the process."""
    before = num_graphs()
    found = searched(finetuning_config(photos, own_backbone), tmp_path_factory.mktemp("finetuned") / "R")
    return found, num_graphs() - before


@pytest.mark.slow
def test_whole_trainings_keep_the_best_models_only(finetuned: tuple[Searched, int]) -> None:
    found, num_left = finetuned
    assert num_left == 0  # of four training runs, each of which left 11 MB in the process
    run = found.run
    folders = sorted(path.name for path in (run / "trials").iterdir())
    assert len(folders) == 3  # two, and the default
    kept = [folder for folder in folders if (run / "trials" / folder / run_folder.MODEL).is_file()]
    ranked = sorted(rows_of(run / run_folder.TRIALS), key=lambda line: float(line["val_loss"]))
    assert [folder for folder in kept if folder != "default"] == [ranked[0]["trial"]]
    for folder in folders:
        metrics = json.loads((run / "trials" / folder / run_folder.METRICS).read_text())
        assert "val" in metrics
        assert "test" not in metrics
        assert not (run / "trials" / folder / run_folder.PREDICTIONS).exists()
    assert found.result["metrics"]["mode"] == "finetune"


def test_snapshots_go_where_models_go(tmp_path: Path) -> None:
    run = run_folder.RunFolder(tmp_path)
    for trial in ("good", "bad"):
        folder = tmp_path / "trials" / trial / run_folder.SNAPSHOTS
        folder.mkdir(parents=True)
        (folder / "1.weights.h5").touch()
    found = [Outcome(trial, {}, 1.0, {"val_loss": loss}, None) for trial, loss in (("good", 0.1), ("bad", 0.2))]
    workflow.keep_best(run, found, "val_loss", 1)
    assert [path.parent.name for path in tmp_path.glob("trials/*/snapshots")] == ["good"]


def test_a_batch_that_memory_does_not_hold_is_halved(
    photos: Path, own_backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def train(config: Config, *given: Any, **options: Any) -> Any:
        sizes.append(config.train.batch_size)
        if config.train.batch_size > 4:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM")
        return stand_in(config, *given, **options)

    monkeypatch.setattr(workflow, "train", train)
    config = finetuning_config(photos, own_backbone, space={"train.weight_decay": {"choice": [0.0]}})
    trials = workflow.Trials(config, open_source(config.data), run_folder.RunFolder(tmp_path), Progress())
    assert set(trials("0", {}, 1.0)) == {"val_loss", "val_accuracy"}
    assert sizes == [8, 4]


def test_trials_that_fail_are_told_and_the_rest_goes_on(
    photos: Path, own_backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(config: Config, *given: Any, **options: Any) -> Any:
        if config.train.learning_rate == 1e-2:
            raise TrainingError("finetune epoch 1: loss is nan. Lower train.learning_rate, or set train.clip_norm.")
        return stand_in(config, *given, **options)

    monkeypatch.setattr(workflow, "train", train)
    result = search(finetuning_config(photos, own_backbone), tmp_path / "R")
    assert (result["trials"], result["failed"]) == (2, 1)
    (failed,) = [line for line in rows_of(tmp_path / "R" / run_folder.TRIALS) if line["cause"]]
    assert failed["cause"].startswith("finetune epoch 1: loss is nan")
    assert failed["val_loss"] == ""


@pytest.mark.slow
def test_values_that_contradict_fail_their_trial_with_the_reason(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow, "train", stand_in)  # of the winner
    space = {"train.loss": {"choice": ["cross_entropy", "mse"]}, "train.head_c": {"choice": [0.01]}}
    result = search(config_of(photos, search={"space": space}), tmp_path / "R")
    assert (result["trials"], result["failed"]) == (2, 1)
    causes = [line["cause"] for line in rows_of(tmp_path / "R" / run_folder.TRIALS) if line["cause"]]
    assert "which has no effect without a linear head" in causes[0]


def test_where_no_trial_comes_to_its_full_length_the_initial_settings_are_used(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard: Any
) -> None:
    monkeypatch.setattr(workflow, "train", stand_in)
    wanted = {"space": {"train.head_c": {"float": [0.01, 1]}}, "tuner": "hyperband", "max_epochs": 9, "max_trials": 2}
    result = search(config_of(photos, search=wanted), tmp_path / "R", progress=heard)
    assert (result["settings"], result["trials"], result["failed"]) == ({}, 2, 0)
    assert result["score"] == result["baseline"]["val_loss"]
    assert any(line.startswith("no trial came to its full length, so the initial settings are used") for line in heard.lines)


def test_where_every_trial_fails_the_reason_is_told(photos: Path, tmp_path: Path) -> None:
    space = {"train.loss": {"choice": ["mse"]}, "train.head_c": {"choice": [0.01]}}
    with pytest.raises(UserError, match=r"none of 1 trials finished: .*which has no effect without a linear head"):
        search(config_of(photos, search={"space": space}), tmp_path / "R")


def test_a_wrong_space_leaves_no_folder(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"search\.space: is empty"):
        search(config_of(photos, search={"space": {}}), tmp_path / "R")
    assert not (tmp_path / "R").exists()


# --- workers ---------------------------------------------------------------------------------------------------------


def ranked(run: Path) -> list[tuple[str, ...]]:
    """Settings and scores of a search's trials, the best first."""
    left_out = ("trial", "seconds")
    lines = sorted(rows_of(run / run_folder.TRIALS), key=lambda line: (float(line["val_loss"]), line["train.head_c"]))
    return [tuple(value for name, value in line.items() if name not in left_out) for line in lines]


class Killing(Progress):
    """Kills the first worker of the team that is started, once a trial has ended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lines: list[str] = []
        self._processes: list[Any] = []
        module = import_module("tl_keras.select.search.local_workers")
        start = module.start_process
        monkeypatch.setattr(module, "start_process", lambda *given: self._processes.append(start(*given)) or self._processes[-1])

    def line(self, text: str) -> None:
        self.lines.append(text)
        if text.startswith("trial ") and self._processes[0].poll() is None:
            os.kill(self._processes[0].pid, signal.SIGKILL)
            self._processes[0].wait()


@pytest.mark.slow
def test_workers_find_what_one_process_finds_also_where_one_is_killed(
    photos: Path, grid: Searched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(workflows.__file__).parents[2]))
    progress = Killing(monkeypatch)
    result = search(config_of(photos), tmp_path / "R", workers=2, progress=progress)
    assert ranked(tmp_path / "R") == ranked(grid.run)
    assert result["score"] == pytest.approx(grid.result["score"], abs=1e-6)
    assert [result[key] for key in ("settings", "trials", "failed")] == [grid.result[key] for key in ("settings", "trials", "failed")]
    assert any(line.startswith("worker1 died (signal 9)") for line in progress.lines)
    ended = [line.split()[1] for line in progress.lines if line.startswith("trial ")]
    assert sorted(ended) == [f"{number:02d}" for number in range(6)]  # each was told once
    assert (
        f"worker2 works for the chief at {'unix:' if HAS_UNIX_SOCKETS else LOCALHOST}"
        in (tmp_path / "R" / "workers" / "worker2.log").read_text()
    )


ON_TWO_DEVICES = """
import os, pickle, sys
import tensorflow as tf

def part(name):
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
    os.environ["KERASTUNER_TUNER_ID"] = name
    import tl_keras.workflows.train as training
    from tl_keras import runtime
    from tl_keras.progress import Progress

    def spread(config):
        runtime.spread(config)
        os.write(1, f"{name} {runtime.strategy().num_replicas_in_sync}\\n".encode())  # in one piece

    training.spread = spread
    with open("config.pickle", "rb") as file:
        config = pickle.load(file)
    if name == "chief":
        from tl_keras.workflows.search import search
        search(config, "R", progress=Progress())
    else:
        from tl_keras.workflows.search_worker import work
        work(config, name)

processes = []
for name in ("chief", "one", "two"):
    processes.append(os.fork())
    if not processes[-1]:
        try:
            part(name)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(each, 0)[1]) for each in processes))
"""


@pytest.mark.slow
def test_a_chief_and_two_workers_train_on_two_devices_each_as_one_process_on_one(
    photos: Path, own_backbone: str, python_alone: PythonAlone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = finetuning_config(photos, own_backbone).replace("model.dropout", 0.0)  # which each device draws for itself
    alone = searched(config, tmp_path / "alone" / "R")
    (tmp_path / "config.pickle").write_bytes(pickle.dumps(config.replace("runtime.strategy", "mirrored")))
    (address,) = free_addresses(1)
    for name, value in Role("chief", Address(LOCALHOST, int(address.rpartition(":")[2]), "0123456789abcdef")).variables().items():
        monkeypatch.setenv(name, value)
    told = Counter(python_alone(ON_TWO_DEVICES, cwd=tmp_path).stdout.splitlines())
    assert told["chief 2"] == 2  # as it stands, and the winner
    assert told["one 2"] + told["two 2"] == 2 == told.total() - told["chief 2"]
    for mine, other in zip(rows_of(tmp_path / "R" / run_folder.TRIALS), rows_of(alone.run / run_folder.TRIALS), strict=True):
        assert (mine["trial"], mine["train.learning_rate"]) == (other["trial"], other["train.learning_rate"])
        assert float(mine["val_loss"]) == pytest.approx(float(other["val_loss"]), rel=1e-5)
    assert (tmp_path / "R" / "best" / run_folder.MODEL).is_file()


@pytest.mark.slow
def test_a_search_whose_workers_cannot_work_says_why_and_goes_on_alone(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(photos, search={"space": {"train.head_c": {"choice": [0.01]}}})
    monkeypatch.setattr("sys.executable", "false")
    with pytest.raises(UserError, match=r"the last worker died \(exit status 1\).*continue with: python -m tl_keras\.run --mode search"):
        search(config, tmp_path / "R", workers=1)
    monkeypatch.setattr(workflow, "train", stand_in)  # of the winner
    assert search(config, tmp_path / "R", resume=True)["trials"] == 1


def as_worker(monkeypatch: pytest.MonkeyPatch, address: Address) -> None:
    for name, value in Role("far", address).variables().items():
        monkeypatch.setenv(name, value)


def test_a_worker_with_a_folder_of_its_own_leaves_only_trials(
    photos: Path, own_backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = finetuning_config(photos, own_backbone)
    monkeypatch.setattr(workflow, "train", stand_in)
    space, study = read_space(RATES), import_module("tl_keras.select.search.study_files")
    with serve(Address(LOCALHOST, 0)) as chief:
        oracle = study.open_wanted(tmp_path / "study-x", config, space)
        chief.open(oracle, study_digest(config, space, open_source(config.data).identified(Progress())))
        as_worker(monkeypatch, chief.address)
        assert work(config, tmp_path / "R") == 2
        ended = [trial.trial_id for trial, _ in chief.ended(1)]
    assert [path.name for path in (tmp_path / "R").iterdir()] == ["trials"]
    assert sorted(path.name for path in (tmp_path / "R" / "trials").iterdir()) == sorted(ended)
    assert len(list((tmp_path / "R" / "trials").glob(f"*/{run_folder.MODEL}"))) == 1  # the best of this worker


def test_a_worker_takes_no_foreign_folder_and_no_ranking(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_worker(monkeypatch, Address(LOCALHOST, 9, "0123456789abcdef"))
    (tmp_path / "config.yaml").write_text("")
    with pytest.raises(RunFolderError, match=r"holds config.yaml, which does not belong to a worker. Add --resume where it is the chief's"):
        work(config_of(photos), tmp_path)
    with pytest.raises(ConfigError, match=r"model.backbone: got 'auto', which the chief ranks"):
        work(config_of(photos, model={"backbone": "auto"}), tmp_path / "R")
    with pytest.raises(ConfigError, match="KERASTUNER_TUNER_ID: 'far' is a worker's name"):
        search(config_of(photos), tmp_path / "R")
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="a worker needs KERASTUNER_TUNER_ID"):
        work(config_of(photos), tmp_path / "R")


def test_the_digest_knows_images_and_settings_and_not_where_they_lie(photo_folder: PhotoFolder, tmp_path: Path) -> None:
    def digest(folder: Path, **sections: Any) -> str:
        config = config_of(folder, **sections)
        return study_digest(config, read_space(config.search.space or {}), open_source(config.data).identified(Progress()))

    one, other = (photo_folder(classes=("cat", "dog"), per_class=2) for _ in range(2))
    assert one != other
    first = digest(one)
    assert digest(other) == first
    assert digest(one, runtime={"threads": 2}, features={"max_gb": 1}, search={"max_trials": 3, "max_minutes": 1}) == first
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "own.keras").touch()
    assert len({digest(one, model={"backbone": str(tmp_path / str(number) / "own.keras")}) for number in range(2)}) == 1
    changed: list[dict[str, Any]] = [
        {"search": {"space": RATES}},
        {"search": {"tuner": "random"}},
        {"train": {"head_c": 0.5}},
        {"runtime": {"seed": 1}},
        {"model": {"backbone": "mobilenet_v2"}},
        {"data": {"split_seed": 1}},
    ]
    more = photo_folder(classes=("cat", "dog"), per_class=3)
    renamed = photo_folder(classes=("cat", "eel"), per_class=2)
    replaced = photo_folder(classes=("cat", "dog"), per_class=2, size=(40, 49))
    others = {digest(folder) for folder in (more, renamed, replaced)}
    assert len({first, *others, *(digest(one, **each) for each in changed)}) == 4 + len(changed)
    index, config = open_source(config_of(one).data).identified(Progress()), config_of(one)
    soft = [replace(index, shares=np.float32([[share, 1 - share]] * 2 + [[1 - share, share]] * 2)) for share in (1.0, 0.9, 0.8)]
    assert len({first, *(study_digest(config, read_space(config.search.space or {}), each) for each in soft)}) == 4


@pytest.mark.slow
def test_a_training_is_taken_over_only_where_it_was_of_these_settings(
    photos: Path, own_backbone: str, finetuned: tuple[Searched, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = finetuned[0].run
    shutil.copytree(run / "trials", tmp_path / "trials")
    config, trained = finetuning_config(photos, own_backbone), []
    trials = workflow.Trials(config, open_source(config.data), run_folder.RunFolder(tmp_path), Progress())
    monkeypatch.setattr(workflow, "train", lambda *given, **options: trained.append(1) or stand_in(*given, **options))
    first = rows_of(run / run_folder.TRIALS)[0]
    name, settings = first["trial"], {"train.learning_rate": float(first["train.learning_rate"])}
    assert trials(name, settings, 1.0)["val_loss"] == pytest.approx(float(first["val_loss"]), rel=1e-4)
    assert trained == []
    trials(name, settings, 0.5)
    trials(name, {"train.learning_rate": 1e-4}, 0.5)
    assert trained == [1, 1]


def test_trials_at_work_keep_their_checkpoints(tmp_path: Path) -> None:
    study = import_module("tl_keras.select.search.study_files")
    module = import_module("tl_keras.select.search.oracles")
    for name in ("default", "0", "1", "2"):
        (tmp_path / "trials" / name / run_folder.CHECKPOINTS).mkdir(parents=True)
        (tmp_path / "trials" / name / run_folder.MODEL).touch()
    found = [module.Outcome(name, {}, 1.0, {"val_loss": float(name)}, None) for name in ("0", "1")]
    study.keep_best(run_folder.RunFolder(tmp_path), found, "val_loss", 1)
    assert [path.parent.name for path in sorted(tmp_path.glob(f"trials/*/{run_folder.CHECKPOINTS}"))] == ["2"]
    assert [path.parent.name for path in sorted(tmp_path.glob(f"trials/*/{run_folder.MODEL}"))] == ["0", "2"]
