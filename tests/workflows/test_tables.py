"""A table of paths and labels goes through every mode as the class folders do that it lists."""

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from tl_keras import run, run_folder

Run = tuple[Path, Path]


def write_table(path: Path, rows: Sequence[Sequence[str]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=";").writerows(rows)
    return path


@pytest.fixture
def loose(trained: Run, tmp_path: Path) -> tuple[Path, Path]:
    """The images of the shared run in one folder without classes, and a table of them beside it; patients have three images each."""
    folder, rows = tmp_path / "loose", [("image", "species", "group", "mass")]
    folder.mkdir()
    for number, file in enumerate(sorted(trained[1].rglob("*.*"))):
        shutil.copy(file, folder / f"{number:02d}{file.suffix}")
        rows.append((f"loose/{number:02d}{file.suffix}", file.parent.name, f"patient{number // 3}", "1"))
    return write_table(tmp_path / "labels.csv", rows), folder


def command(mode: str, *words: object) -> list[str]:
    return [mode, *map(str, words), "--set", "data.image_size=16", "--set", "model.weights=none"]


@pytest.mark.slow
def test_a_table_is_trained_on_and_measured_again(loose: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, _ = loose
    assert run.main([*command("extract", table), "--run-dir", str(tmp_path / "R")]) == 0
    said = capsys.readouterr().out
    assert "labels.csv: 30 images, ant 10, bee 10, wasp 10;" in said
    assert "labels.csv: columns read: image (path), species (label), group; not used: mass" in said
    assert "groups of the table: 10 groups of 3 images, such as 'patient0'" in said
    with (tmp_path / "R" / run_folder.SPLITS).open(newline="") as file:
        lines = list(csv.DictReader(file))
    sides = {line["group"]: {other["split"] for other in lines if other["group"] == line["group"]} for line in lines}
    assert all(len(splits) == 1 for splits in sides.values())
    assert run.main(["evaluate", str(tmp_path / "R")]) == 0
    first = json.loads((tmp_path / "R" / run_folder.METRICS).read_text())["test"]
    again = json.loads((tmp_path / "R" / run_folder.EVALUATIONS / "1" / run_folder.EVALUATION).read_text())
    assert again["test"]["confusion_matrix"] == first["confusion_matrix"]
    assert run.main(["evaluate", str(tmp_path / "R"), str(table)]) == 0
    own = json.loads((tmp_path / "R" / run_folder.EVALUATIONS / "2" / run_folder.EVALUATION).read_text())["data"]
    assert own["others"] == 0
    assert own["own_test"] == again["data"]["test"]


@pytest.mark.slow
def test_one_image_under_two_labels_and_one_in_two_splits_are_told(loose: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    table, _ = loose
    table.write_text(table.read_text().replace("patient", "p") + "loose/00.png;bee;p0;1\n")
    assert run.main(command("extract", table, "--dry-run")) == 0
    assert run.main([*command("extract", table), "--run-dir", str(table.parent / "R")]) == 0
    assert "1 image is in more than one class: one of the labels must be wrong" in capsys.readouterr().out


@pytest.mark.slow
def test_images_of_a_table_that_went_away_are_told(loose: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, folder = loose
    assert run.main([*command("extract", table), "--run-dir", str(tmp_path / "R")]) == 0
    folder.rename(tmp_path / "moved")
    assert run.main(["evaluate", str(tmp_path / "R")]) == 2
    assert "are missing; the first is loose/" in capsys.readouterr().err
    (tmp_path / "moved").rename(folder)
    table.unlink()
    assert run.main(["evaluate", str(tmp_path / "R")]) == 2
    assert f"its images were in {table}, which no longer exists." in capsys.readouterr().err


def test_a_mistake_in_a_table_ends_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write_table(tmp_path / "labels.csv", [("path", "label"), ("a.png", "cat"), ("b.png", "dog")])
    assert run.main(["extract", str(table)]) == 2
    assert f"{table}: of 2 images, 2 are not there; the first is 'a.png' (line 2)" in capsys.readouterr().err
