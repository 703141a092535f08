"""The head's own phase: solved or by steps, on raw features in the end, and continued where it was done."""

import csv
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest

from tl_keras.config import Config
from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.progress import Progress
from tl_keras.run_folder import CHECKPOINTS
from tl_keras.transfer.frozen import POOLED
from tl_keras.transfer.head import problem
from tl_keras.transfer.head import train as head
from tl_keras.transfer.head.probe import Standardiser, fit_linear_probe
from tl_keras.transfer.head.selection import select_features
from tl_keras.transfer.snapshots import snapshots_of
from tl_keras.transfer.task import Task

MakeTask = Callable[..., Task]
HIDDEN = {"model": {"hidden": (4,)}, "train": {"head_epochs": 3}}


def pixels_of(task: Task, split: str) -> np.ndarray:
    return task.data.pixels.read(task.data.rows(split)).astype(np.float32)


def backbone_weights(task: Task) -> list[np.ndarray]:
    return task.classifier.trunk.get_weights()


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_linear_head_answers_on_pixels_as_the_probe_on_features(make_task: MakeTask) -> None:
    task = make_task(mode="extract")
    before = backbone_weights(task)
    head.train_head(task)
    features = {split: np.asarray(task.classifier.trunk(pixels_of(task, split))) for split in ("train", "val")}
    standardise = Standardiser.fit(features["train"])
    train, val = ((features[split], task.data.labels(split)) for split in ("train", "val"))
    probe = fit_linear_probe(train, val, standardise, np.ones(len(task.data.classes), np.float32))
    logits = np.asarray(task.classifier.model(pixels_of(task, "val")))
    np.testing.assert_allclose(logits, standardise(val[0]) @ probe.kernel + probe.bias, atol=1e-3)
    assert same(before, backbone_weights(task))  # BatchNorm's statistics too
    assert (logits.argmax(1) == task.data.labels("val")).all()


def test_a_solved_head_leaves_its_line_of_history(make_task: MakeTask) -> None:
    task = make_task(mode="extract", train={"head_c": 0.1})
    head.train_head(task)
    with (task.run / "history.csv").open(newline="") as file:
        (line,) = csv.DictReader(file)
    assert (line["phase"], line["epoch"], line["head_c"], line["learning_rate"]) == ("head", "1", "0.1", "")
    assert float(line["seconds"]) >= 0
    for split, prefix in (("train", ""), ("val", "val_")):
        logits = np.asarray(task.classifier.model(pixels_of(task, split)))
        targets = np.eye(2, dtype="float32")[task.data.labels(split)]
        loss = float(keras.losses.CategoricalCrossentropy(from_logits=True)(targets, logits))
        assert float(line[f"{prefix}loss"]) == pytest.approx(loss, rel=1e-3)
        assert float(line[f"{prefix}accuracy"]) == (logits.argmax(1) == task.data.labels(split)).mean()


@pytest.mark.slow
def test_head_with_hidden_layers_answers_on_pixels_as_val_said(make_task: MakeTask) -> None:
    task = make_task(mode="extract", **HIDDEN)
    before = backbone_weights(task)
    head.train_head(task)
    lines = [line.split(",") for line in (task.run / "history.csv").read_text().splitlines()[1:]]
    best = min(float(line[4]) for line in lines)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    targets = np.eye(2, dtype="float32")[task.data.labels("val")]
    found = float(loss(targets, task.classifier.model(pixels_of(task, "val"))))
    assert [line[:2] for line in lines] == [["head", "1"], ["head", "2"], ["head", "3"]]
    assert found == pytest.approx(best, abs=1e-3)
    assert same(before, backbone_weights(task))


@pytest.mark.slow
def test_head_has_no_restarts_and_no_snapshots(make_task: MakeTask) -> None:
    plain = make_task("plain", **HIDDEN)
    restarts = make_task("restarts", **HIDDEN | {"train": {"head_epochs": 3, "schedule": "cosine_restarts", "cycles": 2}})
    for task in (plain, restarts):
        head.train_head(task)
    assert same(plain.classifier.head.get_weights(), restarts.classifier.head.get_weights())
    assert snapshots_of(restarts.run) == []


