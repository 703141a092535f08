"""The doctor from beginning to end: planted faults are told, nothing is moved, and training takes the list."""

import csv
import json
import re
from collections import Counter
from collections.abc import Callable
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tl_keras import run_folder
from tl_keras.config import Config
from tl_keras.data.index import Index
from tl_keras.errors import RunFolderError
from tl_keras.launch import Asked
from tl_keras.models.outputs import OUTPUTS
from tl_keras.progress import Progress
from tl_keras.results import of_check
from tl_keras.run import main
from tl_keras.select.ranking import rank
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

    monkeypatch.setattr("tl_keras.data.check.facts.light", refuse)
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


def index_of(labels: NDArray[Any], task: str, classes: tuple[str, ...]) -> Index:
    return Index(root=Path("."), classes=classes, paths=tuple(map(str, range(len(labels)))), labels=labels, output=OUTPUTS[task])


def test_balanced_classes_need_no_line() -> None:
    assert class_notes(index_of(np.repeat(np.arange(2, dtype=np.int32), 5), "single_label", ("a", "b"))) == []
    assert class_notes(index_of(np.tile([[True, False], [False, True]], (5, 1)), "multi_label", ("a", "b"))) == []
    assert class_notes(index_of(np.arange(10, dtype=np.float32), "regression", ("age",))) == []


def test_what_is_told_of_several_labels_and_of_numbers() -> None:
    has = np.zeros((30, 2), bool)
    has[:20, 0] = has[0, 1] = True
    assert class_notes(index_of(has, "multi_label", ("a", "b"))) == [
        "Class 'a' has 20 images and 'b' 1: look at the figures of each class, not at micro F1.",
        "10 of 30 images have none of the classes; an empty cell says so, and does not say 'not known'.",
    ]
    assert class_notes(index_of(np.array([0] * 6 + [1, 2, 3], np.float32), "regression", ("age",))) == [
        "6 of 9 images have the number 0: if that stands for a missing one, leave those rows out."
    ]


TAGS = ("blue", "green", "red")
NUM = 120


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, str]]]:
    """Two tables of the same images, of tags and of numbers, and the faults that were planted in each: path -> what is right.

    An image has stripes of some colours, so bright as the number says. Some tags are missing or too much; some numbers are ten times too
    large, some pairs of them swapped. The last image is a mirror image with another label, the one before it a copy with another.
    """
    root, rng = tmp_path_factory.mktemp("tables"), np.random.default_rng(0)
    has, light = rng.random((NUM, 3)) < 0.4, rng.uniform(60, 250, NUM).round()
    for row in range(NUM):
        pixels = rng.normal(40, 4, (16, 16, 3))
        for stripe in np.flatnonzero(has[row]):
            pixels[:, 5 * stripe : 5 * stripe + 5, 2 - stripe] += 150
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(root / f"tags{row:03d}.png")
        grey = light[row] + rng.normal(0, 5, (16, 16, 1)) + 40 * rng.random((4, 4, 1)).repeat(4, 0).repeat(4, 1) - 20
        Image.fromarray(np.clip(grey, 0, 255).repeat(3, 2).astype(np.uint8)).save(root / f"light{row:03d}.png")
    wrong, number = has.copy(), light.copy()
    for row in range(0, 40, 5):
        wrong[row, row // 5 % 3] ^= True
    number[:6] *= 10
    order = 6 + np.argsort(light[6:])  # the darkest swap with the brightest
    number[order[:3]], number[order[-3:]] = light[order[-3:]], light[order[:3]]
    cells = {"tags": [";".join(np.array(TAGS)[each]) for each in wrong], "light": [f"{each:g}" for each in number]}
    right = {"tags": [";".join(np.array(TAGS)[each]) for each in has], "light": [f"{each:g}" for each in light]}
    for name, labels in cells.items():
        first = Image.open(root / f"{name}050.png")
        first.save(root / f"{name}_copy.bmp")
        first.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(root / f"{name}_mirrored.png")
        lines = [(f"{name}{row:03d}.png", label) for row, label in enumerate(labels)]
        other = "7" if name == "light" else ";".join(np.array(TAGS)[~wrong[50]])
        more = [(f"{name}_copy.bmp", other), (f"{name}_mirrored.png", labels[50])]
        with (root / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("path", "label"), *lines, *more])
    planted = {
        name: {f"{name}{row:03d}.png": label for row, label in enumerate(right[name]) if label != cells[name][row]} for name in cells
    }
    return root, planted


Judged = tuple[str, Path, dict[str, Any], dict[str, str]]


