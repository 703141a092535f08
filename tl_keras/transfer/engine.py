"""The fastest way to compute what is frozen on this machine, engine and precision: measured, not looked up.

On a CPU OpenVINO runs nearly every network faster than TensorFlow, so it begins the pass. Where the pass is long, what else there is
runs a few batches of the user's images: bfloat16 is five times faster than float32 for one network, and for another as fast or too
coarse. The choice is remembered with what it was measured on, and a second run makes the same.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tl_keras.config import Config
from tl_keras.data import dataset
from tl_keras.data.pipeline import Pixels
from tl_keras.errors import ConfigError, TrainingError
from tl_keras.models.backbone_weights import copy_weights
from tl_keras.models.classifier import Classifier
from tl_keras.models.engines import (
    OPENVINO,
    OPENVINO_BFLOAT16,
    PRECISIONS,
    TENSORFLOW,
    ConversionError,
    can_begin,
    is_here,
    openvino_version,
)
from tl_keras.progress import Progress
from tl_keras.transfer.build import build
from tl_keras.transfer.features import FrozenFeatures, Rows
from tl_keras.transfer.frozen import POOLED, open_frozen
from tl_keras.transfer.machine_cache import cpu_flags, keep, recall
from tl_keras.transfer.trunk import BATCH_SIZE, Trunk

WORTH_S = 30.0  # of a pass, for which other engines and precisions are worth building
LEAST_GAIN = 1.2  # times faster, to give up digits
LARGEST_DIFFERENCE = 0.03  # relative, root mean square over all features
TIMED_BATCHES = 3
REMEMBERED = "engines.json"


@dataclass(frozen=True)
class Way:
    """A way to compute what is frozen.

    Attributes:
        engine: see `models.engines`.
        precision: of the network: 'float32', 'bfloat16' or 'float16'.
    """

    engine: str
    precision: str = "float32"

    def __str__(self) -> str:
        return self.engine if self.precision == "float32" else f"{self.engine} in {self.precision}"


@dataclass(frozen=True)
class Trial(Way):
    """What was measured of a way, against the one that began the pass.

    Attributes:
        ratio: how many times as fast it is; None where it overflows.
        difference: between the features: root mean square of the difference over that of the features.
    """

    ratio: float | None = None
    difference: float | None = None

    @property
    def is_gain(self) -> bool:
        """Whether it is worth changing to."""
        ratio, difference = self.ratio or 0.0, np.inf if self.difference is None else self.difference
        return bool(ratio >= LEAST_GAIN and difference <= LARGEST_DIFFERENCE)

    def __str__(self) -> str:
        if self.ratio is None:
            return f"{super().__str__()} overflows"
        return f"{super().__str__()} is {self.ratio:.2f} times as fast here, and its features differ by {self.difference:.1%}"


@dataclass(frozen=True)
class Choice(Way):
    """The way that was chosen, and why.

    Attributes:
        trials: of the others; empty where nothing was measured.
        refused: why OpenVINO does not take this network; None where it does, or was not asked.
    """

    trials: tuple[Trial, ...] = ()
    refused: str | None = None

    @property
    def is_exact(self) -> bool:
        """Whether the features are those of the network in float32."""
        return self.precision == "float32" and self.engine != OPENVINO_BFLOAT16

    def __str__(self) -> str:
        refused = [] if self.refused is None else [f"openvino does not take this backbone: {self.refused}"]
        reasons = "; ".join([*refused, *map(str, self.trials)])
        return f"engine {super().__str__()}" + (f": {reasons}" if reasons else "")


def as_asked(config: Config) -> str:
    """The precision of a network before anything is measured: float32, unless another is asked for by name.

    Pretraining stays there: its many small updates are what a lower precision is worst at.
    """
    return "float32" if config.runtime.precision == "auto" else config.runtime.precision


def ways(config: Config) -> tuple[Way, ...]:
    """What may compute the frozen part of a configuration on this machine; the first begins.

    Raises:
        ConfigError: the engine that is asked for is not installed.
    """
    engine, precision = config.runtime.engine, config.runtime.precision
    if not is_here(engine):
        raise ConfigError(f"runtime.engine: got '{engine}', which is not installed: pip install openvino. Or set auto.")
    if engine in PRECISIONS:
        return (Way(engine),)
    if precision not in ("auto", "float32"):
        return (Way(TENSORFLOW, precision),)
    lower = candidate() if precision == "auto" else None
    if engine == "auto" and can_begin():
        return (Way(OPENVINO), Way(TENSORFLOW), *([Way(OPENVINO_BFLOAT16)] if lower else []))
    return (Way(TENSORFLOW), *([Way(TENSORFLOW, lower)] if lower else []))


def settle_engine(
    config: Config,
    classifier: Classifier,
    frozen: FrozenFeatures,
    wanted: Sequence[Rows],
    progress: Progress,
    *,
    worth_s: float | None = None,
    elsewhere: bool = False,
) -> tuple[Choice, Classifier, FrozenFeatures]:
    """Choose what `runtime.engine=auto` and `runtime.precision=auto` leave open, and compute what is wanted if that is soon done.

    Args:
        classifier: in the precision that is asked for, as its `frozen` part is.
        frozen: on the engine that begins, see `begun`.
        wanted: for each view, the rows that need it.
        worth_s: seconds of a pass for which other engines and precisions are measured, infinite where none is; None for `WORTH_S`.
        elsewhere: other machines compute; here it is only seen whether the engine takes the network, and nothing is measured.

    Returns:
        The choice, and the network and its frozen part as the choice wants them.

    Raises:
        ConfigError: an engine that is asked for is not installed, or does not take this network.
    """
    possible = ways(config)
    begin = see_engine if elsewhere else begin_pass
    choice = remembered(frozen, possible) or _choose(config, classifier, frozen, possible, wanted, progress, worth_s, begin)
    if choice.trials or choice.refused:
        progress.line(str(choice))
    return choice, *as_chosen(config, classifier, frozen, choice)


def begun(config: Config, frozen: FrozenFeatures) -> FrozenFeatures:
    """What is frozen on the engine that was chosen before, or that begins."""
    possible = ways(config)
    return frozen.on((remembered(frozen, possible) or possible[0]).engine)


def as_chosen(config: Config, classifier: Classifier, frozen: FrozenFeatures, way: Way) -> tuple[Classifier, FrozenFeatures]:
    """A classifier in float32, or in the precision that was asked for, and its frozen part, as a way wants them."""
    if way.precision == as_asked(config):
        return classifier, frozen.on(way.engine)
    twin = build(config.replace("runtime.precision", way.precision), classifier.model.output.shape[-1], None)
    copy_weights(classifier.model, twin.model)
    return twin, open_frozen(config, twin, frozen.pixels, frozen.store).only(frozen.trunk.shapes)


def _choose(
    config: Config,
    classifier: Classifier,
    frozen: FrozenFeatures,
    possible: tuple[Way, ...],
    wanted: Sequence[Rows],
    progress: Progress,
    worth_s: float | None,
    begin: Callable[[Config, FrozenFeatures, Sequence[Rows], Progress, float], bool],
) -> Choice:
    first = frozen.on(possible[0].engine)
    try:
        is_long = begin(config, first, wanted, progress, (WORTH_S if worth_s is None else worth_s) if len(possible) > 1 else np.inf)
    except ConversionError as error:
        if config.runtime.engine != "auto":
            raise ConfigError(
                f"runtime.engine: got '{config.runtime.engine}', which does not take this backbone: {error}. Set auto or tensorflow."
            ) from error
        without = config.replace("runtime.engine", TENSORFLOW)
        choice = replace(_choose(without, classifier, frozen, ways(without), wanted, progress, worth_s, begin), refused=str(error))
        remember(frozen, possible, choice)
        return choice
    if not is_long or not len(images := sample(frozen.pixels, wanted[0])):
        return Choice(possible[0].engine, possible[0].precision)
    others = {way: as_chosen(config, classifier, frozen, way)[1].trunk for way in possible[1:]}
    choice = compare(possible[0], first.trunk, others, images, POOLED)
    remember(frozen, possible, choice)
    return choice


def begin_pass(config: Config, frozen: FrozenFeatures, wanted: Sequence[Rows], progress: Progress, worth_s: float) -> bool:
    """Compute what is missing, unless after the first images the rest would take more than `worth_s` seconds.

    Where half of the features are stored already, nothing else is looked for: another engine would have to compute all of them.

    Returns:
        Whether much is left to compute.

    Raises:
        ConversionError: the engine does not take the network; asked only where something is missing.
    """
    missing, before = frozen.count_missing(wanted), frozen.store.num_computed
    if not missing:
        return False
    if frozen.bytes_missing(wanted) > frozen.store.room():  # which is said later, of what is chosen
        frozen.trunk.fold()
        return False
    started, is_first = time.perf_counter(), missing > sum(len(rows) for rows in wanted) / 2

    def check() -> None:
        nonlocal is_first
        dataset.check(frozen.pixels, config.data)
        done = frozen.store.num_computed - before
        rest = (time.perf_counter() - started) / max(1, done) * (missing - done)
        if is_first and rest > worth_s:
            raise _LongPassError
        is_first = False

    try:
        frozen.compute(wanted, progress, check)
    except _LongPassError:
        return True
    return False


def see_engine(config: Config, frozen: FrozenFeatures, wanted: Sequence[Rows], progress: Progress, worth_s: float) -> bool:
    """In place of `begin_pass`, build only what the pass would run, where something is missing.

    Raises:
        ConversionError: the engine does not take the network.
    """
    if frozen.count_missing(wanted):
        frozen.trunk.fold()
    return False


class _LongPassError(Exception):
    pass


def sample(pixels: Pixels, rows: Rows) -> NDArray[np.uint8]:
    """At most a batch of some images, evenly spaced, uint8 (b, h, w, 3)."""
    return pixels.read_good(rows[np.linspace(0, len(rows) - 1, min(BATCH_SIZE, len(rows))).astype(np.int64)])[1]


def candidate() -> str | None:
    """The lower precision that this machine computes natively, if any."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
        return "bfloat16" if capability >= (8, 0) else "float16"
    flags = cpu_flags()
    return "bfloat16" if {"amx_bf16", "avx512_bf16"} & flags else None


