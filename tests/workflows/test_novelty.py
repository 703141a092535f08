"""Runs tell images of none of their classes: what training fits, and that predict and the SavedModel say the same."""

import csv
import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tl_keras import run_folder
from tl_keras.config import Config, ExportConfig
from tl_keras.deploy import parity
from tl_keras.deploy.exported import Exported
from tl_keras.deploy.formats import FORMATS, SAVED_MODEL
from tl_keras.deploy.predictor import Predictor
from tl_keras.errors import ExportError, RunFolderError
from tl_keras.evaluation.novelty_file import read_novelty
from tl_keras.run_folder import RunFolder
from tl_keras.trained_run import open_run
from tl_keras.workflows.export import export
from tl_keras.workflows.predict import predict, write_predictions
from tl_keras.workflows.train import train

PER_CLASS = 40  # 20 of val are enough for a threshold

Runs = dict[str, Path]


@pytest.fixture(scope="module")
def photos(photo_folder: Callable[..., Path]) -> Path:
    return photo_folder(per_class=PER_CLASS, size=(16, 16))


@pytest.fixture(scope="module")
def two_stages(tmp_path_factory: pytest.TempPathFactory) -> str:
    pixels = keras.Input((16, 16, 3))
    x = keras.layers.Rescaling(1 / 255)(pixels)
    for width in (6, 8):
        x = keras.layers.Conv2D(width, 3, strides=2, activation="relu", kernel_initializer=keras.initializers.HeNormal(seed=width))(x)
    path = tmp_path_factory.mktemp("two") / "two.keras"
    keras.Model(pixels, x).save(path)
    return str(path)


@pytest.fixture(scope="module")
def runs(photos: Path, two_stages: str, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """A run of each kind of feed: on stored features, on stored feature maps, and on pixels."""
    folder, found = tmp_path_factory.mktemp("runs"), {}
    kinds: dict[str, dict[str, Any]] = {
        "extract": {"mode": "extract"},
        "finetune": {"mode": "finetune", "train": {"epochs": 1, "unfreeze_from": "stage2"}},
        "pixels": {"mode": "finetune", "train": {"epochs": 1, "unfreeze_from": "all"}},
        "pretrain": {"mode": "pretrain", "train": {"epochs": 1}},
    }
    for name, kind in kinds.items():
        settings = {"data": {"source": str(photos), "val_fraction": 0.25}, "model": {"backbone": two_stages}, **kind}
        train(Config.model_validate(settings), folder / name, pictures=False)
        found[name] = folder / name
    return found


def splits_of(run: Path) -> dict[str, str]:
    with (run / run_folder.SPLITS).open(newline="") as file:
        return {line["path"]: line["split"] for line in csv.DictReader(file)}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["extract", "finetune", "pixels", "pretrain"])
def test_what_training_found_on_stored_features_is_what_predict_finds_on_pixels(runs: Runs, photos: Path, name: str) -> None:
    run = runs[name]
    told = json.loads((run / run_folder.METRICS).read_text())["novelty"]
    splits = splits_of(run)
    test = [str(photos / path) for path, split in splits.items() if split == "test"]
    val = [str(photos / path) for path, split in splits.items() if split == "val"]
    found = list(predict(run, test))
    assert told["false_alarms"] == 0.05
    assert told["flagged"] == pytest.approx(np.mean([not each.known for each in found]), abs=1 / len(test))
    own = np.sort([each.novelty for each in predict(run, val)])  # 20: the threshold is the largest
    assert told["threshold"] == pytest.approx(own[-1], rel=2e-2)  # feature maps are stored in float16
    novelty = read_novelty(RunFolder.at(run), open_run(run).model)
    assert novelty is not None
    assert len(novelty.basis.maps) == (name == "finetune")
    assert [each.known for each in found] == [bool(each.novelty <= novelty.threshold) for each in found]


