"""A million small images in tar files: what does an image take of time, and the whole of memory, against fifty thousand?

    python benchmarks/million.py --out FOLDER [--images 1000000] [--few 50000] [--mode extract] [--engine openvino]

Makes 32-pixel JPEG files of ten classes (a faint pattern for each class under noise) in WebDataset tars of 10,000, named train-, val- and
test- (80, 10 and 10 %), once: 3 GB a million. Then each number of images is read by a process of its own with an empty cache: index,
frozen features of the bundled backbone, head, figures, report. Prints milliseconds an image of each step, their ratios, and the peak of
memory. With --mode finetune: one epoch of the last stage on pixels, without stored features.
"""

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES, SIDE, PER_TAR = 10, 32, 10_000
SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}
WHAT = ("seconds", "cpu")
STEPS = {
    "index": "index shards",
    "features": "features",
    "head": "head: values of C",
    "epoch": "finetune epoch 1",
    "evaluate": "evaluate test",
    "whole": "whole",
}
SETTINGS = {
    "extract": ("features.max_gb=100",),
    "finetune": ("features.max_gb=100", "train.unfreeze_from=all", "train.epochs=1", "features.views=0", "data.cache_gb=0"),
}


def make(folder: Path, num: int) -> None:
    """Write the tars, each atomically, that are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = []
    for split, share in SHARES.items():
        left, number = round(share * num), 0
        while left > 0:
            wanted.append((folder / f"{split}-{number:06d}.tar", min(PER_TAR, left)))
            left, number = left - PER_TAR, number + 1
    missing = [each for each in wanted if not each[0].exists()]
    with ProcessPoolExecutor() as pool:
        for done in [pool.submit(make_tar, *each) for each in missing]:
            done.result()


def make_tar(file: Path, num: int) -> None:
    """One tar of images whose classes are drawn."""
    draws = np.random.default_rng([num, *file.name.encode()])
    patterns = np.random.default_rng(0).uniform(-1, 1, (CLASSES, SIDE // 4, SIDE // 4, 3)).repeat(4, 1).repeat(4, 2)
    partial = file.with_suffix(".partial")
    with tarfile.open(partial, "w") as tar:
        for number, label in enumerate(draws.integers(CLASSES, size=num).tolist()):
            noise = draws.normal(0, 40, (SIDE // 2, SIDE // 2, 3)).repeat(2, 0).repeat(2, 1)
            pixels = np.clip(128 + 25 * patterns[label] + noise, 0, 255).astype(np.uint8)
            jpeg = io.BytesIO()
            Image.fromarray(pixels).save(jpeg, "JPEG", quality=85)
            for name, content in ((f"{number:06d}.jpg", jpeg.getvalue()), (f"{number:06d}.cls", str(label).encode())):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    partial.rename(file)


def measure(data: Path, mode: str, engine: str) -> None:
    """In a process of its own: one run; prints one line of JSON."""
    from tl_keras import run
    from tl_keras.arguments import read_options
    from tl_keras.modes import MODES
    from tl_keras.progress import Progress

    class Bars(Progress):
        """Times each bar, in seconds of the clock and of the processors, and notes the memory at its end."""

        def __init__(self) -> None:
            self.steps: dict[str, dict[str, float]] = {}

        def line(self, text: str) -> None:
            print(text, file=sys.stderr, flush=True)

        @contextmanager
        def bar(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
            with self.timed(title):
                yield lambda _: None

        @contextmanager
        def timed(self, title: str) -> Iterator[None]:
            clock, cpu = time.perf_counter(), time.process_time()
            yield
            before = self.steps.get(title, {"seconds": 0.0, "cpu": 0.0})
            seconds, cpu = before["seconds"] + time.perf_counter() - clock, before["cpu"] + time.process_time() - cpu
            self.steps[title] = {"seconds": seconds, "cpu": cpu, "peak_gb": peak_gb()}
            print(f"{title}: {self.steps[title]}", file=sys.stderr, flush=True)

    bars = Bars()
    sets = [part for each in (*SETTINGS[mode], f"runtime.engine={engine}") for part in ("--set", each)]
    config = run.configure(read_options(["--mode", mode, "--data", str(data), "--backbone", "small_resnet", *sets]))
    train, _ = run.start(MODES[mode].run, config)
    with tempfile.TemporaryDirectory(dir=os.environ["TL_KERAS_CACHE"]) as folder, bars.timed("whole"):
        metrics = train(config, Path(folder) / "run", progress=bars)
    print(json.dumps({"steps": bars.steps, "accuracy": metrics["test"]["accuracy"], "timing": metrics["timing"]}))


def peak_gb() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--few", type=int, default=50_000)
    parser.add_argument("--mode", choices=list(SETTINGS), default="extract")
    parser.add_argument("--engine", default="openvino", help="named, since two runs that choose one may choose differently")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure is not None:
        measure(options.measure, options.mode, options.engine)
        return
    found = {}
    for num in (options.few, options.images):
        make(options.out / str(num), num)
        with tempfile.TemporaryDirectory(dir=options.out) as cache:
            asked = [sys.executable, __file__, "--out", str(options.out), "--mode", options.mode, "--engine", options.engine]
            asked += ["--measure", str(options.out / str(num))]
            done = subprocess.run(asked, env={**os.environ, "TL_KERAS_CACHE": cache}, check=True, stdout=subprocess.PIPE, text=True)
        found[num] = json.loads(done.stdout.splitlines()[-1])
        print(json.dumps({str(num): found[num]}), flush=True)
    few, many = (found[num]["steps"] for num in (options.few, options.images))
    print(f"| step | {options.few:,} images: ms (of a core) | {options.images:,} | ratio | peak, GB |\n|---|---:|---:|---:|---:|")
    for step, title in STEPS.items():
        if title in few and title in many:
            per_image = [[1000 * each[title][what] / num for each, num in ((few, options.few), (many, options.images))] for what in WHAT]
            cells = [f"{clock:.3f} ({cpu:.3f})" for clock, cpu in zip(*per_image, strict=True)]
            ratios = "{:.2f} ({:.2f})".format(*(each[1] / each[0] for each in per_image))
            print(f"| {step} | {' | '.join(cells)} | {ratios} | {few[title]['peak_gb']:.2f}, {many[title]['peak_gb']:.2f} |")


if __name__ == "__main__":
    main()
