"""What computing the features of many images costs: a model with two numbers, fitted to one process, held against several.

    python benchmarks/scaling.py --data FOLDER [--backbone mobilenet_v2] [--processes 2 4] [--repeats 3]

A process takes `a` seconds before its first image, and `c` seconds of a core an image. Both are fitted to one process on one core, with all
of the images and with a quarter of them; so n processes on m cores, n >= m, should take n / m (a + images c / n) seconds. Each process runs
`--shard K/N` on a core of its own as long as there are cores, and every measurement begins with an empty store.

What many machines would take follows by three assumptions: so many cores a machine, so many bytes a second that each reads, and, where they
have GPUs, that only decoding keeps cores busy. The size of an image and the time of decoding are measured.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np
from kill_and_finish import environment

from tl_keras.data import images
from tl_keras.transfer.head import probe

ON_ONE_CORE = """
import os, runpy, sys
os.sched_setaffinity(0, {int(sys.argv.pop(1))})
runpy.run_module("tl_keras.run", run_name="__main__")
"""


def images_of(folder: Path) -> list[Path]:
    """The images below class folders, with or without split folders above."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def quarter_of(folder: Path, to: Path) -> Path:
    """A copy of every fourth image."""
    for image in images_of(folder)[::4]:
        copy = to / image.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, copy)
    return to


def seconds(data: Path, backbone: str, processes: int, cores: list[int]) -> float:
    """Until the last of some processes has stored its part."""
    with tempfile.TemporaryDirectory() as cache:
        line = ["--mode", "extract", "--data", str(data), "--backbone", backbone, "--set", "runtime.engine=openvino"]
        begun = time.perf_counter()
        working = [
            subprocess.Popen(
                [sys.executable, "-c", ON_ONE_CORE, str(cores[part % len(cores)]), *line, "--shard", f"{part}/{processes}"],
                env=environment(Path(cache)),
                stdout=subprocess.DEVNULL,
            )
            for part in range(processes)
        ]
        ended = [process.wait() for process in working]
        if any(ended):
            sys.exit("a part has failed")
        return time.perf_counter() - begun


def decoding_seconds(files: list[Path]) -> float:
    """Of a core, for each image."""
    images.load(files[0], (224, 224), "crop")
    begun = time.process_time()
    for file in files:
        images.load(file, (224, 224), "crop")
    return (time.process_time() - begun) / len(files)


def head_passes(width: int, classes: int, num: int = 20_000) -> tuple[int, float]:
    """Passes over features of which a head is solved that are read anew in each, and seconds of a core for an image in each."""
    draw = np.random.default_rng(0)
    centres = draw.normal(scale=0.15, size=(classes, width)).astype(np.float32)
    labels = draw.integers(0, classes, num).astype(np.int32)
    features = centres[labels] + draw.standard_normal((num, width), np.float32)
    train, val = ((features[rows], labels[rows]) for rows in (slice(num // 10, num), slice(num // 10)))
    passes, once = 0, probe.LogLoss.__call__

    def counted(loss: probe.LogLoss, weights: probe.Matrix) -> tuple[float, probe.Matrix, float]:
        nonlocal passes
        passes += 1
        return once(loss, weights)

    with patch.object(probe.LogLoss, "__call__", counted), patch.object(probe, "IN_MEMORY_BYTES", 0):
        begun = time.process_time()
        probe.fit_linear_probe(train, val, probe.Standardiser.fit(train[0]), np.ones(classes, np.float32))
    return passes, (time.process_time() - begun) / passes / num


def tell(name: str, num: int, start: float, per_core: float, machines: int, cores: int, per_machine: float) -> None:
    """The time of a pass over `num` images.

    Args:
        per_core: seconds of a core an image.
        per_machine: images a second that one machine can read.
    """
    rate = machines * min(cores / per_core, per_machine)
    bound = "reading" if per_machine < cores / per_core else "cores"
    seconds = start + num / rate
    print(f"{num:>13,} images, {machines} machines {name}: {seconds / 60:8.1f} minutes, {rate:,.0f} images a second, bound by {bound}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--processes", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--machines", type=int, default=8)
    parser.add_argument("--cores", type=int, default=16, help="of a machine (an assumption)")
    parser.add_argument("--gb-per-second", type=float, default=1.0, help="that a machine reads (an assumption)")
    options = parser.parse_args()
    cores, files = sorted(os.sched_getaffinity(0)), images_of(options.data)
    num = len(files)
    with tempfile.TemporaryDirectory() as folder:
        quarter = quarter_of(options.data, Path(folder) / "quarter")
        plans = [(quarter, 1), (options.data, 1), *((options.data, processes) for processes in options.processes)]
        rounds = [[seconds(data, options.backbone, processes, cores) for data, processes in plans] for _ in range(options.repeats)]
        few, whole, *several = (sorted(times)[len(times) // 2] for times in zip(*rounds, strict=True))
        per_image = (whole - few) / (num - len(images_of(quarter)))
    start = whole - num * per_image
    rate = f"{1 / per_image:.0f} images a second"
    print(f"one process on one core: {start:.1f} s before the first image, then {rate} ({num} images in {whole:.1f} s)")
    for processes, found in zip(options.processes, several, strict=True):
        expected = max(1.0, processes / len(cores)) * (start + num / processes * per_image)
        print(f"{processes} processes on {len(cores)} cores: {found:.1f} s, expected {expected:.1f} s, ratio {found / expected:.2f}")
    size, decoding = sum(file.stat().st_size for file in files) / num, decoding_seconds(files)
    print(f"an image has {size / 1e3:.0f} kB, and is decoded in {1e3 * decoding:.1f} ms of a core")
    passes, seconds_each = head_passes(1280, 5)
    print(f"a head for 5 classes on 1,280 features is solved in {passes} passes, of {1e6 * seconds_each:.1f} us of a core for an image")
    for many in (10**6, 10**9):
        for name, each in (("without GPUs", per_image), ("with GPUs", decoding)):
            tell(name, many, start, each, options.machines, options.cores, options.gb_per_second * 1e9 / size)


if __name__ == "__main__":
    main()
