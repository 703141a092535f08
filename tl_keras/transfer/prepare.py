"""From a configuration and an index of files to a task that is ready to train.

Here it is decided what is frozen, and computed: the network is built, the outputs of its frozen part are brought into
the store for every image, and the splits are cut among the images that decode. What is learned from it, the other
modules of this room say.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_keras.config import Config, DataConfig
from tl_keras.data import dataset
from tl_keras.data.dataset import ImageData
from tl_keras.data.pipeline import Pixels, check_bad
from tl_keras.data.sources import Index
from tl_keras.errors import StoreError
from tl_keras.models.backbone_loading import build_backbone, native_image_size
from tl_keras.models.backbone_weights import copy_weights
from tl_keras.models.backbones import BACKBONES
from tl_keras.models.classifier import Classifier, build_classifier, count_parameters, cut_below, unfreeze
from tl_keras.progress import Progress
from tl_keras.run_folder import CHECKPOINTS, SCRATCH, RunFolder, write_json
from tl_keras.transfer import defaults
from tl_keras.transfer.features import SHARD_ROWS, FrozenFeatures
from tl_keras.transfer.losses import class_weight_vector
from tl_keras.transfer.precision import WORTH_S, Choice, candidate, compare, remember, remembered, set_precision
from tl_keras.transfer.store import Store, feature_folder
from tl_keras.transfer.task import POOLED, Task, chosen, num_views
from tl_keras.transfer.trunk import BATCH_SIZE, Trunk

FEED = "feed.json"  # which stored outputs a run's finetuning goes on from


def prepare_task(config: Config, index: Index, run: RunFolder, progress: Progress) -> Task:
    """Build the network, fill the open settings, compute what is frozen and cut the splits.

    Raises:
        UserError: from the data, the backbone, the settings that only they can check, or the store.
    """
    classifier = build(config, len(index.classes), config.model.weights)
    split = dataset.cut(index, config.data, {})  # a class that is too small is said before hours of computing
    config = resolve(config, classifier, int((split == "train").sum()))
    check_names(config, classifier, index, split)
    pixels = dataset.open_pixels(index, config.data, image_size_of(config))
    store = Store(feature_folder(), config.features.max_gb)
    if config.mode != "pretrain":
        pixels.identify(progress)
    precision, classifier = settle_precision(config, classifier, pixels, split, store, progress)
    config = config.model_copy(update={"runtime": config.runtime.model_copy(update={"precision": precision.precision})})
    frozen, tail = open_frozen(config, classifier, pixels, store)
    frozen, tail = in_room(config, classifier, pixels, split, frozen, tail, progress)
    before = same_as_before(run, tail)
    if frozen is not None and tail and not before:
        frozen, tail = frozen_outputs(config, classifier, pixels, store, {}), ()
    if config.mode != "extract" and not tail:  # training reads images in every epoch
        dataset.keep_pixels(pixels, config.data, run / SCRATCH)
    split = compute_and_cut(config, index, pixels, frozen, progress)
    data = ImageData(index, pixels, split)
    dataset.write(data, run, progress)
    return Task(config, data, classifier, frozen, tail, precision, run, progress)


def settle_precision(
    config: Config, classifier: Classifier, pixels: Pixels, split: NDArray[np.str_], store: Store, progress: Progress
) -> tuple[Choice, Classifier]:
    """Choose what `runtime.precision=auto` leaves open, and build the network again where it is not float32.

    Pretraining stays in float32: its many small updates are what a lower precision is worst at.
    """
    asked, lower = config.runtime.precision, candidate()
    if asked != "auto" or config.mode == "pretrain" or lower is None:
        return Choice("float32" if asked == "auto" else asked), classifier
    trunk, twin = pooled_trunk(classifier), None
    choice = remembered(trunk, store.root)
    if choice is None:
        rest = begin_pass(config, classifier, pixels, split, store, progress)
        if rest <= 0 or rest < WORTH_S:
            return Choice("float32"), classifier
        rows = np.flatnonzero(split == "train")
        rows = rows[np.linspace(0, len(rows) - 1, min(BATCH_SIZE, len(rows))).astype(np.int64)]
        twin = in_precision(config, classifier, lower)
        choice = compare(lower, trunk, pooled_trunk(twin), pixels.read_good(rows)[1])
        remember(trunk, choice, store.root)
    progress.line(str(choice))
    if choice.precision == "float32":
        set_precision("float32")
        return choice, classifier
    return choice, twin or in_precision(config, classifier, choice.precision)


def pooled_trunk(classifier: Classifier) -> Trunk:
    """The whole frozen backbone, to the features that a head reads."""
    return Trunk(classifier.model, {POOLED: classifier.trunk.output})


def in_precision(config: Config, classifier: Classifier, precision: str) -> Classifier:
    """The same classifier in another precision, in which layers are built from now on."""
    set_precision(precision)
    twin = build(config, classifier.model.output.shape[-1], "none")
    copy_weights(classifier.model, twin.model)
    return twin


def begin_pass(config: Config, classifier: Classifier, pixels: Pixels, split: NDArray[np.str_], store: Store, progress: Progress) -> float:
    """Compute one shard of what is missing in float32, and say how many seconds the rest would take; 0 where little is missing."""
    frozen, wanted = open_frozen(config, classifier, pixels, store)[0], views_of(split, num_views(config))
    if frozen is None or frozen.count_missing(wanted) <= SHARD_ROWS or frozen.bytes_missing(wanted) > store.room():
        return 0.0
    rows = np.unique(np.concatenate([frozen.missing(name, 0, wanted[0]) for name in frozen.trunk.shapes]))[:SHARD_ROWS]
    frozen.trunk.fold()
    started = time.perf_counter()
    frozen.compute([rows], progress, lambda: check_pixels(pixels, config.data))
    return (time.perf_counter() - started) / max(1, len(rows)) * frozen.count_missing(wanted) if len(rows) else 0.0


def build(config: Config, num_classes: int, weights: str) -> Classifier:
    """Build the classifier of a configuration; `weights` as in `model.weights`."""
    backbone = build_backbone(
        config.model.backbone,
        image_size=image_size_of(config),
        weights=weights,
        preprocessing=config.model.preprocessing,
    )
    all_stages = defaults.head_stages(config) == "all"
    return build_classifier(config.model, backbone, num_classes, config.runtime.seed, all_stages=all_stages)


def image_size_of(config: Config) -> tuple[int, int]:
    """(height, width) in pixels: what `data.image_size` says, or the backbone's native size."""
    size = config.data.image_size
    if size is None:
        size = native_image_size(config.model.backbone)
    return (size, size) if isinstance(size, int) else size


