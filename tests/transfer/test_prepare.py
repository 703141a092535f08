"""Preparing a task: what is computed for which images, what happens without room, and which precision is chosen."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tl_keras.data import dataset
from tl_keras.data.pipeline import Pixels
from tl_keras.data.splits import read_splits
from tl_keras.errors import ConfigError, DataError, StoreError, TrainingError
from tl_keras.progress import Progress
from tl_keras.run_folder import BAD_IMAGES, SPLITS
from tl_keras.transfer import precision, prepare
from tl_keras.transfer.checkpoints import weights_view
from tl_keras.transfer.feeds import PixelFeed, StoredFeed
from tl_keras.transfer.finetune import finetune, finetune_feed
from tl_keras.transfer.frozen import POOLED
from tl_keras.transfer.precision import REMEMBERED, Choice
from tl_keras.transfer.task import Task
from tl_keras.transfer.trunk import Trunk

MakeTask = Callable[..., Task]
ROTATE = {"random_resized_crop": None, "rotation_range": 90, "width_shift_range": 0.3}


class Lines(Progress):
    """Keeps the lines but that on the backbone's file."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        if not text.startswith("three_stages.keras: "):
            self.lines.append(text)


def never(*_: Any, **__: Any) -> Any:
    pytest.fail("this must not be reached")


# --- images that do not decode -------------------------------------------------------------------------------------


def spoil(root: Path, split: np.ndarray, index: Any, wanted: str) -> str:
    """Damage the first cat of a split; return its path below the root."""
    row = next(row for row in np.flatnonzero(split == wanted) if index.labels[row] == 0)
    (root / index.paths[row]).write_text(f"not an image of {wanted}")
    return index.paths[row]


def test_bad_files_change_the_cut_and_views_follow(make_task: MakeTask, photo_folder: Callable[..., Path], own_store: Path) -> None:
    root = photo_folder(per_class=10)
    data = {"source": str(root), "augment": ROTATE, "max_bad_fraction": 0.5}
    settings = {"mode": "extract", "data": data, "features": {"views": 2}, "runtime": {"precision": "float32"}}  # no look before
    whole = make_task("whole", **settings)
    bad = [spoil(root, whole.data.split, whole.data.index, split) for split in ("train", "val")]
    lines = Lines()
    task = make_task("run", progress=lines, **settings)
    index, split = task.data.index, task.data.split
    assert [index.paths[row] for row in np.flatnonzero(split == "")] == sorted(bad)
    np.testing.assert_array_equal(split, dataset.cut(index, task.config.data, task.data.pixels.bad))
    newly = np.flatnonzero((split == "train") & (whole.data.split != "train"))
    assert len(newly)  # fewer cats leave fewer for val and test, so train has images that it had not
    assert task.frozen is not None
    for view, rows in enumerate((np.flatnonzero(split != ""), task.data.rows("train"), task.data.rows("train"))):
        assert len(task.frozen.missing(POOLED, view, rows)) == 0
    assert len(task.stored(POOLED, "train")) == 3 * len(task.data.rows("train"))
    assert [line.split(",")[0] for line in (task.run / BAD_IMAGES).read_text().splitlines()] == ["path", *sorted(bad)]
    np.testing.assert_array_equal(read_splits(task.run / SPLITS, root)[1], split[split != ""])
    assert "skipped 2 of 20 files that do not decode; bad_images.csv lists them" in lines.lines
    assert not (whole.run / BAD_IMAGES).exists()
    again = make_task("again", **settings)  # all is stored: the files that do not decode are found nevertheless
    np.testing.assert_array_equal(again.data.split, split)


@pytest.mark.parametrize("mode", ["extract", "pretrain"], ids=["with frozen features", "without"])
def test_bad_files_stop_every_mode_where_they_must(make_task: MakeTask, photo_folder: Callable[..., Path], mode: str) -> None:
    root = photo_folder(per_class=6)
    (root / "cat" / "000.png").write_text("text")
    data = {"source": str(root), "augment": ROTATE}
    with pytest.raises(DataError, match=r"^.*cat/000\.png: is not an image.*Repair or remove it, or set data\.on_bad_image=skip\.$"):
        make_task(mode=mode, data={**data, "on_bad_image": "error"})
    with pytest.raises(DataError, match=r"^1 of 12 images do not decode, more than data\.max_bad_fraction=0\.05\."):
        make_task(mode=mode, data=data)
    task = make_task("run2", mode, data={**data, "max_bad_fraction": 0.2}, train={} if mode != "pretrain" else {"unfreeze_from": "all"})
    assert list(task.data.pixels.bad) == [0]
    assert task.data.split[0] == ""


