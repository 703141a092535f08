"""The command line as a user meets it: exit status, the one line on standard error, what is left on disk."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tl_keras import run
from tl_keras.config import Config
from tl_keras.data import images
from tl_keras.errors import RunFolderError
from tl_keras.launch import make_run_dir, new_run_dir, remove_unused
from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.terminal.choosing import ensemble_lines
from tl_keras.transfer.store import Store
from tl_keras.transfer.trunk import Trunk

TINY = ["--backbone", "small_resnet", "--set", "data.image_size=16", "--set", "model.weights=none"]


def call(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "tl_keras.run", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment, timeout=300)


def mistake(capfd: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run the command line here, expect a user's mistake, and return its one line."""
    status = run.main([str(argument) for argument in arguments])
    captured = capfd.readouterr()
    lines = captured.err.strip().splitlines()
    assert status == 2, captured
    assert len(lines) == 1, captured.err
    return lines[0]


def write_image(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (24, 20, 3), np.uint8)).save(path)


def spoil_one(folder: Path, data: bytes) -> Path:
    """Overwrite one image of a folder of class folders."""
    victim = sorted(folder.rglob("*.jpg"))[0]
    victim.write_bytes(data)
    return victim


# --- mistakes before anything is read ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "photos"], ["--mode", "got nothing", "extract"]),
        (["--mode", "finetun"], ["'finetun'", "Did you mean 'finetune'?"]),
        (["--mode", "extract", "--bacbone", "vgg16"], ["--bacbone", "did you mean '--backbone'"]),
        (["--mode", "extract", "--set", "train.learning_rte=1"], ["train.learning_rte", "train.learning_rate"]),
        (["--mode", "extract", "--set", "train.batch_size=many"], ["train.batch_size", "'many'", "integer"]),
        (["--mode", "extract", "--set", "data.resize=corp"], ["data.resize", "Did you mean 'crop'?"]),
        (["--mode", "extract", "--config", "no/such.yaml"], ["no/such.yaml"]),
        (["--mode", "extract", "photo.jpg"], ["photo.jpg: no such folder"]),
        (["--mode", "extract", "--data", "digits", "photo.jpg"], ["photo.jpg", "does not use it"]),
        (
            ["extract", "digits", "--set", "data.image_size=96", "features.stages=all"],
            ["needs a --set of its own: --set features.stages=all."],
        ),
        (["extract", "my", "photos"], ["'photos': extract does not use it", "A name with spaces needs quotes."]),
        (["extract", "p", "--set", "data.bit_depth", "12"], ["--set: got 'data.bit_depth' and the word '12'", "--set data.bit_depth=12,"]),
        (["--mode", "extract", "--resume"], ["--run-dir"]),
        (["--mode", "evaluate"], ["--run-dir"]),
        (["--mode", "predict", "--run-dir", "R", "--backbone", "vgg16"], ["--backbone", "does not use it"]),
        (["--mode", "predict", "--run-dir", "R", "--output", "x.txt", "a.jpg"], ["x.txt", ".csv or .jsonl"]),
        (["--mode", "extract", "--resume", "--run-dir", "R", "--backbone", "b"], ["--backbone", "the run's own settings"]),
        (["--mode", "export", "--run-dir", "no/such/run"], ["no/such/run", "no such run folder"]),
        (["--mode", "rank", "--backbone", "vgg16"], ["--backbone: rank does not use it"]),
        (["--mode", "rank", "--set", "rank.candidates=[]"], ["rank.candidates", "a list of backbones"]),
        (["--mode", "rank", "vgg166"], ["unknown backbone 'vgg166'", "Did you mean 'vgg16'?"]),
        (["--mode", "pretrain", "--backbone", "auto"], ["model.backbone", "there is nothing to rank before pretraining"]),
        (["--mode", "crossval", "--set", "crossval.folds=1"], ["crossval.folds", "an integer >= 2"]),
        (["--mode", "crossval", "--resume"], ["--run-dir"]),
        (["--mode", "ensemble"], ["ensemble.members: got none"]),
        (["--mode", "ensemble", "--backbone", "vgg16"], ["--backbone: ensemble does not use it"]),
        (["--mode", "ensemble", "--resume", "vgg16"], ["--resume: ensemble does not use it"]),
        (["--mode", "ensemble", "vgg166", "vgg16"], ["unknown backbone 'vgg166'", "Did you mean 'vgg16'?"]),
        (["--mode", "search", "--workers", "0"], ["--workers", "got '0', expected an integer >= 1"]),
        (["--mode", "search", "--workers", "two"], ["--workers", "got 'two'"]),
        (["--mode", "extract", "--workers", "2"], ["--workers: extract does not use it"]),
        (["--mode", "finetune", "--workers", "2", "--dry-run"], ["--workers: --dry-run trains nothing. Remove one of them."]),
        (["--mode", "finetune", "--workers", "2", "--shard", "0/2"], ["--workers: --shard stores features"]),
        (["--mode", "search", "--resume", "--workers", "2", "--run-dir", "no/such/run"], ["no/such/run", "holds nothing to resume"]),
        (["--mode", "crossval", "--resume", "--run-dir", "no/such/run"], ["no/such/run", "holds nothing to resume"]),
    ],
)
def test_a_wrong_command_is_one_line(capfd, arguments, words):
    line = mistake(capfd, *arguments)
    for word in words:
        assert word in line


