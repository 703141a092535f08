"""Knowledge distillation: what a run is taught by another, and which teachers are refused."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tl_keras import run_folder
from tl_keras.config import Config
from tl_keras.config_file import load_config
from tl_keras.data.sources import open_source
from tl_keras.errors import ConfigError, RunFolderError
from tl_keras.progress import Progress
from tl_keras.run_folder import CHECKPOINTS, RunFolder
from tl_keras.trained_run import open_run, read_config
from tl_keras.transfer.feeds import PixelFeed, StoredFeed
from tl_keras.transfer.frozen import POOLED
from tl_keras.transfer.prepare import prepare_task
from tl_keras.transfer.task import Task
from tl_keras.workflows.predict import predict
from tl_keras.workflows.teacher import ANSWERS, require_teacher, taught
from tl_keras.workflows.train import train

Run = tuple[Path, Path]
CLASSES = ("ant", "bee", "wasp")  # of the shared run


def config_of(photos: Path, backbone: str, teacher: Path, **sections: Any) -> Config:
    wanted = {"teacher": str(teacher)} | sections.pop("train", {})
    data = {"source": str(photos), "image_size": 16} | sections.pop("data", {})
    return Config.model_validate({"mode": "extract", "data": data, "model": {"backbone": backbone}, "train": wanted, **sections})


def task_of(config: Config, folder: Path, heard: Progress | None = None) -> Task:
    folder.mkdir()
    return prepare_task(config, open_source(config.data), RunFolder(folder), heard or Progress())


@pytest.mark.slow
def test_of_train_the_label_and_the_answer_of_the_teacher_are_mixed(trained: Run, own_backbone: str, tmp_path: Path, heard: Any) -> None:
    teacher, photos = trained
    task = taught(
        task_of(config_of(photos, own_backbone, teacher, train={"teacher_weight": 0.25, "batch_size": 32}), tmp_path / "R", heard)
    )
    data, rows = task.data, task.data.rows("train")
    said = [each.probabilities for each in predict(teacher, [str(photos / data.index.paths[row]) for row in rows])]
    answers = np.array([[each[name] for name in CLASSES] for each in said])
    expected = np.eye(3, dtype=np.float32)[data.index.labels]
    expected[rows] = 0.75 * expected[rows] + 0.25 * answers
    np.testing.assert_allclose(task.learned, expected, atol=1e-7)
    assert 1e-5 < np.abs(task.learned[rows] - np.eye(3)[data.labels("train")]).max() <= 0.25
    right = np.mean([CLASSES.index(max(each, key=lambda name, of=each: of[name])) for each in said] == data.labels("train"))
    (line,) = [each for each in heard.lines if each.startswith("teacher: ")]
    assert line == f"teacher: {teacher} is right about {right:.1%} of the {len(rows)} training images"

    stored, pixels = StoredFeed(task, task.classifier.head, [POOLED]), PixelFeed(task, task.classifier.model)
    for feed in (stored, pixels):
        ((_, targets, _),) = islice(feed.train(0), 1)
        np.testing.assert_allclose(np.sort(targets, axis=0), np.sort(expected[rows], axis=0), atol=1e-6)
        on_val = np.concatenate([targets for _, targets in feed.ordered("val")])
        np.testing.assert_array_equal(on_val, np.eye(3)[data.labels("val")])
    np.testing.assert_array_equal(task.head_problem.labels, task.learned)


def test_adapt_has_no_teacher_though_a_file_names_one(trained: Run, own_backbone: str, tmp_path: Path) -> None:
    config = config_of(trained[1], own_backbone, tmp_path / "no", mode="adapt", adapt={"target": str(trained[1])})
    require_teacher(config, open_source(config.data), RunFolder(tmp_path))


def test_a_run_that_goes_on_does_not_ask_again(trained: Run, own_backbone: str, tmp_path: Path) -> None:
    teacher = tmp_path / "teacher"
    shutil.copytree(trained[0], teacher)
    task = task_of(config_of(trained[1], own_backbone, teacher), tmp_path / "R")
    first = taught(task)
    shutil.rmtree(teacher)
    require_teacher(task.config, task.data.index, task.run)
    np.testing.assert_array_equal(taught(task).learned, first.learned)
    np.save(tmp_path / "R" / CHECKPOINTS / ANSWERS, np.zeros((2, 3), np.float32))
    with pytest.raises(RunFolderError, match=r"teacher\.npy: is damaged, or is not the answers of a teacher\."):
        taught(task)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["extract", "finetune", pytest.param("pretrain", marks=pytest.mark.slow)])
def test_a_taught_run_is_a_run_like_others(trained: Run, own_backbone: str, tmp_path: Path, mode: str) -> None:
    teacher, photos = trained
    settings: dict[str, Any] = {} if mode == "extract" else {"epochs": 1}
    plain = config_of(photos, own_backbone, teacher, mode=mode, train=settings | {"teacher": None})
    with_teacher = config_of(photos, own_backbone, teacher, mode=mode, train=settings | {"teacher_weight": 1})
    found = [train(config, tmp_path / name) for name, config in (("plain", plain), ("taught", with_teacher))]
    assert found[0]["val"].keys() == found[1]["val"].keys()  # labels of val are not soft
    assert found[0]["val"]["log_loss"] != found[1]["val"]["log_loss"]
    assert open_run(tmp_path / "taught").index.shares is None
    assert read_config(RunFolder(tmp_path / "taught")).train.teacher == str(teacher)
    assert not (tmp_path / "taught" / CHECKPOINTS).exists()


def test_a_teacher_must_be_a_run_on_the_same_classes(
    trained: Run, photo_folder: Callable[..., Path], own_backbone: str, tmp_path: Path
) -> None:
    teacher, photos = trained
    with pytest.raises(RunFolderError, match=r"no/: no such run folder|no: no such run folder"):
        train(config_of(photos, own_backbone, tmp_path / "no"), tmp_path / "R")
    others = photo_folder(classes=("ant", "bee"), size=(16, 16))
    with pytest.raises(RunFolderError) as caught:
        train(config_of(others, own_backbone, teacher), tmp_path / "R")
    assert str(caught.value) == f"train.teacher: {teacher} knows the classes ant, bee, wasp, expected those of the images: ant, bee."
    assert not (tmp_path / "R").exists()


def test_a_teacher_for_several_labels_is_refused(trained: Run, own_backbone: str, tmp_path: Path) -> None:
    teacher = tmp_path / "teacher"
    shutil.copytree(trained[0], teacher)
    file = teacher / run_folder.CONFIG
    changed = file.read_text().replace("task: single_label", "task: multi_label").replace("label_smoothing: 0.1", "label_smoothing: 0.0")
    file.write_text(changed.replace(f"source: {trained[1]}", "source: labels.csv"))
    config = config_of(trained[1], own_backbone, teacher)
    with pytest.raises(RunFolderError, match=r"was trained with data\.task=multi_label, expected single_label\."):
        require_teacher(config, open_source(config.data), RunFolder(tmp_path))


def test_a_teacher_that_has_learned_from_test_is_refused(trained: Run, own_backbone: str, tmp_path: Path) -> None:
    teacher, photos = trained
    task = task_of(config_of(photos, own_backbone, teacher, data={"split_seed": 5}), tmp_path / "R")
    with pytest.raises(RunFolderError) as caught:
        taught(task)
    line = str(caught.value)
    assert line.startswith(f"train.teacher: {teacher} has learned from ")
    assert line.endswith(" images of test. Train it on the same --data with the same splits.")
    # The same images of test, but of its train some are val here.
    same = task_of(config_of(photos, own_backbone, teacher), tmp_path / "S")
    moved = same.data.split.copy()
    moved[same.data.rows("train")[0]] = "val"
    with pytest.raises(RunFolderError, match=r"has learned from 1 of the \d+ images of val\."):
        taught(replace(same, data=replace(same.data, split=moved)))


@pytest.mark.parametrize(
    ("mode", "sets", "line"),
    [
        ("search", [], "train.teacher: got 'R', expected null with mode: search, whose training runs have none."),
        ("crossval", [], "train.teacher: got 'R', expected null with mode: crossval, whose training runs have none."),
        (
            "finetune",
            ["data.source=a.csv", "data.task=multi_label"],
            "train.teacher: got 'R', which has no effect without data.task: single_label.",
        ),
    ],
)
def test_what_has_no_teacher(mode: str, sets: list[str], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(mode, sets=["train.teacher=R", *sets])
    assert str(caught.value) == f"--set: {line}"
