"""Which precision computes a backbone fastest on this machine: measured on it, not looked up.

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

from tl_keras.errors import TrainingError
from tl_keras.transfer.machine_cache import cpu_flags, keep, recall
from tl_keras.transfer.trunk import Trunk

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
    """What a trunk puts out for pixels uint8 (b, h, w, 3), and the seconds of its fastest run once it is warm."""
    found = trunk(pixels)
    laps = []
    for _ in range(TIMED_BATCHES):
        started = time.perf_counter()
        trunk(pixels)
        laps.append(time.perf_counter() - started)
    return found, min(laps)