FAR = {"TUNER_ID": "worker1", "ORACLE_IP": "127.0.0.1", "ORACLE_PORT": "8000"}


@pytest.mark.parametrize(
    ("changes", "arguments", "words"),
    [
        ({"ORACLE_PORT": ""}, [], ["KERASTUNER_TUNER_ID is set and KERASTUNER_ORACLE_PORT is not"]),
        ({"ORACLE_IP": ""}, [], ["KERASTUNER_ORACLE_IP is not"]),
        ({"ORACLE_PORT": "http"}, [], ["got 'http', expected a port number"]),
        ({}, ["--workers", "2"], ["--workers", "makes this process a worker"]),
    ],
)
def test_a_wrong_environment_of_a_search_is_one_line(capfd, monkeypatch, changes, arguments, words):
    monkeypatch.setenv("TL_KERAS_SEARCH_TOKEN", "0123456789abcdef")
    for name, value in (FAR | changes).items():
        monkeypatch.setenv(f"KERASTUNER_{name}", value)
    line = mistake(capfd, "--mode", "search", *arguments)
    for word in words:
        assert word in line


def test_every_mistake_is_told_at_once(capfd):
    assert run.main(["--mode", "extract", "--set", "train.batch_size=many", "--set", "data.resize=corp"]) == 2
    assert len(capfd.readouterr().err.strip().splitlines()) == 2


# --- ranking and folds ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_rank_prints_its_choice_and_the_command_that_trains_it(photo_folder, tmp_path, capfd):
    data = photo_folder(per_class=8)
    command = ["--mode", "rank", "--data", data, "--set", "data.image_size=32", "--run-dir", tmp_path / "R", "small_resnet"]
    assert run.main([str(word) for word in command]) == 0
    printed = capfd.readouterr().out
    assert "small_resnet: accuracy" in printed
    assert f"finetune {data} --backbone small_resnet" in printed.splitlines()[-1]
    assert {"rank.csv", "rank.json", "rank.png", "config.yaml", "environment.json"} == {path.name for path in (tmp_path / "R").iterdir()}
    assert mistake(capfd, *command).startswith(f"RunFolderError: {tmp_path / 'R'}: holds another run already.")


@pytest.mark.slow
def test_crossval_prints_mean_and_spread_and_compares(photo_folder, own_backbone, tmp_path, capfd):
    command = ["--mode", "crossval", "--data", photo_folder(per_class=12), "--backbone", own_backbone, "--set", "crossval.folds=3"]
    assert run.main([str(word) for word in [*command, "--run-dir", tmp_path / "A"]]) == 0
    assert "9 folds over the 20 images of train and val; test unseen" in capfd.readouterr().out
    against = ["--set", f"crossval.against={tmp_path / 'A'}", "--run-dir", tmp_path / "B"]
    assert run.main([str(word) for word in [*command, *against]]) == 0
    assert "against the other: accuracy +0.0000 (95 % interval +0.0000 to +0.0000), which may be chance" in capfd.readouterr().out


def test_an_ensembles_folder_is_not_named_after_a_backbone_or_data_that_it_has_not():
    config = Config.model_validate({"mode": "ensemble", "ensemble": {"members": ["runs/a", "runs/b"], "method": "vote"}})
    assert re.fullmatch(r"ensemble-vote-\d{8}-\d{6}", new_run_dir(config).name)


def test_no_two_get_the_same_folder_by_default_and_one_that_is_not_used_is_gone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tl_keras.launch.new_run_dir", lambda _: Path("saved_models/extract-now"))
    made = [make_run_dir(Config.model_validate({"mode": "extract"})) for _ in range(3)]
    assert [folder.name for folder in made] == ["extract-now", "extract-now-2", "extract-now-3"]
    (made[1] / "config.yaml").touch()
    remove_unused()
    assert [path.as_posix() for path in Path("saved_models").rglob("*/*")] == ["saved_models/extract-now-2/config.yaml"]
    shutil.rmtree("saved_models")
    assert run.main(["extract", "digits", "--set", "data.val_fraction=0.9", "--set", "data.test_fraction=0.9"]) == 2
    assert list(tmp_path.iterdir()) == []
    Path("saved_models").touch()
    with pytest.raises(RunFolderError, match=r"saved_models: is not a folder|cannot write a run folder here"):
        make_run_dir(Config.model_validate({"mode": "extract"}))


