"""What a training run would do: its settings, splits and phases, and an estimate of time and memory, measured here.

Shapes say first whether memory will do. Where it will, the estimate runs one batch of random numbers, or the part of one that
surely fits, through each phase on a network that is thrown away; nothing is written, and features that are stored already make
the training run faster than it says.
"""

import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tl_keras.config import AUTO, Config
from tl_keras.data import dataset, images, splits
from tl_keras.data.index import SPLIT_NAMES, Index
from tl_keras.data.pipeline import decoding_threads
from tl_keras.data.target import open_target
from tl_keras.errors import BadImageError
from tl_keras.models.classifier import Classifier, count_parameters, cut_below, unfreeze, update_scales
from tl_keras.models.outputs import OUTPUTS
from tl_keras.progress import Progress
from tl_keras.runtime import restoring_process, set_up, threads_in_force
from tl_keras.transfer.build import build_and_tell, check_names, image_size_of, resolve
from tl_keras.transfer.defaults import required
from tl_keras.transfer.features import row_bytes
from tl_keras.transfer.frozen import num_views
from tl_keras.transfer.memory import available_bytes, bytes_needed, require_memory
from tl_keras.transfer.phases import Phase, compile_model
from tl_keras.workflows.rank import with_best_backbone
from tl_keras.workflows.setting_up import open_images, tell_shrunk

DECODED_FOR_ESTIMATE = 32  # by each core
REALLY_TAKEN = 4  # times what shapes say is taken at least: 1.2 to 3.6 was measured where a batch takes more than its network's weights


@dataclass(frozen=True)
class Plan:
    """A training before it happens; `splits` and `phases` are rows of texts."""

    config: Config
    splits: list[tuple[str, ...]]
    phases: list[tuple[str, ...]]
    seconds: float
    memory_gb: float
    disk_gb: float


@restoring_process()
def make_plan(config: Config, progress: Progress) -> Plan:
    """Resolve a configuration, cut its splits (taking every file for readable) and time one batch of each phase.

    Raises:
        UserError: what would stop the training run before it begins, memory that will not do among it.
    """
    set_up(config.runtime)
    index = open_images(config.data, progress, read=config.model.backbone == AUTO)  # a ranking must not look at test
    tell_shrunk(config, index, progress)
    target = open_target(config.data, config.adapt.target, index, progress) if config.mode == "adapt" else None
    config = with_best_backbone(config, index, None, progress)
    split = dataset.cut(index, config.data, {})
    used = index.take(np.flatnonzero(split != splits.UNUSED))
    classifier = build_and_tell(config, len(index.classes), progress)
    num_train, num_images = int((split == "train").sum()), len(used.paths) + (0 if target is None else len(target.paths))
    config = resolve(config, classifier, num_train)
    check_names(config, classifier, index, split)
    require_memory(config, classifier)
    needed = bytes_needed(config, classifier)
    with progress.bar("timing one batch of each phase", 2) as advance:
        decode = sum(decode_seconds(each, config) for each in (used, target) if each is not None)
        advance(1)
        phases = list(phase_rows(config, classifier, num_train, num_images, share_that_fits(needed)))
    decode *= decodings(config, classifier, num_images)
    seconds = decode + sum(estimate for _, estimate in phases)
    sizes = [index.sizes(split == part).tolist() for part in SPLIT_NAMES]
    table = [(name, *map(str, each)) for name, *each in zip(index.classes, *sizes, strict=True)]
    disk = disk_gb(config, classifier, num_train, num_images)
    if target is not None:
        progress.line(f"target: {len(target.paths)} images")
    rows = [("decoding", "", "", "", "", f"{decode:.0f} s"), *(row for row, _ in phases)]
    return Plan(config, table, rows, seconds, max(peak_memory_gb(), max(needed.values()) / 1e9), disk)


def share_that_fits(needed: Mapping[str, int]) -> float:
    """The part of a batch that is safe to run for an estimate, in (0, 1].

    Args:
        needed: what phases take at least, see `memory.bytes_needed`.
    """
    free = available_bytes()
    return 1.0 if free is None else min(1.0, free / (REALLY_TAKEN * max(1, *needed.values())))


def disk_gb(config: Config, classifier: Classifier, num_train: int, num_images: int) -> float:
    """GB of stored features, and of pixels where every epoch reads them."""
    pixels = pixels_gb(config, num_images)
    kept = pixels if reads_images(config, classifier) and pixels <= config.data.cache_gb else 0.0
    if config.mode == "pretrain":
        return kept
    cut = cut_below(classifier, required(config.train.unfreeze_from)) if config.mode == "finetune" else None
    tensors = [classifier.trunk.output, *(cut[0].values() if cut else ())]
    rows = num_images + num_train * num_views(config)
    return kept + sum(rows * row_bytes(tuple(tensor.shape[1:])) for tensor in tensors) / 1e9


