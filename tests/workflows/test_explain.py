"""Explaining files with a run's model: a picture each, what is said of them, and what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tl_keras import run
from tl_keras.deploy.predictor import Prediction
from tl_keras.errors import ConfigError, DataError
from tl_keras.models.outputs import MultiLabel, Regression
from tl_keras.trained_run import TrainedRun, open_run
from tl_keras.workflows.explain import Asker, column_of, explain, line_of

Run = tuple[Path, Path]


@pytest.fixture
def own(trained: Run, tmp_path: Path) -> Run:
    """A copy of the run, and its images."""
    shutil.copytree(trained[0], tmp_path / "R")
    return tmp_path / "R", trained[1]


@pytest.fixture
def opened(trained: Run) -> TrainedRun:
    return open_run(trained[0])


@pytest.mark.slow
def test_each_file_gets_a_picture_and_a_bad_one_a_reason(own: Run, tmp_path: Path, heard: Any) -> None:
    (tmp_path / "broken.png").write_bytes(b"")
    files = [str(own[1] / "ant" / "000.png"), str(tmp_path / "broken.png"), str(own[1] / "bee" / "001.jpg")]
    found = explain(own[0], files, progress=heard)
    folder = Path(found["folder"])
    assert folder == own[0] / "explanations" / "1"
    assert {key: value for key, value in found.items() if key != "folder"} == json.loads((folder / "explanations.json").read_text())
    first, bad, last = found["images"]
    assert bad == {"path": files[1], "error": f"{files[1]}: is empty (0 bytes)"}
    assert sorted(path.name for path in folder.iterdir()) == ["0001-000.png", "0003-001.png", "explanations.json"]
    for each, name in ((first, "ant"), (last, "bee")):
        with Image.open(folder / each["picture"]) as image:
            assert min(image.size) > 400
        assert [explained["name"] for explained in each["explained"]] == [each["label"]] == [name]
        assert all(0 < at < 1 for at in each["explained"][0]["peak"] or [0.5])
        assert [near["label"] for near in each["nearest"]] == [name] * 3
        assert each["path"] not in [str(own[1] / near["path"]) for near in each["nearest"]]
    assert set(found["alikeness"]) == {"head", "all"}
    assert heard.lines == []


def test_a_class_is_explained_whatever_the_model_says(own: Run) -> None:
    file = str(own[1] / "ant" / "000.png")
    found = explain(own[0], [file], method="occlusion", label="wasp", neighbours=0)
    assert found["images"][0]["label"] == "ant"
    assert [each["name"] for each in found["images"][0]["explained"]] == ["wasp"]
    assert found["images"][0]["nearest"] == []


@pytest.mark.slow
def test_images_that_are_gone_leave_the_maps(own: Run, tmp_path: Path, heard: Any) -> None:
    shutil.copy(own[1] / "ant" / "000.png", tmp_path / "new.png")
    settings = own[0] / "config.yaml"
    settings.write_text(settings.read_text().replace(str(own[1]), str(tmp_path / "gone")))
    found = explain(own[0], [str(tmp_path / "new.png")], progress=heard)
    assert found["images"][0]["nearest"] == []
    (line,) = heard.lines
    assert line.startswith("no nearest training images: ")
    assert "which no longer exists. Say with --data" in line
    found = explain(own[0], [str(tmp_path / "new.png")], source=str(own[1]))
    assert len(found["images"][0]["nearest"]) == 3
    with pytest.raises(DataError):
        explain(own[0], [str(tmp_path / "new.png")], source=str(tmp_path / "gone"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "gradcam"}, "--method: got 'gradcam', expected one of grad_cam, integrated_gradients, occlusion."),
        ({"label": "wosp"}, "--label: got 'wosp', expected one of ant, bee, wasp. Did you mean 'wasp'?"),
        ({"neighbours": 9}, "--neighbours: got 9, expected an integer from 0 to 8."),
    ],
)
def test_what_there_is_not_is_refused(trained: Run, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        explain(trained[0], [str(trained[1])], **options)
    assert str(caught.value) == words
    assert not (trained[0] / "explanations").exists()


def test_the_command_line_says_it_in_one_line_and_leaves_nothing(own: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.png").write_bytes(b"text")
    assert run.main(["explain", str(own[0]), str(tmp_path / "broken.png"), "--neighbours", "0"]) == 2
    printed = capfd.readouterr().err
    assert f"none of 1 files could be read. The first: {tmp_path}/broken.png: is not an image" in printed
    assert printed.count("\n") == 1
    assert not (own[0] / "explanations").exists()
    assert run.main(["explain", str(own[0]), str(own[1] / "ant" / "000.png"), "--neighbours", "0"]) == 0
    assert f"1 picture in {own[0]}/explanations/1" in capfd.readouterr().out.replace("\n", "")


def test_of_several_labels_those_that_were_found_and_of_a_number_the_number(opened: TrainedRun) -> None:
    several = replace(opened, index=replace(opened.index, output=MultiLabel(thresholds=(0.3, 0.6, 0.5))))
    asker = Asker(several, "grad_cam", None)
    chances = {"ant": 0.4, "bee": 0.5, "wasp": 0.7}
    answer = Prediction("a.png", ("ant", "bee", "wasp"), "ant;wasp", probabilities=chances, task="multi_label", labels=("ant", "wasp"))
    assert asker._columns(answer) == [2, 0]
    assert asker._columns(replace(answer, labels=())) == [2]
    assert asker._columns(replace(answer, error="is empty")) == []
    assert asker._columns(Prediction("a.png", ("age",), "3", task="regression", value=3.0)) == [0]
    with pytest.raises(ConfigError, match="answers with a number and has no classes"):
        column_of(replace(opened, index=replace(opened.index, output=Regression())), "ant")


def test_maps_that_hardly_depend_on_the_model_are_called_so() -> None:
    assert line_of({"head": -0.1, "all": 0.12}) == (
        "rank correlation of the maps -0.10 with random weights in the head, 0.12 with random weights in the whole network: "
        "the maps are the model's"
    )
    assert "hardly depend on the model" in line_of({"all": np.float64(0.9)})