@pytest.mark.parametrize("named", [True, False])
def test_an_error_of_the_system_is_one_line(capfd, monkeypatch, named):
    def refuse(*_):
        raise OSError(28, "No space left on device", *(["/x/y.csv"] if named else []))

    monkeypatch.setattr(run, "run_mode", refuse)
    monkeypatch.setattr(run, "drop_output", lambda: None)
    line = mistake(capfd, "evaluate", "RUN")
    assert line.startswith(f"FileError: {'/x/y.csv' if named else 'a file, or the standard output'}: cannot be read or written (No space")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_have_their_exit_status_and_one_line(capfd, monkeypatch, number, status):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(run, "run_mode", lambda *_: signal.raise_signal(number))
    try:
        assert run.main(["evaluate", "RUN"]) == status
    finally:
        signal.signal(signal.SIGINT, before)
    assert capfd.readouterr().err == "interrupted.\n"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_an_ensembles_differences_have_their_sign_and_are_clear_or_not():
    found = {"test": {"mean": -0.02, "ci95": [-0.03, -0.01]}, "out_of_fold": {"mean": 0.01, "ci95": [-0.01, 0.03]}}
    assert ensemble_lines({"task": "single_label", "difference": found, "best_single": "vgg16", "is_keras": True}) == [
        "against vgg16 alone: test accuracy -0.0200 (95 % interval -0.0300 to -0.0100), a clear difference",
        "against vgg16 alone: out of fold accuracy +0.0100 (95 % interval -0.0100 to +0.0300), which may be chance",
    ]


@pytest.mark.slow
def test_ensemble_prints_members_differences_and_what_it_cannot_do(photo_folder, tmp_path, capfd):
    command = ["--mode", "ensemble", "--data", photo_folder(per_class=12), "--set", "data.image_size=32", "small_resnet"]
    assert run.main([str(word) for word in [*command, "--set", "ensemble.method=bagging", "--run-dir", tmp_path / "A"]]) == 0
    printed = capfd.readouterr().out
    assert "against small_resnet alone: test accuracy" in printed
    assert "model.keras" not in printed
    assert run.main([str(word) for word in [*command, "--set", "ensemble.method=boosting", "--run-dir", tmp_path / "B"]]) == 0
    assert "no model.keras: gradient-boosted trees" in capfd.readouterr().out


# --- mistakes in the data ------------------------------------------------------------------------------------------


def test_bad_data_is_one_line_and_leaves_nothing(capfd, photo_folder, tmp_path):
    empty, one = tmp_path / "empty", tmp_path / "one"
    empty.mkdir()
    write_image(one / "cat" / "a.jpg")
    write_image(one / "cat" / "b.jpg")
    single = photo_folder(classes=("cat", "dog"), per_class=4)
    write_image(single / "bird" / "a.jpg")
    uneven = photo_folder(classes=("cat", "dog"), per_class=4, splits=("train", "val"))
    for file in (uneven / "val" / "dog").iterdir():
        file.unlink()
    (uneven / "val" / "dog").rmdir()
    cases = {
        empty: "no class folders",
        one: "one class only ('cat')",
        single: "class 'bird' has 1 image",
        uneven: "val has no folder 'dog', which train has (2 classes)",
        tmp_path / "nowhere": "no such folder",
    }
    for data, words in cases.items():
        line = mistake(capfd, "--mode", "extract", "--data", data, *TINY, "--run-dir", tmp_path / "R")
        assert line.startswith("DataError: ")
        assert words in line
        assert not (tmp_path / "R").exists()


@pytest.mark.slow
@pytest.mark.parametrize("data", [b"hello, I am text\n", b"", b"truncated"], ids=["text named .jpg", "0 bytes", "truncated JPEG"])
def test_a_bad_image_is_named(capfd, photo_folder, tmp_path, data):
    folder = photo_folder(classes=("cat", "dog"), per_class=6)
    victim = sorted(folder.rglob("*.jpg"))[0]
    victim.write_bytes(victim.read_bytes()[:300] if data == b"truncated" else data)
    arguments = ["--mode", "extract", "--data", folder, *TINY, "--run-dir", tmp_path / "R"]
    assert victim.name in mistake(capfd, *arguments, "--set", "data.on_bad_image=error")
    assert "1 of 12 images do not decode" in mistake(capfd, *arguments)  # 8 %, more than 5 %
    assert not (tmp_path / "R").exists()
    if data != b"truncated":
        return  # the one that is hardest to find shows how a run goes on without it
    assert run.main([str(a) for a in (*arguments, "--set", "data.max_bad_fraction=0.2")]) == 0
    name = victim.relative_to(folder).as_posix()
    assert name in (tmp_path / "R" / "bad_images.csv").read_text()
    assert name not in (tmp_path / "R" / "splits.csv").read_text()


# --- mistakes in the network, the weights and the run folder -------------------------------------------------------


