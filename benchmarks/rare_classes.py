"""What to do about rare classes: a long-tailed part of a data set, trained on in several ways, and tested on as many images of each class.

    python benchmarks/rare_classes.py FOLDER [--backbone mobilenet_v2] [--image-size 96] [--seeds 2]

FOLDER has class folders of at least 2,200 images, such as CIFAR-10's. Train gets 500 images of the first class and fewer of each further
one, down to 5; val has 100 of each, test 200. The table names the images where they lie. A solved head has no seed.
"""

import argparse
import csv
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from processes import print_table

from tl_keras import load_config, train
from tl_keras.progress import Progress

MOST, LEAST = 500, 5
SPLITS = {"val": slice(1000, 1100), "test": slice(2000, 2200)}
WAYS = {
    "nothing": (),
    "`train.class_weights=balanced`": ("train.class_weights=balanced",),
    "`train.sampling=balanced`": ("train.sampling=balanced",),
    "`train.logit_adjustment=1`": ("train.logit_adjustment=1",),
}


def write_table(folder: Path, table: Path) -> None:
    """List the images of a long-tailed train, and of val and test."""
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label", "split"))
        for place, name in enumerate(classes):
            files = sorted((folder / name).iterdir())
            number = round(MOST * (LEAST / MOST) ** (place / (len(classes) - 1)))
            for split, rows in {"train": slice(number), **SPLITS}.items():
                writer.writerows((path.resolve(), name, split) for path in files[rows])


def scores(mode: str, table: Path, sets: tuple[str, ...], seed: int, options: argparse.Namespace) -> tuple[float, float]:
    """Accuracy and macro F1 on test."""
    given = [f"data.source={table}", f"model.backbone={options.backbone}", f"data.image_size={options.image_size}", f"runtime.seed={seed}"]
    config = load_config(mode, sets=[*given, *sets])
    with tempfile.TemporaryDirectory() as folder:
        found = train(config, run_dir=Path(folder) / "run", progress=Progress())["test"]
    return found["accuracy"], found["macro_f1"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "table.csv"
        write_table(options.folder, table)
        for name, sets in WAYS.items():
            cells = [name]
            for mode, seeds in (("extract", 1), ("finetune", options.seeds)):
                if mode == "extract" and "sampling" in name:
                    cells += ["", ""]  # a solved head draws nothing
                    continue
                found = np.array([scores(mode, table, sets, seed, options) for seed in range(seeds)])
                cells += [f"{value:.3f}" for value in found.mean(axis=0)]
            rows.append(cells)
    print_table(["", "extract: accuracy", "macro F1", "finetune: accuracy", "macro F1"], rows)


if __name__ == "__main__":
    main()
