"""The page: whole for every task, of bounded size, with text where names are, and true to the run."""

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tl_keras
from tl_keras import run, run_folder
from tl_keras.config import Config
from tl_keras.config_file import to_yaml
from tl_keras.data import images
from tl_keras.errors import ConfigError, RunFolderError
from tl_keras.evaluation.intervals import wilson
from tl_keras.evaluation.metrics import figures_of
from tl_keras.evaluation.report import page as page_module
from tl_keras.evaluation.report.calibration import abstaining, section_of
from tl_keras.evaluation.report.facts import baseline_of, commands_for, confusions, facts_of, leaked_rows
from tl_keras.evaluation.report.page import write_report
from tl_keras.evaluation.report.record import read_answers, read_record
from tl_keras.models.outputs import OUTPUTS, SINGLE_LABEL
from tl_keras.run_folder import RunFolder
from tl_keras.trained_run import read_config
from tl_keras.transfer.adapt.choice import Candidate
from tl_keras.workflows.compare import compare
from tl_keras.workflows.report import report

MadeRun = Callable[..., RunFolder]
VOID = {"meta", "img", "br", "line", "polyline", "circle", "rect", "path"}
ANCHORS = {
    "single_label": {"verdict", "figures", "classes", "confused", "sure", "examples", "data", "made"},
    "multi_label": {"verdict", "figures", "classes", "examples", "data", "made"},
    "regression": {"verdict", "figures", "numbers", "examples", "data", "made"},
}


