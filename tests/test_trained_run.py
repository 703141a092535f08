"""What a finished run leaves, and a run read back."""

import csv
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import keras
import pytest

from tl_keras import run_folder
from tl_keras.config import Config
from tl_keras.errors import DataError, RunFolderError
from tl_keras.models.saved import read_classes, save_classifier
from tl_keras.models.saved_stages import read_stages, write_stages
from tl_keras.trained_run import open_run, still_there
from tl_keras.workflows.evaluate import evaluate
from tl_keras.workflows.train import train

Run = tuple[Path, Path]


def test_a_finished_run_has_what_people_look_for_and_no_checkpoints(trained: Run) -> None:
    run, _ = trained
    found = {path.name for path in run.iterdir()} - {"evaluations", "explanations", "export"}
    assert found == {
        "config.yaml", "environment.json", "splits.csv", "history.csv", "model.keras", "classes.txt", "metrics.json", "predictions.csv",
        "confusion.png", "report.html", "stages.json", "val_predictions.csv", "tensorboard",
    }  # fmt: skip
    assert (run / "classes.txt").read_text() == "ant\nbee\nwasp\n"
    assert read_classes(run / "model.keras") == ("ant", "bee", "wasp")
    with (run / "history.csv").open(newline="") as file:
        assert [line["phase"] for line in csv.DictReader(file)] == ["head"]


@pytest.mark.slow
def test_classes_come_from_the_model_where_it_has_them(trained: Run, tmp_path: Path) -> None:
    run = shutil.copytree(trained[0], tmp_path / "R")
    before, model = open_run(run), keras.models.load_model(run / run_folder.MODEL)
    save_classifier(run / run_folder.MODEL, model, ("wasp", "ant", "bee"))
    after = open_run(run)
    assert after.index.classes == ("wasp", "ant", "bee")
    assert [after.index.classes[label] for label in after.index.labels] == [before.index.classes[label] for label in before.index.labels]
    save_classifier(run / run_folder.MODEL, model, ("ant", "bee", "moth"))
    with pytest.raises(RunFolderError, match=r"splits\.csv has a class 'wasp', which model\.keras does not know \(ant, bee, moth\)"):
        open_run(run)
    model.save(run / run_folder.MODEL)  # by Keras: the names are gone
    assert open_run(run).index.classes == ("ant", "bee", "wasp")
    assert "classes.json" not in zipfile.ZipFile(run / run_folder.MODEL).namelist()


def interrupted(run: Path, copy: Path, source: Path) -> Path:
    """A copy of a run as if it had been interrupted before its end, with images of its own."""
    shutil.copytree(run, copy)
    (copy / run_folder.METRICS).unlink()
    config = (copy / run_folder.CONFIG).read_text()
    before = open_run(run).config.data.source
    (copy / run_folder.CONFIG).write_text(config.replace(before, str(source)))
    return copy


@pytest.mark.slow
def test_a_run_goes_on_with_its_images_where_they_lie_now(trained: Run, tmp_path: Path) -> None:
    run = interrupted(trained[0], tmp_path / "R", tmp_path / "photos")
    with pytest.raises(
        DataError, match=f"R: its images were in {tmp_path}/photos, which no longer exists. Say with --data where they are now."
    ):
        train(Config(mode="extract"), run, resume=True)
    found = train(Config(mode="extract"), run, resume=True, source=str(shutil.copytree(trained[1], tmp_path / "moved")))
    assert found["test"] == json.loads((trained[0] / run_folder.METRICS).read_text())["test"]
    assert open_run(run).config.data.source == str(tmp_path / "moved")
    assert evaluate(run)["data"]["own_test"] == 6


def test_a_run_does_not_go_on_with_images_that_were_replaced(trained: Run, tmp_path: Path) -> None:
    photos = shutil.copytree(trained[1], tmp_path / "photos")
    run = interrupted(trained[0], tmp_path / "R", photos)
    shutil.copy(photos / "ant" / "000.png", photos / "wasp" / "000.png")
    with pytest.raises(DataError, match=r"photos: of 30 images of this run, 1 is not what the run knows; the first is wasp/000\.png\."):
        train(Config(mode="extract"), run, resume=True)
    assert (run / run_folder.MODEL).is_file()


@pytest.mark.slow
def test_a_run_without_content_goes_on_and_says_how_its_images_are_known(trained: Run, tmp_path: Path, heard: Any) -> None:
    run = interrupted(trained[0], tmp_path / "R", trained[1])
    lines = [line.rsplit(",", 1)[0] for line in (run / run_folder.SPLITS).read_text().splitlines()]
    (run / run_folder.SPLITS).write_text("\n".join(lines) + "\n")
    train(Config(mode="extract"), run, resume=True, progress=heard)
    assert "this run is of a version that did not record the content of images: they are known by their paths alone" in heard.lines
    assert open_run(run).index.ids is not None  # from now on they are


def test_parity_images_of_an_export_are_the_runs_own(trained: Run, tmp_path: Path) -> None:
    moved = shutil.copytree(trained[1], tmp_path / "moved")
    images = open_run(trained[0]).images("test", moved)
    assert still_there(images).paths == images.paths
    shutil.copy(moved / images.paths[1], moved / images.paths[0])
    (moved / images.paths[2]).unlink()
    assert still_there(images).paths == (images.paths[1], *images.paths[3:])


@pytest.mark.slow
def test_stages_are_found_again_in_the_model_that_was_read_back(trained: Run, tmp_path: Path) -> None:
    opened = open_run(trained[0])
    assert [(name, tuple(tensor.shape)) for name, tensor in opened.stages.items()] == [
        ("stage1", (None, 8, 8, 8)),
        ("stage2", (None, 4, 4, 8)),
        ("stage3", (None, 2, 2, 8)),
    ]
    keras.Model(opened.model.input, list(opened.stages.values()))  # they are tensors of its graph
    run = shutil.copytree(trained[0], tmp_path / "R")
    for text, why in (
        ('{"stages": [{"name": "stage1", "operation": "other", "shape": [1, 1, 1]}]}', "is damaged, or is not what goes with"),
        ("", "is damaged"),
        (None, "cannot be read"),
    ):
        (run / run_folder.STAGES).write_text(text) if text is not None else (run / run_folder.STAGES).unlink()
        with pytest.raises(RunFolderError, match=rf"stages\.json: {why}"):
            open_run(run).stages  # noqa: B018


def test_stages_of_another_shape_are_not_taken(tmp_path: Path) -> None:
    pixels = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="end")(pixels)
    model = keras.Model(pixels, keras.layers.Flatten()(x))
    write_stages(tmp_path / run_folder.STAGES, model, {"stage1": x})
    assert read_stages(tmp_path / run_folder.STAGES, model)["stage1"] is x
    other = keras.Model(pixels, keras.layers.Conv2D(5, 3, name="end")(pixels))
    with pytest.raises(ValueError, match=r"^end outputs \(6, 6, 5\), not \(6, 6, 4\)$"):
        read_stages(tmp_path / run_folder.STAGES, other)