@pytest.mark.slow
def test_bad_backbones_are_one_line_and_leave_nothing(capfd, photo_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", _no_network)
    data = photo_folder(classes=("cat", "dog"), per_class=4)
    foreign = tmp_path / "small.weights.h5"
    _build_small().save_weights(foreign)
    cases = [
        (["--backbone", "mobilnet_v2"], "Did you mean 'mobilenet_v2'"),
        (["--backbone", "mobilenet_v2"], "--set model.weights=PATH"),
        (["--backbone", "mobilenet_025", "--set", f"model.weights={foreign}"], "small.weights.h5"),
        (["--backbone", "mobilenet_025", "--set", "model.weights=none", "--set", "data.image_size=24"], "is too small for"),
    ]
    capfd.readouterr()  # TensorFlow's own words
    for arguments, words in cases:
        line = mistake(capfd, "--mode", "extract", "--data", data, *arguments, "--run-dir", tmp_path / "R")
        assert line.startswith("BackboneError: ")
        assert words in line
        assert not (tmp_path / "R").exists()


def _no_network(*_: object, **__: object) -> None:
    from urllib.error import URLError

    raise URLError("no network")


def _build_small():
    from tl_keras.models.backbone_loading import build_backbone

    return build_backbone("small_resnet", image_size=(16, 16), weights="none").model


def test_a_run_folder_that_is_taken_or_not_writable_is_refused(capfd, photo_folder, tmp_path):
    data = photo_folder(classes=("cat", "dog"), per_class=4)
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "config.yaml").write_text("mode: extract\n")
    file = tmp_path / "file"
    file.write_text("x")
    arguments = ["--mode", "extract", "--data", data, *TINY, "--run-dir"]
    assert "holds another run already" in mistake(capfd, *arguments, taken)
    assert (taken / "config.yaml").read_text() == "mode: extract\n"
    assert "cannot write a run folder here" in mistake(capfd, *arguments, file / "R")
    assert "cannot write a run folder here" in mistake(capfd, *arguments, "/proc/R")


# --- a whole life --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory, photo_folder, own_backbone):
    """A tiny finetuned run, and its data."""
    folder = tmp_path_factory.mktemp("life")
    data = photo_folder(classes=("blue sky", "grün"), per_class=8)
    arguments = ["--mode", "finetune", "--data", data, "--backbone", own_backbone, "--set", "train.epochs=1", "--run-dir", folder / "R"]
    assert run.main([str(argument) for argument in arguments]) == 0
    return folder / "R", data


@pytest.mark.slow
def test_a_finished_run_has_pictures_and_no_checkpoints(finished):
    assert {path.name for path in finished[0].iterdir()} >= {"curves.png", "confusion.png", "classes.txt", "history.csv"}
    assert not (finished[0] / "checkpoints").exists()


def test_metrics_have_the_promised_fields(finished):
    metrics = json.loads((finished[0] / "metrics.json").read_text())
    assert metrics["data"] == {"train": 12, "val": 2, "test": 2, "classes": 2}
    assert set(metrics) == {"mode", "task", "backbone", "seed", "engine", "data", "parameters", "val", "test", "temperature", "features",
                            "timing", "accepting"}  # fmt: skip
    assert set(metrics["parameters"]) == {"total", "trainable"}
    for split in ("val", "test"):
        assert set(metrics[split]) == {
            *(name for figure in ("accuracy", "macro_precision", "macro_recall", "macro_f1", "roc_auc", "log_loss", "ece")
              for name in (figure, f"{figure}_ci95")), "reliability", "per_class", "confusion_matrix",
        } - {"roc_auc_ci95"}  # fmt: skip  # of an image of each class nobody can tell
        assert set(metrics[split]["per_class"]) == {"blue sky", "grün"}


@pytest.mark.slow
def test_metrics_say_what_was_selected(photo_folder, tmp_path, capfd):
    data = photo_folder(classes=("cat", "dog"), per_class=8)
    settings = ("features.selection=chi2", "features.keep=0.5", "features.stages=all")
    sets = [word for setting in settings for word in ("--set", setting)]
    assert run.main(["--mode", "extract", "--data", str(data), *TINY, *sets, "--run-dir", str(tmp_path / "R")]) == 0
    metrics = json.loads((tmp_path / "R" / "metrics.json").read_text())
    found = metrics["selection"]
    assert set(found) == {"method", "kept", "of", "val_accuracy", "val_accuracy_all"}
    assert (found["method"], found["kept"] <= found["of"] / 2) == ("chi2", True)
    assert found["val_accuracy"] == metrics["val"]["accuracy"]
    assert f"on {found['kept']:,} of {found['of']:,} features by chi2; on all accuracy" in capfd.readouterr().out


def evaluation_of(run_dir):
    """What the last evaluation of a run found."""
    folder = max((run_dir / "evaluations").iterdir(), key=lambda path: int(path.name))
    return json.loads((folder / "evaluation.json").read_text())


@pytest.mark.slow
def test_evaluate_finds_the_same_figures(finished, capfd):
    run_dir, _ = finished
    assert run.main(["--mode", "evaluate", "--run-dir", str(run_dir)]) == 0
    assert "test accuracy" in capfd.readouterr().out
    first, again = json.loads((run_dir / "metrics.json").read_text()), evaluation_of(run_dir)
    assert again["test"]["confusion_matrix"] == first["test"]["confusion_matrix"]
    assert again["test"]["log_loss"] == pytest.approx(first["test"]["log_loss"], abs=1e-6)