def test_a_class_that_is_too_small_and_unknown_names_are_said_before_anything_is_read(
    make_task: MakeTask, photo_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pixels, "identify", never)
    with pytest.raises(DataError, match="class 'cat' has 3 images to train on and split; it needs at least 4"):
        make_task(mode="extract", data={"source": str(photo_folder(per_class=3))})
    with pytest.raises(ConfigError, match=r"got 'stage7', expected 'all' or one of stage1, stage2, stage3"):
        make_task(train={"unfreeze_from": "stage7"})
    with pytest.raises(ConfigError, match="unknown class 'bird'"):
        make_task(train={"class_weights": {"bird": 2.0}})


def test_a_run_s_configuration_names_the_backbone_as_the_table_does(make_task: MakeTask) -> None:
    assert make_task(mode="pretrain", model={"backbone": "Small-ResNet", "weights": "none"}).config.model.backbone == "small_resnet"


def test_what_was_found_in_a_backbone_s_file_is_told_once(make_task: MakeTask, tmp_path: Path, own_store: Path) -> None:
    pixels = keras.Input((16, 16, 3))
    maps = keras.layers.Conv2D(4, 3, name="last")(keras.layers.Rescaling(1 / 255, name="scale")(pixels))
    keras.Model(pixels, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(maps))).save(tmp_path / "own.keras")
    lines = Lines()
    make_task(mode="extract", model={"backbone": str(tmp_path / "own.keras"), "preprocessing": "auto"}, progress=lines)
    assert [line for line in lines.lines if "own.keras" in line] == [
        "own.keras: cut behind 'last': 112 of 122 weights stay",
        "own.keras: its own preprocessing is used ('scale')",
    ]


def test_pretraining_freezes_nothing(make_task: MakeTask) -> None:
    task = make_task(mode="pretrain", runtime={"precision": "auto"})
    assert (task.frozen, task.tail, task.precision) == (None, (), Choice("float32"))
    assert task.data.pixels.good.all()
    with pytest.raises(ValueError, match="this task has nothing frozen"):
        task.stored(POOLED, "val")


# --- room ----------------------------------------------------------------------------------------------------------


def test_a_cut_is_stored_where_there_is_room(make_task: MakeTask, own_store: Path) -> None:
    task = make_task(train={"unfreeze_from": "stage3"})
    assert task.tail == ("cut1",)
    assert isinstance(finetune_feed(task, task.classifier), StoredFeed)
    assert task.stored("cut1", "train").shape == (12, 4, 4, 8)
    every = make_task("all")  # nothing is frozen
    assert every.tail == ()
    assert isinstance(finetune_feed(every, every.classifier), PixelFeed)


SMALL = {"max_gb": 2e-6}  # the vectors of 16 images, but not their maps


def test_finetuning_reads_images_where_there_is_no_room(make_task: MakeTask, own_store: Path) -> None:
    lines = Lines()
    task = make_task(train={"unfreeze_from": "stage3", "epochs": 1}, features=SMALL, progress=lines)
    needed = 16 * (4 * 4 * 8 * 2 + 8 * 4) / 1e9
    assert lines.lines == [
        f"the features below stage3 would take {needed:.2f} GB, and 0.00 GB are free under features.max_gb=2e-06 and on the disk: "
        "finetuning reads images in every epoch instead"
    ]
    assert task.tail == ()
    feed = finetune_feed(task, task.classifier)
    assert isinstance(feed, PixelFeed)
    assert feed.model is task.classifier.model
    before = task.classifier.model.get_layer("stage1_conv").get_weights()[0]
    finetune(task)
    np.testing.assert_array_equal(task.classifier.model.get_layer("stage1_conv").get_weights()[0], before)


