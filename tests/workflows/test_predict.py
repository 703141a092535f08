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

from tl_keras.console import counts_line
from tl_keras.workflows.predict import Prediction, Written, predict, write_predictions

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
