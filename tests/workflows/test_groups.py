"""Images of one patient are on one side of every cut, whatever the mode."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest

from tl_keras import run_folder
from tl_keras.config import Config
from tl_keras.data.index import Index
from tl_keras.select.crossval.folds import Fold
from tl_keras.select.ensemble import heads
from tl_keras.workflows.ensemble import ensemble
from tl_keras.workflows.train import train

PATIENT = r"(\d)\.\w+$"  # the last digit of a file's number: two images of each class
CROSSVAL = {"folds": 3, "repeats": 1}


@pytest.fixture(scope="module")
def photos(photo_folder: Callable[..., Path]) -> Path:
    return photo_folder(classes=("cat", "dog"), per_class=20, size=(16, 16))


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two small random backbones in files."""
    paths = [tmp_path_factory.mktemp("backbones") / f"{name}.keras" for name in ("one", "two")]
    for seed, path in enumerate(paths):
        pixels = keras.Input((16, 16, 3))
        kernels = keras.initializers.HeNormal(seed=seed)
        x = keras.layers.Conv2D(8, 3, strides=2, activation="relu", kernel_initializer=kernels)(keras.layers.Rescaling(1 / 255)(pixels))
        keras.Model(pixels, x).save(path)
    return list(map(str, paths))


def config_of(mode: str, photos: Path, **sections: Any) -> Config:
    data = {"source": str(photos), "image_size": 16, "group_pattern": PATIENT}
    return Config.model_validate({"mode": mode, "data": data, "features": {"views": 0}, **sections})


def patients_of(folder: Path) -> dict[str, set[str]]:
    """The patients in each split of a run."""
    found: dict[str, set[str]] = {}
    with (folder / run_folder.SPLITS).open(newline="") as file:
        for line in csv.DictReader(file):
            assert line["group"] == Path(line["path"]).stem[-1]
            found.setdefault(line["split"], set()).add(line["group"])
    return found


@pytest.mark.slow
def test_finetuning_has_no_patient_in_two_splits(photos: Path, backbones: list[str], tmp_path: Path) -> None:
    brief = {"epochs": 1, "unfreeze_from": "all"}
    train(config_of("finetune", photos, model={"backbone": backbones[0]}, train=brief), tmp_path / "R")
    found = patients_of(tmp_path / "R")
    assert set(found) == {"train", "val", "test"}
    assert sum(map(len, found.values())) == 10


def test_a_stack_has_no_patient_in_two_of_its_parts(
    photos: Path, backbones: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Index, list[Fold]]] = []
    cut_folds = heads.cut_folds

    def noted(config: Config, index: Index) -> list[Fold]:
        seen.append((index, cut_folds(config, index)))
        return seen[-1][1]

    monkeypatch.setattr(heads, "cut_folds", noted)
    wanted = {"members": backbones, "method": "stack"}
    ensemble(config_of("ensemble", photos, ensemble=wanted, crossval=CROSSVAL), tmp_path / "R")
    patients = patients_of(tmp_path / "R")
    ((index, folds),) = seen
    assert index.groups is not None
    assert set(index.groups) == patients["train"] | patients["val"]
    for fold in folds:
        sides = [{index.groups[row] for row in rows} for rows in (fold.train, fold.val, fold.held_out)]
        assert sum(map(len, sides)) == len(set(index.groups))