@pytest.mark.slow
def test_a_bound_that_is_not_kept_is_told_by_the_exit_status(finished, capfd):
    evaluate = ["--mode", "evaluate", "--run-dir", str(finished[0])]
    assert run.main([*evaluate, "--min-accuracy", "0", "--max-ece", "1", "--corrupt"]) == 0
    assert "accuracy on images made worse; as they are" in capfd.readouterr().out
    assert evaluation_of(finished[0])["missed"] == []
    assert run.main([*evaluate, "--max-ece", "0"]) == 3
    assert evaluation_of(finished[0])["missed"][0] in capfd.readouterr().out
    num = len(list((finished[0] / "evaluations").iterdir()))
    assert run.main([*evaluate, "--min-accuracy", "95"]) == 2
    assert "--min-accuracy: got 95, expected a number from 0 to 1." in capfd.readouterr().err
    assert len(list((finished[0] / "evaluations").iterdir())) == num


def test_nothing_is_exported_where_a_bound_is_not_kept(finished, tmp_path, capfd):
    run_dir = shutil.copytree(finished[0], tmp_path / "R")
    export = ["--mode", "export", "--run-dir", str(run_dir)]
    before = sorted(run_dir.rglob("*"))
    assert run.main([*export, "--max-ece", "0", "--min-accuracy", "0"]) == 3
    assert re.search(r"ece is 0\.\d{4}, and has to be at most 0\nnothing was exported\n", capfd.readouterr().out)
    assert run.main([*export, "--max-ece", "5"]) == 2
    (run_dir / "metrics.json").unlink()
    assert run.main([*export, "--max-ece", "1"]) == 2
    assert "metrics.json: cannot be read" in (told := capfd.readouterr().err)
    assert "Train again, or leave out the bounds." in told
    assert sorted(run_dir.rglob("*")) == [path for path in before if path.name != "metrics.json"]


@pytest.mark.slow
def test_a_run_made_with_a_relative_path_is_used_from_another_folder(photo_folder, tmp_path, monkeypatch):
    data = photo_folder(classes=("cat", "dog"), per_class=4)
    monkeypatch.chdir(data.parent)
    assert run.main(["--mode", "extract", "--data", data.name, *TINY, "--run-dir", str(tmp_path / "R")]) == 0
    monkeypatch.chdir(tmp_path)
    assert run.main(["--mode", "evaluate", "--run-dir", "R"]) == 0


def test_evaluate_on_moved_data_reads_the_test_split_alone(finished, tmp_path):
    run_dir, data = finished
    (tmp_path / "moved").symlink_to(data)
    assert run.main(["--mode", "evaluate", "--run-dir", str(run_dir), "--data", str(tmp_path / "moved")]) == 0
    assert evaluation_of(run_dir)["data"]["test"] == 2


def test_evaluate_on_other_data_maps_classes_by_name(finished, photo_folder, capfd):
    run_dir, _ = finished
    other = photo_folder(classes=("blue sky", "grün"), per_class=3, size=(41, 48))
    assert run.main(["--mode", "evaluate", "--run-dir", str(run_dir), "--data", str(other)]) == 0
    assert evaluation_of(run_dir)["data"]["test"] == 6
    capfd.readouterr()
    strange = photo_folder(classes=("violet", "yellow"), per_class=3)
    assert "class 'violet', which the model does not know" in mistake(capfd, "--mode", "evaluate", "--run-dir", run_dir, "--data", strange)


def test_predict_goes_on_past_a_bad_file(finished, tmp_path, capfd):
    run_dir, data = finished
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    good = sorted((data / "grün").glob("*.jpg"))
    output = tmp_path / "found.jsonl"
    arguments = ["--mode", "predict", "--run-dir", run_dir, good[0], tmp_path / "broken.jpg", data / "blue sky", f"{data}/gr*/*.jpg"]
    assert run.main([str(a) for a in (*arguments, "--output", output)]) == 0
    assert "1 of 14 files could not be read" in capfd.readouterr().err
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert [line["path"] for line in lines[:2]] == [str(good[0]), str(tmp_path / "broken.jpg")]
    assert set(lines[0]["probabilities"]) == {"blue sky", "grün"}
    assert sum(lines[0]["probabilities"].values()) == pytest.approx(1)
    assert lines[0]["probability"] == max(lines[0]["probabilities"].values())
    assert "broken.jpg" in lines[1]["error"]
    assert run.main([str(a) for a in arguments]) == 0
    table = capfd.readouterr().out.splitlines()
    assert table[0] == "path,predicted_class,probability,error,p_blue sky,p_grün"
    assert len(table) == 15


