"""Per-machine cache of measurements: small values in a JSON file, keyed by what was measured."""

import hashlib
import json
import platform
from pathlib import Path
from typing import Any

import tensorflow as tf

from tl_keras.run_folder import write_json


def recall(file: Path, *about: str) -> Any | None:
    """What `keep` wrote about these things on a machine like this one; None where it wrote nothing."""
    return _read(file).get(_key(about))


def keep(file: Path, value: Any, *about: str) -> None:
    """Keep a value that JSON can hold; the file and its folder are made where they are missing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, _read(file) | {_key(about): value})


def cpu_flags() -> set[str]:
    """What the processor says that it can do, such as 'avx512_bf16'; empty where the system does not tell."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return set()
    return set(next((line.partition(":")[2] for line in text.splitlines() if line.startswith("flags")), "").split())


def _key(about: tuple[str, ...]) -> str:
    return hashlib.sha256(json.dumps([about, _machine()]).encode()).hexdigest()[:32]


def _machine() -> list[Any]:
    gpus = tf.config.list_physical_devices("GPU")
    devices = [str(tf.config.experimental.get_device_details(device).get("device_name")) for device in gpus]
    return [platform.machine(), sorted(cpu_flags()), devices, tf.config.threading.get_intra_op_parallelism_threads()]


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
