"""From a configuration and an index of files to a task that is ready to train.

Here it is decided what is frozen, and computed: the network is built, the outputs of its frozen part are brought into
the store for every image, and the splits are cut among the images that decode. What is learned from it, the other
modules of this room say.
"""

import json
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
from tl_keras.errors import ConfigError, StoreError
from tl_keras.models.backbone_loading import build_backbone, native_image_size
from tl_keras.models.backbone_names import short_name, table_name
from tl_keras.models.backbone_weights import copy_weights
from tl_keras.models.backbones import BACKBONES
from tl_keras.models.classifier import Classifier, build_classifier, count_parameters, cut_below, unfreeze
from tl_keras.models.hub_layer import HubModule
from tl_keras.progress import Progress
from tl_keras.run_folder import CHECKPOINTS, SCRATCH, RunFolder, reading, write_json
from tl_keras.runtime import building
from tl_keras.transfer import defaults
from tl_keras.transfer.checkpoints import AGAIN
from tl_keras.transfer.features import SHARD_ROWS, FrozenFeatures
from tl_keras.transfer.losses import class_weight_vector
from tl_keras.transfer.memory import require_memory
from tl_keras.transfer.precision import WORTH_S, Choice, candidate, compare, remember, remembered
from tl_keras.transfer.store import Store, feature_folder
from tl_keras.transfer.task import POOLED, Task, chosen, num_views, tail_of
from tl_keras.transfer.trunk import BATCH_SIZE, Trunk
from tl_keras.transfer.varied import require_varied

FEED = "feed.json"  # which stored outputs a run's finetuning goes on from


def prepare_task(config: Config, index: Index, run: RunFolder, progress: Progress) -> Task:
    """Build the network, fill the open settings, compute what is frozen and cut the splits.

    Raises:
        UserError: from the data, the backbone, the settings that only they can check, or the store.
    """
    classifier = build_and_tell(config, len(index.classes), progress)
    split = dataset.cut(index, config.data, {})  # a class that is too small is said before hours of computing
    config = resolve(config, classifier, int((split == "train").sum()))
    check_names(config, classifier, index, split)
    require_memory(config, classifier)
    pixels = dataset.open_pixels(index, config.data, image_size_of(config))
    pixels.identify(progress)
    if index.ids is not None:  # a run that goes on
        dataset.require_unchanged(index, np.arange(len(index.paths)), pixels.ids, "images of this run")
    require_varied(pixels, np.flatnonzero(split == "train"))
    frozen: FrozenFeatures | None = None
    precision = Choice(as_asked(config))
    if config.mode != "pretrain":
        frozen = open_frozen(config, classifier, pixels, Store(feature_folder(), config.features.max_gb))
        frozen = in_room(config, frozen, split, run, progress)
        precision, classifier, frozen = settle_precision(config, classifier, frozen, split, progress)
        frozen = in_room(config, frozen, split, run, progress)  # what is stored differs between precisions
        note_tail(config, frozen, run)
    config = with_precision(config, precision.precision)
    if config.mode != "extract" and not tail_of(frozen):  # training reads images in every epoch
        dataset.keep_pixels(pixels, config.data, run / SCRATCH)
    split = compute_and_cut(config, index, pixels, frozen, progress)
    data = ImageData(index, pixels, split)
    dataset.write(data, run, progress)
    return Task(config, data, classifier, frozen, precision, run, progress)


def as_asked(config: Config) -> str:
    """The precision of a network before anything is measured: float32, unless another is asked for by name.

    Pretraining stays there: its many small updates are what a lower precision is worst at.
    """
    return "float32" if config.runtime.precision == "auto" else config.runtime.precision


def with_precision(config: Config, precision: str) -> Config:
    """The same configuration with another precision."""
    return config.model_copy(update={"runtime": config.runtime.model_copy(update={"precision": precision})})


def settle_precision(
    config: Config, classifier: Classifier, frozen: FrozenFeatures, split: NDArray[np.str_], progress: Progress
) -> tuple[Choice, Classifier, FrozenFeatures]:
    """Choose what `runtime.precision=auto` leaves open; the network and its frozen part are others where it is not float32."""
    lower = candidate()
    if config.runtime.precision != "auto" or lower is None:
        return Choice(as_asked(config)), classifier, frozen
    fingerprint, twins = frozen.fingerprints[POOLED], None
    choice = remembered(fingerprint, frozen.store.root)
    if choice is None:
        if begin_pass(config, frozen, split, progress) <= WORTH_S or not len(images := sample(frozen.pixels, split)):
            return Choice("float32"), classifier, frozen
        twins = in_precision(config, classifier, frozen, lower)
        choice = compare(lower, frozen.trunk, twins[1].trunk, images, POOLED)
        remember(fingerprint, choice, frozen.store.root)
    progress.line(str(choice))
    if choice.precision != "float32":
        return choice, *(twins or in_precision(config, classifier, frozen, choice.precision))
    return choice, classifier, frozen


def begin_pass(config: Config, frozen: FrozenFeatures, split: NDArray[np.str_], progress: Progress) -> float:
    """Compute one shard of what is missing, and say how many seconds the rest would take; 0 where little is missing."""
    wanted = views_of(split, num_views(config))
    if frozen.count_missing(wanted) <= SHARD_ROWS or frozen.bytes_missing(wanted) > frozen.store.room():
        return 0.0
    rows = np.unique(np.concatenate([frozen.missing(name, 0, wanted[0]) for name in frozen.trunk.shapes]))[:SHARD_ROWS]
    frozen.trunk.fold()
    started = time.perf_counter()
    frozen.compute([rows], progress, lambda: check_pixels(frozen.pixels, config.data))
    return (time.perf_counter() - started) / max(1, len(rows)) * frozen.count_missing(wanted)


