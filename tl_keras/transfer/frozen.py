"""The frozen parts of a network, computed once: the features that a head reads, and the features that finetuning starts from.

The tail's tensors are large; where the store has no room for them, finetuning reads images instead.
"""

import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tl_keras.config import Config
from tl_keras.data import dataset
from tl_keras.data.augment import is_identity
from tl_keras.data.index import Index
from tl_keras.data.pipeline import Pixels
from tl_keras.data.splits import UNUSED
from tl_keras.errors import StoreError
from tl_keras.models.backbone_names import short_name
from tl_keras.models.classifier import Classifier, cut_below
from tl_keras.progress import Progress
from tl_keras.run_folder import CHECKPOINTS, RunFolder, reading, write_json
from tl_keras.transfer.checkpoints import AGAIN
from tl_keras.transfer.defaults import required
from tl_keras.transfer.features import FrozenFeatures
from tl_keras.transfer.store import Store
from tl_keras.transfer.trunk import Trunk

POOLED = "pooled"  # the trunk output that the head reads
FEED = "feed.json"  # which stored outputs a run's finetuning goes on from


def open_frozen(config: Config, classifier: Classifier, pixels: Pixels, store: Store, *, tail: bool = False) -> FrozenFeatures:
    """What is frozen of a network: the features that a head reads, and the tensors that finetuning goes on from.

    Args:
        tail: whether training goes on from there in another mode too.
    """
    cut = cut_below(classifier, required(config.train.unfreeze_from)) if tail or config.mode == "finetune" else None
    trunk = Trunk(classifier.model, {POOLED: classifier.trunk.output, **({} if cut is None else cut[0])})
    about = {"backbone": short_name(config.model.backbone), "stages": required(config.features.stages)}
    return FrozenFeatures(store, trunk, pixels, config.data.augment, about)


def tail_of(frozen: FrozenFeatures | None) -> tuple[str, ...]:
    """The names of all outputs but the features that a head reads."""
    return () if frozen is None else tuple(name for name in frozen.trunk.shapes if name != POOLED)


def num_views(config: Config) -> int:
    """Augmented views of each training image that are stored, beside the plain one."""
    return 0 if is_identity(config.data.augment) else required(config.features.views)


def views_of(split: NDArray[np.str_], num: int, varied: Sequence[str] = ("train",)) -> list[NDArray[np.int64]]:
    """The rows that each view is needed of: the plain one of all images that decode, the others of the splits that are `varied`."""
    return [np.flatnonzero(split != UNUSED), *[np.flatnonzero(np.isin(split, varied))] * num]


def compute_and_cut(
    config: Config, index: Index, frozen: FrozenFeatures, progress: Progress, varied: Sequence[str] = ("train",)
) -> NDArray[np.str_]:
    """Compute what is missing for every image, and cut the splits among those that decode.

    Args:
        varied: the splits whose augmented views are needed.

    Raises:
        DataError: see `dataset.check`.
        StoreError: there is no room for it.
    """

    def compute(split: NDArray[np.str_]) -> None:
        frozen.compute(views_of(split, num_views(config), varied), progress, lambda: dataset.check(frozen.pixels, config.data))

    return dataset.cut_decodable(index, config.data, frozen.pixels, compute)


def fit_to_store_limit(
    config: Config, frozen: FrozenFeatures, split: NDArray[np.str_], run: RunFolder, progress: Progress
) -> FrozenFeatures:
    """All of it, or without what finetuning would go on from, where the store has no room for that.

    A run that is continued cannot change where its finetuning starts: its checkpoints are of that part.

    Raises:
        StoreError: the run went on from stored features, for which there is no room now.
    """
    if not tail_of(frozen):
        return frozen
    before = read_tail(run)
    needed, room = frozen.bytes_missing(views_of(split, num_views(config))), max(0, frozen.store.room())
    if before != () and (not needed or needed <= room):
        return frozen
    if before:
        raise no_room_again(run)
    if before is None:
        progress.line(
            f"the features below {config.train.unfreeze_from} would take {needed / 1e9:.2f} GB, and {room / 1e9:.2f} GB are free under "
            f"features.max_gb={config.features.max_gb:g} and on the disk: finetuning reads images in every epoch instead"
        )
    return frozen.only([POOLED])


def read_tail(run: RunFolder) -> tuple[str, ...] | None:
    """What a run began to train from, which its checkpoints are of: names of stored outputs, none for images; None before it began."""
    file = run / CHECKPOINTS / FEED
    with reading(file, "what finetuning goes on from", AGAIN):
        return tuple(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None


def record_tail(tail: Sequence[str], run: RunFolder) -> None:
    """Keep what a run begins to train from, for when it is continued; what was kept before stays."""
    file = run / CHECKPOINTS / FEED
    if not file.is_file():
        file.parent.mkdir(exist_ok=True)
        write_json(file, list(tail))


def no_room_again(run: RunFolder) -> StoreError:
    """The error for a run that cannot go on from what it began with."""
    return StoreError(f"{run.path}: this run learned from stored features, for which there is no room now. Make room, then --resume.")
