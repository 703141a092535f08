"""Few images of each class to train on, in every mode that takes train; val and test are what they are without."""

import csv
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tl_keras import run_folder
from tl_keras.config import Config
from tl_keras.workflows.crossval import crossval
from tl_keras.workflows.evaluate import evaluate
from tl_keras.workflows.plan import make_plan
from tl_keras.workflows.rank import rank
from tl_keras.workflows.search import search
from tl_keras.workflows.train import train


@pytest.fixture(scope="module")
def photos(photo_folder: Callable[..., Path]) -> Path:
    return photo_folder(classes=("cat", "dog"), per_class=20, size=(16, 16))


def config_of(mode: str, photos: Path, backbone: str, per_class: int | None, **sections: Any) -> Config:
    data = {"source": str(photos), "image_size": 16, "per_class": per_class}
    return Config.model_validate({"mode": mode, "data": data, "model": {"backbone": backbone}, "features": {"views": 0}, **sections})


def splits_of(folder: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    with (folder / run_folder.SPLITS).open(newline="") as file:
        for line in csv.DictReader(file):
            found.setdefault(line["split"], set()).add(line["path"])
    return found


@pytest.mark.slow
def test_heads_learn_from_few_images_and_are_measured_on_the_same_ones(
    photos: Path, own_backbone: str, tmp_path: Path, own_store: Path
) -> None:
    runs = {}
    for number in (1, 3, None):
        metrics = train(config_of("extract", photos, own_backbone, number), tmp_path / f"R{number}")
        runs[number] = splits_of(tmp_path / f"R{number}")
        assert metrics["data"]["train"] == (28 if number is None else 2 * number)
    assert runs[1]["train"] < runs[3]["train"] < runs[None]["train"]
    assert runs[1]["val"] == runs[3]["val"] == runs[None]["val"]
    assert runs[1]["test"] == runs[3]["test"] == runs[None]["test"]
    result = evaluate(tmp_path / "R3", source=str(photos))
    assert result["data"] | {"skipped": 0} == {"test": 28, "classes": 2, "skipped": 0, "own_test": 6, "others": 22, "left_out": 12}


def test_a_plan_counts_the_images_that_are_used(photos: Path, own_backbone: str, heard: Any) -> None:
    plan = make_plan(config_of("extract", photos, own_backbone, 3), heard)
    assert plan.splits == [("cat", "3", "3", "3"), ("dog", "3", "3", "3")]


@pytest.mark.slow
def test_a_ranking_looks_at_few_images(photos: Path, own_backbone: str, tmp_path: Path) -> None:
    config = config_of("rank", photos, "small_resnet", 3, rank={"candidates": [own_backbone]})
    rank(config, tmp_path / "R")
    assert (tmp_path / "R").is_dir()


@pytest.mark.slow
@pytest.mark.parametrize("training", ["extract", "finetune"])
def test_folds_are_cut_from_few_images_and_val(photos: Path, own_backbone: str, tmp_path: Path, training: str) -> None:
    brief = {"epochs": 1, "unfreeze_from": "all"} if training == "finetune" else {}
    folds = {"folds": 3, "repeats": 1, "training": training}
    result = crossval(config_of("crossval", photos, own_backbone, 10, crossval=folds, train=brief), tmp_path / "R")
    assert result["images"] == 2 * (10 + 3)
    if training == "finetune":
        (first, *_) = sorted((tmp_path / "R" / "folds").iterdir())
        sizes = Counter({split: len(paths) for split, paths in splits_of(first).items()})
        assert sum(sizes.values()) == 26


@pytest.mark.slow
def test_a_search_tries_settings_on_few_images(photos: Path, own_backbone: str, tmp_path: Path) -> None:
    space = {"space": {"train.head_c": {"choice": [0.01, 0.1]}}, "tuner": "grid", "max_trials": 2}
    result = search(config_of("search", photos, own_backbone, 3, search=space), tmp_path / "R")
    assert result["trials"] == 2
    assert result["metrics"]["data"] == {"train": 6, "val": 6, "test": 6, "classes": 2}


@pytest.mark.slow
def test_finetuning_learns_from_few_images_and_goes_on_with_them(photos: Path, own_backbone: str, tmp_path: Path) -> None:
    brief = {"epochs": 1, "unfreeze_from": "all"}
    train(config_of("finetune", photos, own_backbone, 2, train=brief), tmp_path / "R")
    first = splits_of(tmp_path / "R")
    (tmp_path / "R" / run_folder.METRICS).unlink()  # as if it had been interrupted before the end
    train(config_of("finetune", photos, own_backbone, 2), tmp_path / "R", resume=True)
    assert splits_of(tmp_path / "R") == first
    assert json.loads((tmp_path / "R" / run_folder.METRICS).read_text())["data"]["train"] == 4