@pytest.fixture(scope="module", params=["multi_label", "regression"])
def judged(
    request: pytest.FixtureRequest,
    tables: tuple[Path, dict[str, dict[str, str]]],
    own_backbone: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Judged:
    """A task, the run folder of a check, what it returned, and what was planted."""
    (root, planted), run = tables, tmp_path_factory.mktemp("judged") / "R"
    name = {"multi_label": "tags", "regression": "light"}[request.param]
    config = config_of(root / f"{name}.csv", own_backbone)
    return request.param, run, check(config.replace("data.task", request.param), run, fix="quarantine"), planted[name]


def test_wrong_tags_and_numbers_are_told(judged: Judged) -> None:
    task, run, result, planted = judged
    lines = table(run, run_folder.CHECK_TABLE)
    suspects = {line["path"]: line for line in lines if line["fault"] == "mislabelled"}
    found = [path for path in suspects if path in planted]
    assert len(found) >= {"multi_label": 0.5, "regression": 0.9}[task] * len(planted)
    assert len(found) >= 0.8 * len(suspects)
    column = {"multi_label": "likely_classes", "regression": "likely_value"}[task]
    for path in found:
        if task == "regression":
            assert float(suspects[path][column]) == pytest.approx(float(planted[path]), abs=40)
            assert "median of its neighbours" in suspects[path]["detail"]
        else:
            assert suspects[path][column] == planted[path]
            assert re.search(r"(missing|too much) \(\d+% likely, \d+% of its neighbours have it\)", suspects[path]["detail"])
    if task == "regression":
        assert all(f"light{row:03d}.png" in found for row in range(6))
    assert result["task"] == task


def test_copies_with_other_tags_or_numbers_are_conflicts(judged: Judged) -> None:
    _, run, _, _ = judged
    by_path = {line["path"]: line for line in table(run, run_folder.CHECK_TABLE) if line["copy_of"]}
    name = next(path for path in by_path if "copy" in path)
    assert by_path[name]["fault"] == "conflict"
    assert by_path[name]["split"] == "test" or name in {line["path"] for line in table(run, run_folder.EXCLUDE)}


def test_the_distribution_of_labels_is_shown(judged: Judged) -> None:
    task, run, result, _ = judged
    lines = table(run, run_folder.DISTRIBUTION)
    assert list(lines[0]) == [{"multi_label": "classes", "regression": "value"}[task], "images", "train", "val", "test", "suspect"]
    names = [next(iter(line.values())) for line in lines]
    if task == "multi_label":
        assert names == [*TAGS, "none of the classes"]
        suspects = [line for line in table(run, run_folder.CHECK_TABLE) if line["fault"] == "mislabelled"]
        wrong = Counter(name for line in suspects for name in set(line["classes"].split(";")) ^ set(line["likely_classes"].split(";")))
        assert {name: int(line["suspect"]) for name, line in zip(TAGS, lines, strict=False)} == {name: wrong[name] for name in TAGS}
        assert {name: int(line["images"]) for name, line in zip(names, lines, strict=True)}.items() >= result["classes"].items()
    else:
        assert names[-1].endswith(" on")
        assert sum(int(line["images"]) for line in lines) == NUM + 2
        assert sum(int(line["suspect"]) for line in lines) == result["findings"]["mislabelled"]
    page = (run / run_folder.CHECK_PAGE).read_text()
    assert "How labels are distributed" in page
    assert all(escape(name) in page for name in names)


def test_what_the_others_gain_without_suspects_is_told_in_the_figure_of_the_task(
    judged: Judged,
) -> None:
    task, _, result, _ = judged
    names = {name for name in result if name.endswith("_of_others")}
    assert names == {"multi_label": {"map_of_others"}, "regression": {"mae_of_others", "r2_of_others"}}[task]
    shown = [part for part in of_check(result, Asked(Path("R"), made=config_of(Path("photos"), "own"))) if isinstance(part, str)]
    title = {"multi_label": "mAP", "regression": "mean absolute error"}[task]
    assert any(part.startswith(f"{title} on the other images, unseen: ") for part in shown)
    assert any(note.startswith("On frozen features of own a linear ") for note in result["notes"])


@pytest.mark.slow
def test_backbones_are_ranked_on_the_images_that_decode(
    own_backbone: str, photo_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More files are bad than data.max_bad_fraction allows, and one class has too few images to be split."""
    root = photo_folder(classes=("ant", "bee"), per_class=12, size=(20, 20))
    for number in range(5):
        (root / "ant" / f"bad{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(number))
    seen: list[int] = []
    ranked = rank.judge

    def judge(config: Config, sample: Index, progress: Progress) -> rank.RankedBackbone:
        seen.append(len(sample.paths))
        return ranked(config, sample, progress)

    monkeypatch.setattr(rank, "judge", judge)
    config = config_of(root, "auto").replace("rank.candidates", (own_backbone,))
    result = check(config, tmp_path / "R")
    assert result["findings"]["unreadable"] == 5
    assert result["backbone"] == own_backbone
    assert (tmp_path / "R" / run_folder.RANKING).is_file()
    for path in sorted((root / "bee").iterdir())[1:]:
        path.unlink()
    assert check(config, tmp_path / "S")["errors"] == 6
    assert seen == [20, 13]  # train and val; all, where they cannot be cut
