"""`compress`: which forms a run gets, that each is made once, and what is said of them."""

import csv
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tl_keras import run
from tl_keras.config import Config
from tl_keras.config_file import to_yaml
from tl_keras.errors import BackboneError, ConfigError, ExportError, RunFolderError
from tl_keras.run_folder import RunFolder
from tl_keras.trained_run import open_run, read_config
from tl_keras.workflows import compress as module
from tl_keras.workflows.compress import compress
from tl_keras.workflows.predict import predict

Run = tuple[Path, Path]


@pytest.fixture
def copied(trained: Run, tmp_path: Path) -> Path:
    return shutil.copytree(trained[0], tmp_path / "R")


def base(folder: Path, **settings: Any) -> Config:
    """The configuration that forms of a run are made of."""
    return module.with_own_sections(module.for_more_training(RunFolder(folder), None), module.SETTABLE, settings)


def test_a_pruned_run_is_a_finetuning_of_the_runs_own_network(copied: Path) -> None:
    config = base(copied, **{"train.epochs": 2})
    found = module.pruned(config, RunFolder(copied), 0.8)
    own = read_config(RunFolder(copied))
    assert (found.mode, found.model.backbone, found.train.sparsity) == ("finetune", str(copied / "model.keras"), 0.8)
    assert (found.train.teacher, found.train.epochs, found.model.weights) == (None, 2, "pretrained")
    assert found.data == own.data


def test_a_student_learns_from_the_run_at_its_own_size(copied: Path) -> None:
    found = module.student(base(copied, **{"train.teacher_weight": 0.75}), "mobilenet_025")
    assert (found.train.teacher, found.train.teacher_weight, found.train.sparsity) == (str(copied), 0.75, 0)
    assert (found.model.backbone, found.data.image_size, found.train.unfreeze_from) == ("mobilenet_025", None, None)


