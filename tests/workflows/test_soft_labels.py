"""Soft labels: a table with a column of votes for each class goes through every mode, and a run keeps the shares."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tl_keras import run, run_folder
from tl_keras.models.saved import save_classifier
from tl_keras.trained_run import open_run

CLASSES = ("ant", "bee", "wasp")
SETTINGS = ("data.columns={label: [wasp, ant, bee]}", "data.image_size=16", "model.weights=none")
STEPS = ("train.epochs=2", "train.batch_size=8")
BACKBONE = "three_stages.keras"  # beside the table


@pytest.fixture(scope="module")
def table(trained: tuple[Path, Path], three_stages: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images of the shared run with ten votes each, of which at least five are for its class; the columns in another order."""
    folder, random = tmp_path_factory.mktemp("votes"), np.random.default_rng(0)
    shutil.copy(three_stages, folder / BACKBONE)
    lines = []
    for number, file in enumerate(sorted(trained[1].rglob("*.*"))):
        name = f"{number:02d}{file.suffix}"
        shutil.copy(file, folder / name)
        votes = random.multinomial(4, [1 / 3] * 3) + 6 * np.eye(3, dtype=int)[CLASSES.index(file.parent.name)]
        lines.append((name, *votes[[2, 0, 1]].tolist()))
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "wasp", "ant", "bee"), *lines])
    return folder / "labels.csv"


def command(mode: str, table: Path, run_dir: Path, *sets: str) -> list[str]:
    given = [word for each in (*SETTINGS, *sets) for word in ("--set", each)]
    backbone = [] if mode in ("ensemble", "rank") else ["--backbone", str(table.with_name(BACKBONE))]
    return [mode, str(table), *backbone, "--run-dir", str(run_dir), *given]