def test_what_is_all_stored_is_used_though_the_store_is_over_its_limit(make_task: MakeTask, own_store: Path) -> None:
    make_task(train={"unfreeze_from": "stage3"})
    lines = Lines()
    task = make_task("again", train={"unfreeze_from": "stage3"}, features=SMALL, progress=lines)
    assert (task.tail, lines.lines) == (("cut1",), [])


def test_extracting_without_room_is_said_before_anything_is_computed(
    make_task: MakeTask, own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trunk, "__call__", never)
    monkeypatch.setattr(prepare, "require_varied", lambda *_: None)  # which looks at a few images
    monkeypatch.setattr(Pixels, "read_good", never)
    with pytest.raises(StoreError) as caught:
        make_task(mode="extract", features={"max_gb": 1e-7, "stages": "last"}, runtime={"precision": "float32"})
    assert str(caught.value) == (
        f"{own_store}: 0.00 GB of features are needed and 0.00 GB are free under features.max_gb=1e-07 and on the disk. "
        "Raise it, free the disk, or take features.stages=last."
    )
    assert not own_store.exists()


# --- precision -----------------------------------------------------------------------------------------------------


RESNET = {"backbone": "small_resnet", "weights": "none", "preprocessing": "auto"}  # layers from a file have the precision of the file


