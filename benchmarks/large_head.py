"""A linear head on made-up stored features, solved by this process and by tasks of a Ray cluster: time, memory, and the same optimum?

    python benchmarks/large_head.py --store FOLDER [--rows 200000] [--width 512]

The folder gets the store, and keeps it. Both solve for one value of C and stop where a step gains less than 1e-7 of the loss. Memory is the
most that this process has beside pages of files (RssAnon).
"""

import argparse
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tl_keras.config_file import load_config
from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.transfer.cluster import cluster_let_go, reach
from tl_keras.transfer.features import SHARD_ROWS, StoredFeatures
from tl_keras.transfer.head import probe
from tl_keras.transfer.head.cluster_parts import ClusterParts
from tl_keras.transfer.head.parts import fit_on_parts, fit_standardiser
from tl_keras.transfer.store import Store

CLASSES, C = 10, 0.01


def make(root: Path, num: int, width: int) -> tuple[Store, Any, Any]:
    """A store of normal rows, their ids, and labels that are drawn by a linear model."""
    store, ids = Store(root, 1e6), np.array([b"%016d" % (number * 7919 % 10**9) for number in range(num)], "S16")
    true = np.random.default_rng(0).standard_normal((width, CLASSES)) / np.sqrt(width)
    collection, labels = store.open("made", {}), np.empty(num, np.int32)
    is_there = collection.has(ids).all()
    for start in range(0, num, SHARD_ROWS):
        random, rows = np.random.default_rng(start + 1), slice(start, min(start + SHARD_ROWS, num))
        x = random.standard_normal((rows.stop - start, width), np.float32)
        labels[rows] = (x @ true + 0.5 * random.gumbel(size=(len(x), CLASSES))).argmax(1)
        if not is_there:
            collection.write(ids[rows], x)
    return Store(root, 1e6), ids, labels


def anonymous_mb() -> float:
    """Memory of this process that is not pages of files."""
    return int(Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0]) / 1024


@contextmanager
def watched(name: str) -> Iterator[None]:
    """Print seconds, and by how much memory grew at most."""
    before, most, ended = anonymous_mb(), 0.0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not ended.wait(0.02):
            most = max(most, anonymous_mb())

    thread = threading.Thread(target=watch)
    thread.start()
    started = time.perf_counter()
    yield
    seconds = time.perf_counter() - started
    ended.set()
    thread.join()
    print(f"{name}: {seconds:.1f} s, {max(0.0, most - before):.0f} MB more than the {before:.0f} MB before", flush=True)


def penalised(head: probe.LinearProbe, objective: probe.LogLoss) -> float:
    """The loss and penalty of a head on the rows that it learned from."""
    square = float((head.kernel.astype(np.float64) ** 2).sum())
    return objective(np.vstack([head.kernel, head.bias]))[0] + objective.columns / (C * objective.total_weight) * square / 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True, type=Path)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--width", type=int, default=512)
    options = parser.parse_args()
    store, ids, labels = make(options.store, options.rows, options.width)
    held = options.rows // 10
    with watched("open the store and find the rows"):
        collection = store.open("made", {})
        train = StoredFeatures([(collection, ids[held:])]), labels[held:]
        val = StoredFeatures([(collection, ids[:held])]), labels[:held]
    weights = np.ones(CLASSES, np.float32)
    probe.STREAMED_LOSS_GAIN = probe.LOSS_GAIN
    with watched("one process"):
        standardise = probe.Standardiser.fit(train[0])
        alone = probe.fit_linear_probe(train, val, standardise, weights, C)
    objective = probe.objective_of(SINGLE_LABEL, probe.StandardisedRows(train[0], standardise), train[1], weights, None)
    with cluster_let_go():
        reach(load_config("extract", sets=["runtime.cluster=ray"]))
        parts, parts_val = (ClusterParts(*each, None, weights, SINGLE_LABEL) for each in (train, val))
        parts("weight", standardise)  # its processes have begun
        with watched(f"{len(parts._parts)} tasks at once"):
            scale = fit_standardiser(parts)
            found = fit_on_parts(parts, parts_val, val[1], scale, weights, SINGLE_LABEL, C)
    one, many = penalised(alone, objective), penalised(found, objective)
    print(f"loss and penalty {one:.9f} and {many:.9f}: relative difference {abs(many - one) / one:.1e}")
    print(f"val loss {alone.val_loss:.6f} and {found.val_loss:.6f}, accuracy {alone.val_metric:.5f} and {found.val_metric:.5f}")


if __name__ == "__main__":
    main()
