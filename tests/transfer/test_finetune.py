"""Finetuning a tiny backbone: what moves and what does not, seeds, losses, and a run that was killed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tl_keras.errors import ConfigError
from tl_keras.models.fused import FusedModel
from tl_keras.progress import Progress
from tl_keras.run_folder import CHECKPOINTS
from tl_keras.transfer import features
from tl_keras.transfer import finetune as module
from tl_keras.transfer.feeds import PixelFeed
from tl_keras.transfer.finetune import finetune
from tl_keras.transfer.frozen import POOLED
from tl_keras.transfer.task import Task

MakeTask = Callable[..., Task]


def weights(task: Task) -> dict[str, np.ndarray]:
    return {variable.path: variable.numpy() for variable in task.classifier.model.weights}


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[path], b[path]) for path in a)


def history(task: Task) -> list[list[str]]:
    return [line.split(",")[:-1] for line in (task.run / "history.csv").read_text().splitlines()]


@pytest.fixture(autouse=True)
def every_epoch_beats_the_head(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny backbone on few images rarely gets better: what epochs did is looked at, unless the test is of `the_head`."""
    if "the_head" not in request.node.name:
        monkeypatch.setattr(module, "measure", lambda *_: {"val_loss": 1e9, "val_accuracy": -1.0})


def test_only_stages_from_the_lowest_up_move(make_task: MakeTask) -> None:
    task = make_task(train={"unfreeze_from": "stage3", "epochs": 1})
    before = weights(task)
    finetune(task)
    after = weights(task)
    moved = {path for path in before if not np.array_equal(before[path], after[path])}
    assert moved == {"stage3_conv/kernel", "logits/kernel", "logits/bias"}


def row(name: str) -> dict[str, Any]:
    """A network of the table with random weights."""
    return {"backbone": name, "weights": "none", "preprocessing": "auto"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stored", "backbone", "size", "lowest"),
    [
        pytest.param("float16", {}, 16, "stage2", marks=pytest.mark.slow),
        ("float32", row("small_resnet"), 16, "stage2"),
        pytest.param("float32", row("mobilenet_025"), 32, "stage5", marks=pytest.mark.slow),
    ],
    ids=["float16", "small_resnet", "mobilenet_025"],
)
def test_stored_activations_train_what_pixels_train(
    make_task: MakeTask, own_store: Path, monkeypatch: pytest.MonkeyPatch, stored: str, backbone: Any, size: int, lowest: str
) -> None:
    if stored == "float32":
        monkeypatch.setattr(features, "compact", lambda values: values)
    settings = {
        "data": {"image_size": size},
        "model": backbone | {"dropout": 0.0},
        "train": {"unfreeze_from": lowest, "learning_rate": 1e-3, "optimizer": "sgd", "momentum": 0.9},
        "runtime": {"precision": "float32"},
    }
    short, whole = make_task("short", **settings), make_task("whole", **settings)
    assert short.tail
    before = weights(whole)
    finetune(short)
    finetune(replace(whole, frozen=whole.frozen.only([POOLED])))
    names = list(short.classifier.stages)
    frozen = {layer for stage in names[: names.index(lowest)] for layer in short.classifier.stages[stage]}
    found, expected = weights(short), weights(whole)
    assert same({path: value for path, value in found.items() if path.split("/")[0] in frozen}, {
        path: value for path, value in before.items() if path.split("/")[0] in frozen
    })  # fmt: skip
    steps = {path: expected[path] - before[path] for path in before if path.split("/")[0] not in frozen}
    moved = [path for path in steps if np.linalg.norm(steps[path]) > 1e-6 and path.split("/")[0] != "logits"]
    assert len(moved) >= 2
    for path in moved:  # the steps are compared: weights hardly move in two epochs
        error = np.linalg.norm(found[path] - expected[path]) / np.linalg.norm(steps[path])
        assert error < (2e-3 if stored == "float32" else 5e-2), (path, error)
        np.testing.assert_allclose(found[path], expected[path], atol=(1e-4 if stored == "float32" else 1e-2) * np.abs(expected[path]).max())