def test_of_a_finetuning_the_settings_stay_but_for_what_the_backbone_decides(copied: Path) -> None:
    file = copied / "config.yaml"
    text = file.read_text().replace("mode: extract", "mode: finetune").replace("weight_decay: 0.01", "weight_decay: 0.2")
    file.write_text(text.replace("unfreeze_from: all", "unfreeze_from: stage4"))
    config = base(copied)
    assert (config.train.weight_decay, config.train.unfreeze_from) == (0.2, "stage4")
    assert module.student(config, "mobilenet_025").train.unfreeze_from is None
    assert module.pruned(config, RunFolder(copied), 0.5).train.unfreeze_from == "stage4"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("mode: extract", "mode: adapt", r"R: is a run of adapt; compress takes those of extract, finetune, pretrain\."),
        ("task: single_label", "task: multi_label", r"R: was trained with data\.task=multi_label; compress takes runs of single_label\."),
    ],
)
def test_other_runs_are_refused(copied: Path, old: str, new: str, message: str) -> None:
    file = copied / "config.yaml"
    file.write_text(file.read_text().replace(old, new).replace("label_smoothing: 0.1", "label_smoothing: 0.0"))
    with pytest.raises(RunFolderError, match=message):
        compress(copied)
    assert not (copied / "compress").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"formats": ["onx"]}, r"--format: got 'onx', expected one of"),
        (
            {"settings": {"data.image_size": 3}},
            r"data\.image_size: only settings of 'compress', 'export', 'rank' and 'train' can be set here",
        ),
        ({"settings": ["compress.sparsities=[1]"]}, r"compress\.sparsities"),
        ({"settings": {"compress.students": ["mobilenet_v2", "mobilnet_025"]}}, r"Did you mean 'mobilenet_025'"),
        ({"settings": {"compress.students": ["MobileNetV2", "mobilenet_v2"]}}, r"got several backbones that are called mobilenet_v2"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_made(given: dict[str, Any], message: str, copied: Path) -> None:
    with pytest.raises((ConfigError, BackboneError), match=message):
        compress(copied, **given)
    assert not (copied / "compress").exists()


def ranked(folder: Path, *rows: tuple[str, float, bool]) -> RunFolder:
    """A folder with a ranking, the best first."""
    (folder / module.RANKING).mkdir(parents=True)
    candidates = [{"backbone": name, "ms": ms, "on_front": on_front} for name, ms, on_front in rows]
    (folder / module.RANKING / "rank.json").write_text(json.dumps({"candidates": candidates}))
    return RunFolder(folder)


def test_students_are_the_best_of_the_front_that_are_faster(copied: Path, tmp_path: Path, heard: Any) -> None:
    own = base(copied).model.backbone
    rows = [("resnet50", 9.0, True), ("a", 3.0, True), ("b", 2.5, False), (own, 3.5, False), ("c", 2.0, True), ("d", 1.0, True)]
    assert module.proposed(base(copied), ranked(tmp_path / "one", *rows), heard) == ["a", "c"]
    assert heard.lines == ["students: a, c"]
    alone = ranked(tmp_path / "two", ("resnet50", 9.0, True), (own, 3.5, True))
    assert module.proposed(base(copied), alone, heard) == []
    assert heard.lines[-1] == "students: none: no backbone on this machine is faster than three_stages"


def test_the_ranking_is_of_published_weights_at_the_size_of_each(copied: Path, tmp_path: Path, heard: Any, monkeypatch: Any) -> None:
    asked, own = [], base(copied).model.backbone

    def rank(config: Config, folder: Path, **_: Any) -> None:
        asked.append(config)
        ranked(folder.parent, (own, 3.5, True))

    monkeypatch.setattr(module, "rank", rank)
    module.proposed(base(copied), RunFolder(tmp_path / "compress"), heard)
    (config,) = asked
    assert (config.rank.candidates, config.data.image_size, config.model.weights) == (("cached", own), None, "pretrained")


def test_a_form_that_is_refused_is_told_and_not_tried_again(copied: Path, monkeypatch: Any, heard: Any) -> None:
    asked = []

    def export(folder: Path, **given: Any) -> dict[str, Any]:
        asked.append(given["formats"])
        if given["formats"] == ["onnx"]:
            raise ExportError("model.onnx: cannot be written.")
        return {"missed": ["model_int8.tflite: is not kept: it differs."], "formats": {}}

    monkeypatch.setattr(module, "export", export)
    given: dict[str, Any] = {"formats": ["litert_int8", "onnx"], "settings": {"compress.sparsities": [], "compress.students": []}}
    for _ in range(2):
        result = compress(copied, **given, progress=heard)
        assert [point["refused"] for point in result["points"]] == [
            "model_int8.tflite: is not kept: it differs.",
            "model.onnx: cannot be written.",
        ]
    assert asked == [["litert_int8"], ["onnx"]]
    compress(copied, **given | {"settings": given["settings"] | {"export.min_agreement": 0.5}})
    assert len(asked) == 4  # by other bounds it may pass
    lines = list(csv.DictReader((copied / "compress" / "compress.csv").read_text().splitlines()))
    assert [(line["run"], line["format"], line["refused"][:10]) for line in lines] == [
        ("original", "litert_int8", "model_int8"),
        ("original", "onnx", "model.onnx"),
    ]


def as_if_trained(run: Path, calls: list[str], config: Config, folder: Path, *, resume: bool, **_: Any) -> None:
    """A training that leaves what another run has, and is killed the first time."""
    calls.append(f"{folder.name}, resumed: {resume}")
    folder.mkdir(exist_ok=True)
    shutil.copy(run / "splits.csv", folder)
    (folder / "config.yaml").write_text(to_yaml(config))
    if len(calls) == 1:
        raise KeyboardInterrupt
    for name in ("model.keras", "stages.json"):
        shutil.copy(run / name, folder)
    metrics = json.loads((run / "metrics.json").read_text()) | {"backbone": config.model.backbone, "zeros": config.train.sparsity}
    (folder / "metrics.json").write_text(json.dumps(metrics))


def as_if_exported(calls: list[str], folder: Path, *, formats: list[str], **_: Any) -> dict[str, Any]:
    """An export that passed, with its record."""
    calls.append(folder.name)
    (folder / "export").mkdir(exist_ok=True)
    (folder / "export" / "model.tflite").write_bytes(bytes(1000))
    row = {
        **{"file": "model.tflite", "bytes": 1000, "sha256": {}, "agreement": 1.0, "largest_difference": {"float": 0.0}, "images": 6},
        **{"single_ms": 1.0, "images_per_second": 10.0, "accuracy": 0.5, "accuracy_ci95": [0.2, 0.8]},
    }
    record = {"formats": dict.fromkeys(formats, row)}
    (folder / "export" / "export.json").write_text(json.dumps(record))
    return record | {"missed": []}


def test_killed_and_started_again_it_does_nothing_twice(
    copied: Path, own_backbone: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained_runs, exported_runs, timed = list[str](), list[str](), list[str]()
    monkeypatch.setattr(module, "train", partial(as_if_trained, copied, trained_runs))
    monkeypatch.setattr(module, "export", partial(as_if_exported, exported_runs))
    monkeypatch.setattr(
        module, "speed_of", lambda *given: timed.append(given[1].parent.parent.name) or {"single_ms": 2.0, "images_per_second": 5.0}
    )
    settings = [f"compress.students=[{own_backbone}]", "compress.sparsities=[0.5]", "train.epochs=3"]
    words = ["compress", str(copied), "--format", "litert", *(word for each in settings for word in ("--set", each))]
    assert run.main(words) == 130
    assert run.main(words) == 0
    assert run.main(words) == 0
    assert trained_runs == ["pruned_0.5, resumed: False", "pruned_0.5, resumed: True", "student_own, resumed: False"]
    assert exported_runs == ["R", "pruned_0.5", "student_own"]
    assert timed == exported_runs * module.ROUNDS * 2  # times alone are measured again

    folder = copied / "compress"
    record = json.loads((folder / "compress.json").read_text())
    assert [(name, each["zeros"]) for name, each in record["runs"].items()] == [("original", 0), ("pruned_0.5", 0.5), ("student_own", 0)]
    for point in record["points"]:
        assert (point["bytes"], point["single_ms"], point["accuracy"]) == (1000, 2.0, 0.5)
        assert 0 < point["compressed_bytes"] < 100
    lines = list(csv.DictReader((folder / "compress.csv").read_text().splitlines()))
    assert [(line["run"], line["zeros"], line["bytes"], line["low"]) for line in lines] == [
        (name, zeros, "1000", "0.2") for name, zeros in (("original", "0.0"), ("pruned_0.5", "0.5"), ("student_own", "0.0"))
    ]
    assert (folder / "compress.png").read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()
    assert run.main([*words, "--set", "train.epochs=2"]) == 2
    assert "was made with train.epochs=3, not 2. Remove that folder, or the setting." in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.slow
def test_the_network_of_a_run_is_pruned_and_what_results_is_a_run(copied: Path, trained: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "export", lambda *_, **__: {"missed": ["not now"], "formats": {}})
    found = compress(copied, formats=["litert"], settings=["compress.sparsities=[0.5]", "compress.students=[]", "train.epochs=1"])
    pruned = open_run(copied / "compress" / "pruned_0.5")
    assert (pruned.config.train.sparsity, pruned.config.train.unfreeze_from) == (0.5, "all")
    assert 0.4 < found["runs"]["pruned_0.5"]["zeros"] < 0.6
    assert len(list(predict(copied / "compress" / "pruned_0.5", [str(next(trained[1].rglob("*.png")))]))) == 1
