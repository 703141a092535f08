"""Adapting from a source to a target: from the command line, without ever reading a label of the target before everything is chosen."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import tl_keras
from tl_keras import run
from tl_keras.adaptations import TRAINED
from tl_keras.data.target import open_target
from tl_keras.errors import ConfigError, DataError
from tl_keras.transfer import phases
from tl_keras.transfer.adapt.choice import Candidate
from tl_keras.transfer.adapt.record import read_adaptation
from tl_keras.workflows import train as workflow

CLASSES = ("ant", "bee", "fly")


class UntouchableError(Exception):
    """A label of the target was read."""


class Untouchable(np.ndarray):
    """Labels of which nothing but the number may be known."""

    def __new__(cls, labels: NDArray[np.int32]) -> "Untouchable":
        return labels.view(cls)

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise UntouchableError

    __getitem__ = __iter__ = __array_ufunc__ = __array_function__ = __eq__ = __ne__ = _refuse  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]


@pytest.fixture(scope="module")
def domains(photo_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Photos, and the same kinds of photos darkened."""
    source = photo_folder(classes=CLASSES, per_class=14, size=(16, 16))
    target = Path(shutil.copytree(photo_folder(classes=CLASSES, per_class=9, size=(17, 16)), tmp_path_factory.mktemp("dark") / "dark"))
    for path in target.rglob("*.*"):
        pixels = np.asarray(Image.open(path))
        Image.fromarray((pixels * 0.4 + 20).astype(np.uint8)).save(path)
    return source, target


def adapted(domains: tuple[Path, Path], run_dir: Path, **more: Any) -> dict[str, Any]:
    given = {"data": domains[0], "target": domains[1], "image_size": 16, "weights": "none", "settings": {"train.epochs": 2}} | more
    return tl_keras.adapt(run_dir=run_dir, **given)


def same_weights(one: Path, other: Path) -> None:
    """Both runs have the same model, bit by bit."""
    models = [keras.models.load_model(run / "model.keras", compile=False) for run in (one, other)]
    for left, right in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(left, right)


SHORT = {"train.epochs": 1, "model.preprocessing": "none"}


