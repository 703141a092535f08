"""From a configuration and an index of files to a task that is ready to train.

Here it is decided what is frozen, and computed: the network is built, the outputs of its frozen part are brought into
the store for every image, and the splits are cut among the images that decode. What is learned from it, the other
modules of this room say.
"""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tl_keras.config import Config, DataConfig
from tl_keras.data import dataset
from tl_keras.data.dataset import ImageData
from tl_keras.data.pipeline import Pixels, check_bad
from tl_keras.data.sources import Index
from tl_keras.models.backbone_loading import build_backbone, native_image_size
from tl_keras.models.backbones import BACKBONES
from tl_keras.models.classifier import Classifier, build_classifier, count_parameters, cut_below, unfreeze
from tl_keras.progress import Progress
from tl_keras.run_folder import SCRATCH, RunFolder
from tl_keras.transfer import defaults
from tl_keras.transfer.features import SHARD_ROWS, FrozenFeatures
from tl_keras.transfer.losses import class_weight_vector
from tl_keras.transfer.precision import Choice, choose, set_precision
from tl_keras.transfer.store import Store, feature_folder
from tl_keras.transfer.task import POOLED, Task, chosen, num_views
from tl_keras.transfer.trunk import BATCH_SIZE, Trunk

Opened = tuple[FrozenFeatures | None, tuple[str, ...]]  # see `open_frozen`


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
    if config.mode != "pretrain":
        pixels.identify(progress)
    opened = open_frozen(config, classifier, pixels, split, progress)
    precision, classifier, opened = settle_precision(config, classifier, pixels, split, opened, progress)
    config = config.model_copy(update={"runtime": config.runtime.model_copy(update={"precision": precision.precision})})
    if config.mode != "extract" and not opened[1]:  # training reads images in every epoch
        dataset.keep_pixels(pixels, config.data, run / SCRATCH)
    split = settle(config, index, pixels, opened[0], progress)
    data = ImageData(index, pixels, split)
    dataset.write(data, run, progress)
    return Task(config, data, classifier, *opened, precision, run, progress)


def settle_precision(
    config: Config, classifier: Classifier, pixels: Pixels, split: NDArray[np.str_], opened: Opened, progress: Progress
) -> tuple[Choice, Classifier, Opened]:
    """Choose what `runtime.precision=auto` leaves open, and build the network again where it is not float32.

    Pretraining stays in float32: its many small updates are what a lower precision is worst at.
    """
    asked, frozen = config.runtime.precision, opened[0]
    if asked != "auto" or frozen is None:
        return Choice("float32" if asked == "auto" else asked), classifier, opened
    lower: list[tuple[Classifier, Opened]] = []

    def in_precision(precision: str) -> Trunk:
        set_precision(precision)
        twin = build(config, classifier.model.output.shape[-1], "none")
        twin.model.set_weights(classifier.model.get_weights())
        lower.append((twin, open_frozen(config, twin, pixels, split, progress)))
        found = lower[0][1][0]
        return frozen.trunk if found is None else found.trunk

    def start() -> float:
        return begin_pass(config, pixels, frozen, views_of(split, num_views(config)), progress)

    def sample() -> NDArray[np.uint8]:
        return pixels.read_good(np.arange(min(BATCH_SIZE, len(pixels.paths))))[1]

    choice = choose(frozen.trunk, in_precision, start, sample, feature_folder())
    if choice.tried is not None:
        progress.line(str(choice))
    if choice.precision != "float32" and not lower:  # remembered from another run
        in_precision(choice.precision)
    set_precision(choice.precision)
    return (choice, classifier, opened) if choice.precision == "float32" else (choice, *lower[0])


def begin_pass(config: Config, pixels: Pixels, frozen: FrozenFeatures, wanted: list[NDArray[np.int64]], progress: Progress) -> float:
    """Compute one shard of what is missing, and say how many seconds the rest will take."""
    missing = frozen.count_missing(wanted)
    if missing <= SHARD_ROWS:
        return 0.0
    started = time.perf_counter()
    rows = np.unique(np.concatenate([frozen.missing(name, 0, wanted[0]) for name in frozen.trunk.shapes]))
    frozen.compute([rows[:SHARD_ROWS]], progress, lambda: check_pixels(pixels, config.data))
    return (time.perf_counter() - started) * (missing / max(1, min(len(rows), SHARD_ROWS)) - 1)


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


def open_frozen(config: Config, classifier: Classifier, pixels: Pixels, split: NDArray[np.str_], progress: Progress) -> Opened:
    """Choose the outputs of the frozen part that the mode reads.

    Returns:
        Them, and the names of those that finetuning goes on from: none where it reads pixels, as it does, and says so,
        where the store has no room.
    """
    if config.mode == "pretrain":
        return None, ()
    store = Store(feature_folder(), config.features.max_gb)
    cut = cut_below(classifier, chosen(config.train.unfreeze_from)) if config.mode == "finetune" else None
    tensors = {} if cut is None else cut[0]

    def opened(outputs: dict[str, object]) -> FrozenFeatures:
        trunk = Trunk(classifier.model, {POOLED: classifier.trunk.output, **outputs})
        about = {"backbone": Path(config.model.backbone).stem, "stages": chosen(config.features.stages)}
        return FrozenFeatures(store, trunk, pixels, config.data.augment, about)

    frozen = opened(tensors)
    needed = frozen.bytes_missing(views_of(split, num_views(config)))
    if tensors and needed and needed > store.room():
        progress.line(
            f"what lies below {config.train.unfreeze_from} would take {needed / 1e9:.2f} GB, and {max(0, store.room()) / 1e9:.2f} GB are "
            f"free under features.max_gb={config.features.max_gb:g} and on the disk: finetuning reads images in every epoch instead"
        )
        return opened({}), ()
    return frozen, tuple(tensors)


def views_of(split: NDArray[np.str_], num: int) -> list[NDArray[np.int64]]:
    """The rows that each view is needed of: the plain one of all, the others of train."""
    return [np.flatnonzero(split != ""), *[np.flatnonzero(split == "train")] * num]


def settle(config: Config, index: Index, pixels: Pixels, frozen: FrozenFeatures | None, progress: Progress) -> NDArray[np.str_]:
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