@pytest.mark.slow
def test_tail_learns_from_views_of_the_store(make_task: MakeTask) -> None:
    settings = {"data": {"augment": {"rotation_range": 60}}, "train": {"unfreeze_from": "stage3", "epochs": 1}}
    plain, augmented = (make_task(str(views), features={"views": views}, **settings) for views in (0, 2))
    for task in (plain, augmented):
        finetune(task)
    assert history(plain)[1] == history(augmented)[1]  # the head, which learns from the plain one of the first view
    assert history(plain)[2] != history(augmented)[2]


@pytest.mark.slow
def test_batchnorm_moves_if_asked(make_task: MakeTask) -> None:
    task = make_task(model={"freeze_batchnorm": False}, train={"epochs": 1})
    before = weights(task)
    finetune(task)
    after = weights(task)
    statistics = [path for path in before if path.endswith(("moving_mean", "moving_variance"))]
    held = [np.array_equal(before[path], after[path]) for path in statistics]
    assert len(held) == 6
    assert not any(held)


class Watched(Progress):
    """Notes which stages have moved as the line of each epoch of finetuning comes."""

    def __init__(self) -> None:
        self.task: Task | None = None
        self.moved: list[list[str]] = []

    def line(self, text: str) -> None:
        if text.startswith("finetune ") and self.task is not None:
            found = weights(self.task)
            self.moved.append([name for name in ("stage1", "stage2", "stage3") if not np.array_equal(*(
                each[f"{name}_conv/kernel"] for each in (self.before, found)))])  # fmt: skip

    def watch(self, task: Task) -> Task:
        self.task, self.before = task, weights(task)
        return task


@pytest.mark.slow
@pytest.mark.parametrize("lowest", ["all", "stage2"], ids=["pixels", "stored activations"])
def test_stages_begin_to_train_one_after_another(make_task: MakeTask, lowest: str) -> None:
    settings = {"unfreeze_from": lowest, "unfreeze_every": 2, "epochs": 6, "decay_towards": "start", "weight_decay": 0.5}
    watched = Watched()
    finetune(watched.watch(make_task(progress=watched, train=settings)))
    last, two, three = ["stage3"], ["stage2", "stage3"], ["stage1", "stage2", "stage3"]
    below = three if lowest == "all" else two
    assert [each for each in watched.moved if each][-6:] == [last, last, two, two, below, below]


@pytest.mark.slow
@pytest.mark.parametrize("own", [{"unfreeze_every": 2}, {"keep_features": 1.0}], ids=["before a stage begins", "held to features"])
def test_killed_and_resumed_equals_uninterrupted_with(make_task: MakeTask, own: dict[str, Any]) -> None:
    settings = {"train": {"unfreeze_from": "stage2", "epochs": 3, **own}}
    whole, stopped = make_task("whole", **settings), make_task("run", progress=StopAt(2), **settings)
    finetune(whole)
    with pytest.raises(KeyboardInterrupt):
        finetune(stopped)
    resumed = make_task("run", **settings)
    finetune(resumed)
    assert same(weights(resumed), weights(whole))
    assert history(resumed) == history(whole)


