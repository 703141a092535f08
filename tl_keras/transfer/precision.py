"""The fastest precision for a backbone on this machine: measured, not looked up.

bfloat16 is five times faster than float32 for one network and slower for another on the same processor, so both run a
few batches of the user's images. The choice is remembered with what it was measured on, and a second run makes the same.
"""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tl_keras.config import Config
from tl_keras.data import dataset
from tl_keras.data.pipeline import Pixels
from tl_keras.errors import TrainingError
from tl_keras.models.backbone_weights import copy_weights
from tl_keras.models.classifier import Classifier
from tl_keras.progress import Progress
from tl_keras.transfer.build import build
from tl_keras.transfer.features import SHARD_ROWS, FrozenFeatures
from tl_keras.transfer.frozen import POOLED, num_views, open_frozen, views_of
from tl_keras.transfer.machine_cache import cpu_flags, keep, recall
from tl_keras.transfer.trunk import BATCH_SIZE, Trunk

WORTH_S = 30.0  # of a float32 pass, for which a second network is worth building
LEAST_GAIN = 1.2  # times faster, to give up digits
LARGEST_DIFFERENCE = 0.03  # relative, root mean square over all features
TIMED_BATCHES = 3
REMEMBERED = "precision.json"


@dataclass(frozen=True)
class Choice:
    """A precision and why.

    Attributes:
        precision: 'float32', 'bfloat16' or 'float16'.
        tried: what was timed against float32; None where nothing was.
        ratio: how many times faster that was.
        difference: between its features and those of float32: root mean square of the difference over that of the features.
    """

    precision: str
    tried: str | None = None
    ratio: float | None = None
    difference: float | None = None

    def __str__(self) -> str:
        if self.tried is None:
            return f"precision {self.precision}"
        if self.ratio is None:
            return f"precision {self.precision}: {self.tried} overflows"
        measured = f"{self.tried} is {self.ratio:.2f} times as fast as float32 here, and its features differ by {self.difference:.1%}"
        return f"precision {self.precision}: {measured}"


def as_asked(config: Config) -> str:
    """The precision of a network before anything is measured: float32, unless another is asked for by name.

    Pretraining stays there: its many small updates are what a lower precision is worst at.
    """
    return "float32" if config.runtime.precision == "auto" else config.runtime.precision


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
    frozen.compute([rows], progress, lambda: dataset.check(frozen.pixels, config.data))
    return (time.perf_counter() - started) / max(1, len(rows)) * frozen.count_missing(wanted)


def in_precision(config: Config, classifier: Classifier, frozen: FrozenFeatures, precision: str) -> tuple[Classifier, FrozenFeatures]:
    """The same classifier and its frozen part in another precision."""
    twin = build(config.replace("runtime.precision", precision), classifier.model.output.shape[-1], None)
    copy_weights(classifier.model, twin.model)
    return twin, open_frozen(config, twin, frozen.pixels, frozen.store).only(frozen.trunk.shapes)


def sample(pixels: Pixels, split: NDArray[np.str_]) -> NDArray[np.uint8]:
    """At most a batch of the images of train, evenly spaced, uint8 (b, h, w, 3)."""
    rows = np.flatnonzero(split == "train")
    return pixels.read_good(rows[np.linspace(0, len(rows) - 1, min(BATCH_SIZE, len(rows))).astype(np.int64)])[1]


def candidate() -> str | None:
    """The lower precision that this machine computes natively, if any."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
        return "bfloat16" if capability >= (8, 0) else "float16"
    flags = cpu_flags()
    return "bfloat16" if {"amx_bf16", "avx512_bf16"} & flags else None


def remembered(fingerprint: str, folder: Path) -> Choice | None:
    """What was chosen before on this machine, for features in float32 (see `trunk.fingerprints`); `folder` is `remember`'s."""
    found = recall(folder / REMEMBERED, fingerprint, str(candidate()))
    return None if found is None else Choice(**found)


def remember(fingerprint: str, choice: Choice, folder: Path) -> None:
    """Keep a choice for later runs with the same features on this machine."""
    keep(folder / REMEMBERED, asdict(choice), fingerprint, str(candidate()))


def compare(lower: str, trunk: Trunk, twin: Trunk, pixels: NDArray[np.uint8], output: str) -> Choice:
    """Time a float32 trunk and its twin of a lower precision on some images, uint8 (b, h, w, 3), and choose; `output` must agree."""
    expected, seconds = timed(trunk, pixels)
    try:
        found, seconds_lower = timed(twin, pixels)
    except TrainingError:  # it overflows
        return Choice("float32", lower)
    ratio = seconds / seconds_lower
    difference = float(np.linalg.norm(found[output] - expected[output]) / np.linalg.norm(expected[output]))
    return Choice(lower if ratio >= LEAST_GAIN and difference <= LARGEST_DIFFERENCE else "float32", lower, ratio, difference)


def timed(trunk: Trunk, pixels: NDArray[np.uint8]) -> tuple[dict[str, Any], float]:
    """The outputs of a trunk for pixels uint8 (b, h, w, 3), and the seconds of its fastest run once it is warm."""
    found = trunk(pixels)
    laps = []
    for _ in range(TIMED_BATCHES):
        started = time.perf_counter()
        trunk(pixels)
        laps.append(time.perf_counter() - started)
    return found, min(laps)
