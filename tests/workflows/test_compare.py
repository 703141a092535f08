"""Two runs compared: images are the same by their content, what a run has learned from counts for neither, what cannot be compared is
said in a line."""

import csv
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tl_keras
from tl_keras import run, run_folder
from tl_keras.config import Config
from tl_keras.data.dataset import ImageData
from tl_keras.data.file_ids import ID_BYTES
from tl_keras.data.index import Index
from tl_keras.data.label_texts import labels_of
from tl_keras.data.splits import write_splits
from tl_keras.errors import ConfigError, RunFolderError
from tl_keras.evaluation import prediction_file
from tl_keras.evaluation.scoring import write_predictions
from tl_keras.models.outputs import Regression
from tl_keras.run_folder import RunFolder
from tl_keras.trained_run import write_config, write_output
from tl_keras.workflows.compare import compare

CLASSES = ("ant", "bee", "wasp")
Image = tuple[str, str, str, str]  # path, label, split, content


def images(num: int = 60, *, train: int = 6) -> list[Image]:
    """Images of test, and some of train, of three classes."""
    every = [(f"{CLASSES[place % 3]}/{place:03d}.jpg", CLASSES[place % 3], place) for place in range(num + train)]
    return [(path, label, "test" if place < num else "train", f"content {place}") for path, label, place in every]


def fake_run(
    folder: Path, of: Sequence[Image], answers: NDArray[np.float64], task: str = "single_label", source: str = "photos", **columns: Any
) -> Path:
    """A run folder as training leaves it, but for the model: images, and answers (n, k) to those of test."""
    classes, labels, output = labels_of(task, [label for _, label, _, _ in of])
    output = Regression(mean=0.0, scale=1.0) if task == "regression" else output
    ids = np.array([sha256(content.encode()).digest()[:ID_BYTES] for *_, content in of], f"S{ID_BYTES}")
    index = Index(root=Path(), classes=classes, paths=tuple(path for path, *_ in of), labels=labels, output=output, ids=ids)
    index, split = replace(index, **columns), np.array([split for _, _, split, _ in of])
    folder.mkdir()
    made = RunFolder(folder)
    source = source if task == "single_label" else "labels.csv"
    write_config(made, Config.model_validate({"mode": "extract", "data": {"source": source, "task": task}}))
    write_splits(folder / run_folder.SPLITS, index, split)
    write_output(made, output)
    write_predictions(folder / run_folder.PREDICTIONS, ImageData(index, None, split), np.flatnonzero(split == "test"), answers)  # type: ignore[arg-type]
    run_folder.write_json(folder / run_folder.METRICS, {"mode": "extract", "backbone": "small_resnet", "task": task, "test": {}})
    (folder / run_folder.MODEL).write_bytes(b"")  # which is not read
    return folder


def answers_to(of: Sequence[Image], wrong: Sequence[int] = (), *, instead: int = 1, sure: float = 0.9) -> NDArray[np.float64]:
    """Answers to the images of test, right but for some."""
    labels = [CLASSES.index(label) for _, label, split, _ in of if split == "test"]
    said = [(label + instead) % 3 if row in wrong else label for row, label in enumerate(labels)]
    found = np.full((len(said), 3), (1 - sure) / 2)
    found[np.arange(len(said)), said] = sure
    return found