@pytest.fixture
def bfloat16(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A machine that computes bfloat16, where any pass is long enough to ask."""
    monkeypatch.setattr(precision, "candidate", lambda: "bfloat16")
    monkeypatch.setattr(precision, "WORTH_S", 0.0)
    monkeypatch.setattr(precision, "SHARD_ROWS", 4)  # the first four images start the pass
    monkeypatch.setattr(precision, "LARGEST_DIFFERENCE", 0.5)
    yield monkeypatch
    assert keras.config.dtype_policy().name == "float32"  # each network was built under a precision of its own


def test_a_lower_precision_that_is_faster_is_taken(make_task: MakeTask, own_store: Path, bfloat16: pytest.MonkeyPatch) -> None:
    bfloat16.setattr(precision, "LEAST_GAIN", 0.0)
    lines = Lines()
    settings = {"model": RESNET | {"weights": "pretrained"}, "train": {"unfreeze_from": "stage3"}}
    task = make_task(progress=lines, **settings)
    choice = task.precision
    assert (choice.precision, choice.tried, task.config.runtime.precision) == ("bfloat16", "bfloat16", "bfloat16")
    assert choice.ratio is not None
    assert choice.ratio > 0
    assert choice.difference is not None
    assert 1e-4 < choice.difference < 0.1  # eight bits of mantissa
    told = f"{choice.ratio:.2f} times as fast as float32 here, and its features differ by {choice.difference:.1%}"
    assert lines.lines == [f"precision bfloat16: bfloat16 is {told}"]
    model = task.classifier.model
    assert model.get_layer("stem_conv").compute_dtype == "bfloat16"
    assert (model.get_layer("logits").compute_dtype, keras.config.dtype_policy().name) == ("float32", "float32")
    assert task.frozen is not None
    parts = [model, weights_view(model), finetune_feed(task, task.classifier).model, task.frozen.trunk.only([POOLED])._model]
    assert {part.dtype_policy.name for part in parts} == {"mixed_bfloat16"}
    whole = make_task("whole", runtime={"precision": "float32"}, **settings)
    assert whole.precision == Choice("float32")
    weights, expected = model.get_weights(), whole.classifier.model.get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(weights, expected, strict=True))
    low, high = task.stored(POOLED, "train")[:], whole.stored(POOLED, "train")[:]
    assert not np.array_equal(low, high)  # each precision has rows of its own
    assert np.linalg.norm(low - high) < 0.1 * np.linalg.norm(high)
    assert task.tail == whole.tail == ("cut1",)


@pytest.mark.parametrize(("name", "value"), [("LEAST_GAIN", np.inf), ("LARGEST_DIFFERENCE", 0.0)], ids=["slower", "differs"])
def test_a_lower_precision_that_is_no_gain_is_not_taken(
    make_task: MakeTask, own_store: Path, bfloat16: pytest.MonkeyPatch, name: str, value: float
) -> None:
    bfloat16.setattr(precision, "LEAST_GAIN", 0.0)
    bfloat16.setattr(precision, name, value)
    lines = Lines()
    task = make_task(mode="extract", model=RESNET, progress=lines)
    assert (task.precision.precision, task.precision.tried, task.config.runtime.precision) == ("float32", "bfloat16", "float32")
    assert lines.lines == [str(task.precision)]
    assert lines.lines[0].startswith("precision float32: bfloat16 is ")
    assert task.classifier.model.get_layer("stem_conv").compute_dtype == "float32"
    assert len(task.stored(POOLED, "train")) == 12


@pytest.mark.parametrize("gain", [0.0, np.inf], ids=["bfloat16", "float32"])
def test_a_choice_is_remembered(make_task: MakeTask, own_store: Path, bfloat16: pytest.MonkeyPatch, gain: float) -> None:
    bfloat16.setattr(precision, "LEAST_GAIN", gain)
    first = make_task(mode="extract", model=RESNET)
    bfloat16.setattr(precision, "compare", never)
    bfloat16.setattr(precision, "begin_pass", never)
    source = {"source": first.config.data.source, "augment": {"random_resized_crop": None}, "resize": "stretch"}  # other features
    again = make_task("again", mode="extract", model=RESNET, data=source)
    assert again.precision == first.precision
    assert again.config.runtime.precision == ("bfloat16" if gain == 0 else "float32")
    assert again.classifier.model.get_layer("stem_conv").compute_dtype == again.config.runtime.precision
    (remembered,) = json.loads((own_store / REMEMBERED).read_text()).values()
    assert Choice(**remembered) == first.precision


def test_a_short_pass_a_stored_one_and_a_machine_without_one_are_float32(
    make_task: MakeTask, own_store: Path, bfloat16: pytest.MonkeyPatch
) -> None:
    bfloat16.setattr(precision, "compare", never)
    bfloat16.setattr(precision, "WORTH_S", 1000.0)
    assert make_task(mode="extract").precision == Choice("float32")
    bfloat16.setattr(precision, "WORTH_S", 0.0)
    assert make_task("again", mode="extract").precision == Choice("float32")  # all is there
    bfloat16.setattr(precision, "candidate", lambda: None)
    assert make_task("none", mode="extract", data={"augment": ROTATE}, features={"views": 1}).precision == Choice("float32")
    assert not (own_store / REMEMBERED).exists()


def test_a_precision_by_hand_is_not_asked_about(make_task: MakeTask, bfloat16: pytest.MonkeyPatch) -> None:
    bfloat16.setattr(precision, "compare", never)
    task = make_task(mode="extract", model=RESNET, runtime={"precision": "bfloat16"})
    assert task.precision == Choice("bfloat16")
    assert task.classifier.model.get_layer("stem_conv").compute_dtype == "bfloat16"


def test_a_precision_that_overflows_is_refused_and_remembered_as_json(tmp_path: Path) -> None:
    pixels = keras.Input((4, 4, 3))
    trunk = Trunk(keras.Model(pixels, out := keras.layers.Rescaling(2.0)(pixels)), {"out": out})

    class Overflowing(Trunk):
        def __call__(self, _: Any) -> Any:
            raise TrainingError("the backbone outputs numbers that are not finite.")

    choice = precision.compare("float16", trunk, Overflowing(trunk.source, trunk.outputs), np.ones((3, 4, 4, 3), np.uint8), "out")
    assert (choice.precision, choice.tried) == ("float32", "float16")
    precision.remember("abc", choice, tmp_path)
    assert precision.remembered("abc", tmp_path) == choice
    assert precision.remembered("abd", tmp_path) is None
    json.dumps(asdict(choice), allow_nan=False)  # metrics.json holds it
    assert str(choice) == "precision float32: float16 overflows"


def test_choice_says_what_was_measured() -> None:
    assert str(Choice("float32")) == "precision float32"
    assert str(Choice("bfloat16", "bfloat16", 4.567, 0.0123)) == (
        "precision bfloat16: bfloat16 is 4.57 times as fast as float32 here, and its features differ by 1.2%"
    )
    assert str(Choice("float32", "bfloat16", 0.5, 0.01)).startswith("precision float32: bfloat16 is 0.50 times as fast")