def test_predict_agrees_with_the_test_predictions_of_the_run(finished, capfd):
    run_dir, data = finished
    recorded = [line.split(",") for line in (run_dir / "predictions.csv").read_text().splitlines()[1:]]
    assert run.main(["--mode", "predict", "--run-dir", str(run_dir), *(str(data / line[0]) for line in recorded)]) == 0
    found = [line.split(",") for line in capfd.readouterr().out.splitlines()[1:]]
    for ours, theirs in zip(found, recorded, strict=True):
        assert ours[1] == theirs[2]
        assert float(ours[2]) == pytest.approx(float(theirs[3]), abs=2e-6)


def test_predict_refuses_nothing_and_only_bad_files(finished, tmp_path, capfd):
    run_dir, _ = finished
    assert "no images given" in mistake(capfd, "--mode", "predict", "--run-dir", run_dir)
    assert "no such file" in mistake(capfd, "--mode", "predict", "--run-dir", run_dir, tmp_path / "nothing*.jpg")
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    assert run.main(["--mode", "predict", "--run-dir", str(run_dir), str(tmp_path / "broken.jpg")]) == 2


@pytest.mark.parametrize(
    ("setting", "words"),
    [("train.unfreeze_from=stage9", "expected 'all' or one of stage1"), ("train.class_weights={bird: 2.0}", "unknown class 'bird'")],
)
def test_names_that_only_data_and_network_know_are_checked_before_training(capfd, photo_folder, tmp_path, setting, words):
    data = photo_folder(classes=("cat", "dog"), per_class=4)
    arguments = ["--mode", "finetune", "--data", data, *TINY, "--set", setting, "--run-dir", tmp_path / "R"]
    assert words in mistake(capfd, *arguments)
    assert not (tmp_path / "R").exists()


def test_float16_without_a_gpu_is_refused(capfd, photo_folder, tmp_path):
    arguments = ["--mode", "extract", "--data", photo_folder(), *TINY, "--set", "runtime.precision=float16", "--run-dir", tmp_path / "R"]
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("there is a GPU")
    assert "needs a GPU" in mistake(capfd, *arguments)
    assert not (tmp_path / "R").exists()


def test_a_model_that_is_cut_short_is_one_line(finished, tmp_path, capfd):
    shutil.copytree(finished[0], tmp_path / "R")
    whole = (tmp_path / "R" / "model.keras").read_bytes()
    (tmp_path / "R" / "model.keras").write_bytes(whole[: len(whole) // 2])
    assert "cut short" in mistake(capfd, "--mode", "evaluate", "--run-dir", tmp_path / "R")


def test_output_that_is_a_folder_is_refused_before_predicting(finished, tmp_path, capfd):
    (tmp_path / "o.csv").mkdir()
    line = mistake(capfd, "--mode", "predict", "--run-dir", finished[0], "--output", tmp_path / "o.csv", finished[1])
    assert "is a folder" in line


def test_predict_passes_over_what_is_hidden(finished, tmp_path, capfd):
    good = next((finished[1] / "grün").iterdir())
    (tmp_path / "new" / ".hidden").mkdir(parents=True)
    (tmp_path / "new" / "folder.png").mkdir()
    for name in ("a.png", "._a.png", ".hidden/b.png"):
        shutil.copy(good, tmp_path / "new" / name)
    assert run.main(["--mode", "predict", "--run-dir", str(finished[0]), str(tmp_path / "new")]) == 0
    assert len(capfd.readouterr().out.splitlines()) == 2


def test_resume_refuses_another_mode(finished, tmp_path, capfd):
    shutil.copytree(finished[0], tmp_path / "R")
    (tmp_path / "R" / "metrics.json").unlink()
    line = mistake(capfd, "--mode", "extract", "--resume", "--run-dir", tmp_path / "R")
    assert "holds an interrupted run of mode 'finetune'" in line


def test_a_finished_run_is_not_resumed(finished, capfd):
    assert "this run is finished" in mistake(capfd, "--mode", "finetune", "--resume", "--run-dir", finished[0])


@pytest.mark.slow
def test_dry_run_trains_and_writes_nothing(photo_folder, three_stages, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = photo_folder(classes=("cat", "dog"), per_class=8)
    arguments = ["--mode", "finetune", "--data", data, "--backbone", three_stages, "--dry-run"]
    assert run.main([str(argument) for argument in arguments]) == 0
    out = capfd.readouterr().out
    for words in ("learning_rate: 0.0", "head", "finetune", "nothing was trained", "cat"):
        assert words in out
    assert not (tmp_path / "saved_models").exists()


# --- stored features -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_second_run_computes_no_features(photo_folder, own_backbone, tmp_path, monkeypatch):
    monkeypatch.setenv("TL_KERAS_CACHE", str(tmp_path / "cache"))
    data = photo_folder(classes=("cat", "dog"), per_class=8)
    for name in ("first", "second"):
        assert run.main([str(a) for a in ("extract", data, "--backbone", own_backbone, "--run-dir", tmp_path / name)]) == 0
        monkeypatch.setattr(Trunk, "__call__", lambda *_: pytest.fail("features are computed again"))
    first, second = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("first", "second"))
    assert (second["val"], second["test"]) == (first["val"], first["test"])
    assert (tmp_path / "first" / "predictions.csv").read_text() == (tmp_path / "second" / "predictions.csv").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "sets", "difference"),
    [
        ("extract", [], 1e-4),
        pytest.param("extract", ["model.hidden=[4]", "train.head_epochs=2"], 1e-4, marks=pytest.mark.slow),
        pytest.param("finetune", ["train.unfreeze_from=stage3", "train.epochs=2"], 1e-2, marks=pytest.mark.slow),
    ],
)
def test_the_saved_model_answers_on_pixels_as_was_measured_on_features(photo_folder, three_stages, tmp_path, mode, sets, difference):
    data = photo_folder(classes=("cat", "dog"), per_class=8)
    sets = [part for text in sets for part in ("--set", text)]
    arguments = ["--mode", mode, "--data", data, "--backbone", three_stages, *sets, "--run-dir", tmp_path / "R"]
    assert run.main([str(argument) for argument in arguments]) == 0
    rows = [line.split(",") for line in (tmp_path / "R" / "predictions.csv").read_text().splitlines()[1:]]
    pixels = np.stack([images.load(data / row[0], (16, 16), "crop") for row in rows]).astype(np.float32)
    model = keras.models.load_model(tmp_path / "R" / "model.keras")
    found = SINGLE_LABEL.answers(np.asarray(model(pixels)))
    np.testing.assert_allclose(found, np.array([row[4:] for row in rows], float), atol=difference)
    agreement = json.loads((tmp_path / "R" / "metrics.json").read_text())["agreement"]
    assert agreement["images"] == 2
    assert agreement["largest_difference"] <= difference