@pytest.mark.slow
@pytest.mark.parametrize("sections", [{}, HIDDEN], ids=["linear", "hidden"])
def test_head_that_is_done_is_read_back(make_task: MakeTask, sections: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make_task(mode="extract", **sections)
    head.train_head(first)
    again = make_task(mode="extract", **sections)
    for module, name in ((problem, "fit_linear_probe"), (head, "run_phase")):
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("the head is trained again"))
    head.train_head(again)
    assert same(first.classifier.head.get_weights(), again.classifier.head.get_weights())


class StopAt(Progress):
    """Ctrl-C as the line of some epoch of the head comes."""

    def __init__(self, epoch: int) -> None:
        self.start = f"head {epoch:>3}/"

    def line(self, text: str) -> None:
        if text.startswith(self.start):
            raise KeyboardInterrupt


@pytest.mark.slow
def test_interrupted_head_takes_raw_features_and_goes_on_as_the_whole(make_task: MakeTask) -> None:
    whole = make_task("whole", "extract", **HIDDEN)
    head.train_head(whole)
    stopped = make_task("run", "extract", progress=StopAt(3), **HIDDEN)
    begin = stopped.classifier.head.get_layer("hidden1").get_weights()[0]
    with pytest.raises(KeyboardInterrupt):
        head.train_head(stopped)
    assert not (stopped.run / CHECKPOINTS / head.HEAD_WEIGHTS).exists()
    kernel = stopped.classifier.head.get_layer("hidden1").get_weights()[0]
    pixels = pixels_of(stopped, "train")
    scale = Standardiser.fit(np.asarray(stopped.classifier.trunk(pixels))).scale
    # Two epochs hardly move a weight; folding divides each row by the feature's scale.
    np.testing.assert_allclose(kernel * scale[:, None], begin, atol=0.05)
    resumed = make_task("run", "extract", **HIDDEN)
    head.train_head(resumed)
    assert same(resumed.classifier.head.get_weights(), whole.classifier.head.get_weights())


@pytest.mark.parametrize("method", ["anova", "pca"])
def test_head_on_selected_features_answers_on_pixels_and_reports_what_was_kept(make_task: MakeTask, method: str) -> None:
    settings = {"mode": "extract", "features": {"selection": method, "keep": 0.25}}
    task, told = make_task(**settings), list[str]()
    task.progress.line = told.append  # type: ignore[method-assign]
    head.train_head(task)
    features = {split: np.asarray(task.classifier.trunk(pixels_of(task, split))) for split in ("train", "val")}
    standardise = Standardiser.fit(features["train"])
    train, val = ((features[split], task.data.labels(split)) for split in ("train", "val"))
    found = select_features(method, train, val, standardise, np.ones(len(task.data.classes), np.float32), keep=0.25)
    logits = np.asarray(task.classifier.model(pixels_of(task, "val")))
    np.testing.assert_allclose(logits, standardise(val[0]) @ found.probe.kernel + found.probe.bias, atol=1e-3)
    assert head.read_selection(task.run) == found.report()
    assert told[-1] == f"{problem.describe(found.probe)}  {found.summary}"
    again = make_task(**settings)  # goes on from the weights, and still has the report
    head.train_head(again)
    assert head.read_selection(again.run) == found.report()


def test_nothing_selected_is_nothing_to_report(make_task: MakeTask) -> None:
    task = make_task(mode="extract")
    head.train_head(task)
    assert head.read_selection(task.run) == {}


@pytest.mark.parametrize(
    ("model", "train", "exact"),
    [({}, {}, True), ({"hidden": (3,)}, {}, False), ({}, {"loss": "focal"}, False), ({}, {"loss": "mse"}, False)],
)
def test_only_a_linear_head_with_cross_entropy_is_solved(model: Any, train: Any, exact: bool) -> None:
    assert head.solves_exactly(Config.model_validate({"mode": "extract", "model": model, "train": train})) is exact