@pytest.fixture(scope="module")
def auto(domains: tuple[Path, Path], own_backbone: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("auto") / "R"
    return folder, adapted(domains, folder, backbone=own_backbone, settings=SHORT)


@pytest.mark.slow
def test_a_run_says_how_the_target_fares(auto: tuple[Path, dict[str, Any]]) -> None:
    folder, metrics = auto
    target = metrics["target"]
    assert target["images"] == 27
    assert set(target["figures"]) == {"source_only", target["method"]}
    assert [one["method"] for one in target["candidates"]][:3] == ["source_only", "adabn", "self_training"]  # darkened: far apart
    assert set(target["distances"]) == {"source_only", *target["members"]}
    lines = (folder / "target_predictions.csv").read_text().splitlines()
    assert lines[0] == "path,true_class,predicted_class,probability,predicted_by_source_only"
    assert len(lines) == 28
    page = (folder / "report.html").read_text()
    assert "of the 27 images of the target (95" in page
    assert "What is taken for what (target domain)" in page
    assert "(source domain)" not in page
    right = np.mean([line.split(",")[1] == line.split(",")[2] for line in lines[1:]])
    assert right == pytest.approx(target["figures"][target["method"]]["accuracy"])


def test_both_domains_are_drawn_before_and_after(auto: tuple[Path, dict[str, Any]]) -> None:
    with Image.open(auto[0] / "domains.png") as image:
        assert image.size[0] == 2 * 594


@pytest.mark.slow
@pytest.mark.parametrize("method", ["source_only", "ulsif"])
def test_features_that_nothing_moves_are_drawn_once(method: str, domains: tuple[Path, Path], tmp_path: Path) -> None:
    adapted(domains, tmp_path / "R", settings={"adapt.method": method})
    with Image.open(tmp_path / "R" / "domains.png") as image:
        assert image.size[0] == 594


def test_later_modes_take_the_run(auto: tuple[Path, dict[str, Any]], domains: tuple[Path, Path]) -> None:
    folder, metrics = auto
    again = tl_keras.evaluate(folder, data=domains[1])
    assert again["test"]["accuracy"] == pytest.approx(metrics["target"]["figures"][metrics["target"]["method"]]["accuracy"])
    said = list(tl_keras.predict(folder, domains[1] / "ant"))
    assert len(said) == 9


@pytest.mark.slow
def test_labels_of_the_target_are_read_after_everything_is_chosen(
    auto: tuple[Path, dict[str, Any]], domains: tuple[Path, Path], own_backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def untouchable(*arguments: Any) -> Any:
        found = open_target(*arguments)
        return replace(found, labels=Untouchable(found.labels))

    monkeypatch.setattr(workflow, "open_target", untouchable)
    with pytest.raises(UntouchableError):
        adapted(domains, tmp_path / "R", backbone=own_backbone, settings=SHORT)
    report = json.loads((tmp_path / "R" / "adaptation.json").read_text())
    assert report["candidates"] == json.loads((auto[0] / "adaptation.json").read_text())["candidates"]
    monkeypatch.setattr(workflow, "measure_target", lambda task, *_: {"images": 27, **read_adaptation(task)})
    tl_keras.adapt(run_dir=tmp_path / "R", resume=True)  # nor by what comes after the figures of the target
    assert (tmp_path / "R" / "metrics.json").is_file()


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_and_a_seed_gives_one_result(
    auto: tuple[Path, dict[str, Any]], domains: tuple[Path, Path], own_backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(workflow, "_finish", stop)
        with pytest.raises(KeyboardInterrupt):
            adapted(domains, tmp_path / "R", backbone=own_backbone, settings=SHORT)
    tl_keras.adapt(run_dir=tmp_path / "R", resume=True)
    one, other = ((folder / "target_predictions.csv").read_bytes() for folder in (auto[0], tmp_path / "R"))
    assert one == other


@pytest.mark.slow
def test_a_run_does_not_go_on_with_other_target_images(domains: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    target = Path(shutil.copytree(domains[1], tmp_path / "target"))
    with monkeypatch.context() as patched:
        patched.setattr(workflow, "_finish", stop)
        with pytest.raises(KeyboardInterrupt):
            adapted((domains[0], target), tmp_path / "R", settings={"adapt.method": "standardise"})
    one, other = sorted(target.rglob("*.*"))[:2]  # as many images as before, and the same contents, in another order
    contents = one.read_bytes(), other.read_bytes()
    one.write_bytes(contents[1])
    other.write_bytes(contents[0])
    with pytest.raises(DataError, match="the images of the target are not those that this run was adapted to"):
        tl_keras.adapt(run_dir=tmp_path / "R", resume=True)


def test_a_plan_looks_at_the_target(domains: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    line = ["--mode", "adapt", "--data", str(domains[0]), "--image-size", "16", "--weights", "none", "--dry-run", "--target"]
    other = Path(shutil.copytree(domains[1], tmp_path / "other"))
    (other / "fly").rename(other / "wasp")
    assert run.main([*line, str(other)]) == 2
    assert "has a class 'wasp'" in capfd.readouterr().err
    assert run.main([*line, str(domains[1])]) == 0
    assert "target: 27 images" in capfd.readouterr().out


@pytest.mark.slow
def test_the_command_line_shows_scores_and_figures(domains: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    line = ["adapt", *map(str, domains), "--image-size", "16", "--weights", "none", "--run-dir", str(tmp_path / "R")]
    assert run.main([*line, "--set", "adapt.method=coral"]) == 0
    said = capfd.readouterr().out
    assert "for the target alone" not in said
    assert run.main([*line[:-1], str(tmp_path / "S"), "--set", "adapt.method=adabn"]) == 0
    assert "the model is for the target alone" in capfd.readouterr().out
    assert "* coral" in said
    assert "target, source_only: accuracy" in said
    assert "target, coral: accuracy" in said
    assert "target: mean probabilities of the images of each class, the 3 largest (NCE " in said
    assert "source test accuracy" in said


@pytest.mark.slow
def test_a_target_without_labels_has_no_accuracy(domains: tuple[Path, Path], tmp_path: Path) -> None:
    loose = tmp_path / "loose"
    loose.mkdir()
    for number, path in enumerate(sorted(domains[1].rglob("*.*"))):
        shutil.copy(path, loose / f"{number}{path.suffix}")
    (loose / "broken.png").write_bytes(b"nothing")
    found = adapted((domains[0], loose), tmp_path / "R", settings={"adapt.method": "standardise"})["target"]
    assert (found["images"], found["skipped"]) == (27, 1)
    assert not {"figures", "relations"} & set(found)


def test_a_target_that_does_not_decode_leaves_no_run(domains: tuple[Path, Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for number in range(25):
        (broken / f"{number}.png").write_bytes(bytes([number]))
    with pytest.raises(DataError):
        adapted((domains[0], broken), tmp_path / "R")
    assert not (tmp_path / "R").exists()


@pytest.mark.slow
def test_adabn_gives_the_model_the_statistics_of_the_target(domains: tuple[Path, Path], own_backbone: str, tmp_path: Path) -> None:
    found = adapted(domains, tmp_path / "R", backbone=own_backbone, settings={"adapt.method": "adabn"})
    assert found["target"]["members"] == ["adabn"]
    models = [keras.models.load_model(path, compile=False) for path in (own_backbone, tmp_path / "R" / "model.keras")]
    before, after = (next(layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)) for model in models)
    assert np.allclose(before.gamma, after.gamma)
    assert not np.allclose(before.moving_mean, after.moving_mean)
    again = tl_keras.evaluate(tmp_path / "R", data=domains[1])["test"]
    assert again["accuracy"] == pytest.approx(found["target"]["figures"]["adabn"]["accuracy"])
    assert tl_keras.evaluate(tmp_path / "R")["test"]["accuracy"] == pytest.approx(found["test"]["accuracy"])  # of the source, as it says


@pytest.mark.slow
def test_a_stopped_run_with_other_statistics_goes_on(domains: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    adapted(domains, tmp_path / "whole", settings={"adapt.method": "adabn"})
    with monkeypatch.context() as patched:
        patched.setattr(workflow, "_finish", stop)
        with pytest.raises(KeyboardInterrupt):
            adapted(domains, tmp_path / "R", settings={"adapt.method": "adabn"})
    tl_keras.adapt(run_dir=tmp_path / "R", resume=True)
    same_weights(tmp_path / "whole", tmp_path / "R")


@pytest.mark.slow
def test_self_training_starts_from_statistics_of_each_domain_where_they_are_far_apart(domains: tuple[Path, Path], tmp_path: Path) -> None:
    found = adapted(domains, tmp_path / "R", settings={"adapt.method": "self_training"})["target"]
    assert (found["method"], found["members"]) == ("self_training", ["self_training"])
    assert [one["method"] for one in found["candidates"]] == ["source_only", "adabn", "self_training"]
    again = tl_keras.evaluate(tmp_path / "R", data=domains[1])["test"]
    assert again["accuracy"] == pytest.approx(found["figures"]["self_training"]["accuracy"])
    assert again["log_loss"] == pytest.approx(found["figures"]["self_training"]["log_loss"], rel=1e-3)


@pytest.mark.slow
def test_domains_that_are_near_keep_the_backbone_s_statistics(
    domains: tuple[Path, Path], photo_folder: Callable[..., Path], tmp_path: Path
) -> None:
    near = photo_folder(classes=CLASSES, per_class=9, size=(17, 16))
    found = adapted((domains[0], near), tmp_path / "R")["target"]
    assert found["distances"]["source_only"]["proxy_a"] < 1
    assert "adabn" not in [one["method"] for one in found["candidates"]]


def test_a_backbone_without_batchnorm_cannot_have_other_statistics(domains: tuple[Path, Path], tmp_path: Path) -> None:
    pixels = keras.Input((16, 16, 3))
    keras.Model(pixels, keras.layers.Conv2D(4, 3)(pixels)).save(tmp_path / "plain.keras")
    with pytest.raises(ConfigError, match=r"^adapt.method: got 'adabn', but .*plain.keras has no BatchNorm layers of its own"):
        adapted(
            domains, tmp_path / "R", backbone=tmp_path / "plain.keras", settings={"adapt.method": "adabn", "model.preprocessing": "none"}
        )


@pytest.mark.slow
@pytest.mark.parametrize("method", TRAINED)
def test_a_method_trains_the_network_and_the_run_is_like_others(
    method: str, domains: tuple[Path, Path], own_backbone: str, tmp_path: Path
) -> None:
    settings = {"adapt.method": method, "train.epochs": 1, "model.preprocessing": "none"}
    found = adapted(domains, tmp_path / "R", backbone=own_backbone, settings=settings)
    target = found["target"]
    assert (target["method"], target["members"]) == (method, [method])
    assert [one["method"] for one in target["candidates"]] == ["source_only", "adabn", method]
    assert set(target["distances"]) == set(target["figures"]) == {"source_only", method}
    lines = [line.split(",") for line in (tmp_path / "R" / "history.csv").read_text().splitlines()[1:]]
    assert [line[:2] for line in lines] == [["adapt", "1"], *([method, str(epoch)] for epoch in range(2))]
    again = tl_keras.evaluate(tmp_path / "R", data=domains[1])["test"]
    assert again["accuracy"] == pytest.approx(target["figures"][method]["accuracy"])
    assert again["log_loss"] == pytest.approx(target["figures"][method]["log_loss"], rel=1e-3)


@pytest.mark.slow
def test_a_training_on_two_domains_that_was_stopped_goes_on(
    domains: tuple[Path, Path], own_backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"adapt.method": "cdan", "train.epochs": 2, "model.preprocessing": "none", "model.dropout": 0.3}
    adapted(domains, tmp_path / "whole", backbone=own_backbone, settings=settings)
    written = phases.SaveState.on_epoch_end

    def stop(self: Any, epoch: int, logs: Any = None) -> None:
        if epoch == 1:
            raise KeyboardInterrupt
        written(self, epoch, logs)

    with monkeypatch.context() as patched:
        patched.setattr(phases.SaveState, "on_epoch_end", stop)
        with pytest.raises(KeyboardInterrupt):
            adapted(domains, tmp_path / "R", backbone=own_backbone, settings=settings)
    tl_keras.adapt(run_dir=tmp_path / "R", resume=True)
    same_weights(tmp_path / "whole", tmp_path / "R")
    one, other = (json.loads((tmp_path / name / "adaptation.json").read_text()) for name in ("whole", "R"))
    assert one == other


@pytest.mark.slow
@pytest.mark.parametrize(
    ("distrusted", "rule", "kept"),
    [(["mcc"], "", ["self_training"]), (["mcc", "self_training"], "", ["auto", "adabn"]), ([], "outdone", ["self_training"])],
    ids=["to a head", "to the mean", "to a better head"],
)
def test_auto_goes_back_where_the_trained_network_cannot_be_trusted(
    distrusted: list[str],
    rule: str,
    kept: list[str],
    domains: tuple[Path, Path],
    own_backbone: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To the head that labels the target itself, or to the mean of the trusted where that cannot be trusted either."""
    monkeypatch.setattr(Candidate, "holds", lambda self, baseline: self.method not in distrusted)
    monkeypatch.setattr(Candidate, "outdoes", lambda self, kept, baseline: rule != "outdone" and self.holds(baseline))
    found = adapted(domains, tmp_path / "R", backbone=own_backbone, settings=SHORT)["target"]
    assert found["method"] in kept
    assert [one["method"] for one in found["candidates"]][-1] == "mcc"
    assert set(found["distances"]) == {"source_only", *found["members"]}
    again = tl_keras.evaluate(tmp_path / "R", data=domains[1])["test"]
    assert again["accuracy"] == pytest.approx(found["figures"][found["method"]]["accuracy"])


@pytest.mark.slow
def test_a_backbone_without_batchnorm_is_trained_as_it_is(domains: tuple[Path, Path], tmp_path: Path) -> None:
    pixels = keras.Input((16, 16, 3))
    keras.Model(pixels, keras.layers.Conv2D(4, 3, activation="relu")(pixels)).save(tmp_path / "plain.keras")
    settings = {"adapt.method": "dan", "model.preprocessing": "none", "train.epochs": 2}
    found = adapted(domains, tmp_path / "R", backbone=tmp_path / "plain.keras", settings=settings)["target"]
    assert [one["method"] for one in found["candidates"]] == ["source_only", "dan"]
    again = tl_keras.evaluate(tmp_path / "R", data=domains[1])["test"]
    assert again["accuracy"] == pytest.approx(found["figures"]["dan"]["accuracy"])
