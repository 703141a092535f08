"""The doctor from beginning to end: planted faults are told, nothing is moved, and training takes the list."""

import csv
import json
import re
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tl_keras import run_folder
from tl_keras.config import Config
from tl_keras.errors import RunFolderError
from tl_keras.run import main
from tl_keras.workflows.check import check, class_notes, verdict
from tl_keras.workflows.train import train


@pytest.fixture(scope="module")
def ill(photo_folder: Callable[..., Path]) -> Path:
    """Photos of three classes, 14 of each, with faults planted."""
    root = photo_folder(classes=("ant", "bee", "wasp"), per_class=14, size=(40, 40))
    (root / "ant" / "013.jpg").write_bytes(b"\xff\xd8\xff" + bytes(9))
    (root / "ant" / "012.png").write_bytes(b"\xff\xd8\xff" + bytes(9))  # equal to another, which is not worth a line
    (root / "bee" / "again.png").write_bytes((root / "bee" / "000.png").read_bytes())
    (root / "wasp" / "conflict.png").write_bytes((root / "ant" / "002.png").read_bytes())
    Image.new("RGB", (40, 40), (9, 9, 9)).save(root / "wasp" / "blank.png")
    (root / "bee" / "003.jpg").rename(root / "bee" / "003.png.bak")
    Image.open(root / "bee" / "005.jpg").resize((200, 40)).save(root / "bee" / "long.png")
    (root / "bee" / "003.png.bak").rename(root / "bee" / "003.png")  # a JPEG
    return root


def config_of(photos: Path, backbone: str, **sections: Any) -> Config:
    data = {"source": str(photos), "image_size": 16, "split_seed": 1}
    return Config.model_validate({"mode": "check", "data": data, "model": {"backbone": backbone}, **sections})


