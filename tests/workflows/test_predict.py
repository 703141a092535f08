"""What is written of predictions: any names, any target, and how many of each class."""

import csv
import io
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tl_keras.errors import ConfigError, RunFolderError
from tl_keras.run_folder import RunFolder
from tl_keras.terminal.figures import counts_line
from tl_keras.workflows.predict import Prediction, Written, predict, read_thresholds, thresholds_if_any, write_predictions

NAME = os.fsdecode(b"gr\xfcn \r.png")
FOUND = [
    Prediction(f"new/{NAME}", ("ant", "bee"), "bee", 0.75, {"ant": 0.25, "bee": 0.75}),
    Prediction("new/b.png", ("ant", "bee"), error="new/b.png: is empty (0 bytes)"),
    Prediction("new/c.png", ("ant", "bee"), "bee", 1.0, {"ant": 0.0, "bee": 1.0}),
]


def test_names_that_are_not_utf_8_are_written_to_both_kinds_of_files(tmp_path: Path) -> None:
    for target in (tmp_path / "found.csv", tmp_path / "found.jsonl"):
        assert write_predictions(target, FOUND) == Written(3, 1, {"ant": 0, "bee": 2})
    with (tmp_path / "found.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        lines = list(csv.DictReader(file))
    assert [line["path"] for line in lines] == [each.path for each in FOUND]
    assert b"gr\xfcn" in (tmp_path / "found.csv").read_bytes()
    read = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    assert [each["path"] for each in read] == [each.path for each in FOUND]


def test_an_open_file_gets_csv() -> None:
    target = io.StringIO()
    write_predictions(target, FOUND[1:])
    assert target.getvalue() == (
        "path,predicted_class,probability,error,p_ant,p_bee\n"
        "new/b.png,,,new/b.png: is empty (0 bytes),,\nnew/c.png,bee,1.000000,,0.000000,1.000000\n"
    )


@pytest.mark.parametrize(
    ("counts", "line"),
    [
        ({"ant": 0, "bee": 1}, "1 image: bee 1, ant 0"),
        ({str(place): place for place in range(12)}, "66 images: 11 11, 10 10, 9 9, 8 8, 7 7, 6 6, 5 5, 4 4, 3 3, 2 2 and 2 more classes"),
    ],
)
def test_counts_are_one_line(counts: dict[str, int], line: str) -> None:
    assert counts_line(counts, "image") == line


def test_a_folder_is_searched_and_what_is_left_out_is_told(trained: tuple[Path, Path], tmp_path: Path, heard: Any) -> None:
    run, photos = trained
    (tmp_path / "new").mkdir()
    shutil.copy(photos / "ant" / "000.png", tmp_path / "new" / "without_an_ending")
    shutil.copy(photos / "bee" / "000.png", tmp_path / "new" / NAME)
    (tmp_path / "new" / "notes.txt").write_text("text")
    found = list(predict(run, [str(tmp_path / "new")], progress=heard))
    assert [(Path(each.path).name, each.error) for each in found] == [(NAME, None), ("without_an_ending", None)]
    assert heard.lines == ["left out 1 file: 1 .txt"]


@pytest.mark.parametrize("size", ["null", "8"])
def test_images_are_decoded_at_the_size_of_the_model_whatever_the_settings_say(
    size: str, trained: tuple[Path, Path], tmp_path: Path
) -> None:
    run, photos = trained
    files = [str(path) for path in sorted(photos.rglob("*.png"))]
    shutil.copytree(run, tmp_path / "R")
    settings = tmp_path / "R" / "config.yaml"
    changed, count = re.subn(r"image_size:\n *- 16\n *- 16\n", f"image_size: {size}\n", settings.read_text())
    assert count == 1
    settings.write_text(changed)
    assert list(predict(tmp_path / "R", files)) == list(predict(run, files))


def with_val(run: Path, folder: Path, *, images: int, task: str = "single_label", mode: str = "extract") -> Path:
    """A copy of a run whose model was nearly certain of as many images of val, and right; of every tenth it was not."""
    shutil.copytree(run, folder)
    lines = [("ant", 0.2 if place % 10 == 0 else 0.6 + place / 1000) for place in range(images)]
    rows = "".join(f"{place}.png,{name},ant,{own:.6f},{own:.6f},{1 - own:.6f},0\n" for place, (name, own) in enumerate(lines))
    (folder / "val_predictions.csv").write_text(f"path,true_class,predicted_class,probability,p_ant,p_bee,p_wasp\n{rows}")
    settings = (folder / "config.yaml").read_text().replace("task: single_label", f"task: {task}")
    (folder / "config.yaml").write_text(settings.replace("mode: extract", f"mode: {mode}"))
    return folder


def test_a_set_has_the_classes_from_the_threshold_of_val_on(trained: tuple[Path, Path], tmp_path: Path) -> None:
    run, photos = trained
    (photos.parent / "bad.png").write_bytes(b"")
    files = [str(photos.parent / "bad.png"), *map(str, sorted(photos.rglob("*.png")))]
    own = with_val(run, tmp_path / "R", images=40)
    bad, *found = predict(own, files, coverage=0.8)
    limit = sorted([0.2] * 4 + [0.6 + place / 1000 for place in range(40) if place % 10])[40 - 33]  # 33 of 41 images
    for each in found:
        assert each.prediction_set == tuple(name for name, value in each.probabilities.items() if value >= limit)
    assert bad.prediction_set == ()
    assert bad.error
    assert {None} == {each.prediction_set for each in predict(own, files)}
    for target in (tmp_path / "found.csv", tmp_path / "found.jsonl"):
        write_predictions(target, [bad, *found])
    with (tmp_path / "found.csv").open(newline="") as file:
        assert [line["prediction_set"] for line in csv.DictReader(file)] == ["", *(";".join(each.prediction_set or ()) for each in found)]
    read = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    assert [tuple(each["prediction_set"]) for each in read[1:]] == [each.prediction_set for each in found]


def test_a_run_has_what_sets_need(trained: tuple[Path, Path]) -> None:
    run, photos = trained
    with (run / "val_predictions.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    with (run / "splits.csv").open(newline="") as file:
        assert [line["path"] for line in lines] == [line["path"] for line in csv.DictReader(file) if line["split"] == "val"]
    by_path = {Path(each.path).relative_to(photos).as_posix(): each for each in predict(run, [str(photos)])}
    for line in lines:
        assert float(line["p_ant"]) == pytest.approx(by_path[line["path"]].probabilities["ant"], abs=1e-4)


@pytest.mark.parametrize(
    ("coverage", "make", "error", "message"),
    [
        (1.0, {"images": 40}, ConfigError, r"--coverage: got 1, expected a share between 0 and 1, such as 0.9\."),
        (float("nan"), {"images": 40}, ConfigError, r"--coverage: got nan, expected"),
        (0.95, {"images": 18}, ConfigError, r"--coverage: got 0.95, which needs 19 images of val; the run had 18\. Give a lower one\."),
        (0.9, {"images": 40, "task": "multi_label"}, RunFolderError, r"a run with data.task=multi_label has nothing that --coverage could"),
        (
            0.9,
            {"images": 40, "mode": "adapt"},
            RunFolderError,
            r"a run for another domain than that of its val has nothing that --coverage could",
        ),
    ],
)
def test_a_coverage_that_cannot_be_had_is_refused(
    coverage: float, make: dict[str, Any], error: type, message: str, trained: tuple[Path, Path], tmp_path: Path
) -> None:
    run, photos = trained
    own = with_val(run, tmp_path / "R", **make)
    with pytest.raises(error, match=message):
        next(predict(own, [str(photos)], coverage=coverage))


def test_a_run_without_predictions_for_val_is_told(trained: tuple[Path, Path], tmp_path: Path) -> None:
    run, photos = trained
    own = with_val(run, tmp_path / "R", images=40)
    whole = (own / "val_predictions.csv").read_text()
    for damaged in ("path,true_class\n1.png,ant\n", whole.replace("p_wasp", "p_fly"), whole + "1.png,ant,ant,0.5,0.5\n"):
        (own / "val_predictions.csv").write_text(damaged)
        with pytest.raises(RunFolderError, match="is damaged, or is not predictions for val"):
            next(predict(own, [str(photos)], coverage=0.5))
    (own / "val_predictions.csv").unlink()
    with pytest.raises(RunFolderError, match=r"val_predictions.csv: is missing, and --coverage follows from it"):
        next(predict(own, [str(photos)], coverage=0.5))


def test_a_server_has_the_sets_that_a_run_is_measured_at_where_there_are_any(trained: tuple[Path, Path], tmp_path: Path) -> None:
    own = with_val(trained[0], tmp_path / "R", images=40)
    assert thresholds_if_any(RunFolder.at(own)) == read_thresholds(RunFolder.at(own), 0.9)
    assert thresholds_if_any(RunFolder.at(with_val(trained[0], tmp_path / "few", images=8))) is None
    assert thresholds_if_any(RunFolder.at(with_val(trained[0], tmp_path / "several", images=40, task="multi_label"))) is None
    (own / "val_predictions.csv").unlink()
    assert thresholds_if_any(RunFolder.at(own)) is None


@pytest.mark.slow
def test_answers_above_the_probability_of_val_are_accepted_and_what_came_of_it_on_test_is_told(
    trained: tuple[Path, Path], tmp_path: Path, heard: Any
) -> None:
    run, photos = trained
    (photos.parent / "bad.png").write_bytes(b"")
    files = [str(photos.parent / "bad.png"), *map(str, sorted(photos.rglob("*.png")))]
    assert {None} == {each.accepted for each in predict(run, files)}
    own = with_val(run, tmp_path / "R", images=100)  # ten are wrong, with 0.8; the others right with 0.6 to 0.7
    sure = sorted(each.probability for each in predict(run, files) if each.probability is not None)
    middle = round((sure[len(sure) // 2 - 1] + sure[len(sure) // 2]) / 2, 6)
    rows = "".join(f"{place}.png,{'ant' if place < 70 else 'bee'},ant,0.9,{middle + (place < 70) * 1e-6:.6f},0,0\n" for place in range(100))
    (own / "val_predictions.csv").write_text(f"path,true_class,predicted_class,probability,p_ant,p_bee,p_wasp\n{rows}")
    shutil.copy(own / "val_predictions.csv", own / "predictions.csv")
    bad, *found = predict(own, files, min_precision=0.95, progress=heard)
    assert heard.lines == [
        f"answers with a probability above {middle:g} are accepted; of test, that is 70.0% of the images, "
        "of which 100.0% are answered right"
    ]
    assert [each.accepted for each in found] == [round(each.probability or 0, 6) > middle for each in found]
    assert {each.accepted for each in found} == {True, False}
    assert bad.accepted is False
    for target in (tmp_path / "found.csv", tmp_path / "found.jsonl"):
        write_predictions(target, [bad, *found])
    with (tmp_path / "found.csv").open(newline="") as file:
        assert [line["accepted"] for line in csv.DictReader(file)] == [str(each.accepted).lower() for each in [bad, *found]]
    read = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    assert [each["accepted"] for each in read[1:]] == [each.accepted for each in found]


@pytest.mark.parametrize(
    ("precision", "images", "message"),
    [
        (1.0, 100, r"--min-precision: got 1, expected a share between 0 and 1, such as 0.95\."),
        (0.95, 58, r"--min-precision: got 0.95, which needs 59 images of val, or more if some are answered wrong; the run had 58\."),
        (0.95, 100, r"--min-precision: got 0.95, which val does not show: of the 59 images .* the surest of, it answers 10 wrong\."),
    ],
)
def test_a_precision_that_val_does_not_show_is_refused(
    precision: float, images: int, message: str, trained: tuple[Path, Path], tmp_path: Path
) -> None:
    run, photos = trained
    own = with_val(run, tmp_path / "R", images=images)
    with pytest.raises(ConfigError, match=message):
        next(predict(own, [str(photos)], min_precision=precision))
