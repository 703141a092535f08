"""Preparing a task: what is computed for which images, and what happens without room."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tl_keras.data import dataset
from tl_keras.data.pipeline import Pixels
from tl_keras.data.splits import read_splits
from tl_keras.errors import ConfigError, DataError, StoreError
from tl_keras.progress import Progress
from tl_keras.run_folder import BAD_IMAGES, SPLITS
from tl_keras.transfer import prepare
from tl_keras.transfer.engine import Choice
from tl_keras.transfer.feeds import PixelFeed, StoredFeed
from tl_keras.transfer.finetune import finetune, finetune_feed
from tl_keras.transfer.frozen import POOLED
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


@pytest.mark.slow
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
    assert (task.frozen, task.tail, task.engine) == (None, (), Choice("tensorflow"))
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


@pytest.mark.slow
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