@pytest.fixture(scope="module")
def extracted(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("extracted") / "R"
    assert run.main(command("extract", table, folder)) == 0
    return folder


def figures(folder: Path) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = json.loads((folder / run_folder.METRICS).read_text())
    return found


def votes_of(table: Path) -> dict[str, list[int]]:
    with table.open(newline="") as file:
        return {line["path"]: [int(line[name]) for name in CLASSES] for line in csv.DictReader(file)}


@pytest.mark.slow
def test_a_run_keeps_the_shares(table: Path, extracted: Path) -> None:
    index, votes = open_run(extracted).index, votes_of(table)
    assert index.classes == CLASSES
    np.testing.assert_array_equal(index.shares, np.float32([votes[path] for path in index.paths]) / np.float32(10))
    metrics = figures(extracted)
    assert metrics["val"]["log_loss"] > metrics["val"]["label_entropy"] > 0.3
    with (extracted / run_folder.HISTORY).open(newline="") as file:
        (line,) = csv.DictReader(file)
    assert float(line["val_loss"]) == pytest.approx(metrics["val"]["log_loss"], rel=1e-4)
    assert float(line["val_accuracy"]) == pytest.approx(metrics["val"]["accuracy"])


@pytest.mark.slow
def test_an_evaluation_finds_the_same_figures(table: Path, extracted: Path) -> None:
    test = figures(extracted)["test"]
    for words in ((), (str(table),)):
        assert run.main(["evaluate", str(extracted), *words]) == 0
        newest = max((extracted / run_folder.EVALUATIONS).iterdir(), key=lambda folder: int(folder.name))
        again = json.loads((newest / run_folder.EVALUATION).read_text())["test"]
        if not words:
            assert again["label_entropy"] == pytest.approx(test["label_entropy"])
            assert again["log_loss"] == pytest.approx(test["log_loss"], rel=1e-3)
        assert again["label_entropy"] < again["log_loss"]


def test_shares_follow_the_order_of_the_model(extracted: Path, tmp_path: Path) -> None:
    folder, before = shutil.copytree(extracted, tmp_path / "R"), open_run(extracted)
    save_classifier(folder / run_folder.MODEL, before.model, ("wasp", "ant", "bee"))
    after = open_run(folder).index
    assert (after.classes, before.index.shares is None, after.shares is None) == (("wasp", "ant", "bee"), False, False)
    np.testing.assert_array_equal(after.shares, before.index.shares[:, [2, 0, 1]])  # type: ignore[index]
    assert [after.classes[label] for label in after.labels] == [CLASSES[label] for label in before.index.labels]


@pytest.mark.slow
def test_copies_contradict_each_other_by_their_most_probable_class(table: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(table.parent, tmp_path / "copy")
    votes = votes_of(table)
    first, *others = votes
    label = int(np.argmax(votes[first]))
    same, other = (
        next(path for path in others if (np.argmax(votes[path]) == label) == wanted and votes[path] != votes[first])
        for wanted in (True, False)
    )
    for path, conflicts in ((same, 0), (other, 1)):
        shutil.copy(folder / first, folder / path)
        assert run.main(command("check", folder / "labels.csv", tmp_path / path)) == (3 if conflicts else 0)
        assert json.loads((tmp_path / path / run_folder.CHECK).read_text())["findings"].get("conflict", 0) == 2 * conflicts


def test_votes_that_are_none_are_one_line(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shutil.copytree(table.parent, tmp_path / "copy")
    text = (folder / "labels.csv").read_text()
    (folder / "labels.csv").write_text(text.replace("\r\n0", "\n0").replace(text.splitlines()[1], "00.png,0,-1,2"))
    assert run.main(command("extract", folder / "labels.csv", tmp_path / "R")) == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    assert "has '-1' in the column 'ant', expected a share of the image, or votes, as a number of 0 or more" in error
    assert not (tmp_path / "R").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "sets"),
    [
        ("finetune", (*STEPS, "train.unfreeze_from=all", "train.mixup_alpha=0.2", "train.label_smoothing=0.1")),
        ("pretrain", (*STEPS, "train.loss=focal", "train.sampling=balanced")),
        ("extract", ("model.hidden=[4]", "train.head_epochs=2", "train.logit_adjustment=1")),
        ("extract", ("features.selection=l1", "train.class_weights=balanced")),
        ("ensemble", ("ensemble.members=[small_resnet]", "ensemble.method=bagging", "ensemble.resamples=2")),
    ],
)
def test_every_training_mode_learns_them(table: Path, mode: str, sets: tuple[str, ...], tmp_path: Path) -> None:
    assert run.main(command(mode, table, tmp_path / "R", *sets)) == 0
    test = figures(tmp_path / "R")["test"]
    assert test["log_loss"] > test["label_entropy"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "sets"),
    [
        ("crossval", ("crossval.folds=2", "crossval.repeats=1")),
        ("crossval", ("crossval.folds=2", "crossval.repeats=1", "crossval.training=finetune", "train.epochs=1", "data.val_fraction=0.3")),
        ("search", ("search.max_trials=2",)),
        ("rank", ("rank.candidates=[small_resnet]",)),
    ],
)
def test_every_mode_that_chooses_takes_them(table: Path, mode: str, sets: tuple[str, ...], tmp_path: Path) -> None:
    assert run.main(command(mode, table, tmp_path / "R", *sets)) == 0
    if mode == "crossval":
        summary = json.loads((tmp_path / "R" / run_folder.CROSSVAL).read_text())["summary"]
        assert summary["log_loss"]["mean"] > 0.5  # the shares have an entropy of about 0.8


@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_same_shares(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tl_keras.transfer import checkpoints

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run.main(command("finetune", table, whole, *STEPS)) == 0
    write = checkpoints.PhaseFiles.write

    def die(files: checkpoints.PhaseFiles, state: checkpoints.PhaseState) -> None:
        write(files, state)
        if files.phase == "finetune":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.PhaseFiles, "write", die)
        assert run.main(command("finetune", table, killed, *STEPS)) == 130
    assert run.main(["finetune", "--resume", "--run-dir", str(killed)]) == 0
    assert figures(killed)["test"] == figures(whole)["test"]