def resolve(config: Config, classifier: Classifier, num_train: int) -> Config:
    """Fill every open setting, and make paths absolute."""
    data = config.data.model_copy(update={"image_size": image_size_of(config), "source": _absolute(config.data.source)})
    model = config.model.model_copy(update={name: _absolute(getattr(config.model, name)) for name in ("backbone", "weights")})
    num_parameters = count_parameters(classifier.trunk)["total"]
    return defaults.resolve(config.model_copy(update={"data": data, "model": model}), num_train, tuple(classifier.stages), num_parameters)


def _absolute(name: str) -> str:
    """A path that later modes find from any folder; a name of a table or data set stays as it is."""
    path = Path(name).expanduser()
    return str(path.resolve()) if name not in (*BACKBONES, "digits") and path.exists() else name


def check_names(config: Config, classifier: Classifier, index: Index, split: NDArray[np.str_]) -> None:
    """Refuse a stage or a class that there is not before anything is computed."""
    unfreeze(classifier, config.train.unfreeze_from, freeze_batchnorm=True)
    class_weight_vector(config.train.class_weights, index.labels[split == "train"], index.classes)


def open_frozen(config: Config, classifier: Classifier, pixels: Pixels, store: Store) -> tuple[FrozenFeatures | None, tuple[str, ...]]:
    """The outputs of the frozen part that the mode reads, and the names of those that finetuning goes on from."""
    if config.mode == "pretrain":
        return None, ()
    cut = cut_below(classifier, chosen(config.train.unfreeze_from)) if config.mode == "finetune" else None
    tensors = {} if cut is None else cut[0]
    return frozen_outputs(config, classifier, pixels, store, tensors), tuple(tensors)