class Page(HTMLParser):
    """What a page holds; raises where a tag does not close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.unnamed = 0
        self.images = 0
        self.level = 0  # of the last heading
        self.landmarks = [title.lower() for title in re.findall(r"<h2[^>]*>(.*?)</h2>", text)]
        self.words = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        assert len(found) == len(attributes)
        assert not any(name.startswith("on") for name in found)
        self.open += [] if tag in VOID else [tag]
        self.ids += [found["id"] or ""] if "id" in found else []
        self.addresses += [str(found[name]) for name in ("href", "src") if name in found]
        self.addresses += [f"#{found['aria-labelledby']}"] if "aria-labelledby" in found else []
        self._by_keyboard(tag, found)
        self.images += tag == "img"
        self.unnamed += (tag == "img" and not found.get("alt")) + (tag == "svg" and not found.get("aria-label"))

    def _by_keyboard(self, tag: str, found: dict[str, str | None]) -> None:
        """Tab goes through the page as it is read, and reaches all that scrolls; headings are a tree."""
        assert found.get("tabindex") in (None, "0", "-1")
        if found.get("class") in ("wide", "card"):
            assert found["tabindex"] == "0"
        if found.get("class") == "wide":
            assert (found["role"], bool(found["aria-label"])) == ("region", True)
            self.landmarks.append(str(found["aria-label"]).lower())
        if re.fullmatch(r"h\d", tag):
            assert int(tag[1]) <= self.level + 1
            self.level = int(tag[1])

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert tag in VOID

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, text: str) -> None:
        self.words += text


def metrics_of(run: RunFolder) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / run_folder.METRICS).read_text())
    return found


def page_of(run: RunFolder, root: Path | None = None, metrics: dict[str, Any] | None = None) -> Page:
    return whole(write_report(run, read_config(run), metrics or metrics_of(run), root))


def whole(path: Path) -> Page:
    text = path.read_text(encoding="utf-8")  # strict: bytes that are no text are not written
    assert not re.search(r"https?://|<script", text)
    page = Page(text)
    assert len(set(page.ids)) == len(page.ids)
    assert len(set(page.landmarks)) == len(page.landmarks)  # a screen reader lists them
    assert not page.unnamed
    for address in page.addresses:
        assert address.removeprefix("#") in page.ids if address.startswith("#") else address.startswith("data:image/jpeg;base64,")
    return page


def photos_in(folder: Path, num: int) -> Path:
    folder.mkdir()
    for number in range(num):
        Image.new("RGB", (40, 30), (number * 5 % 256, number, 90)).save(folder / f"{number:03}.png")
    return folder


@pytest.mark.parametrize("task", list(ANCHORS))
def test_a_page_has_the_parts_of_its_task_and_no_others(made_run: MadeRun, tmp_path: Path, task: str) -> None:
    photos = photos_in(tmp_path / "photos", 40)
    page = page_of(made_run(task, images=photos), photos)
    assert set(page.ids) == ANCHORS[task] | {"slices"}
    assert page.images > 5
    for title in ("How good", "How sure", "Where it fails", "What next"):
        assert title in page.words


def test_a_part_of_the_images_that_does_worse_is_named(made_run: MadeRun, tmp_path: Path) -> None:
    photos = photos_in(tmp_path / "photos", 96)
    page = page_of(made_run(images=photos), photos).words
    assert "No part is worse than the rest by more than chance explains." in page
    assert "Size, light and sharpness are those of 96 test images." in page
    for number in range(7, 96, 8):  # those that the run has wrong
        Image.new("RGB", (20, 10), (number, 0, 0)).save(photos / f"{number:03}.png")
    shutil.rmtree(tmp_path / "R")
    page = page_of(made_run(images=photos), photos).words
    assert "Clearly worse than the rest: the smallest images (size: shorter side 10 pixels)." in page
    told = "It is clearly worse on the smallest images (size: shorter side 10 pixels): there it is right for 0\u00a0% of 12"
    assert told in page
    assert "on the others for 100\u00a0%." in page
    shutil.rmtree(photos)
    assert "slices" not in page_of(RunFolder.at(tmp_path / "R"), photos).ids


NEWER = ("ece", "reliability", "top_5_accuracy")  # figures that older runs have not


def test_a_share_of_very_few_images_is_not_drawn(made_run: MadeRun) -> None:
    run = made_run()
    metrics = metrics_of(run)
    bins = [{"from": 0.0, "to": 1.0, "images": images, "confidence": 0.5, "accuracy": 0.5} for images in (4, 5, 60)]
    dots = []
    for shown in (bins, bins[:1]):
        metrics["test"] |= {"reliability": shown}
        page_of(run, metrics=metrics)
        dots.append(section_of(read_record(run, read_config(run), metrics, None)).count('<circle class="dot first" '))
    assert dots == [2 + 1, 1 + 1]  # where there are no others it is; one more is of the other chart


def test_calibration_of_an_old_run_follows_from_its_predictions(made_run: MadeRun) -> None:
    run = made_run()
    metrics = metrics_of(run)
    page = page_of(run, metrics=metrics).words
    old = {name: value for name, value in metrics["test"].items() if name not in (*NEWER, "ece_ci95")}
    told = re.search(r"The expected calibration error is [\d.]+ %", page)
    assert told is not None
    assert told[0] in page_of(run, metrics=metrics | {"test": old}).words


@pytest.mark.parametrize("task", list(ANCHORS))
def test_what_is_not_known_is_left_out(made_run: MadeRun, task: str) -> None:
    """Of an old run: without what metrics.json has now, and without files beside it."""
    run = made_run(task)
    metrics = metrics_of(run)
    old = {name: value for name, value in metrics["test"].items() if not name.endswith("_ci95") and name not in NEWER}
    (run / run_folder.ENVIRONMENT).unlink()
    page = page_of(run, metrics={"mode": "extract", "backbone": "vgg16", "test": old})
    assert set(page.ids) == ANCHORS[task]
    assert "no pictures" in page.words
    assert not page.images


def test_newer_figures_are_shown_where_they_are(made_run: MadeRun) -> None:
    run = made_run()
    metrics = metrics_of(run)
    bins = [{"from": 0.5, "to": 1.0, "images": 60, "confidence": 0.8514, "accuracy": 0.88}]
    metrics["test"] |= {
        "ece": 0.0123,
        "ece_ci95": [0.01, 0.03],
        "top_5_accuracy": 0.987,
        "reliability": bins,
        "log_loss_ci95": [0.111, 0.222],
    }
    metrics["prediction_sets"] = {"coverage": 0.9, "covered": 0.91, "covered_ci95": [0.87, 0.95], "mean_size": 1.234}
    of_test = {"accepted": 0.78, "accepted_ci95": [0.7, 0.84], "right": 0.974, "right_ci95": [0.94, 0.99]}
    metrics["accepting"] = [
        {"min_precision": 0.95, "probability_above": 0.0, "accepted": 1.0, "accepted_ci95": [0.9, 1.0]},
        {"min_precision": 0.99, "probability_above": 0.8731, **of_test},
    ]
    metrics["novelty"] = {"false_alarms": 0.05, "threshold": 2.5, "flagged": 0.06, "flagged_ci95": [0.035, 0.102]}
    words = page_of(run, metrics=metrics).words
    assert "6.0 % would be called none of these (95 % interval 3.5 % to 10.2 %); 5 % are expected" in words
    assert "All answers are right 95 % of the time or more, as val shows with 95 % confidence. Of the test images, 100 % get" in words
    assert "Answers with a probability above 0.873 are right 99 % of the time or more" in words
    assert "78 % get such an answer; of these answers 97.4 % are right (95 % interval 94 % to 99 %). predict --min-precision 0.99" in words
    assert "predict --coverage 0.9 gives the classes that an image may have: 1.23 on average" in words
    assert "91 % of the test images (95 % interval 87 % to 95 %)" in words
    assert "1.2 % (95 % interval 1.0 % to 3.0 %)" in words
    assert "0.987" in words
    assert "0.111 to 0.222" in words
    assert "0.851" in words


def test_what_was_exported_is_shown(made_run: MadeRun) -> None:
    run = made_run()
    assert "exports" not in page_of(run).ids
    (run / run_folder.EXPORT).mkdir()
    row = {"file": "model.onnx", "bytes": 2_345_678, "agreement": 0.995, "largest_difference": {"float": 2e-6}}
    rows = {
        "onnx": row | {"single_ms": 3.21, "images_per_second": 123.4},
        "<b>": row | {"agreement": None, "single_ms": 1, "images_per_second": 2},
    }
    run_folder.write_json(run / run_folder.EXPORT / run_folder.EXPORT_RECORD, {"formats": rows})
    page = page_of(run)
    assert "exports" in page.ids
    assert "".join(("onnx", "model.onnx", "2.3", "0.995", "2.0e-06", "3.2", "123")) in page.words.replace("\n", "")
    run_folder.write_json(run / run_folder.EXPORT / run_folder.EXPORT_RECORD, {"formats": {"onnx": row}})
    with pytest.raises(RunFolderError, match=r"export\.json: is damaged.*Export again"):
        page_of(run)


def test_names_are_text_whatever_they_hold(made_run: MadeRun) -> None:
    names = ('<script>alert("1")</script>', "it's & co", "caf\udce9 \x07", '" onload="x')
    page = page_of(made_run(classes=names))
    assert '<script>alert("1")</script>' in page.words
    assert "caf\ufffd \ufffd" in page.words
    assert "it's & co" in page.words


def test_pictures_are_of_the_runs_own_images_as_they_were(made_run: MadeRun, tmp_path: Path) -> None:
    photos = photos_in(tmp_path / "photos", 24)
    run = made_run(images=photos)
    whole = page_of(run, photos).images
    for path in photos.iterdir():
        Image.new("RGB", (40, 30)).save(path)  # other images under their names
    assert not page_of(run, photos).images
    shutil.rmtree(photos)
    page = page_of(run, photos)
    assert whole > page.images == 0
    assert "no longer where the run found them" in page.words


def test_a_path_that_is_not_the_runs_is_not_read(made_run: MadeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = photos_in(tmp_path / "photos", 24)
    run = made_run(images=photos)
    shutil.copy(photos / "007.png", tmp_path / "secret.png")
    text = (run / run_folder.PREDICTIONS).read_text().replace("007.png", "../secret.png")
    (run / run_folder.PREDICTIONS).write_text(text)
    read: list[Path] = []
    look = images.look
    monkeypatch.setattr(images, "look", lambda path, *rest: read.append(path) or look(path, *rest))
    page_of(run, photos)
    assert read
    assert all(path.parent == photos for path in read)


@pytest.mark.slow
def test_photos_of_noise_make_no_large_page(made_run: MadeRun, tmp_path: Path) -> None:
    """Which JPEG cannot make small."""
    photos, random = photos_in(tmp_path / "photos", 0), np.random.default_rng(0)
    for number in range(200):
        Image.fromarray(random.integers(0, 256, (160, 160, 3), np.uint8)).save(photos / f"{number:03}.png")
    run = made_run(classes=[f"class {number}" for number in range(10)], images=photos)
    assert 30 < page_of(run, photos).images <= 50
    assert (run / run_folder.REPORT).stat().st_size < 2_000_000


@pytest.mark.slow
@pytest.mark.parametrize(("task", "num"), [("single_label", 1200), ("multi_label", 150)])  # of these each has 160 classes
def test_very_many_classes_make_no_large_page(made_run: MadeRun, task: str, num: int) -> None:
    classes = [f"class {number:04} {'x' * 200}" for number in range(400)]
    run = made_run(task, classes=classes, num=num)
    page_of(run)
    assert (run / run_folder.REPORT).stat().st_size < 500_000


def test_a_matrix_of_many_classes_has_those_that_are_confused(made_run: MadeRun) -> None:
    classes = [f"class {number:02}" for number in range(30)]
    page = page_of(made_run(classes=classes, num=240))
    assert "of the 20 classes that are confused most, of 30" in page.words


def test_the_page_appears_whole_or_not_at_all(made_run: MadeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = made_run()
    page_of(run)
    before = (run / run_folder.REPORT).read_bytes()

    def refuse(record: Any) -> str:
        raise RuntimeError("a defect")

    monkeypatch.setattr(page_module, "SECTIONS", (*page_module.SECTIONS, refuse))
    with pytest.raises(RuntimeError):
        write_report(run, read_config(run), metrics_of(run), None)
    assert (run / run_folder.REPORT).read_bytes() == before
    assert not [path for path in run.path.iterdir() if path.name.startswith(".")]


def test_a_run_that_has_no_test_figures_has_no_report(made_run: MadeRun) -> None:
    run = made_run()
    with pytest.raises(RunFolderError, match="was not measured on test"):
        write_report(run, read_config(run), {"mode": "extract"}, None)


def test_a_damaged_file_is_named(made_run: MadeRun) -> None:
    run = made_run()
    whole = metrics_of(run)
    for found in ({"test": {}}, whole | {"timing": {"total_s": "<b>"}}, whole | {"test": whole["test"] | {"accuracy": "<b>"}}):
        run_folder.write_json(run / run_folder.METRICS, {"mode": "extract", "backbone": "x"} | found)
        with pytest.raises(RunFolderError, match=r"metrics\.json: is damaged"):
            report(run.path)
    assert not (run / run_folder.REPORT).exists()
    run_folder.write_json(run / run_folder.METRICS, whole)
    (run / run_folder.PREDICTIONS).write_text("path,true_class\n1,2\n")
    with pytest.raises(RunFolderError, match=r"predictions\.csv: is damaged"):
        report(run.path)
    (run / run_folder.METRICS).unlink()
    with pytest.raises(RunFolderError, match=r"metrics\.json: cannot be read .* finish it with --resume"):
        report(run.path)


def test_a_strangers_address_is_not_asked(made_run: MadeRun, heard: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = made_run()
    config = read_config(run).replace("data.source", "http://127.0.0.1:9/theirs.zip")
    run_folder.write_text(run / run_folder.CONFIG, to_yaml(config))
    monkeypatch.setattr("tl_keras.trained_run.find_root", lambda *_: pytest.fail("it was asked"))
    report(run.path, progress=heard)
    assert len(heard.lines) == 1
    assert heard.lines[0].startswith("no pictures: ")
    assert "nobody on this machine has asked for" in heard.lines[0]


# --- what the parts are made of ------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", list(ANCHORS))
def test_losses_are_those_of_the_table(made_run: MadeRun, task: str) -> None:
    """Beside a plain loop over the cells."""
    run = made_run(task)
    answers = read_answers(run / run_folder.PREDICTIONS, task)
    lines = (run / run_folder.PREDICTIONS).read_text().splitlines()
    header = lines[0].split(",")
    for row, line in enumerate(lines[1:]):
        cells = dict(zip(header, line.split(","), strict=True))
        if task == "regression":
            wanted = abs(float(cells["predicted_value"]) - float(cells["true_value"]))
        elif task == "single_label":
            wanted = -np.log(float(cells[f"p_{cells['true_class']}"]))
        else:
            chances = {name.removeprefix("p_"): float(value) for name, value in cells.items() if name.startswith("p_")}
            true = cells["true_classes"].split(";")
            wanted = np.mean([-np.log(chance if name in true else 1 - chance) for name, chance in chances.items()])
        assert answers.loss[row] == pytest.approx(wanted, abs=1e-9)


def test_abstaining_beside_a_plain_loop() -> None:
    random = np.random.default_rng(1)
    confidence = np.round(random.random(200), 2)
    right = random.random(200) < confidence
    for limit, share, accuracy in zip(*abstaining(confidence, right), strict=True):
        answered = confidence >= limit
        assert share == pytest.approx(answered.mean())
        assert accuracy == pytest.approx(right[answered].mean())


def test_confusions_are_sorted_and_whole() -> None:
    found = confusions([[5, 2, 0], [0, 3, 4], [1, 0, 9]], ["a", "b", "c"])
    assert found == [("b", "c", 4, 7), ("a", "b", 2, 7), ("c", "a", 1, 10)]
    assert confusions([[5, 0], [0, 5]], ["a", "b"]) == []


def test_a_baseline_needs_the_labels_of_train_alone(made_run: MadeRun) -> None:
    run = made_run(num=61)
    record = read_record(run, read_config(run), metrics_of(run), None)
    text = (run / run_folder.SPLITS).read_text().replace(",ant,train,", ",wasp,train,")
    (run / run_folder.SPLITS).write_text(text)
    changed = read_record(run, read_config(run), metrics_of(run), None)
    assert baseline_of(record) == (pytest.approx(21 / 61), "always answering 'ant'")
    assert baseline_of(changed) == (pytest.approx(20 / 61), "always answering 'wasp'")


def test_copies_of_train_in_test_are_told_first(made_run: MadeRun) -> None:
    run = made_run()
    text = (run / run_folder.SPLITS).read_text().replace(f"{10**6:032x}", f"{1:032x}")
    (run / run_folder.SPLITS).write_text(text)
    record = read_record(run, read_config(run), metrics_of(run), None)
    assert len(leaked_rows(record)) == facts_of(record).leaked == 1
    page = page_of(run)
    assert "Do not trust these figures yet: 1 of the test images" in page.words
    assert commands_for(record.config, run.path)["check"] in page.words


def test_finetuning_that_kept_its_beginning_is_told(made_run: MadeRun) -> None:
    run = made_run(mode="finetune", num=200)
    rows = [("finetune", 0, "", "", 0.3, 0.9, "", ""), ("finetune", 1, 0.5, 0.9, 0.4, 0.88, 0.1, 1)]
    header = ("phase", "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds")
    run_folder.write_csv(run / run_folder.HISTORY, header, rows)
    page = page_of(run)
    assert "Finetuning has gained nothing" in page.words
    assert "curves" in page.ids
    run_folder.write_csv(run / run_folder.HISTORY, header, [rows[0], (*rows[1][:4], 0.2, *rows[1][5:])])
    assert "Finetuning has gained nothing" not in page_of(run).words


# --- of an adapted run ---------------------------------------------------------------------------------------------


def adapted_to(run: RunFolder, method: str, *, labelled: bool) -> RunFolder:
    """Make it a run that was adapted to 40 images, of which every fourth is taken for an ant; 10 more have no label."""
    names, num = ("ant", "bee", "wasp"), 40
    truth = [names[number % 3] for number in range(num)]
    said = ["ant" if number % 4 == 3 else true for number, true in enumerate(truth)]
    answers = np.array([[0.8 if name == each else 0.1 for name in names] for each in said])
    rows = [
        (f"{number}.png", true if labelled else "", each, "0.800000", each)
        for number, (true, each) in enumerate(zip(truth, said, strict=True))
    ]
    rows += [(f"unknown {number}.png", "", "ant", "0.800000", "ant") for number in range(10)]
    run_folder.write_csv(run / run_folder.TARGET_PREDICTIONS, ("path", "true_class", "predicted_class", "probability", "before"), rows)
    scores = dict.fromkeys(("classes", "classes_on_source", "risk", "mixed", "entropy", "mutual_information", "diversity", "density"), 1.0)
    tried = [Candidate(method=name, **scores).report() for name in ("source_only", method)]
    distances = {name: {"proxy_a": 1.0, "mmd": 0.1, "coral": 0.1} for name in ("source_only", method)}
    target: dict[str, Any] = {"images": len(rows), "method": method, "candidates": tried, "distances": distances}
    if labelled:
        figures = figures_of(SINGLE_LABEL, answers, np.array([names.index(each) for each in truth]), names)
        target["figures"] = {"source_only": figures, method: figures}
    run_folder.write_json(run / run_folder.METRICS, metrics_of(run) | {"mode": "adapt", "target": target})
    config = read_config(run).model_dump() | {"mode": "adapt"}
    config["adapt"] |= {"method": method, "target": "sketches"}
    run_folder.write_text(run / run_folder.CONFIG, to_yaml(Config.model_validate(config)))
    return run


def test_a_target_that_has_labels_is_what_the_page_of_an_adapted_run_is_about(made_run: MadeRun, tmp_path: Path) -> None:
    photos = photos_in(tmp_path / "photos", 40)
    run = adapted_to(made_run(images=photos), "coral", labelled=True)
    page = page_of(run, photos)
    assert set(page.ids) == {"verdict", "target", "classes", "confused", "sure", "data", "made"}
    assert "(target domain)" in page.words
    assert "(source domain)" not in page.words
    assert "bee taken for ant: 3 of 13 images of bee" in page.words
    record = read_record(run, read_config(run), metrics_of(run), photos)
    assert record.judged is not None
    assert len(record.judged.answers.paths) == 40  # those that have labels
    assert record.judged.answers.loss[[0, 7]] == pytest.approx([-np.log(0.8), -np.log(0.2)])


@pytest.mark.parametrize(("method", "shown"), [("coral", True), ("adabn", False)])
def test_of_a_target_without_labels_the_source_is_shown_where_the_model_is_for_it_too(made_run: MadeRun, method: str, shown: bool) -> None:
    page = page_of(adapted_to(made_run(), method, labelled=False))
    of_source = {"figures", "classes", "confused", "sure", "examples"}
    assert set(page.ids) == {"verdict", "target", "data", "made"} | (of_source if shown else set())
    assert ("(source domain)" in page.words) == shown


# --- several runs side by side -------------------------------------------------------------------------------------


def beside(tmp_path: Path, *runs: RunFolder, **more: Any) -> Page:
    path = tmp_path / "side.html"
    found = report(runs[0].path, others=[each.path for each in runs[1:]], output=path, **more)
    assert found == {"report": str(path), "bytes": path.stat().st_size}
    return whole(path)


def test_the_best_of_several_runs_comes_first_and_is_told_from_the_others_by_the_rules_of_compare(
    made_run: MadeRun, tmp_path: Path, heard: Any
) -> None:
    photos = photos_in(tmp_path / "photos", 96)
    runs = [made_run(images=photos, name=name, each=each) for name, each in (("poor", 2), ("good", 16), ("fair", 12))]
    page = beside(tmp_path, *runs, progress=heard)
    assert heard.lines == ["compare B: fair with A: good", "compare C: poor with A: good"]
    assert page.ids == ["verdict", "figures", "against", "images", "settings"]
    assert "A: good (mobilenet_v2, extract). It names the right class for 93.8\u00a0% of its test images; expect 87 to 97" in page.words
    assert "On the same test images it is clearly better than C. No difference to B can be told: so few images often" in page.words
    assert "A. More labelled test images would say whether B may be as good." in page.words
    pair = compare(runs[1].path, against=runs[0].path)
    (low, high), p = pair["figures"]["accuracy"]["difference_ci95"], pair["mcnemar"]["p"]
    assert f"C: poor960.93750.5000-0.4375{low:+.4f} to {high:+.4f}420{p:.2g}" in page.words
    assert page.images == 12
    assert "true beeA: bee (0.850), rightB: " in page.words or "true antA: ant (0.850), rightB: " in page.words
    assert "No other setting differs." in page.words


@pytest.mark.parametrize("task", list(ANCHORS))
def test_runs_of_each_task_stand_side_by_side(made_run: MadeRun, tmp_path: Path, task: str) -> None:
    a, b = (made_run(task, name=name, each=each, mode=mode) for name, each, mode in (("a", 8, "finetune"), ("b", 2, "extract")))
    figure = OUTPUTS[task].metric_name
    rows = [("finetune", epoch, 0.5, 0.7, 0.4, 0.8 + epoch / 50, 0.1, 1) for epoch in range(3)]
    run_folder.write_csv(
        a / run_folder.HISTORY, ("phase", "epoch", "loss", figure, "val_loss", f"val_{figure}", "learning_rate", "seconds"), rows
    )
    page = beside(tmp_path, b, a)
    assert set(page.ids) == {"verdict", "figures", "against", "images", "curves", "settings"}
    assert "A: a (mobilenet_v2, finetune)" in page.words
    assert "clearly better than B" in page.words
    assert "A, if it is small and fast enough." in page.words
    assert "No epochs were trained of B." in page.words
    assert not page.images


def test_runs_that_share_no_test_image_are_not_compared(made_run: MadeRun, tmp_path: Path) -> None:
    other, best = made_run(name="other", each=2), made_run(name="best", each=9)
    text = (other / run_folder.SPLITS).read_text()
    (other / run_folder.SPLITS).write_text(re.sub("0{20}", "1" * 20, text))
    page = beside(tmp_path, best, other)
    assert "It cannot be compared with B." in page.words
    assert f"B: other: {other.path}: has no test image in common with {best.path}" in page.words
    assert "images" not in page.ids


def test_a_run_that_is_better_on_the_shared_images_is_taken_whatever_its_own_figure(made_run: MadeRun, tmp_path: Path) -> None:
    """Which may be of more and harder images."""
    better, worse = made_run(name="better", each=61), made_run(name="worse", each=2)
    metrics = metrics_of(better)
    metrics["test"] |= {"accuracy": 0.1}
    run_folder.write_json(better / run_folder.METRICS, metrics)
    page = beside(tmp_path, better, worse)
    assert "A: worse" in page.words
    assert "But on the test images that both have, B did clearly better." in page.words
    assert "B: A was measured on other images, which may be easier." in page.words


def test_the_smaller_of_runs_that_cannot_be_told_apart_is_named(made_run: MadeRun, tmp_path: Path) -> None:
    large = made_run(name="large", each=16, parameters={"total": 5000, "trainable": 1})
    small = made_run(name="small", each=12, parameters={"total": 3000, "trainable": 1})
    assert "A; or B, which is smaller (3,000 weights, not 5,000) and may be as good." in beside(tmp_path, small, large).words


def test_of_adapted_runs_the_target_is_told_too(made_run: MadeRun, tmp_path: Path) -> None:
    runs = [adapted_to(made_run(name=name, each=each), "coral", labelled=name == "a") for name, each in (("a", 9), ("b", 4))]
    words = beside(tmp_path, *runs).words
    assert "All this is of images of the source domain; adapted to another one: A and B." in words
    assert "{:.3f}, {:.3f} to {:.3f}".format(34 / 40, *wilson(34, 40)) in words


def test_names_of_runs_and_classes_are_text(made_run: MadeRun, tmp_path: Path) -> None:
    names = ('<script>alert("1")</script>', "it's & co")
    runs = [made_run(classes=names, name=name, each=each) for name, each in (("<b>", 3), ("b&amp;", 2))]
    page = beside(tmp_path, *runs)
    assert "A: <b>" in page.words
    assert "B: b&amp;" in page.words


def test_settings_that_differ_are_told_and_no_others(made_run: MadeRun, tmp_path: Path) -> None:
    runs = [made_run(name=name, each=each) for name, each in (("a", 9), ("b", 4))]
    config = read_config(runs[1]).replace("train.weight_decay", 0.25)
    run_folder.write_text(runs[1] / run_folder.CONFIG, to_yaml(config))
    page = beside(tmp_path, *runs)
    assert re.search(r"Settings that differ\s+settingA: aB: btrain\.weight_decay[\d.]+0\.25\s*$", page.words)


def test_many_runs_and_classes_make_no_large_page(made_run: MadeRun, tmp_path: Path) -> None:
    classes = [f"class {number:04} {'x' * 200}" for number in range(40)]
    beside(tmp_path, *(made_run(classes=classes, num=120, name=f"{number}", each=3 + number) for number in range(5)))
    assert (tmp_path / "side.html").stat().st_size < 100_000


def test_what_cannot_stand_side_by_side_is_said_in_a_line(made_run: MadeRun, tmp_path: Path, capfd: Any) -> None:
    a, b = (str(made_run(name=name).path) for name in "ab")
    others = {"numbers": made_run("regression", name="n").path, "classes": made_run(classes=("ant", "fly"), name="c").path}
    page = str(tmp_path / "side.html")
    for arguments, words in (
        ([a, b], "report: got 2 runs, expected --output FILE.html too, the page that puts them side by side."),
        ([a, "--output", page], f"report: got --output and one run, whose report is {a}/report.html."),
        ([a, b, a, "--output", page], f"report: got {a} twice"),
        ([a, b, "--output", "side.csv"], "--output: got 'side.csv', expected a file ending in .html."),
        ([a, "photos", "--output", page], "photos: no such run folder"),
        ([a, str(others["numbers"]), "--output", page], "n: was trained with data.task=regression, and "),
        ([a, str(others["classes"]), "--output", page], "knows other classes than"),
    ):
        assert run.main(["report", *arguments]) == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert words in line
    assert not Path(page).exists()


def test_the_command_and_the_function_write_the_same_page(made_run: MadeRun, tmp_path: Path, capfd: Any) -> None:
    runs = [str(made_run(name=name, each=each).path) for name, each in (("a", 9), ("b", 3))]
    pages = [tmp_path / "1.html", tmp_path / "2.html"]
    assert run.main(["--mode", "report", "--run-dir", *runs, "--output", str(pages[0])]) == 0
    assert f"{pages[0]}: 0.0" in capfd.readouterr().out
    assert tl_keras.report(runs[0], runs[1:], output=pages[1])["report"] == str(pages[1])
    assert pages[0].read_bytes() == pages[1].read_bytes()
    with pytest.raises(ConfigError, match=r"expected a file ending in \.html"):
        tl_keras.report(runs[0], runs[1:], output="side.csv")


def test_a_damaged_figure_of_one_of_several_runs_is_named(made_run: MadeRun, tmp_path: Path) -> None:
    a, b = (made_run(name=name) for name in "ab")
    metrics = metrics_of(b)
    whole = metrics["test"]
    for damage in (
        {"test": {}},
        {"test": whole | {"accuracy": "<b>"}},
        {"test": whole | {"ece_ci95": [0]}},
        {"timing": {"total_s": "<b>"}},
        {"data": {}},
    ):
        run_folder.write_json(b / run_folder.METRICS, metrics | damage)
        with pytest.raises(RunFolderError, match=r"b/metrics\.json: is damaged"):
            beside(tmp_path, a, b)


# --- of a run ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_training_ends_with_the_page_that_the_mode_writes_again(trained: tuple[Path, Path], tmp_path: Path, capfd: Any) -> None:
    folder, photos = trained
    copy = shutil.copytree(folder, tmp_path / "R")
    assert run.main(["report", str(copy)]) == 0
    assert f"{copy / 'report.html'}: 0." in capfd.readouterr().out
    first, again = ((each / run_folder.REPORT).read_text().replace(str(each), "") for each in (folder, copy))
    assert again == first
    assert Page(again).images
    moved = shutil.copytree(photos, tmp_path / "moved")
    assert run.main(["--mode", "report", "--run-dir", str(copy), "--data", str(moved)]) == 0
    assert (copy / run_folder.REPORT).read_text().replace(str(copy), "") == first
    assert run.main(["report", str(copy), str(tmp_path / "nothing")]) == 2
