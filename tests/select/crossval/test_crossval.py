"""Cross-validation: nothing held out takes part, test is not looked at, a killed one goes on, two are compared."""

import csv
import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from tl_keras import run_folder
from tl_keras.config import Config
from tl_keras.config_file import to_yaml
from tl_keras.data import dataset
from tl_keras.data.index import Index
from tl_keras.data.sources import open_source
from tl_keras.data.splits import outside_test
from tl_keras.errors import ConfigError, DataError, RunFolderError
from tl_keras.evaluation.intervals import corrected
from tl_keras.progress import Progress
from tl_keras.run_folder import RunFolder
from tl_keras.select.crossval.folds import Fold
from tl_keras.select.crossval.heads import compute_features, cut_folds, solve_fold
from tl_keras.transfer.features import FrozenFeatures
from tl_keras.transfer.frozen import POOLED
from tl_keras.transfer.head import problem as solving
from tl_keras.transfer.head.probe import Standardiser
from tl_keras.transfer.head.problem import HeadProblem
from tl_keras.workflows.crossval import crossval, read_answer

pytestmark = pytest.mark.usefixtures("own_store")
PhotoFolder = Callable[..., Path]
workflow = import_module("tl_keras.workflows.crossval")  # the package has the function under this name
BRIEF = {"epochs": 1, "batch_size": 8}
FINETUNE = {"training": "finetune", "folds": 2, "repeats": 1}
NUM_OUTSIDE_TEST = 34  # of 40: three of each class are for test


def config_of(photos: Path, **sections: Any) -> Config:
    data = {"source": str(photos), "image_size": 16} | sections.pop("data", {})
    crossval = {"folds": 3, "repeats": 2} | sections.pop("crossval", {})
    return Config.model_validate({"mode": "crossval", "data": data, "crossval": crossval, **sections})


def outside(config: Config) -> Index:
    """The images that folds are cut from, where all files decode."""
    whole = open_source(config.data)
    return whole.take(outside_test(dataset.cut(whole, config.data, {})))


def opened(config: Config) -> tuple[Config, Index, HeadProblem, Any]:
    """The configuration, the images, what heads are solved on, and where the images are in it."""
    whole = open_source(config.data)
    found, rows = compute_features(config, whole, Progress())
    return found.config, whole.take(rows), found.problem, rows


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


@pytest.mark.slow
def test_what_is_held_out_and_test_take_no_part(photos: Path) -> None:
    config = config_of(photos)
    whole = open_source(config.data)
    split = dataset.cut(whole, config.data, {})
    config, index, problem, rows = opened(config)
    assert set(index.paths) == {path for path, part in zip(whole.paths, split, strict=True) if part != "test"}
    fold = cut_folds(config, index)[0]
    expected = solve_fold(config, problem, rows, fold).values
    labels = problem.labels.copy()
    labels[rows[fold.held_out]] = 1 - labels[rows[fold.held_out]]
    np.testing.assert_array_equal(solve_fold(config, replace(problem, labels=labels), rows, fold).values, expected)
    labels = problem.labels.copy()
    labels[rows[fold.train]] = 1 - labels[rows[fold.train]]
    assert not np.array_equal(solve_fold(config, replace(problem, labels=labels), rows, fold).values, expected)


@pytest.mark.slow
def test_a_fold_is_what_scikit_learn_finds_on_it(photos: Path) -> None:
    config, index, problem, rows = opened(config_of(photos))
    fold = cut_folds(config, index)[1]
    features = problem.frozen.stored(POOLED, rows)[:]
    scaled = Standardiser.fit(features[fold.train])(features)
    best = min(
        (
            LogisticRegression(C=C, tol=1e-8, max_iter=10_000).fit(scaled[fold.train], index.labels[fold.train])
            for C in 10.0 ** np.arange(-5.0, 1.5, 0.5)
        ),
        key=lambda fitted: log_loss(index.labels[fold.val], fitted.predict_proba(scaled[fold.val])),
    )
    found = solve_fold(config, problem, rows, fold).values
    np.testing.assert_allclose(found, best.predict_proba(scaled[fold.held_out]), atol=5e-3)


