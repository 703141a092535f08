"""Experiment trackers, with packages of their names that note what they are told."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tl_keras import run_folder
from tl_keras.config import Config
from tl_keras.config_file import load_config
from tl_keras.errors import ConfigError
from tl_keras.evaluation import trackers
from tl_keras.evaluation.trackers import few_tries, require_tracker, tracking
from tl_keras.launch import check_names
from tl_keras.run_folder import RunFolder, read_json, write_json, write_text
from tl_keras.workflows.search import Trials
from tl_keras.workflows.train import train

MLFLOW = """
from types import SimpleNamespace
from pathlib import Path
import os
told, broken, active = [], set(), []

def note(name, *what):
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "3"
    told.append((name, *what))
    if name in broken:
        raise ConnectionError("the server is gone.\\nmore of it")

def start_run(run_id=None, run_name=None, nested=False):
    note("start", run_id, run_name, nested)
    active.append(SimpleNamespace(info=SimpleNamespace(run_id=run_id or "r1")))
    return active[-1]

def active_run():
    return active[-1] if active else None

def log_params(params, run_id):
    note("params", params["mode"], params["train.batch_size"], run_id)

def log_metrics(metrics, step=None, run_id=None):
    note("metrics", metrics, step, run_id)

def log_artifact(path, run_id):
    note("file", Path(path).name, run_id)

def end_run(status):
    active.pop()
    note("end", status)
"""
WANDB = """
from pathlib import Path
told, broken = [], set()

def note(name, *what):
    told.append((name, *what))
    if name in broken:
        raise ConnectionError("the server is gone.\\nmore of it")

def Settings(**settings):
    return settings

def init(name, reinit, settings, id=None, resume=None):
    note("start", id, name, resume)
    return Run(id or "r1")

class Artifact:
    def __init__(self, name, type):
        self.name, self.type, self.files = name, type, []
    def add_file(self, path):
        self.files.append(Path(path).name)

class Run:
    def __init__(self, id):
        self.id, self.config, self.summary = id, self, {}
    def update(self, settings):
        note("params", settings["mode"], settings["train.batch_size"], self.id)
    def define_metric(self, names, step_metric):
        note("axis", names, step_metric)
    def log(self, figures):
        note("metrics", figures)
    def log_artifact(self, artifact):
        note("files", artifact.name, artifact.type, artifact.files, self.summary)
    def finish(self, exit_code):
        note("end", exit_code)