@pytest.fixture(scope="module")
def checked(ill: Path, own_backbone: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    run = tmp_path_factory.mktemp("checked") / "R"
    return run, check(config_of(ill, own_backbone), run, fix="quarantine")


def table(run: Path, name: str) -> list[dict[str, str]]:
    with (run / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_planted_faults_are_told(checked: tuple[Path, dict[str, Any]]) -> None:
    run, result = checked
    lines = table(run, run_folder.CHECK_TABLE)
    by_fault = {(line["fault"], line["path"]): line for line in lines}
    assert "truncated or damaged JPEG" in by_fault["unreadable", "ant/013.jpg"]["detail"]
    assert by_fault["copy", "bee/again.png"]["copy_of"] == "bee/000.png"
    assert {path for fault, path in by_fault if fault == "unreadable"} == {"ant/012.png", "ant/013.jpg"}
    assert all(not path.startswith("ant/01") for fault, path in by_fault if fault == "copy")
    assert by_fault["conflict", "wasp/conflict.png"]["detail"] == "the same file, labelled wasp and ant"
    assert ("blank", "wasp/blank.png") in by_fault
    assert ("long", "bee/long.png") in by_fault
    assert by_fault["ending", "bee/003.png"]["detail"] == "holds JPEG data, and is called .png"
    assert Counter(line["fault"] for line in lines) == result["findings"]
    assert result["errors"] == result["findings"]["unreadable"] + result["findings"]["conflict"] + result["findings"].get("leak", 0)
    assert result["classes"] == {"ant": 14, "bee": 16, "wasp": 16}


def test_the_record_is_the_result(checked: tuple[Path, dict[str, Any]]) -> None:
    run, result = checked
    assert json.loads((run / run_folder.CHECK).read_text()) == result


def test_the_list_holds_what_is_better_left_out_and_training_takes_it(
    ill: Path, own_backbone: str, checked: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    run, result = checked
    listed = {line["path"]: line["fault"] for line in table(run, run_folder.EXCLUDE)}
    assert len(listed) == result["excluded"] > 0
    assert set(listed.values()) <= {"blank", "conflict", "leak", "mislabelled"}
    data = {"exclude": str(run / run_folder.EXCLUDE), "source": str(ill), "image_size": 16, "split_seed": 1}
    train(Config.model_validate({"mode": "extract", "data": data, "model": {"backbone": own_backbone}}), tmp_path / "T")
    used = {line["path"] for line in table(tmp_path / "T", run_folder.SPLITS)}
    assert used.isdisjoint(listed)
    accuracy = result["accuracy_of_others"]
    assert 0 <= min(accuracy.values()) <= max(accuracy.values()) <= 1


class Page(HTMLParser):
    """What a page holds and points to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.unnamed = 0
        self.cards = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.ids += [found["id"] or ""] if "id" in found else []
        self.addresses += [str(found[name]) for name in ("href", "src") if name in found]
        self.unnamed += tag == "img" and not found.get("alt")
        self.cards += found.get("class") == "card"


def test_the_page_is_one_file_whose_links_lead_somewhere(checked: tuple[Path, dict[str, Any]]) -> None:
    run, result = checked
    text = (run / run_folder.CHECK_PAGE).read_text()
    page = Page(text)
    assert page.cards == sum(result["findings"].values())
    assert not page.unnamed
    assert len(set(page.ids)) == len(page.ids)
    for address in page.addresses:
        assert address.removeprefix("#") in page.ids if address.startswith("#") else address.startswith("data:image/jpeg;base64,")
    assert not re.search(r"https?://", text)


def test_views_are_drawn_where_there_are_any(ill: Path, own_backbone: str, checked: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    with Image.open(checked[0] / run_folder.AUGMENTED) as sheet:
        assert sheet.width > sheet.height > 16
    assert "What training shows of an image" in (checked[0] / run_folder.CHECK_PAGE).read_text()
    config = config_of(ill, own_backbone)
    check(config.replace("data.augment", type(config.data.augment)(policy="none")), tmp_path / "R")
    assert not (tmp_path / "R" / run_folder.AUGMENTED).exists()
    assert "What training shows" not in (tmp_path / "R" / run_folder.CHECK_PAGE).read_text()


def test_names_of_files_are_text_on_the_page(own_backbone: str, photo_folder: Callable[..., Path], tmp_path: Path) -> None:
    root = photo_folder(classes=("a<b", "c&d"), per_class=4, size=(20, 20))
    (root / "a<b" / "<script>x.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    check(config_of(root, own_backbone), tmp_path / "R")
    text = (tmp_path / "R" / run_folder.CHECK_PAGE).read_text()
    assert "<script>x" not in text
    assert "&lt;script&gt;x.png" in text


def test_a_second_check_decodes_and_computes_nothing(
    ill: Path, own_backbone: str, checked: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a file that decodes was decoded again")

    monkeypatch.setattr("tl_keras.data.check.facts._light", refuse)
    again = check(config_of(ill, own_backbone), tmp_path / "R", fix="quarantine")
    assert again == checked[1]


def test_labels_of_few_images_are_not_judged(own_backbone: str, photo_folder: Callable[..., Path], tmp_path: Path) -> None:
    result = check(config_of(photo_folder(per_class=6, size=(20, 20)), own_backbone), tmp_path / "R")
    assert "Labels were not judged: that takes 20 images that decode, of two classes." in result["notes"]
    assert "mislabelled" not in result["findings"]


def test_a_class_that_is_too_small_is_told_not_refused(own_backbone: str, photo_folder: Callable[..., Path], tmp_path: Path) -> None:
    root = photo_folder(per_class=12, size=(20, 20))
    for path in sorted((root / "dog").iterdir())[1:]:
        path.unlink()
    result = check(config_of(root, own_backbone), tmp_path / "R", fix="quarantine")
    notes = result["notes"]
    assert result["errors"] == 1
    assert any(note.startswith("No training run can begin: ") and "class 'dog' has 1 image" in note for note in notes)
    assert "Class 'cat' has 12 images and 'dog' 1: train with --set train.class_weights=balanced." in notes


def test_images_that_are_all_alike_are_told_not_refused(own_backbone: str, tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(12):
            Image.new("RGB", (20, 20)).save(tmp_path / "photos" / name / f"{number}.png")
    result = check(config_of(tmp_path / "photos", own_backbone), tmp_path / "R")
    assert any("are the same once decoded" in note for note in result["notes"])
    assert result["findings"]["conflict"] == 23


def test_a_fault_of_most_images_is_told_once(own_backbone: str, photo_folder: Callable[..., Path], tmp_path: Path) -> None:
    root = photo_folder(per_class=12, size=(3, 3))
    result = check(config_of(root, own_backbone), tmp_path / "R")
    assert "tiny" not in result["findings"]
    assert any(note.startswith("24 of 24: very small images. ") for note in result["notes"])


def test_a_folder_that_is_taken_is_left_alone(ill: Path, own_backbone: str, tmp_path: Path) -> None:
    (tmp_path / "R").mkdir()
    (tmp_path / "R" / "mine.txt").write_text("mine")
    with pytest.raises(RunFolderError):
        check(config_of(ill, own_backbone), tmp_path / "R")
    assert [path.name for path in (tmp_path / "R").iterdir()] == ["mine.txt"]


def test_the_sentence_counts() -> None:
    assert verdict(Counter(error=1, warning=0, note=2)) == "1 error and 2 notes. Mend the errors before you train."
    assert verdict(Counter(error=0, warning=3, note=0)) == "3 warnings. Nothing here has to be mended before you train."
    assert verdict(Counter(error=0, warning=0, note=0)) == "No faults were found in individual images."


@pytest.mark.slow
def test_the_exit_status_tells_errors(ill: Path, own_backbone: str, photo_folder: Callable[..., Path], tmp_path: Path, capfd) -> None:  # type: ignore[no-untyped-def]
    words = ["--backbone", own_backbone, "--image-size", "16"]
    assert main(["check", str(ill), *words, "--run-dir", str(tmp_path / "ill"), "--fix", "quarantine"]) == 3
    said = capfd.readouterr().out
    assert "copies with different labels" in said
    assert "data.exclude=" in said
    assert main(["check", str(photo_folder(per_class=12, size=(20, 20))), *words, "--run-dir", str(tmp_path / "well")]) == 0
    assert not (tmp_path / "well" / run_folder.EXCLUDE).exists()


def test_another_fix_is_refused(ill: Path, capfd) -> None:  # type: ignore[no-untyped-def]
    assert main(["check", str(ill), "--fix", "delete"]) == 2
    assert "argument --fix: invalid choice: 'delete' (choose from" in capfd.readouterr().err


def test_balanced_classes_need_no_line() -> None:
    from tl_keras.data.index import Index

    labels = np.repeat(np.arange(2, dtype=np.int32), 5)
    assert class_notes(Index(root=Path("."), classes=("a", "b"), paths=tuple(map(str, range(10))), labels=labels)) == []
