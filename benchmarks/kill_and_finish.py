"""Killed ten times at random moments (SIGKILL), then let finish: are the features those of an undisturbed run?

    python benchmarks/kill_and_finish.py --data FOLDER [--kills 10] [--views 6] [--seed 0]

Compares every stored row bit by bit with an undisturbed run in another store, and counts shards that a kill left whole
and that were lost or computed again: rows are stored once if and only if nothing was.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tl_keras.transfer.store import ABOUT, Collection


def command(data: str, views: int, run_dir: Path) -> list[str]:
    sets = ["--set", f"features.views={views}", "--set", "data.augment.horizontal_flip=true"]
    options = ["--mode", "extract", "--data", data, "--backbone", "mobilenet_v2", "--run-dir", str(run_dir), *sets]
    return [sys.executable, "-m", "tl_keras.run", *options]


def environment(cache: Path) -> dict[str, str]:
    return {**os.environ, "TL_KERAS_CACHE": str(cache)}


def shards(cache: Path) -> set[str]:
    return {str(path.relative_to(cache)) for path in cache.glob("features/*/[!.]*.shard")}


def rows(cache: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Ids and values of each collection, sorted by id, every row that any shard holds."""
    found = {}
    for about in sorted(cache.glob(f"features/*/{ABOUT}")):
        shards_of = Collection(about.parent, {}).shards
        ids = np.concatenate([shard.ids for shard in shards_of])
        values = np.concatenate([np.memmap(s.path, s.dtype, "r", s.offset, s.shape) for s in shards_of])
        found[about.parent.name] = (ids[np.argsort(ids)], values[np.argsort(ids)])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--views", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        calm, killed, runs = Path(folder) / "calm", Path(folder) / "killed", Path(folder) / "runs"
        started = time.perf_counter()
        subprocess.run(command(options.data, options.views, runs / "calm"), env=environment(calm), check=True, capture_output=True)
        duration = time.perf_counter() - started
        lost = 0
        for kill in range(options.kills):
            before = shards(killed)
            process = subprocess.Popen(
                command(options.data, options.views, runs / str(kill)),
                env=environment(killed),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            moment = draw.uniform(0.1, 0.5) * duration
            time.sleep(moment)
            ended = process.poll() is not None
            process.kill()
            process.wait()
            lost += len(before - shards(killed))
            print(
                f"kill {kill + 1} after {moment:.1f} s{' (it had ended)' if ended else ''}: {len(shards(killed))} whole shards", flush=True
            )
        left = shards(killed)
        subprocess.run(command(options.data, options.views, runs / "last"), env=environment(killed), check=True, capture_output=True)
        lost += len(left - shards(killed))
        expected, found = rows(calm), rows(killed)
        equal = expected.keys() == found.keys() and all(
            np.array_equal(expected[key][0], found[key][0]) and expected[key][1].tobytes() == found[key][1].tobytes() for key in expected
        )
        twice = sum(len(ids) - len(np.unique(ids)) for ids, _ in found.values())
        print(f"bit-equal: {equal}; shards lost: {lost}; rows computed twice: {twice}")
        sys.exit(0 if equal and not lost and not twice else 1)


if __name__ == "__main__":
    main()