def in_precision(config: Config, classifier: Classifier, frozen: FrozenFeatures, precision: str) -> tuple[Classifier, FrozenFeatures]:
    """The same classifier and its frozen part in another precision."""
    twin = build(with_precision(config, precision), classifier.model.output.shape[-1], None)
    copy_weights(classifier.model, twin.model)
    return twin, open_frozen(config, twin, frozen.pixels, frozen.store).only(frozen.trunk.shapes)


def sample(pixels: Pixels, split: NDArray[np.str_]) -> NDArray[np.uint8]:
    """At most a batch of the images of train, evenly spaced, uint8 (b, h, w, 3)."""
    rows = np.flatnonzero(split == "train")
    return pixels.read_good(rows[np.linspace(0, len(rows) - 1, min(BATCH_SIZE, len(rows))).astype(np.int64)])[1]


def build(config: Config, num_classes: int, weights: str | None) -> Classifier:
    """Build the classifier of a configuration in its precision; `weights` as in `model.weights`, None where they will be replaced."""
    with building(config.runtime.precision):
        backbone = build_backbone(
            config.model.backbone,
            image_size=image_size_of(config),
            weights=weights,
            preprocessing=config.model.preprocessing,
            trust=config.model.trust,
        )
        all_stages = defaults.head_stages(config) == "all"
        return build_classifier(config.model, backbone, num_classes, config.runtime.seed, all_stages=all_stages)


def build_and_tell(config: Config, num_classes: int, progress: Progress) -> Classifier:
    """Build the classifier with the weights that are asked for, and say what was found in its backbone's file or module."""
    classifier = build(config, num_classes, config.model.weights)
    for note in classifier.notes:
        progress.line(note)
    return classifier


def image_size_of(config: Config) -> tuple[int, int]:
    """(height, width) in pixels: what `data.image_size` says, or the backbone's native size."""
    size = config.data.image_size
    if size is None:
        size = native_image_size(config.model.backbone, trust=config.model.trust)
    return (size, size) if isinstance(size, int) else size


def resolve(config: Config, classifier: Classifier, num_train: int) -> Config:
    """Fill every open setting, and make paths absolute."""
    data = config.data.model_copy(update={"image_size": image_size_of(config), "source": absolute(config.data.source)})
    model = config.model.model_copy(
        update={"backbone": absolute(table_name(config.model.backbone)), "weights": absolute(config.model.weights)}
    )
    num_parameters = count_parameters(classifier.trunk)["total"]
    return defaults.resolve(config.model_copy(update={"data": data, "model": model}), num_train, tuple(classifier.stages), num_parameters)


def absolute(name: str) -> str:
    """A path that later modes find from any folder; a name of a table or data set stays as it is."""
    path = Path(name).expanduser()
    return str(path.resolve()) if name not in (*BACKBONES, "digits") and path.exists() else name


def check_names(config: Config, classifier: Classifier, index: Index, split: NDArray[np.str_]) -> None:
    """Refuse a stage or a class that there is not, and what a TF-Hub module cannot do, before anything is computed."""
    if config.mode == "pretrain" and any(isinstance(layer, HubModule) for layer in classifier.model.layers):
        raise ConfigError(
            f"--mode pretrain: {config.model.backbone} is a TF-Hub module, of which no backbone.keras is made. Use --mode finetune."
        )
    unfreeze(classifier, config.train.unfreeze_from, freeze_batchnorm=config.mode != "finetune" or config.model.freeze_batchnorm)
    class_weight_vector(config.train.class_weights, index.labels[split == "train"], index.classes)


def open_frozen(config: Config, classifier: Classifier, pixels: Pixels, store: Store) -> FrozenFeatures:
    """What is frozen of a network: the features that a head reads, and the tensors that finetuning goes on from."""
    cut = cut_below(classifier, chosen(config.train.unfreeze_from)) if config.mode == "finetune" else None
    trunk = Trunk(classifier.model, {POOLED: classifier.trunk.output, **({} if cut is None else cut[0])})
    about = {"backbone": short_name(config.model.backbone), "stages": chosen(config.features.stages)}
    return FrozenFeatures(store, trunk, pixels, config.data.augment, about)


def in_room(config: Config, frozen: FrozenFeatures, split: NDArray[np.str_], run: RunFolder, progress: Progress) -> FrozenFeatures:
    """All of it, or without what finetuning would go on from, where the store has no room for that.

    A run that is continued cannot change where its finetuning starts: its checkpoints are of that part.

    Raises:
        StoreError: the run went on from stored features, for which there is no room now.
    """
    if not tail_of(frozen):
        return frozen
    file = run / CHECKPOINTS / FEED
    with reading(file, "what finetuning goes on from", AGAIN):
        before = tuple(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None
    needed, room = frozen.bytes_missing(views_of(split, num_views(config))), max(0, frozen.store.room())
    if before != () and (not needed or needed <= room):
        return frozen
    if before:
        raise StoreError(f"{run.path}: this run learned from stored features, for which there is no room now. Make room, then --resume.")
    if before is None:
        progress.line(
            f"what lies below {config.train.unfreeze_from} would take {needed / 1e9:.2f} GB, and {room / 1e9:.2f} GB are free under "
            f"features.max_gb={config.features.max_gb:g} and on the disk: finetuning reads images in every epoch instead"
        )
    return frozen.only([POOLED])


def note_tail(config: Config, frozen: FrozenFeatures, run: RunFolder) -> None:
    """Keep what finetuning goes on from, for `in_room` when the run is continued."""
    file = run / CHECKPOINTS / FEED
    if config.mode == "finetune" and not file.is_file():
        file.parent.mkdir(exist_ok=True)
        write_json(file, list(tail_of(frozen)))


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
