"""What computing the features of many images costs: a model with two numbers, fitted to one process, held against several.

    python benchmarks/scaling.py --data FOLDER [--backbone mobilenet_v2] [--processes 2 4] [--repeats 3]

A process takes `a` seconds before its first image, and `c` seconds of a core an image. Both are fitted to one process on one core, with all
of the images and with a quarter of them; so n processes on m cores, n >= m, should take n / m (a + images c / n) seconds. Each process runs
`--shard K/N` on a core of its own as long as there are cores, and every measurement begins with an empty store.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kill_and_finish import environment

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--processes", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    cores, num = sorted(os.sched_getaffinity(0)), len(images_of(options.data))
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


if __name__ == "__main__":
    main()
