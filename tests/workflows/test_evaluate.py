"""Measuring a run again: which images are its own is a matter of content, and any labelled images will do."""

import csv
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tl_keras import run_folder
from tl_keras.data.index import Index
from tl_keras.deploy.predictor import Predictor
from tl_keras.errors import DataError
from tl_keras.evaluation.corruptions import CORRUPTIONS, STRENGTHS
from tl_keras.evaluation.metrics import share
from tl_keras.run import main
from tl_keras.trained_run import open_run
from tl_keras.workflows.evaluate import UNKNOWN, evaluate, own_splits

Run = tuple[Path, Path]


def splits_of(run: Path) -> list[dict[str, str]]:
    with (run / run_folder.SPLITS).open(newline="") as file:
        return list(csv.DictReader(file))


def own_test_paths(run: Path) -> list[str]:
    return [line["path"] for line in splits_of(run) if line["split"] == "test"]


@pytest.fixture
def own(trained: Run, tmp_path: Path) -> Run:
    """The run, and a copy of its images in another place."""
    shutil.copytree(trained[1], tmp_path / "moved")
    return trained[0], tmp_path / "moved"


@pytest.fixture
def others(photo_folder: Callable[..., Path]) -> Path:
    """Other images, some of which have the names of the run's own."""
    folder = photo_folder(classes=("ant", "bee", "wasp"), per_class=12, size=(16, 17))
    return folder


def test_other_images_of_the_same_names_are_all_measured(trained: Run, others: Path, heard: Any) -> None:
    result = evaluate(trained[0], source=str(others), progress=heard)
    assert result["data"] == {"test": 36, "classes": 3, "skipped": 0, "own_test": 0, "others": 36, "left_out": 0}
    assert heard.lines == [f"{others}: measured on 36 images new to the run"]


def test_the_runs_own_images_elsewhere_and_under_other_names_give_its_test_split(own: Run, heard: Any) -> None:
    run, moved = own
    for file in sorted(moved.rglob("*.*")):
        file.rename(file.with_name(f"renamed_{file.name}"))
    result = evaluate(run, source=str(moved), progress=heard)
    assert result["data"] == {"test": 6, "classes": 3, "skipped": 0, "own_test": 6, "others": 0, "left_out": 24}
    first = json.loads((run / run_folder.METRICS).read_text())["test"]
    assert result["test"]["confusion_matrix"] == first["confusion_matrix"]
    assert result["test"]["log_loss"] == pytest.approx(first["log_loss"], abs=1e-6)
    assert heard.lines == [
        f"{moved}: measured on 6 of the run's 6 test images",
        "left out, because the run has learned from them: 18 of train and 6 of val",
    ]


def test_new_images_among_its_own_are_measured_too(own: Run, others: Path, heard: Any) -> None:
    run, moved = own
    shutil.copy(others / "ant" / "000.png", moved / "ant" / "new.png")
    (moved / own_test_paths(run)[0]).unlink()
    result = evaluate(run, source=str(moved), progress=heard)
    assert (result["data"]["own_test"], result["data"]["others"], result["data"]["test"]) == (5, 1, 6)
    assert heard.lines[0].endswith("measured on 5 of the run's 6 test images and 1 image new to the run")


def test_images_that_a_run_has_learned_from_are_not_measured(own: Run) -> None:
    run, moved = own
    for path in own_test_paths(run):
        (moved / path).unlink()
    with pytest.raises(DataError, match=r"the run has learned from all 24 images there \(18 of train and 6 of val\)"):
        evaluate(run, source=str(moved))
    assert not (run / run_folder.SCRATCH).exists()


@pytest.mark.parametrize("spoil", ["replaced", "gone"])
def test_own_test_images_that_were_replaced_or_are_gone_are_told(own: Run, tmp_path: Path, spoil: str) -> None:
    run, moved = shutil.copytree(own[0], tmp_path / "R"), own[1]
    config = run / run_folder.CONFIG
    config.write_text(config.read_text().replace(str(own_source(run)), str(moved)))
    first, second = own_test_paths(run)[:2]
    shutil.copy(moved / second, moved / first) if spoil == "replaced" else (moved / first).unlink()
    fate = "is not what the run knows" if spoil == "replaced" else "is missing"
    with pytest.raises(DataError, match=f"moved: of 6 test images of the run, 1 {fate}; the first is {first}"):
        evaluate(run)
    shutil.rmtree(moved)
    with pytest.raises(DataError, match=f"R: its images were in {moved}, which no longer exists. Say with --data where they are now."):
        evaluate(run)