@pytest.mark.parametrize(
    ("train", "line"),
    [
        (
            {"unfreeze_from": "stage3"},
            "train.unfreeze_every: got 2, but only stage3 trains, so no stage is left for later. Set train.unfreeze_from to a lower stage, "
            "or remove it.",
        ),
        (
            {"unfreeze_from": "all", "epochs": 4},
            "train.unfreeze_every: got 2, but stage1 would begin to train after 4 epochs, and there are 4. Set it to at most 1, or "
            "train.epochs to more than 4.",
        ),
        (
            {"unfreeze_from": "all", "epochs": 2},
            "train.unfreeze_every: got 2, but stage1 would begin to train after 4 epochs, and there are 2. Set train.epochs to more than "
            "4.",
        ),
    ],
)
def test_every_stage_must_have_its_turn(make_task: MakeTask, train: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_task(train={"unfreeze_every": 2, **train})
    assert str(caught.value) == line


def test_unknown_stage_is_a_mistake_of_the_user(make_task: MakeTask) -> None:
    with pytest.raises(ConfigError, match=r"got 'stage7', expected 'all' or one of stage1, stage2, stage3"):
        finetune(make_task(train={"unfreeze_from": "stage7"}))


class StopAt(Progress):
    """Ctrl-C as the line of some epoch of finetuning comes."""

    def __init__(self, epoch: int) -> None:
        self.start = f"finetune {epoch:>3}/"

    def line(self, text: str) -> None:
        if text.startswith(self.start):
            raise KeyboardInterrupt


@pytest.mark.slow
def test_killed_and_resumed_on_pixels_equals_uninterrupted(make_task: MakeTask) -> None:
    """On stored activations: see test_snapshots."""
    settings = {
        "data": {"augment": {"horizontal_flip": True}},
        "features": {"views": 1},
        "train": {"epochs": 2, "class_weights": {"cat": 3.0}},
    }
    whole, stopped = make_task("whole", **settings), make_task("run", progress=StopAt(2), **settings)
    begin = weights(whole)
    assert same(begin, weights(stopped))
    finetune(whole)
    with pytest.raises(KeyboardInterrupt):
        finetune(stopped)
    resumed = make_task("run", **settings)
    finetune(resumed)
    assert same(weights(resumed), weights(whole))  # with dropout and augmentation
    assert history(resumed) == history(whole)


@pytest.mark.slow
def test_killed_and_resumed_with_mixed_images_equals_uninterrupted(make_task: MakeTask) -> None:
    settings = {"train": {"epochs": 2, "class_weights": {"cat": 3.0}, "mixup_alpha": 0.5, "cutmix_alpha": 1.0}}
    whole, stopped = make_task("whole", **settings), make_task("run", progress=StopAt(2), **settings)
    finetune(whole)
    with pytest.raises(KeyboardInterrupt):
        finetune(stopped)
    resumed = make_task("run", **settings)
    finetune(resumed)
    assert same(weights(resumed), weights(whole))
    assert history(resumed) == history(whole)
    assert [line[3] for line in history(whole)[2:]] == ["", ""]  # there is no accuracy on mixed images


@pytest.mark.slow
@pytest.mark.parametrize(("name", "alpha"), [("mixup_alpha", 0.2), ("cutmix_alpha", 1)])
def test_mixing_needs_pixels(make_task: MakeTask, name: str, alpha: float) -> None:
    with pytest.raises(ConfigError) as caught:
        make_task(train={"unfreeze_from": "stage3", name: alpha})
    assert str(caught.value) == (
        f"train.{name}: got {alpha}, but finetuning from stage3 up learns from stored features of the stages below, where there are no "
        "pixels to mix. Set train.unfreeze_from=all, or remove it."
    )
    make_task(train={"unfreeze_from": "stage1", name: alpha})  # nothing below it is frozen
    make_task("pretrained", "pretrain", train={"unfreeze_from": "all", name: alpha})


@pytest.mark.slow
def test_seeds_decide(make_task: MakeTask) -> None:
    tasks = [make_task(str(seed), seed=seed, train={"epochs": 1, "unfreeze_from": "stage3"}) for seed in (0, 1)]
    for task in tasks:
        finetune(task)
    one, other = map(weights, tasks)
    assert not np.array_equal(one["logits/kernel"], other["logits/kernel"])
    assert history(tasks[0])[2][2] != history(tasks[1])[2][2]  # the loss of the first epoch


class Told(Progress):
    """Keeps the lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


@pytest.mark.slow
@pytest.mark.parametrize("lowest", ["all", "stage3"], ids=["pixels", "stored activations"])
def test_the_head_stays_where_finetuning_makes_it_worse(make_task: MakeTask, lowest: str) -> None:
    told = Told()
    settings = {"unfreeze_from": lowest, "learning_rate": 0.1, "clip_norm": None, "layer_decay": 1.0, "label_smoothing": 0.99}
    task = make_task(progress=told, train=settings)
    before = weights(task)
    finetune(task)
    head = task.classifier.head.get_weights()
    task.classifier.head.load_weights(task.run / CHECKPOINTS / "head.weights.h5")
    assert all(np.array_equal(a, b) for a, b in zip(head, task.classifier.head.get_weights(), strict=True))
    found = weights(task)
    assert same(
        {path: found[path] for path in found if "logits" not in path}, {path: before[path] for path in found if "logits" not in path}
    )
    losses = [float(line[4]) for line in history(task)[1:]]
    expected = f"no epoch has a better val loss or accuracy than the head before finetuning (loss {losses[0]:.4f}; at best "
    assert told.lines[-1].startswith(expected)
    assert told.lines[-1].endswith("): that head is kept")
    assert losses[0] < min(losses[1:])
    # What val says of the head by itself is what it says of the whole.
    logits = task.classifier.model(task.data.pixels.read(task.data.rows("val")).astype(np.float32))
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)(np.eye(2)[task.data.labels("val")], logits)
    assert float(loss) == pytest.approx(losses[0], rel=1e-3)
    assert told.lines[1].startswith("12 training images are few for finetuning: --mode extract")


@pytest.mark.slow
def test_interrupt_in_the_first_epoch_leaves_the_head_that_was_trained(make_task: MakeTask) -> None:
    task = make_task(progress=StopAt(1))
    with pytest.raises(KeyboardInterrupt):
        finetune(task)
    found = task.classifier.head.get_weights()
    task.classifier.head.load_weights(task.run / CHECKPOINTS / "head.weights.h5")
    assert all(np.array_equal(a, b) for a, b in zip(found, task.classifier.head.get_weights(), strict=True))


@pytest.mark.slow
def test_another_loss_and_optimizer_run(make_task: MakeTask) -> None:
    train = {"loss": "focal", "optimizer": "sgd", "class_weights": "balanced", "ema": 0.5}
    task = make_task(train={"epochs": 1, "head_epochs": 1, "unfreeze_from": "stage3"} | train)
    before = weights(task)
    finetune(task)
    assert not np.array_equal(before["stage3_conv/kernel"], weights(task)["stage3_conv/kernel"])
    assert all(np.isfinite(value).all() for value in weights(task).values())
    assert history(task)[-1][:2] == ["finetune", "1"]


def test_class_weights_reach_the_loss(make_task: MakeTask, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    names = ("model", "train", "val", "phase")
    monkeypatch.setattr(module, "run_phase", lambda *given: seen.update(zip(names, given, strict=False)))
    task = make_task(train={"class_weights": {"cat": 3.0}, "epochs": 4, "learning_rate": 0.01, "patience": 2})
    module.train_backbone(task, PixelFeed(task, task.classifier.model), "finetune", "all", freeze_batchnorm=True)
    for images, targets, sample_weights in seen["train"](0).take(2):
        np.testing.assert_allclose(sample_weights, np.where(np.argmax(targets, 1) == 0, 3.0, 1.0))
        assert images.shape[1:] == (16, 16, 3)
    phase = seen["phase"]
    assert (phase.epochs, phase.learning_rate, phase.patience, phase.num_images) == (4, 0.01, 2, len(task.data.rows("train")))
    trainable = {variable.path for variable in task.classifier.model.trainable_variables}
    assert isinstance(seen["model"], FusedModel)
    assert {variable.path for variable in seen["model"].trainable_variables} == trainable
    assert trainable - set(phase.scales) == {"logits/kernel", "logits/bias"}
