"""Which precision computes a backbone fastest on this machine: measured on it, not looked up.

bfloat16 is five times faster than float32 for one network and slower for another on the same processor, so both run a
few batches of the user's images. The choice is remembered with what it was measured on, and a second run makes the same.
"""

import hashlib
import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tl_keras.errors import TrainingError
from tl_keras.run_folder import write_json
from tl_keras.transfer.trunk import Trunk

POLICIES = {
    "auto": "float32",
    "float32": "float32",
    "bfloat16": "mixed_bfloat16",
    "float16": "mixed_float16",
}  # precision -> Keras' dtype policy
WORTH_S = 30.0  # of a float32 pass, for which a second network is worth building
LEAST_GAIN = 1.2  # times faster, to give up digits
LARGEST_DIFFERENCE = 0.03  # relative, root mean square over all features
TIMED_BATCHES = 3
REMEMBERED = "precision.json"


def set_precision(precision: str) -> None:
    """Set the precision of layers that are built from now on."""
    keras.config.set_dtype_policy(POLICIES[precision])


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
    flags = _cpu_flags()
    return "bfloat16" if {"amx_bf16", "avx512_bf16"} & flags else None


def _cpu_flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return set()
    return set(next((line.partition(":")[2] for line in text.splitlines() if line.startswith("flags")), "").split())


def choose(
    trunk: Trunk, in_precision: Callable[[str], Trunk], start: Callable[[], float], sample: Callable[[], NDArray[np.uint8]], folder: Path
) -> Choice:
    """Choose the precision for a pass over many images.

    Args:
        trunk: in float32.
        in_precision: builds the same trunk, with the same weights, in another precision.
        start: begins the pass in float32, and says how many seconds the rest of it would take.
        sample: reads uint8 (b, h, w, 3), up to `BATCH_SIZE` images to measure with.
        folder: where choices are remembered.
    """
    lower = candidate()
    if lower is None:
        return Choice("float32")
    key = hashlib.sha256("".join([*trunk.fingerprints().values(), lower, _machine()]).encode()).hexdigest()[:32]
    remembered = _read(folder / REMEMBERED)
    if key not in remembered:
        rest = start()
        if rest <= 0 or rest < WORTH_S or not len(pixels := sample()):
            return Choice("float32")
        remembered[key] = asdict(_compare(lower, in_precision(lower), pixels, *_time(trunk, pixels)))
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / REMEMBERED, remembered)
    return Choice(**remembered[key])


def _compare(lower: str, trunk: Trunk, pixels: NDArray[np.uint8], expected: dict[str, Any], seconds: float) -> Choice:
    try:
        found, seconds_lower = _time(trunk, pixels)
    except TrainingError:  # it overflows
        return Choice("float32", lower)
    ratio = seconds / seconds_lower
    error = sum(float(((found[name] - expected[name]) ** 2).sum()) for name in expected)
    difference = float(np.sqrt(error / sum(float((values**2).sum()) for values in expected.values())))
    return Choice(lower if ratio >= LEAST_GAIN and difference <= LARGEST_DIFFERENCE else "float32", lower, ratio, difference)


def _time(trunk: Trunk, pixels: NDArray[np.uint8]) -> tuple[dict[str, Any], float]:
    """What a trunk puts out, and the seconds of its fastest warm batch."""
    found = trunk(pixels)
    laps = []
    for _ in range(TIMED_BATCHES):
        started = time.perf_counter()
        trunk(pixels)
        laps.append(time.perf_counter() - started)
    return found, min(laps)


def _machine() -> str:
    devices = [
        str(tf.config.experimental.get_device_details(device).get("device_name")) for device in tf.config.list_physical_devices("GPU")
    ]
    threads = tf.config.threading.get_intra_op_parallelism_threads()
    return json.dumps([platform.machine(), sorted(_cpu_flags()), devices, threads])


def _read(file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found