def frozen_outputs(config: Config, classifier: Classifier, pixels: Pixels, store: Store, tensors: dict[str, Any]) -> FrozenFeatures:
    """The features that a head reads, and other frozen tensors of the same network."""
    trunk = Trunk(classifier.model, {POOLED: classifier.trunk.output, **tensors})
    about = {"backbone": Path(config.model.backbone).stem, "stages": chosen(config.features.stages)}
    return FrozenFeatures(store, trunk, pixels, config.data.augment, about)


def in_room(
    config: Config,
    classifier: Classifier,
    pixels: Pixels,
    split: NDArray[np.str_],
    frozen: FrozenFeatures | None,
    tail: tuple[str, ...],
    progress: Progress,
) -> tuple[FrozenFeatures | None, tuple[str, ...]]:
    """What `open_frozen` returned, or without what finetuning would go on from, where the store has no room for it."""
    if frozen is None or not tail:
        return frozen, tail
    needed, room = frozen.bytes_missing(views_of(split, num_views(config))), max(0, frozen.store.room())
    if not needed or needed <= room:
        return frozen, tail
    progress.line(
        f"what lies below {config.train.unfreeze_from} would take {needed / 1e9:.2f} GB, and {room / 1e9:.2f} GB are free under "
        f"features.max_gb={config.features.max_gb:g} and on the disk: finetuning reads images in every epoch instead"
    )
    return frozen_outputs(config, classifier, pixels, frozen.store, {}), ()


def same_as_before(run: RunFolder, tail: tuple[str, ...]) -> tuple[str, ...]:
    """Where finetuning starts, which a run that is continued cannot change: its checkpoints are of that part.

    Raises:
        StoreError: the run went on from stored features, for which there is no room now.
    """
    file = run / CHECKPOINTS / FEED
    if not file.is_file():
        file.parent.mkdir(exist_ok=True)
        write_json(file, list(tail))
    before = tuple(json.loads(file.read_text(encoding="utf-8")))
    if before and not tail:
        raise StoreError(f"{run.path}: this run learned from stored features, for which there is no room now. Make room, then --resume.")
    return before


def views_of(split: NDArray[np.str_], num: int) -> list[NDArray[np.int64]]:
    """The rows that each view is needed of: the plain one of all, the others of train."""
    return [np.flatnonzero(split != ""), *[np.flatnonzero(split == "train")] * num]


def compute_and_cut(config: Config, index: Index, pixels: Pixels, frozen: FrozenFeatures | None, progress: Progress) -> NDArray[np.str_]:
    """Read every image once and cut the splits among those that decode.

    Each file that does not decode changes the cut, and with it which images need views, so this goes on until no new
    one is found; most often the first round is the last.
    """
    data = config.data

    while True:
        num_bad = len(pixels.bad)
        split = dataset.cut(index, data, pixels.bad)
        read_all(pixels, frozen, views_of(split, num_views(config) if frozen else 0), progress, lambda: check_pixels(pixels, data))
        if len(pixels.bad) == num_bad:
            return split


def check_pixels(pixels: Pixels, config: DataConfig) -> None:
    """Stop where files that do not decode are not to be skipped, or are too many."""
    check_bad(pixels.bad, len(pixels.paths), on_bad_image=config.on_bad_image, max_bad_fraction=config.max_bad_fraction)


def read_all(
    pixels: Pixels, frozen: FrozenFeatures | None, wanted: list[NDArray[np.int64]], progress: Progress, check: Callable[[], None]
) -> None:
    """Compute what is missing of the frozen outputs, or only decode where nothing is frozen."""
    if frozen is not None:
        frozen.compute(wanted, progress, check)
    else:
        with progress.bar("decode images", len(pixels.paths)) as advance:
            pixels.decode_all(advance)
    check()
