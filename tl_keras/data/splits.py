"""Which image is for training, which for choosing, which for the one test: cut once, written to splits.csv.

Model choice never sees test data, so the cut is made before anything is trained and stays with the run.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from sys import intern

import numpy as np
from numpy.typing import NDArray

from tl_keras.data.file_ids import from_hex, to_hex
from tl_keras.data.sources import SPLITS, Index
from tl_keras.errors import DataError, RunFolderError
from tl_keras.run_folder import open_text, read_csv, reading, write_csv

HEADER = ("path", "class", "split", "content")
WITHOUT_CONTENT = HEADER[:3]  # as older runs wrote it
LEAST_IN_TRAIN = 2  # images of each class
UNUSED = ""  # the split of an image that does not decode


def cut(index: Index, usable: NDArray[np.bool_], *, val_fraction: float, test_fraction: float, seed: int) -> NDArray[np.str_]:
    """Assign every usable image to train, val or test.

    Folders that say the split are obeyed; val and test are cut from train only where they are missing. The cut is
    stratified: each class gives its fraction, rounded, at least one image, and keeps at least two for train.

    Args:
        usable: bool (n,), False for images that do not decode.
        val_fraction: of the images of a class that no folder gives to val or test, in (0, 0.5).
        test_fraction: likewise.
        seed: of the cut, at least 0; the same seed and files give the same cut.

    Returns:
        (n,) of 'train', 'val', 'test', or `UNUSED`.

    Raises:
        DataError: a class has too few usable images to be in every split.
    """
    split = np.full(len(index.paths), "train", dtype="<U5") if index.given is None else np.array(index.given, dtype="<U5")
    by_class = _rows_by_class(index, split == "train")
    split[~usable] = UNUSED
    given = set(index.given or ())
    missing = [(name, fraction) for name, fraction in (("test", test_fraction), ("val", val_fraction)) if name not in given]
    for label, rows in enumerate(by_class):
        order = np.random.default_rng([seed, label]).permutation(rows)
        order = order[usable[order]]  # a file that does not decode moves few of the others to another split
        size = len(order)
        _check_class_size(index, label, size, LEAST_IN_TRAIN + len(missing), usable)
        for place, (target, fraction) in enumerate(missing):
            spare = len(order) - LEAST_IN_TRAIN - (len(missing) - place - 1)  # what later splits and train do not need
            number = min(max(1, round(fraction * size)), spare)
            split[order[:number]] = target
            order = order[number:]
    _check_all_splits(index, split)
    return split


def _rows_by_class(index: Index, chosen: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    rows = np.flatnonzero(chosen)
    rows = rows[np.argsort(index.labels[rows], kind="stable")]
    return np.split(rows, np.searchsorted(index.labels[rows], np.arange(1, len(index.classes))))


def _check_class_size(index: Index, label: int, number: int, least: int, usable: NDArray[np.bool_]) -> None:
    if number >= least:
        return
    bad = int((~usable & (index.labels == label)).sum())
    images = "no image" if number == 0 else f"{number} image" + "s" * (number > 1)
    lost = f" ({bad} more do not decode)" if bad else ""
    raise DataError(
        f"{index.root}: class '{index.classes[label]}' has {images} to train on and split{lost}; it needs at least {least}. "
        "Add images, or take the class away."
    )


def _check_all_splits(index: Index, split: NDArray[np.str_]) -> None:
    for name in SPLITS:
        for label in sorted(set(range(len(index.classes))) - set(index.labels[split == name].tolist())):
            raise DataError(f"{index.root}: {name} has no readable image of class '{index.classes[label]}'. Add some, or mend those there.")


def outside_test(split: NDArray[np.str_]) -> NDArray[np.int64]:
    """Positions of the images of train and val, int64 (m,), ascending; those of test are left for the one test."""
    return np.flatnonzero(np.isin(split, ("train", "val")))


def stratified_sample(labels: NDArray[np.int32], num: int, seed: int) -> NDArray[np.int64]:
    """Choose images so that each class keeps its share, and none is lost where there are no more classes than `num`.

    Args:
        labels: int32 (n,).
        num: images to choose; all where there are no more.
        seed: at least 0; the same seed and labels give the same sample.

    Returns:
        Positions in `labels`, int64 (min(n, num),), ascending.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    _, first, sizes = np.unique(labels[order], return_index=True, return_counts=True)
    share = (np.arange(len(order)) - np.repeat(first, sizes)) / np.repeat(sizes, sizes)  # of its class that comes before an image
    return np.sort(order[np.argsort(share, kind="stable")[:num]])


def write_splits(path: Path, index: Index, split: NDArray[np.str_]) -> None:
    """Write splits.csv: of each usable image its path below the data folder, class name, split, and the id of its content.

    An index without ids is written without the last column.
    """
    used = np.flatnonzero(split != UNUSED)
    rows: Iterable[tuple[str, ...]] = ((index.paths[row], index.classes[index.labels[row]], str(split[row])) for row in used)
    if index.ids is not None:
        rows = ((*line, to_hex(content)) for line, content in zip(rows, index.ids[used], strict=True))
    write_csv(path, WITHOUT_CONTENT if index.ids is None else HEADER, rows)


def read_splits(path: Path, root: Path) -> tuple[Index, NDArray[np.str_]]:
    """Read splits.csv back.

    Args:
        path: a file that `write_splits` wrote.
        root: the data folder that its paths are relative to.

    Returns:
        The index of the images that the run used, without ids where an older version wrote the file, and their splits.

    Raises:
        RunFolderError: the file is missing, has other columns, or a split of another name.
    """
    with reading(path, "a table of splits", "Give the folder of a whole run."), open_text(path) as file:
        return _read_table(read_csv(file), path, root)


def _leaves_its_folder(file: str) -> bool:
    """Whether a path, which may come from a stranger, is not a relative one that stays below where it begins."""
    strange = not file or file.startswith("/") or "\0" in file or (os.name == "nt" and ("\\" in file or ":" in file))
    return strange or (".." in file and ".." in file.split("/"))


def _read_table(lines: Iterator[list[str]], path: Path, root: Path) -> tuple[Index, NDArray[np.str_]]:
    header = next(lines, [])
    if tuple(header) not in (HEADER, WITHOUT_CONTENT):
        raise RunFolderError(f"{path}: has columns {', '.join(header) or 'of no name'}, expected {', '.join(HEADER)}.")
    paths: list[str] = []
    names: list[str] = []
    splits: list[str] = []
    ids: list[str] = []
    for line in lines:
        file, name, split, *content = line
        if len(line) != len(header):
            raise ValueError(f"a line of {len(line)} columns")
        if split not in SPLITS:
            raise RunFolderError(f"{path}: line {len(paths) + 2} has the split {split!r}, expected one of {', '.join(SPLITS)}.")
        if _leaves_its_folder(file):
            raise RunFolderError(f"{path}: line {len(paths) + 2} has the path {file!r}, expected one inside of the data folder.")
        paths.append(file)
        names.append(intern(name))
        splits.append(intern(split))
        ids += content
    classes = tuple(sorted(set(names)))
    number = {name: label for label, name in enumerate(classes)}
    labels = np.fromiter((number[name] for name in names), np.int32, len(names))
    known = from_hex(ids) if tuple(header) == HEADER else None
    return Index(root, classes, tuple(paths), labels, tuple(splits), {}, known), np.array(splits, dtype="<U5")