def own_source(run: Path) -> str:
    return next(line for line in (run / run_folder.CONFIG).read_text().splitlines() if "source:" in line).split("source: ")[1]


def test_a_run_of_an_older_version_knows_its_images_by_path_and_says_so(own: Run, tmp_path: Path, heard: Any) -> None:
    run, moved = shutil.copytree(own[0], tmp_path / "R"), own[1]
    lines = [line.rsplit(",", 1)[0] for line in (run / run_folder.SPLITS).read_text().splitlines()]
    (run / run_folder.SPLITS).write_text("\n".join(lines) + "\n")
    assert evaluate(run, source=str(moved), progress=heard)["data"]["own_test"] == 6
    assert heard.lines[0].startswith("this run is of a version that did not record the content of images")


@pytest.mark.parametrize(
    ("kept", "num", "line"),
    [
        (["bee"], 12, "no image of ant, wasp; macro figures are means over the other class"),
        (["ant", "wasp"], 24, "no image of bee; macro figures are means over the other 2 classes"),
    ],
)
def test_some_of_the_classes_are_enough(trained: Run, others: Path, heard: Any, kept: list[str], num: int, line: str) -> None:
    for folder in {"ant", "bee", "wasp"} - set(kept):
        shutil.rmtree(others / folder)
    found = evaluate(trained[0], source=str(others), progress=heard)["test"]
    assert sum(row["support"] for row in found["per_class"].values()) == num
    assert found["macro_recall"] == np.mean([found["per_class"][name]["recall"] for name in kept])
    assert heard.lines[-1] == line


def test_bad_files_are_few_among_all_images_of_a_folder(own: Run, heard: Any) -> None:
    run, moved = own
    (moved / "ant" / "bad.png").write_bytes(b"")
    assert evaluate(run, source=str(moved), progress=heard)["data"]["skipped"] == 1  # of 31 images, 24 of which are left out
    assert heard.lines[-1] == "skipped 1 of 31 files that do not decode; bad_images.csv lists them"


def test_test_alone_is_enough(trained: Run, others: Path) -> None:
    shutil.move(others, others.parent / "test")
    assert evaluate(trained[0], source=str(others.parent))["data"]["test"] == 36


