"""An archive goes through every mode in place: the figures of its folder, and no file beside it."""

import csv
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tl_keras import run, run_folder

Run = tuple[Path, Path]


@pytest.fixture(scope="module")
def packed(trained: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images of the shared run in a zip file, in one folder, as archives are made."""
    made = shutil.make_archive(str(tmp_path_factory.mktemp("packed") / "photos"), "zip", trained[1].parent, trained[1].name)
    return Path(made)


@pytest.fixture(scope="module")
def of_archive(packed: Path, three_stages: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on it, trained from the command line as the shared run was."""
    folder = tmp_path_factory.mktemp("runs") / "R"
    command = ["extract", packed, "--backbone", three_stages, "--run-dir", folder]
    assert run.main([str(word) for word in command]) == 0
    return folder


def read_json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.mark.slow
def test_training_on_an_archive_is_training_on_its_folder(trained: Run, packed: Path, of_archive: Path) -> None:
    assert (of_archive / run_folder.SPLITS).read_text() == (trained[0] / run_folder.SPLITS).read_text()
    mine, its = (read_json(folder / run_folder.METRICS)["test"] for folder in (of_archive, trained[0]))
    assert mine["log_loss"] == pytest.approx(its["log_loss"], abs=1e-6)
    assert f"source: {packed}\n" in (of_archive / run_folder.CONFIG).read_text()
    assert list(packed.parent.iterdir()) == [packed]


@pytest.mark.slow
def test_a_run_on_an_archive_is_measured_again_and_knows_its_images_elsewhere(trained: Run, packed: Path, of_archive: Path) -> None:
    assert run.main(["evaluate", str(of_archive)]) == 0
    assert run.main(["evaluate", str(of_archive), str(trained[1])]) == 0
    assert run.main(["evaluate", str(of_archive), f"{packed}/photos"]) == 0
    found = [read_json(of_archive / run_folder.EVALUATIONS / str(number) / run_folder.EVALUATION) for number in (1, 2, 3)]
    assert [each["data"]["own_test"] for each in found] == [6, 6, 6]
    assert found[0]["source"] == f"{packed}/photos"
    assert found[0]["test"]["confusion_matrix"] == found[1]["test"]["confusion_matrix"] == found[2]["test"]["confusion_matrix"]


def test_archives_folders_in_them_and_members_are_predicted(packed: Path, of_archive: Path, tmp_path: Path) -> None:
    output = tmp_path / "found.csv"
    words = [packed, packed / "photos" / "bee", packed / "photos" / "ant" / "000.png"]
    assert run.main(["predict", str(of_archive), *map(str, words), "--output", str(output)]) == 0
    with output.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 30 + 10 + 1
    assert lines[-1]["path"] == f"{packed}/photos/ant/000.png"
    assert not any(line["error"] for line in lines)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_exports")
def test_an_export_is_compared_on_images_of_an_archive(packed: Path, of_archive: Path) -> None:
    assert run.main(["export", str(of_archive)]) == 0
    record = read_json(of_archive / run_folder.EXPORT / "export.json")
    assert record["images"][0].startswith(f"{packed}/photos/ant/")
    assert max(record["formats"]["saved_model"]["largest_difference"].values()) < 1e-4


def test_an_archive_that_went_away_is_told(of_archive: Path, packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moved = packed.rename(tmp_path / "moved.zip")
    try:
        assert run.main(["evaluate", str(of_archive)]) == 2
        assert f"its images were in {packed}, which no longer exists. Say with --data where they are now." in capsys.readouterr().err
        assert run.main(["evaluate", str(of_archive), str(moved)]) == 0
    finally:
        moved.rename(packed)


@pytest.mark.slow
def test_a_damaged_image_of_an_archive_is_skipped_and_listed(packed: Path, tmp_path: Path) -> None:
    path = tmp_path / "damaged.zip"
    content = bytearray(packed.read_bytes())
    with zipfile.ZipFile(packed) as archive:
        info = archive.getinfo("photos/bee/003.jpg")
    content[info.header_offset + 30 + len(info.filename) + info.compress_size // 2] ^= 1
    path.write_bytes(content)
    command = ["extract", path, "--set", "data.image_size=16", "--set", "model.weights=none", "--run-dir", tmp_path / "R"]
    assert run.main([str(word) for word in command]) == 0
    text = (tmp_path / "R" / run_folder.BAD_IMAGES).read_text()
    assert text.startswith("path,reason\nbee/003.jpg,cannot be read (")