@pytest.mark.parametrize("columns", ["class,predicted", "true_class,predicted_class"])
def test_the_predictions_of_a_fold_are_read_whatever_their_version_calls_the_columns(columns: str, tmp_path: Path) -> None:
    (tmp_path / run_folder.PREDICTIONS).write_text(f"path,{columns},probability,p_cat,p_dog\nb.png,dog,cat,0.75,0.75,0.25\n")
    index = Index(root=tmp_path, paths=("a.png", "b.png"), labels=np.array([0, 1], np.int32), classes=("cat", "dog"))
    fold = Fold(1, 1, np.array([], np.int64), np.array([0]), np.array([1]))
    assert read_answer(RunFolder(tmp_path), index, fold).values.tolist() == [[0.75, 0.25]]


@pytest.fixture(scope="module")
def finished(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A cross-validation on stored features: its folder and its result. Not to be changed."""
    run = tmp_path_factory.mktemp("finished") / "R"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TL_KERAS_CACHE", str(run.parent / "cache"))
        return run, crossval(config_of(photos), run)


@pytest.mark.slow
def test_the_mode_writes_its_figures_and_every_answer(photos: Path, finished: tuple[Path, Any], tmp_path: Path) -> None:
    result = finished[1]
    run = RunFolder(finished[0])
    assert json.loads((run / run_folder.CROSSVAL).read_text()) == json.loads(json.dumps(result))
    assert [fold["fold"] for fold in result["folds"]] == ["1-1", "1-2", "1-3", "2-1", "2-2", "2-3"]
    accuracies = [fold["accuracy"] for fold in result["folds"]]
    assert result["summary"]["accuracy"]["mean"] == pytest.approx(np.mean(accuracies))
    assert result["summary"]["accuracy"]["ci95"] == pytest.approx(corrected(accuracies, 0.5))
    assert result["summary"]["accuracy"]["mean"] > 0.8
    answers = rows_of(run / run_folder.OUT_OF_FOLD)
    assert len(answers) == 2 * NUM_OUTSIDE_TEST
    assert len({(line["repeat"], line["path"]) for line in answers}) == 2 * NUM_OUTSIDE_TEST
    right = [line["predicted_class"] == line["true_class"] for line in answers if (line["repeat"], line["fold"]) == ("1", "1")]
    assert np.mean(right) == pytest.approx(accuracies[0])
    assert all(float(line["p_cat"]) + float(line["p_dog"]) == pytest.approx(1, abs=1e-5) for line in answers)
    assert {name for line in rows_of(run / run_folder.FOLDS) for name in line} == {"path", "repeat1", "repeat2", "content"}
    again = crossval(config_of(photos), tmp_path / "again")
    assert again == result


@pytest.mark.slow
def test_one_pass_serves_all_folds(photos: Path, own_backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = FrozenFeatures.compute
    monkeypatch.setattr(FrozenFeatures, "compute", lambda self, wanted, *rest: seen.append(wanted) or real(self, wanted, *rest))
    crossval(config_of(photos, features={"views": 1}, model={"backbone": own_backbone}), tmp_path / "R")
    assert seen
    assert all([len(rows) for rows in wanted] == [40, NUM_OUTSIDE_TEST] for wanted in seen)


@pytest.mark.slow
@pytest.mark.parametrize("sections", [{"features": {"views": 1}}, {"train": {"class_weights": {"cat": 9.0}}}], ids=["views", "weights"])
def test_settings_reach_the_folds(photos: Path, finished: tuple[Path, Any], tmp_path: Path, sections: dict[str, Any]) -> None:
    result = crossval(config_of(photos, **sections), tmp_path / "R")
    assert result["summary"] != finished[1]["summary"]


@pytest.mark.slow
def test_features_are_selected_in_each_fold(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    real = solving.select_features

    def select_features(method: str, train: Any, *rest: Any, **options: Any) -> Any:
        sizes.append(len(train[0]))
        return real(method, train, *rest, **options)

    monkeypatch.setattr(solving, "select_features", select_features)
    config = config_of(photos, crossval={"repeats": 1}, features={"selection": "head2toe"})
    crossval(config, tmp_path / "R")
    index = outside(config)
    assert sizes == [len(fold.train) for fold in cut_folds(config, index)]


@pytest.mark.parametrize("section", [{}, FINETUNE], ids=["extract", "finetune"])
def test_bad_files_are_in_no_fold_and_test_is_what_a_training_takes(
    photo_folder: PhotoFolder, own_backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, section: dict[str, Any]
) -> None:
    photos, model = photo_folder(classes=("cat", "dog"), per_class=20), {"backbone": own_backbone}
    config = config_of(photos, data={"max_bad_fraction": 0.5}, crossval=section, model=model)
    whole = open_source(config.data)
    split = dataset.cut(whole, config.data, {})
    bad = next(row for row in range(len(split)) if split[row] == "test")  # another image takes its place in test
    (photos / whole.paths[bad]).write_text("text")
    split = dataset.cut(whole, config.data, {bad})
    expected = {path for path, part in zip(whole.paths, split, strict=True) if part in ("train", "val")}

    def train(own: Config, folder: Path, *, index: Index, **_: Any) -> None:
        assert set(index.paths) == expected
        raise KeyboardInterrupt

    monkeypatch.setattr(workflow, "train", train)
    with pytest.raises(KeyboardInterrupt) if section else nullcontext():
        result = crossval(config, tmp_path / "R")
        assert result["images"] == len(expected)
        assert {line["path"] for line in rows_of(tmp_path / "R" / run_folder.OUT_OF_FOLD)} == expected
    assert {line["path"] for line in rows_of(tmp_path / "R" / run_folder.FOLDS)} == expected


@dataclass(frozen=True)
class Finetuned:
    """A cross-validation of whole training runs that was killed in its second, and went on. Not to be changed.

    Attributes:
        begun: the folds whose training runs began, each with whether it was to go on with one.
    """

    config: Config
    run: Path
    result: dict[str, Any]
    begun: list[tuple[str, bool]]


@pytest.fixture(scope="module")
def finetuned(photos: Path, own_backbone: str, tmp_path_factory: pytest.TempPathFactory) -> Finetuned:
    run = tmp_path_factory.mktemp("finetuned") / "R"
    config = config_of(photos, crossval=FINETUNE, train=BRIEF, features={"views": 1}, model={"backbone": own_backbone})
    begun: list[tuple[str, bool]] = []
    real = workflow.train

    def killed_in_the_second(own: Config, folder: Path, **options: Any) -> Any:
        begun.append((folder.name, options["resume"]))
        if len(begun) == 2:
            raise KeyboardInterrupt
        return real(own, folder, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TL_KERAS_CACHE", str(run.parent / "cache"))
        patch.setattr(workflow, "train", killed_in_the_second)
        with pytest.raises(KeyboardInterrupt):
            crossval(config, run)
        with pytest.raises(RunFolderError, match="holds another run already"):
            crossval(config, run)
        return Finetuned(config, run, crossval(config, run, resume=True), begun)


@pytest.mark.slow
def test_whole_trainings_on_folds_go_on_after_a_kill(finetuned: Finetuned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert finetuned.begun == [("1-1", False), ("1-2", False), ("1-2", False)]
    assert len(finetuned.result["folds"]) == 2
    before, after = ((finetuned.run / "folds" / fold / run_folder.CONFIG).read_text() for fold in ("1-1", "1-2"))
    assert before == after
    with pytest.raises(RunFolderError, match="this cross-validation is finished"):
        crossval(finetuned.config, finetuned.run, resume=True)
    run = shutil.copytree(finetuned.run, tmp_path / "R")
    (run / run_folder.CROSSVAL).unlink()
    monkeypatch.setattr(workflow, "train", lambda *_, **options: pytest.fail("both folds are there"))
    assert crossval(finetuned.config, run, resume=True) == finetuned.result


@pytest.mark.slow
def test_folds_of_a_training_hold_what_they_must(finetuned: Finetuned) -> None:
    index = outside(finetuned.config)
    for fold in cut_folds(finetuned.config, index):
        split = {line["path"]: line["split"] for line in rows_of(finetuned.run / "folds" / fold.name / run_folder.SPLITS)}
        assert set(split) == set(index.paths)
        assert {path for path, part in split.items() if part == "test"} == {index.paths[row] for row in fold.held_out}
        assert {path for path, part in split.items() if part == "val"} == {index.paths[row] for row in fold.val}


@pytest.mark.slow
def test_two_are_compared_on_the_same_folds(photos: Path, own_backbone: str, finished: tuple[Path, Any], tmp_path: Path) -> None:
    first = finished[1]
    against = {"against": str(finished[0])}
    same = crossval(config_of(photos, crossval=against), tmp_path / "same")
    assert same["against"]["differences"]["accuracy"] == {"mean": 0.0, "ci95": [0.0, 0.0]}
    other = crossval(config_of(photos, crossval=against, model={"backbone": own_backbone}), tmp_path / "other")
    differences = [mine["log_loss"] - theirs["log_loss"] for mine, theirs in zip(other["folds"], first["folds"], strict=True)]
    assert other["against"]["differences"]["log_loss"]["mean"] == pytest.approx(np.mean(differences))
    assert other["against"]["differences"]["log_loss"]["ci95"] == pytest.approx(corrected(differences, 0.5))
    with pytest.raises(RunFolderError, match=r"R/folds\.csv: these folds are of other images, or were cut differently"):
        crossval(config_of(photos, crossval=against, data={"split_seed": 5}), tmp_path / "R")
    assert not (tmp_path / "R").exists()
    with pytest.raises(RunFolderError, match=r"crossval\.against: .*nowhere holds no finished cross-validation"):
        crossval(config_of(photos, crossval={"against": str(tmp_path / "nowhere")}), tmp_path / "R")
    result = json.loads((finished[0] / run_folder.CROSSVAL).read_text())
    (tmp_path / "lost").mkdir()
    (tmp_path / "lost" / run_folder.CROSSVAL).write_text(json.dumps(result))
    lost = config_of(photos, crossval={"against": str(tmp_path / "lost")})
    with pytest.raises(RunFolderError, match=r"lost/folds\.csv: is missing, by which folds are compared"):
        crossval(lost, tmp_path / "R")
    assert not (tmp_path / "lost" / run_folder.FOLDS).exists()
    shutil.copy(finished[0] / run_folder.FOLDS, tmp_path / "lost")
    with pytest.raises(ConfigError, match=r"crossval\.against: .*lost is not of data\.task=multi_label: it has no map\."):
        crossval(lost.replace("data.task", "multi_label"), tmp_path / "R")


def test_groups_are_held_out_whole(photos: Path, own_backbone: str, tmp_path: Path) -> None:
    pattern, model = {"group_pattern": r"(\d)\.\w+$"}, {"backbone": own_backbone}
    config = config_of(photos, crossval={"folds": 2, "repeats": 1}, data=pattern, model=model)
    crossval(config, tmp_path / "R")
    fold_of: dict[str, set[str]] = {}
    for line in rows_of(tmp_path / "R" / run_folder.FOLDS):
        assert line["group"] == Path(line["path"]).stem[-1]
        fold_of.setdefault(line["group"], set()).add(line["repeat1"])
    assert all(len(folds) == 1 for folds in fold_of.values())
    assert len(fold_of) == 9  # one is test, and nobody looks at it
    (tmp_path / "R" / run_folder.CROSSVAL).unlink()
    crossval(config, tmp_path / "R", resume=True)


def test_changed_images_are_not_mixed_into_folds_that_were_cut(
    photo_folder: PhotoFolder, own_backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = photo_folder(classes=("cat", "dog"), per_class=20)
    config = config_of(photos, crossval=FINETUNE, train=BRIEF, features={"views": 0}, model={"backbone": own_backbone})

    def killed(own: Config, folder: Path, **_: Any) -> None:
        folder.mkdir(parents=True)
        (folder / run_folder.MODEL).touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(workflow, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        crossval(config, tmp_path / "R")
    monkeypatch.setattr(workflow, "train", lambda *_, **options: pytest.fail("trained on other images"))
    index = outside(config)
    file = photos / index.paths[0]
    for change in (lambda: shutil.copy(photos / index.paths[1], file), file.unlink):
        change()
        with pytest.raises(RunFolderError, match=r"R/folds\.csv: these folds are of other images"):
            crossval(config, tmp_path / "R", resume=True)
    assert (tmp_path / "R" / "folds" / "1-1" / run_folder.MODEL).is_file()


def test_mistakes_leave_no_folder(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"crossval\.folds: got 30"):
        crossval(config_of(photos, crossval={"folds": 30}), tmp_path / "R")
    with pytest.raises(ConfigError, match=r"data\.group_pattern"):
        crossval(config_of(photos, data={"group_pattern": "("}), tmp_path / "R")
    assert not (tmp_path / "R").exists()
    (tmp_path / "R").mkdir()
    run_folder.write_text(tmp_path / "R" / run_folder.CONFIG, to_yaml(config_of(photos)))
    with pytest.raises(RunFolderError, match="holds no interrupted cross-validation"):
        crossval(config_of(photos), tmp_path / "R", resume=True)