@pytest.fixture
def pair(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Two runs on the same images, of which the first is wrong on 20 of 60 and the second on `wrong`."""

    def make(wrong: Sequence[int] = (), **of_b: Any) -> tuple[Path, Path]:
        of = images()
        given = {"of": of, "answers": answers_to(of, wrong)} | of_b
        return fake_run(tmp_path / "A", of, answers_to(of, range(20))), fake_run(tmp_path / "B", **given)

    return make


def test_a_planted_difference_is_found_and_the_images_are_named(pair: Callable[..., tuple[Path, Path]], heard: Any) -> None:
    a, b = pair(wrong=[0, 1, 40])
    found = compare(a, against=b, progress=heard)
    assert found["verdict"].startswith("B is better: accuracy 0.6667 of A and 0.9500 of B, a difference of 0.2833 (95 % interval ")
    assert found["mcnemar"] | {"p": 0} == {"both": 39, "only_a": 1, "only_b": 18, "neither": 2, "p": 0}
    assert found["images"] == 60
    assert found["a"] == {"run_dir": str(a), "mode": "extract", "backbone": "small_resnet"}
    path = images()[40][0]
    assert found["changed"][0] == {
        **{"path": path, "path_b": path, "true": "bee", "a": "bee", "a_probability": 0.9, "b": "wasp", "b_probability": 0.9},
        "change": "worse",
    }
    assert [row["path"] for row in found["changed"][1:]] == [path for path, *_ in images()[2:20]]
    assert found["per_class"]["bee"] == {"images": 20, "a": 13, "b": 18, "worse": 1, "better": 6}
    assert heard.lines == ["compared on 60 test images that both have"]


def test_equal_runs_of_two_seeds_are_not_told_apart(tmp_path: Path) -> None:
    of, runs = images(300), []
    for seed in (0, 1):
        random = np.random.default_rng(seed)
        wrong = np.flatnonzero(random.random(300) < 0.1).tolist()
        runs.append(fake_run(tmp_path / str(seed), of, answers_to(of, wrong)))
    found = compare(runs[0], against=runs[1])
    assert not found["is_told"]
    assert found["verdict"].startswith("no difference can be told: accuracy of B less that of A is ")
    assert len(found["changed"]) > 20


def test_images_are_the_same_by_content_whatever_their_names(pair: Callable[..., tuple[Path, Path]], tmp_path: Path) -> None:
    of = images()
    renamed = [(f"else/{label}/{number}.jpg", label, split, content) for number, (_, label, split, content) in enumerate(of)]
    order = np.random.default_rng(0).permutation(60)  # of the images of test
    mixed, answers = [renamed[row] for row in order] + renamed[60:], answers_to(of, range(20))[order]
    a, b = pair(of=mixed, answers=answers)
    found = compare(a, against=b)
    assert (found["images"], found["changed"], found["mcnemar"]["both"]) == (60, [], 40)
    other = [
        (path, label, split, f"other {content}" if number < 30 else content) for number, (path, label, split, content) in enumerate(of)
    ]
    assert compare(a, against=fake_run(tmp_path / "C", other, answers_to(other)))["images"] == 30


def test_images_that_either_run_has_learned_from_are_left_out(pair: Callable[..., tuple[Path, Path]], heard: Any) -> None:
    of = images()
    moved = [
        (path, label, "train" if number < 7 else "val" if number < 10 else split, content)
        for number, (path, label, split, content) in enumerate(of)
    ]
    moved += [("ant/copy.jpg", of[12][1], "train", of[12][3])]  # one that B has in test, too
    a, b = pair(of=moved, answers=answers_to(moved))
    found = compare(a, against=b, progress=heard)
    assert found["images"] == 49
    assert found["mcnemar"]["only_b"] == 9  # of 20, without the 10 and the copy
    assert heard.lines == [
        "compared on 49 test images that both have",
        "left out of the 60 test images of A: 11 that a run has learned from",
        "left out of the 50 test images of B: 1 that a run has learned from",
    ]


def test_copies_in_test_are_paired_one_by_one(tmp_path: Path, heard: Any) -> None:
    of = images(6)
    twice = [*of[:6], ("ant/copy.jpg", *of[0][1:]), *of[6:]]
    a, b = fake_run(tmp_path / "A", twice, answers_to(twice, [0, 6])), fake_run(tmp_path / "B", of, answers_to(of))
    assert compare(a, against=b, progress=heard)["images"] == 6
    assert heard.lines[1] == "left out of the 7 test images of A: 1 that the other does not have in test"
    assert compare(a, against=fake_run(tmp_path / "C", twice, answers_to(twice)))["mcnemar"]["only_b"] == 2


def test_runs_of_an_older_version_are_compared_by_path_where_their_images_lay_in_one_place(
    pair: Callable[..., tuple[Path, Path]], tmp_path: Path, heard: Any
) -> None:
    a, b = pair(ids=None)
    assert compare(a, against=b, progress=heard)["images"] == 60
    assert heard.lines[0].startswith("this run is of a version that did not record the content of images")
    other = fake_run(tmp_path / "C", images(), answers_to(images()), source="elsewhere", ids=None)
    with pytest.raises(
        RunFolderError, match=r"C: learned from images in \S*elsewhere, and \S*A from those in \S*photos; files of the same"
    ):
        compare(a, against=other)


def soft(of: Sequence[Image], most: float) -> dict[str, Any]:
    labels = np.array([CLASSES.index(label) for _, label, _, _ in of])
    shares = np.full((len(of), 3), (1 - most) / 2, np.float32)
    shares[np.arange(len(of)), labels] = most
    return {"shares": shares}


def other_label(of: list[Image]) -> list[Image]:
    path, _, split, content = of[3]
    return [*of[:3], (path, "wasp", split, content), *of[4:]]


REFUSED: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "other classes": (
        lambda: {"of": [(path, label.replace("wasp", "fly"), *rest) for path, label, *rest in images()]},
        "B: knows other classes than .*A: 'fly' is one of 3 classes of .*B, and not of .*A. Give runs with the same classes.",
    ),
    "another task": (
        lambda: {"task": "multi_label"},
        "B: was trained with data.task=multi_label, and .*A with single_label; they have no figure in common. Give runs of one task.",
    ),
    "another label": (
        lambda: {"of": other_label(images())},
        r"B: was measured with another label of ant/003.jpg \('wasp'\) than .*A \('ant'\); of two truths neither",
    ),
    "soft labels": (
        lambda: soft(images(), 0.8),
        "B: was measured with other shares of the classes in ant/000.jpg than .*A; of two truths neither is a measure for both.",
    ),
    "other images": (
        lambda: {"of": [(path, label, split, f"new {content}") for path, label, split, content in images()]},
        r"B: has no test image in common with .*A that neither has learned from \(0 of 60 test images of the latter are learned from\)",
    ),
    "learned from": (
        lambda: {"of": [(f"new {path}", label, split, f"new {content}") for path, label, split, content in images()]
                 + [(path, label, "train", content) for path, label, _, content in images()]},
        r"that neither has learned from \(60 of 60 test images of the latter are learned from\). Train both on the same --data",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(REFUSED))
def test_what_cannot_be_compared_is_said_in_a_line(
    pair: Callable[..., tuple[Path, Path]], kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    given, words = REFUSED[kind]
    a, b = pair(**given())
    with pytest.raises(RunFolderError, match=words) as caught:
        compare(a, against=b)
    assert "\n" not in str(caught.value)
    if kind == "other classes":
        assert run.main(["compare", str(a), str(b)]) == 2
        assert capfd.readouterr().err == f"RunFolderError: {caught.value}\n"


def test_one_run_twice_is_no_pair(pair: Callable[..., tuple[Path, Path]]) -> None:
    a, _ = pair()
    with pytest.raises(ConfigError, match=r"A twice, expected the folders of two runs\."):
        compare(a, against=a / ".." / "A")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.unlink(), r"B: was not measured on test \(predictions.csv is missing\)"),
        (lambda path: path.write_text("path,class\n"), "predictions.csv: is damaged, or is not a table of predictions"),
        (lambda path: path.write_text(path.read_text().replace("ant/003", "ant/004")), "is damaged, or is not a table of predictions"),
        (lambda path: path.write_text(path.read_text().replace("ant,ant,0.9", "ant,fly,0.9")), "is damaged, or is not a table of predic"),
        (lambda path: path.write_text(path.read_text().replace("jpg,ant", "jpg,bee", 1)), "is damaged, or is not a table of predictions"),
        (lambda path: path.write_text(path.read_text().rpartition("ant/")[0]), "is damaged, or is not a table of predictions"),
        (lambda path: path.write_text(path.read_text().replace("0.9", "nan")), "is damaged, or is not a table of predictions"),
        (
            lambda path: (path.parent / "metrics.json").write_text('{"test": {}}'),
            "metrics.json: is damaged, or is not the figures of",
        ),
        (lambda path: (path.parent / "metrics.json").write_text("{"), "metrics.json: is damaged, or is not the figures of"),
    ],
)
def test_a_damaged_run_is_told(pair: Callable[..., tuple[Path, Path]], spoil: Callable[[Path], Any], words: str) -> None:
    a, b = pair()
    spoil(b / run_folder.PREDICTIONS)
    with pytest.raises(RunFolderError, match=words):
        compare(a, against=b)


def test_several_classes_and_numbers_are_compared_by_their_own_figures(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    several = [
        (path, f"{label};small" if number % 2 else label, split, content) for number, (path, label, split, content) in enumerate(images())
    ]
    has = np.array(
        [[name in label.split(";") for name in ("ant", "bee", "small", "wasp")] for _, label, split, _ in several if split == "test"]
    )
    runs = [
        fake_run(tmp_path / f"M{noise}", several, np.clip(has + random.normal(0, noise, has.shape), 0, 1), "multi_label")
        for noise in (1, 0)
    ]
    found = compare(runs[0], against=runs[1])
    assert found["verdict"].startswith("B is better: mAP ")
    assert found["figures"]["map"]["b"] == 1
    assert "mcnemar" not in found
    assert set(found["changed"][0]) == {"path", "path_b", "true", "a", "b", "change"}

    numbers = [(path, str(place), split, content) for place, (path, _, split, content) in enumerate(images())]
    truth = np.arange(60.0)[:, None]
    runs = [fake_run(tmp_path / f"R{noise}", numbers, truth + random.normal(0, noise, truth.shape), "regression") for noise in (1, 3)]
    found = compare(runs[0], against=runs[1])
    assert found["verdict"].startswith("A is better: mean absolute error ")
    errors = [abs(float(row["b"]) - float(row["true"])) - abs(float(row["a"]) - float(row["true"])) for row in found["changed"]]
    worse = [error for error in errors if error > 0]
    assert errors == [*sorted(worse, reverse=True), *sorted(error for error in errors if error < 0)]


def test_the_command_line_shows_it_and_writes_the_images(
    pair: Callable[..., tuple[Path, Path]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    a, b = pair(wrong=[0, 1, 40])
    for name in ("changed.csv", "changed.jsonl"):
        assert run.main(["--mode", "compare", str(a), str(b), "--output", str(tmp_path / name)]) == 0
    shown = capfd.readouterr().out
    found = tl_keras.compare(a, b)
    assert found["verdict"] in shown
    assert f"A  {a}: small_resnet, extract  accuracy 0.6667 (95 % interval " in shown
    assert "right in both 39  in A alone 1  in B alone 18  in neither 2  McNemar's test: p = 7.6e-05" in shown
    assert "worse in B: 1 image:\n  bee/040.jpg  true: bee  A: bee 0.90  B: wasp 0.90\nbetter in B: 18 images, 5 of them:\n" in shown
    assert f"{tmp_path / 'changed.csv'}: 19 images of which the two say something else" in shown
    with (tmp_path / "changed.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [{key: str(value) for key, value in row.items()} for row in found["changed"]]
    assert [json.loads(line) for line in (tmp_path / "changed.jsonl").read_text().splitlines()] == found["changed"]


def test_a_trained_run_and_its_copy_say_the_same(trained: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    copy = shutil.copytree(trained[0], tmp_path / "copy")
    found = tl_keras.compare(trained[0], copy)
    assert (found["images"], found["changed"], found["is_told"]) == (6, [], False)
    metrics = json.loads((copy / run_folder.METRICS).read_text())["test"]
    for name, each in found["figures"].items():
        assert each["b"] == pytest.approx(metrics[name], abs=1e-5)
    assert run.main(["compare", str(trained[0]), str(copy)]) == 0
    assert "both say the same of every image" in capfd.readouterr().out


def test_a_table_that_is_read_in_parts_is_the_same(pair: Callable[..., tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = pair(range(10, 40))
    whole = compare(a, against=b)
    monkeypatch.setattr(prediction_file, "LINES", 7)
    assert [len(part.paths) for part in prediction_file.read_parts(a / run_folder.PREDICTIONS)] == [7] * 8 + [4]
    assert compare(a, against=b) == whole
