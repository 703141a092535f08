"""The temperature of a training run: the saved model has it, and so do all figures."""

import csv
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import tl_keras
from tl_keras.evaluation.calibration import fit_temperature
from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.run_folder import RunFolder
from tl_keras.trained_run import open_run
from tl_keras.workflows import train as workflow


def test_the_saved_model_says_what_the_figures_do_and_no_other_temperature_suits_val_better(trained: tuple[Path, Path]) -> None:
    run, photos = trained
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["temperature"] != 1
    with (run / "val_predictions.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    found = list(tl_keras.predict(run, [photos / line["path"] for line in lines]))
    logits = np.log([list(each.probabilities.values()) for each in found])
    classes = list(found[0].probabilities)
    labels = np.array([classes.index(line["true_class"]) for line in lines])
    assert metrics["val"]["log_loss"] == pytest.approx(SINGLE_LABEL.plain_losses(logits, labels).mean(), abs=1e-4)
    before = logits * metrics["temperature"]
    assert fit_temperature(SINGLE_LABEL, before, labels) == pytest.approx(metrics["temperature"], rel=1e-2)


@pytest.mark.slow
def test_classes_are_those_of_the_head_that_was_trained(
    photo_folder: Any, own_backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = photo_folder(classes=("ant", "bee", "wasp"), per_class=10)
    monkeypatch.setattr(workflow, "fit_temperature", lambda *_: 4.0)
    hot = tl_keras.train(data=data, mode="extract", backbone=own_backbone, run_dir=tmp_path / "hot")
    monkeypatch.setattr(workflow, "fit_temperature", lambda *_: 1.0)
    plain = tl_keras.train(data=data, mode="extract", backbone=own_backbone, run_dir=tmp_path / "plain")
    assert hot["temperature"] == 4.0
    assert hot["test"]["confusion_matrix"] == plain["test"]["confusion_matrix"]
    pixels = np.random.default_rng(0).integers(0, 256, (5, *open_run(tmp_path / "hot").image_size, 3)).astype(np.float32)
    logits = [keras.models.load_model(RunFolder.at(tmp_path / name) / "model.keras")(pixels).numpy() for name in ("hot", "plain")]
    np.testing.assert_allclose(4 * logits[0], logits[1], rtol=1e-4, atol=1e-4)