"""
METRICS = {"seed": 0, "val": {"accuracy": 0.5}, "test": {"accuracy": 0.75, "accuracy_ci95": [0.5, 1.0]}}


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    """Both packages, freshly imported."""
    for name, text in (("mlflow", MLFLOW), ("wandb", WANDB)):
        (tmp_path / "packages").mkdir(exist_ok=True)
        (tmp_path / "packages" / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    yield {name: __import__(name) for name in ("mlflow", "wandb")}
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ
    for name in ("mlflow", "wandb"):
        del sys.modules[name]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    (tmp_path / "R").mkdir()
    return RunFolder(tmp_path / "R")


def asked(tracker: str) -> Config:
    return load_config("finetune", sets=[f"runtime.tracker={tracker}"])


def go(run: RunFolder, tracker: str, progress: Any, *, resume: bool = False) -> None:
    """A run of two epochs."""
    with tracking(asked(tracker), run, progress, resume=resume) as record:
        record.begin(asked(tracker))
        record.epoch("finetune", 1, {"loss": 2.0, "val_loss": 1.0})
        record.epoch("finetune", 2, {"loss": 1.5})
        write_text(run / run_folder.REPORT, "")
        write_json(run / run_folder.METRICS, METRICS)
        record.finish(METRICS)


FIGURES = {"val/accuracy": 0.5, "test/accuracy": 0.75, "test/accuracy_low": 0.5, "test/accuracy_high": 1.0}


def test_mlflow_gets_settings_epochs_figures_and_files(packages: dict[str, Any], run: RunFolder, heard: Any) -> None:
    go(run, "mlflow", heard)
    assert packages["mlflow"].told == [
        ("start", None, "R", True),
        ("params", "finetune", 32, "r1"),
        ("metrics", {"finetune/loss": 2.0, "finetune/val_loss": 1.0}, 1, "r1"),
        ("metrics", {"finetune/loss": 1.5}, 2, "r1"),
        ("metrics", FIGURES, None, "r1"),
        ("file", "metrics.json", "r1"),
        ("file", "report.html", "r1"),
        ("end", "FINISHED"),
    ]
    assert read_json(run / run_folder.TRACKER, "", "") == {"tracker": "mlflow", "run": "r1"}
    assert heard.lines == []


def test_wandb_gets_settings_epochs_figures_and_files(packages: dict[str, Any], run: RunFolder, heard: Any) -> None:
    go(run, "wandb", heard)
    assert packages["wandb"].told == [
        ("start", None, "R", None),
        ("params", "finetune", 32, "r1"),
        ("axis", "finetune/*", "finetune/epoch"),
        ("metrics", {"finetune/epoch": 1, "finetune/loss": 2.0, "finetune/val_loss": 1.0}),
        ("metrics", {"finetune/epoch": 2, "finetune/loss": 1.5}),
        ("files", "run-r1", "run-folder", ["metrics.json", "report.html"], FIGURES),
        ("end", 0),
    ]
    assert heard.lines == []


@pytest.mark.parametrize(("name", "start"), [("mlflow", ("start", "r7", "R", True)), ("wandb", ("start", "r7", "R", "allow"))])
def test_a_run_that_goes_on_goes_on_there(packages: dict[str, Any], run: RunFolder, heard: Any, name: str, start: tuple[Any, ...]) -> None:
    write_json(run / run_folder.TRACKER, {"tracker": name, "run": "r7"})
    go(run, name, heard, resume=True)
    assert packages[name].told[0] == start
    assert "params" not in {each[0] for each in packages[name].told}
    assert read_json(run / run_folder.TRACKER, "", "") == {"tracker": name, "run": "r7"}


def test_a_run_that_goes_on_and_is_not_known_there_begins_there(packages: dict[str, Any], run: RunFolder, heard: Any) -> None:
    for text in ("", '{"tracker": "wandb", "run": "r7"}', '{"tracker": "mlflow", "run": 7}'):
        write_text(run / run_folder.TRACKER, text)
        packages["mlflow"].told.clear()
        go(run, "mlflow", heard, resume=True)
        assert [each[0] for each in packages["mlflow"].told[:2]] == ["start", "params"]
        assert packages["mlflow"].told[0] == ("start", None, "R", True)
    assert heard.lines == []


def test_the_best_of_a_search_is_called_by_its_search(packages: dict[str, Any], run: RunFolder, heard: Any) -> None:
    (run / run_folder.BEST).mkdir()
    go(RunFolder(run / run_folder.BEST), "mlflow", heard)
    assert packages["mlflow"].told[0] == ("start", None, "R/best", True)


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
@pytest.mark.parametrize("broken", ["params", "metrics", "end"])
def test_a_tracker_that_fails_is_told_once_and_asked_no_more(
    packages: dict[str, Any], run: RunFolder, heard: Any, name: str, broken: str
) -> None:
    packages[name].broken.add(broken)
    go(run, name, heard)
    assert heard.lines == [f"runtime.tracker: {name} failed (the server is gone); the run goes on, and {name} gets no more of it"]
    names = [each[0] for each in packages[name].told]
    assert names.count("metrics") == {"params": 0, "metrics": 1, "end": 3 if name == "mlflow" else 2}[broken]
    assert names[-1] == "end"
    assert name != "mlflow" or packages[name].active == []


def test_a_run_of_the_users_own_stays_open(packages: dict[str, Any], run: RunFolder, heard: Any) -> None:
    mlflow = packages["mlflow"]
    with few_tries():
        mine = mlflow.start_run("mine")
    mlflow.broken.add("end")
    go(run, "mlflow", heard)
    assert mlflow.active == [mine]


@pytest.mark.parametrize(("name", "ended"), [("mlflow", ("end", "FAILED")), ("wandb", ("end", 1))])
def test_a_run_that_fails_or_is_interrupted_has_failed_there(
    packages: dict[str, Any], run: RunFolder, heard: Any, name: str, ended: tuple[Any, ...]
) -> None:
    with pytest.raises(KeyboardInterrupt), tracking(asked(name), run, heard, resume=False):
        raise KeyboardInterrupt
    assert packages[name].told[-1] == ended


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_tracker_that_does_not_begin_ends_a_new_run_and_not_one_that_goes_on(
    packages: dict[str, Any], run: RunFolder, heard: Any, name: str
) -> None:
    packages[name].broken.add("start")
    with pytest.raises(
        ConfigError, match=rf"^runtime.tracker: {name} does not take this run \(the server is gone\). Mend that, or set none."
    ):
        go(run, name, heard)
    assert not (run / run_folder.TRACKER).exists()
    go(run, name, heard, resume=True)
    assert heard.lines == [f"runtime.tracker: {name} failed (the server is gone); the run goes on, and {name} gets no more of it"]


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_package_that_is_missing_is_told_before_anything_runs(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda _: None)
    with pytest.raises(
        ConfigError, match=rf"^runtime.tracker: got '{name}', which is not installed. Install it: pip install {name}. Or set"
    ):
        check_names(asked(name))
    require_tracker("none")


def test_a_folder_of_that_name_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wandb").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(ConfigError, match="which is not installed"):
        require_tracker("wandb")


def test_without_a_tracker_nobody_is_told(run: RunFolder, heard: Any) -> None:
    go(run, "none", heard)
    assert not (run / run_folder.TRACKER).exists()


def test_folds_and_trials_are_not_tracked(run: RunFolder, heard: Any) -> None:
    with pytest.raises(ConfigError, match=r"runtime\.tracker: got 'wandb', expected 'none' with mode: crossval, whose folds"):
        load_config("crossval", sets=["runtime.tracker=wandb"])
    config = load_config("search", sets=["runtime.tracker=wandb"])
    assert Trials(config, None, run, heard)._config.runtime.tracker == "none"  # type: ignore[arg-type]


def test_training_tells_its_tracker_what_history_and_metrics_have(
    packages: dict[str, Any], trained: tuple[Path, Path], tmp_path: Path, heard: Any
) -> None:
    data = {"source": str(trained[1]), "image_size": 16}
    asked = {"mode": "extract", "data": data, "model": {"weights": "none"}, "runtime": {"tracker": "mlflow"}}
    metrics = train(Config.model_validate(asked), tmp_path / "T", progress=heard)
    told = packages["mlflow"].told
    assert [each[0] for each in told] == ["start", "params", "metrics", "metrics", *["file"] * 5, "end"]
    assert told[2][2:] == (1, "r1")
    assert set(told[2][1]) == {f"head/{name}" for name in ("loss", "accuracy", "val_loss", "val_accuracy", "seconds", "head_c")}
    assert told[3][1]["test/accuracy"] == metrics["test"]["accuracy"]
    assert [each[1] for each in told if each[0] == "file"] == ["config.yaml", "metrics.json", "history.csv", "report.html", "confusion.png"]
