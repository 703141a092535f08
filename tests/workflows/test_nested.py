"""Classes that are called by two folders go through every step that names classes."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tl_keras import run, run_folder


@pytest.mark.slow
def test_nested_classes_are_trained_measured_and_predicted(photo_folder: Callable[..., Path], tmp_path: Path) -> None:
    photos, folder = photo_folder(classes=("animal/cat", "animal/dog", "plant/rose"), size=(16, 16)), tmp_path / "R"
    sets = ["--set", "data.image_size=16", "--set", "model.weights=none", "--set", "data.nested_classes=true"]
    assert run.main(["extract", str(photos), *sets, "--run-dir", str(folder)]) == 0
    assert run.main(["evaluate", str(folder), str(photos)]) == 0
    evaluation = json.loads((folder / run_folder.EVALUATIONS / "1" / run_folder.EVALUATION).read_text())
    assert list(evaluation["test"]["per_class"]) == ["animal/cat", "animal/dog", "plant/rose"]
    assert evaluation["data"]["others"] == 0
    assert run.main(["predict", str(folder), str(photos / "plant"), "--output", str(tmp_path / "found.csv")]) == 0
    with (tmp_path / "found.csv").open(newline="") as file:
        assert "p_animal/dog" in next(csv.reader(file))
