"""Several processes fill one store, one of them is killed (SIGKILL) and started again: are the features those of one process?

    python benchmarks/filling.py --data FOLDER [--parts 3] [--views 3]

The process that is killed has stored at least one shard. Every stored row is compared, bit by bit, with that of a single undisturbed run,
and rows that were stored twice are counted. Last, a training run learns from the store and must compute no features. All use OpenVINO,
since a single run that takes long would compare engines first.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from kill_and_finish import command, environment, rows, shards


def training(data: str, views: int, run_dir: Path) -> list[str]:
    """The command that stores what is missing, and trains."""
    return [*command(data, views, run_dir), "--set", "runtime.engine=openvino"]


def filling(data: str, views: int, part: str) -> list[str]:
    """The command that stores one part."""
    whole = training(data, views, Path("unused"))
    at = whole.index("--run-dir")
    return [*whole[:at], *whole[at + 2 :], "--shard", part]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--parts", type=int, default=3)
    parser.add_argument("--views", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        one, many, runs = Path(folder) / "one", Path(folder) / "many", Path(folder) / "runs"
        started = time.perf_counter()
        subprocess.run(training(options.data, options.views, runs / "one"), env=environment(one), check=True, capture_output=True)
        single = time.perf_counter() - started
        commands = [filling(options.data, options.views, f"{part}/{options.parts}") for part in range(options.parts)]
        started = time.perf_counter()
        first = subprocess.Popen(commands[0], env=environment(many), stdout=subprocess.DEVNULL)
        while not shards(many) and first.poll() is None:
            time.sleep(0.05)
        first.kill()
        first.wait()
        before = shards(many)
        print(f"part 0 killed with {len(before)} shards stored", flush=True)
        working = [subprocess.Popen(each, env=environment(many), stdout=subprocess.DEVNULL) for each in commands]
        ended = [process.wait() for process in working]
        if any(ended):
            sys.exit("a part has failed")
        together = time.perf_counter() - started
        expected, found = rows(one), rows(many)
        equal = expected.keys() == found.keys() and all(
            np.array_equal(expected[key][0], found[key][0]) and expected[key][1].tobytes() == found[key][1].tobytes() for key in expected
        )
        twice = sum(len(ids) - len(np.unique(ids)) for ids, _ in found.values())
        subprocess.run(training(options.data, options.views, runs / "last"), env=environment(many), check=True, capture_output=True)
        computed = json.loads((runs / "last" / "metrics.json").read_text())["features"]["computed"]
        lost = len(before - shards(many))
        print(f"{options.parts} processes {together:.1f} s, one process with its training {single:.1f} s")
        print(f"bit-equal: {equal}; shards lost: {lost}; rows stored twice: {twice}; computed by the training run: {computed}")
        sys.exit(0 if equal and not lost and not twice and not computed else 1)


if __name__ == "__main__":
    main()