def remembered(frozen: FrozenFeatures, possible: tuple[Way, ...]) -> Choice | None:
    """What was chosen before on this machine among these ways; `frozen` is in float32, or in the precision that was asked for."""
    found = recall(frozen.store.root / REMEMBERED, *_about(frozen, possible))
    return None if found is None else Choice(**found | {"trials": tuple(Trial(**each) for each in found["trials"])})


def remember(frozen: FrozenFeatures, possible: tuple[Way, ...], choice: Choice) -> None:
    """Keep a choice for later runs with the same features on this machine."""
    keep(frozen.store.root / REMEMBERED, asdict(choice), *_about(frozen, possible))


def _about(frozen: FrozenFeatures, possible: tuple[Way, ...]) -> tuple[str, ...]:
    return frozen.fingerprints[POOLED], str(openvino_version()), *map(str, possible)


def compare(first: Way, trunk: Trunk, others: Mapping[Way, Trunk], pixels: NDArray[np.uint8], output: str) -> Choice:
    """Time the trunk that began the pass and those of other ways on some images, and choose; `output` must agree.

    Args:
        pixels: uint8 (b, h, w, 3).
    """
    expected, seconds = timed(trunk, pixels)
    trials = []
    for way, other in others.items():
        try:
            found, taken = timed(other, pixels)
        except TrainingError:  # it overflows
            trials.append(Trial(way.engine, way.precision))
            continue
        difference = float(np.linalg.norm(found[output] - expected[output]) / np.linalg.norm(expected[output]))
        trials.append(Trial(way.engine, way.precision, seconds / taken, difference))
    best = max((trial for trial in trials if trial.is_gain), key=lambda trial: trial.ratio or 0.0, default=first)
    return Choice(best.engine, best.precision, tuple(trials))


def timed(trunk: Trunk, pixels: NDArray[np.uint8]) -> tuple[dict[str, Any], float]:
    """The outputs of a trunk for pixels uint8 (b, h, w, 3), and the seconds of its fastest run once it is warm."""
    found = trunk(pixels)
    laps = []
    for _ in range(TIMED_BATCHES):
        started = time.perf_counter()
        trunk(pixels)
        laps.append(time.perf_counter() - started)
    return found, min(laps)