@pytest.mark.slow
@pytest.mark.parametrize("sections", [{}, HIDDEN], ids=["linear", "hidden"])
def test_views_are_learned_from_only_with_augmentation(make_task: MakeTask, sections: Any) -> None:
    settings = {"mode": "extract", "features": {"views": 2}, **sections}
    plain = make_task("plain", **settings)
    views = make_task("views", data={"augment": {"random_resized_crop": None, "rotation_range": 60}}, **settings)
    assert (len(plain.stored(POOLED, "train")), len(views.stored(POOLED, "train"))) == (12, 36)
    assert len(plain.stored(POOLED, "val")) == len(views.stored(POOLED, "val"))
    for task in (plain, views):
        head.train_head(task)
    assert not same(plain.classifier.head.get_weights(), views.classifier.head.get_weights())


def test_probe_takes_each_view_with_its_label(make_task: MakeTask, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def stop(*arguments: Any) -> Any:
        seen.extend(arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(problem, "fit_linear_probe", stop)
    task = make_task(mode="extract", data={"augment": {"rotation_range": 60}}, features={"views": 2})
    with pytest.raises(KeyboardInterrupt):
        head.train_head(task)
    (features, labels), (val, val_labels) = seen[:2]
    np.testing.assert_array_equal(labels, np.tile(task.data.labels("train"), 3))
    assert len(features) == 36
    assert len(val) == len(val_labels) == len(task.data.rows("val"))


def test_each_view_of_an_image_counts_as_the_image_does(make_lasting_task: MakeTask) -> None:
    augment = {"random_resized_crop": None, "rotation_range": 90}
    task = make_lasting_task("weighted", "extract", data={"augment": augment}, train={"head_c": 0.1}, features={"views": 1})
    train, val = (task.data.rows(split) for split in ("train", "val"))
    weights = np.linspace(0.1, 4, len(task.data.index.paths), dtype=np.float32)
    problem = replace(task, data=replace(task.data, index=replace(task.data.index, weights=weights))).head_problem
    found, pair = problem.solve(task.config, train, val), problem.pair(train, 1)
    assert len(pair[1]) == 2 * len(train)
    ones, twice = np.ones(len(task.data.classes), np.float32), np.concatenate([weights[train], weights[train]])
    expected = fit_linear_probe(pair, problem.pair(val), Standardiser.fit(pair[0]), ones, 0.1, weights=twice)
    np.testing.assert_array_equal(found.probe.kernel, expected.kernel)
    assert not np.array_equal(found.probe.kernel, task.head_problem.solve(task.config, train, val).probe.kernel)


@pytest.mark.parametrize("strength", [1.0, 2.0])
def test_a_head_adjusted_for_rare_classes_has_another_bias_and_nothing_else(make_lasting_task: MakeTask, strength: float) -> None:
    task = make_lasting_task("adjusted", "extract", train={"head_c": 0.1})
    train = task.data.rows("train")
    few = train[(task.data.labels("train") != 0) | (np.arange(len(train)) % 3 == 0)]
    given = task.head_problem, few, task.data.rows("val")
    plain, adjusted = (given[0].solve(task.config.replace("train.logit_adjustment", each), *given[1:]) for each in (0.0, strength))
    shares = np.bincount(task.data.index.labels[few]) / len(few)
    np.testing.assert_array_equal(adjusted.probe.kernel, plain.probe.kernel)
    np.testing.assert_allclose(plain.probe.bias - adjusted.probe.bias, strength * np.log(shares), atol=1e-6)
    assert shares.min() < shares.max()
    logits = task.head_problem.pair(given[2])[0][:] @ adjusted.on_raw.kernel + adjusted.on_raw.bias
    labels = task.data.index.labels[given[2]]
    expected = SINGLE_LABEL.plain_losses(logits, labels).mean(), SINGLE_LABEL.metric(logits, labels)
    assert (adjusted.probe.val_loss, adjusted.probe.val_metric) == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_a_head_by_steps_learns_the_adjusted_loss(make_task: MakeTask) -> None:
    steps: dict[str, Any] = {"head_epochs": 1, "class_weights": {"cat": 3.0}}
    phases = [
        make_task(f"by_steps{strength}", "extract", model={"hidden": (4,)}, train={**steps, "logit_adjustment": strength})
        for strength in (0.0, 1.0)
    ]
    outputs = []
    for task in phases:
        head.train_head(task)
        outputs.append(np.asarray(task.classifier.model(pixels_of(task, "val"))))
    assert np.abs(outputs[0] - outputs[1]).max() > 1e-4
