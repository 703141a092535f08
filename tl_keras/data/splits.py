"""Which image is for training, which for choosing, which for the one test: cut once, written to splits.csv.

Model choice never sees test data, so the cut is made before anything is trained and stays with the run.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tl_keras.data.sources import Index, check_class_size
from tl_keras.errors import DataError, RunFolderError
from tl_keras.run_folder import write_csv

HEADER = ("path", "class", "split")
UNUSED = ""  # the split of an image that does not decode


def cut(index: Index, usable: NDArray[np.bool_], *, val_fraction: float, test_fraction: float, seed: int) -> NDArray[np.str_]:
    """Assign every usable image to train, val or test.

    Folders that say the split are obeyed; val and test are cut from train only where they are missing. The cut is
    stratified: each class gives its fraction, rounded, and at least one image.

    Args:
        usable: bool (n,), False for images that do not decode.
        val_fraction: of the images that are not given as test, in (0, 0.5).
        test_fraction: of all images of a class, in (0, 0.5).

    Returns:
        (n,) of 'train', 'val', 'test', or `UNUSED`.

    Raises:
        DataError: a class has too few usable images to be in every split.
    """
    split = np.array(index.given or ["train"] * len(index.paths), dtype="<U5")
    split[~usable] = UNUSED
    given = set(index.given or ())
    missing = [(name, fraction) for name, fraction in (("test", test_fraction), ("val", val_fraction)) if name not in given]
    for label, name in enumerate(index.classes):
        mine = np.flatnonzero((index.labels == label) & (split == "train"))
        check_class_size(index.root, name, len(mine), least=2 + len(missing) if missing else 2)
        order = np.random.default_rng([seed, label]).permutation(mine)
        for target, fraction in missing:
            number = min(max(1, round(fraction * len(mine))), len(order) - 2)
            split[order[:number]] = target
            order = order[number:]
    _check_all_splits(index, split)
    return split


def _check_all_splits(index: Index, split: NDArray[np.str_]) -> None:
    for name in ("train", "val", "test"):
        for label in set(range(len(index.classes))) - set(index.labels[split == name].tolist()):
            raise DataError(f"{index.root}: {name} has no readable image of class '{index.classes[label]}'. Add some, or mend those there.")


def write_splits(path: Path, index: Index, split: NDArray[np.str_]) -> None:
    """Write splits.csv: the path of each usable image below the data folder, its class name, its split."""
    rows = (
        (file, index.classes[label], name) for file, label, name in zip(index.paths, index.labels, split, strict=True) if name != UNUSED
    )
    write_csv(path, HEADER, rows)


def read_splits(path: Path, root: Path) -> tuple[Index, NDArray[np.str_]]:
    """Read splits.csv back.

    Args:
        path: a file that `write_splits` wrote.
        root: the data folder that its paths are relative to.

    Returns:
        The index of the images that the run used, and their splits.

    Raises:
        RunFolderError: the file is missing or has other columns.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = list(csv.reader(file))
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{path}: cannot be read as a table of splits. Give the folder of a whole run.") from error
    if tuple(header) != HEADER:
        raise RunFolderError(f"{path}: has columns {', '.join(header)}, expected {', '.join(HEADER)}.")
    classes = tuple(sorted({name for _, name, _ in rows}))
    labels = np.asarray([classes.index(name) for _, name, _ in rows], np.int32)
    splits: Sequence[str] = [name for _, _, name in rows]
    return Index(root, classes, tuple(file for file, _, _ in rows), labels, tuple(splits), {}), np.array(splits, dtype="<U5")
