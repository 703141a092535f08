"""Nothing is written or removed through a link that leads out of a run folder."""

import os
from importlib import import_module
from pathlib import Path

import pytest

from tl_keras.claim import CLAIM
from tl_keras.errors import RunFolderError
from tl_keras.links import require_no_way_out
from tl_keras.run_folder import CONFIG, SPLITS, RunFolder

REFUSED = r"is a symbolic link to .*, which is not in this run folder: nothing is written or removed there\. Put what it leads to in its"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="links need a right there")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Somebody's folder, with files and a claim that a kill has left."""
    folder = tmp_path / "outside"
    (folder / "0" / "checkpoints").mkdir(parents=True)
    for name in ("notes.txt", CLAIM, "0/model.keras", "0/checkpoints/mine"):
        (folder / name).write_text("mine")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """What looks like an interrupted run."""
    run = RunFolder(tmp_path / "R")
    (run / "trials" / "1").mkdir(parents=True)
    for name in (CONFIG, SPLITS):
        (run / name).write_text("mode: finetune\n")
    return run


def texts(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("link", ["scratch", "checkpoints", "best", "study-1", "trials/0", "trials/1/checkpoints"])
@pytest.mark.parametrize("relative", [False, True])
def test_a_run_with_a_folder_elsewhere_is_not_resumed(run: RunFolder, outside: Path, link: str, relative: bool) -> None:
    before = texts(outside)
    (run / link).symlink_to(os.path.relpath(outside, (run / link).parent) if relative else outside)
    with pytest.raises(RunFolderError, match=f"{link}: {REFUSED}") as refusal:
        run.resume()
    assert "\n" not in str(refusal.value)
    assert texts(outside) == before
    assert not (run / CLAIM).exists()


@pytest.mark.parametrize("name", [CLAIM, "worker1.log", "trials/1/.claim"])
def test_nor_one_with_a_file_elsewhere_that_is_written_in_place(run: RunFolder, outside: Path, name: str) -> None:
    (run / name).symlink_to(outside / "notes.txt")
    with pytest.raises(RunFolderError, match=REFUSED):
        run.resume()
    assert (outside / "notes.txt").read_text() == "mine"


def test_nor_one_with_a_link_to_nothing_or_to_itself(run: RunFolder, tmp_path: Path) -> None:
    for target in (tmp_path / "new", run / "scratch"):
        (run / "scratch").symlink_to(target)
        with pytest.raises(RunFolderError, match=REFUSED):
            run.resume()
        (run / "scratch").unlink()
    assert not (tmp_path / "new").exists()


def test_links_that_do_no_harm_stay(run: RunFolder, outside: Path, tmp_path: Path) -> None:
    (run / "model.keras").symlink_to(outside / "0" / "model.keras")
    (run / "latest").symlink_to("trials/1")
    (tmp_path / "L").symlink_to(run.path)
    require_no_way_out(tmp_path / "L")
    (run / "evaluations").symlink_to(outside)
    require_no_way_out(run.path, "export")


@pytest.mark.parametrize(("mode", "part"), [("evaluate", "evaluations"), ("export", "export")])
def test_modes_that_write_into_a_finished_run(run: RunFolder, outside: Path, mode: str, part: str) -> None:
    before = texts(outside)
    (run / part).symlink_to(outside)
    with pytest.raises(RunFolderError, match=f"{part}: {REFUSED}"):
        getattr(import_module(f"tl_keras.workflows.{mode}"), mode)(run.path)
    assert texts(outside) == before


def test_a_start_clears_links_and_not_what_they_lead_to(tmp_path: Path, outside: Path) -> None:
    before, run = texts(outside), RunFolder(tmp_path / "S")
    run.path.mkdir()
    (run / CLAIM).touch()  # as a kill leaves it
    (run / "scratch").symlink_to(outside)
    run.start().release()
    assert not list(run.path.iterdir())
    assert texts(outside) == before


def test_a_claim_is_never_written_through_a_link(tmp_path: Path, outside: Path) -> None:
    run = RunFolder(tmp_path / "S")
    run.path.mkdir()
    (run / CLAIM).symlink_to(outside / "notes.txt")
    with pytest.raises(RunFolderError, match="cannot write a run folder here"):
        run.start()
    assert (outside / "notes.txt").read_text() == "mine"