def test_predictions_have_columns_for_it(runs: Runs, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "a_bad.png").write_bytes(b"")
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / "black.png")
    shutil.copy(photos / "cat" / "000.png", tmp_path / "cat.png")
    bad, black, cat = found = list(predict(runs["finetune"], [str(tmp_path / "*.png")]))
    assert (black.known, cat.known, bad.known) == (False, True, None)
    assert black.novelty > cat.novelty
    for target in (tmp_path / "found.csv", tmp_path / "found.jsonl"):
        write_predictions(target, found)
    with (tmp_path / "found.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["known"] for line in lines] == ["", "false", "true"]
    assert [line["novelty"] for line in lines] == ["", f"{black.novelty:.6f}", f"{cat.novelty:.6f}"]
    read = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    assert [(each.get("novelty"), each.get("known")) for each in read] == [(None, None), (black.novelty, False), (cat.novelty, True)]


@pytest.mark.slow
@pytest.mark.usefixtures("quick_exports")
def test_the_saved_model_tells_the_same(runs: Runs, photos: Path) -> None:
    result = export(runs["finetune"])
    row = result["formats"]["saved_model"]
    assert max(row[f"largest_{what}difference"][each] for what in ("", "novelty_") for each in ("float", "uint8")) <= 1e-5
    predictor = Predictor(open_run(runs["finetune"]))
    pixels = np.stack([np.asarray(Image.open(path)) for path in sorted(photos.rglob("*.png"))[:9]])
    logits, novelty = predictor.outputs(pixels)
    said = tf.saved_model.load(f"{result['folder']}/saved_model").signatures["uint8"](pixels=tf.constant(pixels))
    assert said["novelty"].shape == said["known"].shape == (9,)
    np.testing.assert_allclose(said["novelty"], novelty, atol=1e-5, rtol=1e-5)
    assert said["known"].numpy().tolist() == predictor.novelty.is_known(novelty).tolist()  # type: ignore[union-attr]
    assert logits.shape == (9, 2)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_exports")
def test_predict_knows_by_the_threshold_of_the_form_that_answers(runs: Runs, photos: Path, tmp_path: Path, heard: Any) -> None:
    run = shutil.copytree(runs["extract"], tmp_path / "R")
    row = export(run, formats=["litert_float16"], progress=heard)["formats"]["litert_float16"]
    novelty = read_novelty(RunFolder.at(run), open_run(run).model)
    assert novelty is not None
    val = [str(photos / path) for path, split in splits_of(run).items() if split == "val"]
    told = list(predict(run, val, formats=["litert_float16"]))
    assert row["novelty_threshold"] == pytest.approx(max(each.novelty for each in told), rel=1e-6)  # of 20, as the model's
    assert row["novelty_threshold"] == pytest.approx(novelty.threshold, rel=0.05)
    assert all(each.known for each in told)
    assert not any("novelty threshold" in line for line in heard.lines)
    record = json.loads((run / "export" / "export.json").read_text())
    record["formats"]["litert_float16"]["novelty_threshold"] = -1e6
    (run / "export" / "export.json").write_text(json.dumps(record))
    assert not any(each.known for each in predict(run, val, formats=["litert_float16"]))
    few = shutil.copytree(photos, tmp_path / "few")
    for path in val[1:]:
        (few / Path(path).relative_to(photos)).unlink()
    row = export(run, formats=["litert_float16"], source=str(few), progress=heard)["formats"]["litert_float16"]
    assert row["novelty_threshold"] == novelty.threshold
    assert "what rounds numbers keeps the model's novelty threshold: one of its own takes 19 images of val, and 1 are there" in heard.lines


@pytest.mark.parametrize("kind", ["same", "other", "missing"])
def test_an_export_that_tells_another_novelty_is_found_out(runs: Runs, photos: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    trained, files = open_run(runs["extract"]), sorted(photos.rglob("*.png"))[:3]
    novelty = read_novelty(trained.run, trained.model)
    exported, form = Exported(trained.model, trained.index.classes, "crop", novelty=novelty), FORMATS[SAVED_MODEL]
    reference = parity.Reference.of(exported, files)
    said = np.concatenate([reference.answers, reference.novelty], axis=1)
    told = {"same": said, "other": said + np.array([0, 0, 1e-2]), "missing": said[:, :-1]}[kind]
    monkeypatch.setattr(parity, "ask", lambda *_, **__: parity.Said(dict.fromkeys(form.allowance, told), {}, {}))
    with (
        nullcontext()
        if kind == "same"
        else pytest.raises(
            ExportError, match="RUN/out: tells other outputs" if kind == "missing" else r"'float' differs from the model by 0\.0"
        )
    ):
        parity.check(form, parity.compare(exported, form, photos, reference, name="RUN/out"), ExportConfig())


def test_a_damaged_file_is_told_in_a_line(runs: Runs, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(runs["extract"], tmp_path / "R")
    (tmp_path / "R" / "novelty.npz").write_bytes(b"PK")
    with pytest.raises(RunFolderError, match=r"novelty\.npz: is damaged.*Train again, or remove the file"):
        list(predict(tmp_path / "R", [str(photos)]))
    (tmp_path / "R" / "novelty.npz").unlink()
    assert {each.novelty for each in predict(tmp_path / "R", [str(photos)])} == {None}


def test_a_run_with_too_few_images_of_val_has_none(trained: tuple[Path, Path]) -> None:
    run, photos = trained
    assert not (run / "novelty.npz").exists()
    assert "novelty" not in json.loads((run / run_folder.METRICS).read_text())
    assert {(each.novelty, each.known) for each in predict(run, [str(photos)])} == {(None, None)}