@pytest.mark.slow
def test_every_evaluation_is_kept_with_what_it_says_of_each_image(trained: Run, others: Path) -> None:
    run = trained[0]
    before = {path.name for path in (run / run_folder.EVALUATIONS).glob("*")}
    (others / "bee" / "000.png").write_bytes(b"")
    first, second = evaluate(run), evaluate(run, source=str(others))
    assert {path.name for path in (run / run_folder.EVALUATIONS).iterdir()} - before == {
        Path(one["folder"]).name for one in (first, second)
    }
    folder = Path(second["folder"])
    assert {path.name for path in folder.iterdir()} == {"evaluation.json", "predictions.csv", "confusion.png", "bad_images.csv"}
    assert json.loads((folder / "evaluation.json").read_text())["test"] == second["test"]
    with (folder / "predictions.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 35
    assert np.mean([line["true_class"] == line["predicted_class"] for line in lines]) == second["test"]["accuracy"]
    assert (folder / "bad_images.csv").read_text() == "path,reason\nbee/000.png,is empty (0 bytes)\n"
    columns = [
        [line.split(",")[:3] for line in (folder / "predictions.csv").read_text().splitlines()] for folder in (Path(first["folder"]), run)
    ]
    assert columns[0] == columns[1]


def test_an_image_that_a_run_has_twice_counts_as_learned_from_where_its_path_does_not_tell() -> None:
    ids = np.array([b"a", b"a", b"b", b"c"], "S16")
    known = Index(root=Path(), classes=("x",), paths=("1", "2", "3", "4"), labels=np.zeros(4, np.int32), ids=ids)
    found = Index(root=Path(), classes=("x",), paths=("1", "2", "3", "5", "6"), labels=np.zeros(5, np.int32))
    split = ["test", "train", "val", "test"]
    found_ids = np.array([b"a", b"a", b"c", b"a", b""], "S16")
    assert own_splits(known, split, found, found_ids) == ["test", "train", "test", "train", UNKNOWN]


@pytest.mark.slow
def test_two_evaluations_at_once_have_pixels_of_their_own(
    trained: Run, others: Path, photo_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    another = photo_folder(classes=("wasp", "bee", "ant"), per_class=12, size=(16, 17))  # other colours for the same names
    alone = [evaluate(trained[0], source=str(each))["test"]["log_loss"] for each in (others, another)]
    module = sys.modules[evaluate.__module__]
    score, inner = module.score_pixels, []

    def score_between(*arguments: Any) -> Any:
        if not inner:
            inner.append(0.0)
            inner[0] = evaluate(trained[0], source=str(another))["test"]["log_loss"]  # from beginning to end
        return score(*arguments)

    monkeypatch.setattr(module, "score_pixels", score_between)
    assert evaluate(trained[0], source=str(others))["test"]["log_loss"] == alone[0]
    assert inner == alone[1:]
    assert not [path.name for path in trained[0].rglob(".*")]


def test_a_run_folder_that_cannot_be_written_is_told_before_anything_is_measured(
    trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(trained[0], tmp_path / "R", ignore=lambda *_: [run_folder.EVALUATIONS])
    (tmp_path / "R" / run_folder.EVALUATIONS).touch()  # what not even root can write into
    monkeypatch.setattr(sys.modules[evaluate.__module__], "_evaluation_data", None)
    with pytest.raises(OSError, match="exists") as caught:
        evaluate(tmp_path / "R")
    assert caught.value.filename == str(tmp_path / "R" / run_folder.EVALUATIONS)


@pytest.mark.slow
def test_images_made_worse_are_measured_beside_those_as_they_are(trained: Run, tmp_path: Path) -> None:
    run = shutil.copytree(trained[0], tmp_path / "R")
    result = evaluate(run, corrupt=True)
    plain = evaluate(run)
    assert "robustness" not in plain
    assert result["test"] == plain["test"]
    rows = result["robustness"]
    assert [(row["corruption"], row["strength"]) for row in rows] == [(kind, each) for kind in CORRUPTIONS for each in STRENGTHS]
    assert json.loads((Path(result["folder"]) / run_folder.EVALUATION).read_text())["robustness"] == rows
    paths = own_test_paths(run)
    row_of = {path: row for row, path in enumerate(paths)}
    by_hand = Predictor(open_run(run))(CORRUPTIONS["noise"](np.asarray(Image.open(trained[1] / path)), 2, row_of[path]) for path in paths)
    right = [found.label == path.split("/")[0] for found, path in zip(by_hand, paths, strict=True)]
    assert rows[4] == {"corruption": "noise", "strength": 2, **share("accuracy", np.array(right))}


@pytest.mark.slow
def test_parts_of_the_images_are_measured_and_the_worst_is_told(
    trained: Run, tmp_path: Path, photo_folder: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(trained[0], tmp_path / "R")
    assert evaluate(run)["slices"]["slices"] == []  # of six images
    others = photo_folder(classes=("ant", "bee", "wasp"), per_class=20, size=(16, 17))
    for number in range(42):  # what is black has no colour to be known by, whichever class it is taken for
        Image.new("RGB", (9, 8)).save(others / ("ant", "bee", "wasp")[number % 3] / f"black_{number}.png")
    assert main(["evaluate", str(run), str(others)]) == 0
    newest = max((run / run_folder.EVALUATIONS).iterdir(), key=lambda folder: int(folder.name))
    found = json.loads((newest / run_folder.EVALUATION).read_text())["slices"]
    assert found["worst"]["name"] in ("smallest, shorter side 8 pixels", "darkest, mean grey 0 of 255")
    assert found["worst"]["images"] == 42
    told = f"the worst of {len(found['slices'])} is {found['worst']['by']}, {found['worst']['name']}  42 images: accuracy "
    assert told in capfd.readouterr().out