def pixels_gb(config: Config, num_images: int) -> float:
    """GB of all decoded images."""
    return num_images * int(np.prod(image_size_of(config))) * 3 / 1e9


def reads_images(config: Config, classifier: Classifier) -> bool:
    """Whether every epoch reads images, and not stored features."""
    if config.mode == "finetune":
        return cut_below(classifier, required(config.train.unfreeze_from)) is None
    return config.mode == "pretrain"


def decodings(config: Config, classifier: Classifier, num_images: int) -> int:
    """How often each image is decoded: once, and again in every epoch that reads images which have no room on the disk once decoded."""
    if not reads_images(config, classifier) or pixels_gb(config, num_images) <= config.data.cache_gb:
        return 1
    return required(config.train.epochs) + (config.mode == "finetune")  # the head is solved before


def decode_seconds(index: Index, config: Config) -> float:
    """Estimate the seconds to decode and resize every file once, by all threads, from a few."""
    decoding = images.Decoding.of(config.data)

    def load(row: int) -> None:
        with suppress(BadImageError):
            images.load(index.root / index.paths[row], image_size_of(config), config.data.resize, decoding)

    load(0)  # the first call builds the graph
    with decoding_threads() as pool:
        many = DECODED_FOR_ESTIMATE * threads_in_force()
        rows = np.linspace(0, len(index.paths) - 1, min(many, len(index.paths))).astype(int).tolist()
        started = time.perf_counter()
        list(pool.map(load, rows))
    return (time.perf_counter() - started) / len(rows) * len(index.paths)


def phase_rows(config: Config, classifier: Classifier, num_train: int, num_images: int, share: float = 1.0) -> Any:
    """Yield (row of texts, seconds) for each phase of a mode, from a share of a batch."""
    train = config.train
    batches, size = -(-num_images // train.batch_size), max(1, int(share * train.batch_size))
    whole = train.batch_size / size
    forward = whole * timed(lambda pixels: classifier.trunk(pixels, training=False), classifier.trunk, size)
    if config.mode in ("extract", "adapt", "finetune"):
        unfreeze(classifier, None, freeze_batchnorm=True)
        batches += -(-num_train // train.batch_size) * num_views(config)
        yield phase_row("head", classifier, 1, batches, forward * batches)
    if config.mode in ("finetune", "pretrain"):
        still = config.mode == "finetune" and config.model.freeze_batchnorm
        unfreeze(classifier, train.unfreeze_from, freeze_batchnorm=still)
        scales = update_scales(classifier, required(train.layer_decay))
        output = OUTPUTS[config.data.task]
        phase = Phase(config.mode, required(train.epochs), num_train, required(train.learning_rate), scales, None, output=output)
        cut = cut_below(classifier, required(train.unfreeze_from)) if config.mode == "finetune" else None
        model = classifier.model if cut is None else cut[1]
        compile_model(model, phase, train)
        targets = np.zeros((size, model.output.shape[-1]), np.float32)
        step = whole * timed(lambda inputs: model.train_on_batch(inputs, targets), model, size, compiled=True)
        steps = phase.steps(train.batch_size) * phase.epochs
        yield phase_row(config.mode, classifier, phase.epochs, steps, step * steps)


def timed(call: Callable[[Any], Any], model: keras.Model, batch_size: int, *, compiled: bool = False) -> float:
    """Seconds of a call on a batch of random inputs of a model, once it is warm."""
    rng = np.random.default_rng(0)
    inputs = [rng.integers(0, 256, (batch_size, *tensor.shape[1:])).astype(np.float32) for tensor in model.inputs]
    batch = inputs[0] if len(inputs) == 1 else inputs
    function = call if compiled else tf.function(call)
    function(batch)
    started = time.perf_counter()
    function(batch)
    return time.perf_counter() - started


def phase_row(name: str, classifier: Classifier, epochs: int, steps: int, seconds: float) -> tuple[tuple[str, ...], float]:
    """The texts of one phase, and its seconds."""
    count = count_parameters(classifier.model)
    return (
        name,
        f"{count['trainable']:,}",
        f"{count['total']:,}",
        str(epochs),
        f"{steps:,}",
        f"{seconds:.0f} s",
    ), seconds


def peak_memory_gb() -> float:
    """Peak resident memory of this process so far, in GB; 0 where the system does not tell, as Windows."""
    try:
        import resource
    except ImportError:
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e9 if sys.platform == "darwin" else 1e6)
