"""The list of ten million images: what it takes of memory and time to build, to take parts of, to cut, to write and to read.

    python benchmarks/many_rows.py [--rows 10000000]

No image is made: paths are those of images in shards of 10,000, labels and contents are drawn. Prints a line for each step: seconds, and
the most memory that the process has had so far, of which 0.06 GB are the interpreter and NumPy.
"""

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tl_keras.data import splits
from tl_keras.data.index import Index
from tl_keras.data.texts import packed


class Told:
    """Prints what the steps take."""

    def __init__(self) -> None:
        self._last = time.perf_counter()

    def __call__(self, step: str) -> None:
        now = time.perf_counter()
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)
        print(f"| {step} | {now - self._last:.1f} | {most:.2f} |", flush=True)
        self._last = now


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    num = parser.parse_args().rows
    print("| step | seconds | peak so far, GB |\n|---|---:|---:|")
    told, draws = Told(), np.random.default_rng(0)
    told("start")
    index = Index(
        root=Path("shards"),
        classes=tuple("abcdefghij"),
        paths=packed(f"train-{row // 10_000:06d}.tar/{row % 10_000:06d}.jpg" for row in range(num)),
        labels=draws.integers(10, size=num, dtype=np.int32),
        ids=np.frombuffer(draws.bytes(16 * num), "S16"),
    )
    told("build")
    index.take(np.arange(0, num, 2))
    told("take half")
    split = splits.cut(index, np.ones(num, bool), val_fraction=0.1, test_fraction=0.1, seed=0)
    told("cut")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "splits.csv"
        splits.write_splits(file, index, split)
        told("write splits.csv")
        last, ids = index.paths[-1], index.ids
        del index
        again, read = splits.read_splits(file, Path("shards"))
        told("read splits.csv")
        assert (again.paths[-1], len(again.paths)) == (last, num)
        assert (read == split).all()
        assert (again.ids == ids).all()


if __name__ == "__main__":
    main()