@pytest.mark.slow
def test_a_run_in_bfloat16_leaves_a_model_in_float32(photo_folder, own_backbone, tmp_path):
    data = photo_folder(classes=("cat", "dog"), per_class=6)
    arguments = ["--mode", "extract", "--data", data, "--backbone", own_backbone, "--set", "runtime.precision=bfloat16"]
    assert run.main([str(a) for a in (*arguments, "--run-dir", tmp_path / "R")]) == 0
    model = keras.models.load_model(tmp_path / "R" / "model.keras")
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    assert json.loads((tmp_path / "R" / "metrics.json").read_text())["engine"]["precision"] == "bfloat16"


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """Two collections of features: 3 rows that were unused for ten days, and 2 of today."""
    monkeypatch.setenv("TL_KERAS_CACHE", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "120")
    for name, rows, days in (("vgg16", 3, 10), ("resnet50", 2, 0)):
        about = {"backbone": name, "stages": "last", "output": "pooled", "view": days // 10, "image_size": [16, 24]}
        collection = Store(tmp_path / "features", 1.0).open(name, about)
        collection.write(np.array([bytes([number + 1]) for number in range(rows)], "S16"), np.ones((rows, 250_000), np.float32))
        os.utime(collection.folder / "about.json", (time.time() - days * 86_400,) * 2)
    return tmp_path / "features"


def test_cache_list_tells_what_is_stored(stored, capfd):
    assert run.main(["cache", "list"]) == 0
    out = capfd.readouterr().out
    assert str(stored) in out.replace("\n", "")
    old, new = (next(line for line in out.splitlines() if name in line) for name in ("vgg16", "resnet50"))
    for line, words in ((old, ("view 1", "16x24", " 3 ", "0.003", "10.0")), (new, ("plain", "16x24", " 2 ", "0.002", "0.0"))):
        assert all(word in line for word in words), line
    assert out.index("vgg16") < out.index("resnet50")
    assert len(list(stored.iterdir())) == 2


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        ([], ["resnet50", "vgg16"]),  # far below the limit of features.max_gb
        (["--all"], []),
        (["--older-than", "9"], ["resnet50"]),
        (["--older-than", "11"], ["resnet50", "vgg16"]),
        (["--max-gb", "0.0025"], ["resnet50"]),
        (["--max-gb", "1"], ["resnet50", "vgg16"]),
        (["--max-gb", "inf"], ["resnet50", "vgg16"]),
        (["--max-gb", "0.001", "--older-than", "9"], ["resnet50"]),
    ],
)
def test_cache_prune_removes_the_longest_unused(stored, capfd, arguments, left):
    assert run.main(["cache", "prune", *arguments]) == 0
    out = capfd.readouterr().out
    assert sorted(folder.name for folder in stored.iterdir()) == left
    assert "removed" in out
    assert all(name in out for name in ("vgg16", "resnet50"))  # removed, or still stored


