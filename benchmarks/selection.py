"""What selecting features buys a probe: each `features.selection` on the features of all stages.

    python benchmarks/selection.py FOLDER [FOLDER ...] [--backbone mobilenet_v2] [--split-seeds 1] [--set KEY=VALUE ...]

A row for each method and data set: accuracy on val, which chose the share, and on test, numbers kept, seconds of the head; the
mean over splits, where a folder has none of its own and more than one is asked for. The features come from one store, so that
each is computed once.
"""

import argparse
import tempfile
from pathlib import Path
from typing import get_args

import numpy as np
from processes import ours, print_table

from tl_keras.config import Selection


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--split-seeds", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], dest="sets")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        for data in options.data:
            sets = ("features.stages=all", *options.sets)
            ours("extract", data, *sets, backbone=options.backbone, cache=cache)  # so that no method pays for the pass over the images
            for method in get_args(Selection):
                runs = [
                    ours("extract", data, *sets, f"features.selection={method}", split, backbone=options.backbone, cache=cache)
                    for split in (f"data.split_seed={seed}" for seed in range(options.split_seeds))
                ]
                rows.append([Path(data).name, method, *cells(runs)])
    print_table(["data", "selection", "val", "test", "kept", "head, s"], rows)


def cells(runs: list[dict]) -> list[str]:
    """Mean accuracies and numbers kept, and the median of the seconds."""
    kept = [run["selection"]["kept"] for run in runs if run["selection"]]
    return [
        f"{np.mean([run['val_accuracy'] for run in runs]):.3f}",
        f"{np.mean([run['accuracy'] for run in runs]):.3f}",
        f"{np.mean(kept):,.0f}" if kept else "all",
        f"{np.median([run['timing']['train_s'] for run in runs]):.1f}",
    ]


if __name__ == "__main__":
    main()
