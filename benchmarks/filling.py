"""Several processes fill one store, one of them is killed (SIGKILL): are the features those of one process?

    python benchmarks/filling.py --data FOLDER [--parts 3] [--views 3]
    python benchmarks/filling.py --data FOLDER --ray [--parts 2] [--views 3]

Without --ray, each process computes one part (`--shard`), and the one that was killed is started again. With it, they are the actors of a
Ray cluster of as many machines of one core, all of them this one, and the run goes on by itself. When the process is killed, at least one
shard is stored. Every stored row is compared, bit by bit, with that of a single undisturbed run, and rows that were stored twice are
counted. Finally a training run uses the store and must compute no features. All of them use OpenVINO, because a single long run would
compare engines first.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from kill_and_finish import command, environment, rows, shards

ACTOR = b"ray::Computer"  # what Ray calls the process of an actor


def training(data: str, views: int, run_dir: Path, *sets: str) -> list[str]:
    """The command that stores what is missing, and trains."""
    return [*command(data, views, run_dir), *(word for each in ("runtime.engine=openvino", *sets) for word in ("--set", each))]


def filling(data: str, views: int, part: str) -> list[str]:
    """The command that stores one part."""
    whole = training(data, views, Path("unused"))
    at = whole.index("--run-dir")
    return [*whole[:at], *whole[at + 2 :], "--shard", part]


def until_stored(cache: Path, process: "subprocess.Popen[bytes]") -> None:
    """Wait for the first shard."""
    while not shards(cache) and process.poll() is None:
        time.sleep(0.05)


def by_parts(options: argparse.Namespace, cache: Path, runs: Path) -> set[str]:
    """Fill a store by parts; returns what was stored when the first was killed."""
    commands = [filling(options.data, options.views, f"{part}/{options.parts}") for part in range(options.parts)]
    first = subprocess.Popen(commands[0], env=environment(cache), stdout=subprocess.DEVNULL)
    until_stored(cache, first)
    first.kill()
    first.wait()
    before = shards(cache)
    print(f"part 0 killed with {len(before)} shards stored", flush=True)
    working = [subprocess.Popen(each, env=environment(cache), stdout=subprocess.DEVNULL) for each in commands]
    ended = [process.wait() for process in working]
    if any(ended):
        sys.exit("a part has failed")
    return before


def by_ray(options: argparse.Namespace, cache: Path, runs: Path) -> set[str]:
    """Fill a store by a run with actors; returns what was stored when one of them was killed."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    for _ in range(options.parts - 1):
        cluster.add_node(num_cpus=1)
    raylets = {node.all_processes["raylet"][0].process.pid for node in cluster.list_all_nodes()}
    words = training(options.data, options.views, runs / "ray", "runtime.cluster=ray")
    run = subprocess.Popen(words, env=environment(cache) | {"RAY_ADDRESS": cluster.address}, stdout=subprocess.DEVNULL)
    until_stored(cache, run)
    before, working = shards(cache), actors(raylets)
    os.kill(working[0], signal.SIGKILL)
    print(f"one of {len(working)} actors killed with {len(before)} shards stored", flush=True)
    if run.wait():
        sys.exit("the run has failed")
    cluster.shutdown()
    return before


def actors(raylets: set[int]) -> list[int]:
    """The processes of actors below some processes of Ray."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent in raylets and (folder / "cmdline").read_bytes().startswith(ACTOR):
                found.append(int(folder.name))
        except OSError:  # it has just ended
            continue
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--parts", type=int)
    parser.add_argument("--views", type=int, default=3)
    parser.add_argument("--ray", action="store_true")
    options = parser.parse_args()
    options.parts = options.parts or (2 if options.ray else 3)
    with tempfile.TemporaryDirectory() as folder:
        one, many, runs = Path(folder) / "one", Path(folder) / "many", Path(folder) / "runs"
        started = time.perf_counter()
        subprocess.run(training(options.data, options.views, runs / "one"), env=environment(one), check=True, capture_output=True)
        single = time.perf_counter() - started
        started = time.perf_counter()
        before = (by_ray if options.ray else by_parts)(options, many, runs)
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
        print(f"shards of the same name: {len(shards(one) & shards(many))} of {len(shards(one))}")
        sys.exit(0 if equal and not lost and not twice and not computed else 1)


if __name__ == "__main__":
    main()