def test_an_empty_cache_is_no_mistake(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("TL_KERAS_CACHE", str(tmp_path / "none"))
    assert run.main(["cache", "list"]) == 0
    assert run.main(["cache", "prune"]) == 0
    assert not capfd.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["action", "See --help"]),
        (["clear"], ["'clear'", "list", "prune"]),
        (["list", "--max-gb", "1"], ["--max-gb", "cache list does not use it. Remove it."]),
        (["list", "--older-than", "1"], ["--older-than", "cache list does not use it. Remove it."]),
        (["prune", "--max-gb", "many"], ["--max-gb", "'many'"]),
        (["prune", "--max-gb", "-1"], ["--max-gb: got -1, expected a number >= 0."]),
        (["prune", "--max-gb", "nan"], ["--max-gb: got nan, expected a number >= 0."]),
        (["prune", "--older-than", "-0.5"], ["--older-than: got -0.5, expected a number >= 0."]),
        (["list", "--all"], ["--all", "cache list does not use it. Remove it."]),
        (["prune", "--all", "--max-gb", "1"], ["--all: removes everything", "--max-gb"]),
        (["prune", "--max-bg", "1"], ["--max-bg", "did you mean '--max-gb'?"]),
    ],
)
def test_a_wrong_cache_command_is_one_line_and_removes_nothing(stored, capfd, arguments, words):
    line = mistake(capfd, "cache", *arguments)
    assert line.startswith("ConfigError: ")
    for word in words:
        assert word in line
    assert len(list(stored.iterdir())) == 2


def test_too_little_room_is_one_line_and_leaves_nothing(stored, capfd, photo_folder, tmp_path):
    line = mistake(
        capfd, "--mode", "extract", "--data", photo_folder(), *TINY, "--set", "features.max_gb=0.001", "--run-dir", tmp_path / "R"
    )
    assert line.startswith(f"StoreError: {stored}: 0.00 GB of features are needed and 0.00 GB are free under features.max_gb=0.001")
    assert line.endswith("To remove features that were stored before: tl-keras cache prune --all.")
    assert not (tmp_path / "R").exists()


# --- processes of their own ----------------------------------------------------------------------------------------


def test_help_does_not_import_tensorflow():
    code = "import sys, tl_keras.run; status = 0\ntry: tl_keras.run.main(['--help'])\nexcept SystemExit: pass\n"
    code += "sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras', 'pydantic', 'rich')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--mode MODE" in done.stdout


def test_cache_does_not_import_tensorflow(tmp_path):
    code = "import sys, tl_keras.run; status = tl_keras.run.main(['cache', 'list'])\n"
    code += "sys.exit(status or any(name in sys.modules for name in ('tensorflow', 'keras')))"
    environment = os.environ | {"TL_KERAS_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr


def test_standard_error_holds_one_line_only(photo_folder, tmp_path):
    done = call("--mode", "extract", "--data", photo_folder(), *TINY, "--set", "model.preprocessing=caffe", "--set", "model.pooling=avg",
                "--set", "model.weights=no.h5", "--run-dir", tmp_path / "R")  # fmt: skip
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


@pytest.mark.slow
def test_ctrl_c_keeps_the_best_and_resume_ends_the_run(photo_folder, own_backbone, tmp_path):
    data = photo_folder(classes=("cat", "dog"), per_class=8)
    arguments = ["--mode", "finetune", "--data", data, "--backbone", own_backbone, "--set", "train.epochs=40000"]
    arguments = [*arguments, "--run-dir", tmp_path / "R"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tl_keras.run", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    state = tmp_path / "R" / "checkpoints" / "finetune.json"
    deadline = time.monotonic() + 200
    while not state.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130, error
    assert f"--resume --run-dir {tmp_path / 'R'}" in error
    assert (tmp_path / "R" / "model.keras").is_file()
    assert not (tmp_path / "R" / "metrics.json").exists()
    done_epochs = json.loads(state.read_text())["epoch"]
    config = (tmp_path / "R" / "config.yaml").read_text()
    (tmp_path / "R" / "config.yaml").write_text(config.replace("epochs: 40000", f"epochs: {done_epochs + 1}"))
    assert run.main(["--mode", "finetune", "--resume", "--run-dir", str(tmp_path / "R")]) == 0
    history = (tmp_path / "R" / "history.csv").read_text().splitlines()
    assert [line.split(",")[1] for line in history[1:]] == [str(epoch) for epoch in range(done_epochs + 2)]  # 0 is the head


@pytest.mark.slow
def test_ctrl_c_ends_a_search_and_its_workers(photo_folder, tmp_path):
    data = photo_folder(classes=("cat", "dog"), per_class=8)
    arguments = ["--mode", "search", "--data", data, *TINY, "--set", "search.max_trials=100000", "--set", "search.tuner=random"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tl_keras.run", *map(str, arguments), "--workers", "1", "--run-dir", str(tmp_path / "R")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert any(line.startswith("trial ") and line.endswith("  worker1\n") for line in process.stdout)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert error.splitlines()[-1].startswith("interrupted. Continue with: ")
    assert " -m tl_keras.run search --resume --run-dir " in error
    assert "Traceback" not in error
    log = (tmp_path / "R" / "workers" / "worker1.log").read_text()
    assert "interrupted." in log  # it has ended too
    assert "Traceback" not in log
    assert len((tmp_path / "R" / "trials.csv").read_text().splitlines()) > 1
