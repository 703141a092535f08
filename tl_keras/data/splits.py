"""The splits train, val and test: cut once, written to splits.csv.

Model choice never sees test data, so the cut is made before anything is trained and stays with the run.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tl_keras.data.block_cut import LEAST_IN_REST, cut_blocks
from tl_keras.data.file_ids import IdList, to_hex
from tl_keras.data.groups import Blocks, blocks_of
from tl_keras.data.index import SPLIT_NAMES, Index
from tl_keras.data.label_texts import COLUMNS, PROBABILITY, labels_of, number_text, numbers_of, texts_of
from tl_keras.data.strata import stratified
from tl_keras.data.texts import TextList, Texts
from tl_keras.errors import DataError, RunFolderError
from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.run_folder import open_text, read_csv, reading, write_csv
from tl_keras.tasks import MULTI_LABEL

CONTENT, GROUP, WEIGHT = "content", "group", "weight"  # further columns; each may be missing: the first in older runs
FURTHER = (CONTENT, GROUP, WEIGHT)
LEAST_IN_TRAIN = LEAST_IN_REST  # images of each class
UNUSED = ""  # the split of an image that does not decode, or that `data.exclude` or `data.per_class` leaves out


def cut(
    index: Index,
    usable: NDArray[np.bool_],
    *,
    val_fraction: float,
    test_fraction: float,
    seed: int,
    stable: bool = False,
    per_class: int | None = None,
    left_out: NDArray[np.bool_] | None = None,
) -> NDArray[np.str_]:
    """Assign every usable image to train, val or test.

    Folders that say the split are obeyed; val and test are cut from train only where they are missing. The cut is
    stratified: each class (see `strata` for other labels) gives its fraction, rounded, at least one image, and keeps at least two for
    train. Images of one group, and those of equal content, stay together, for which a class may give a little more or less.

    Args:
        usable: bool (n,), False for images that do not decode.
        val_fraction: of the images of a class that no folder gives to val or test, in (0, 0.5).
        test_fraction: likewise.
        seed: of the cut, at least 0; the same seed and files give the same cut.
        stable: let the content of an image, or its group, draw its split, whatever other images there are. Of an index without ids, whose
            files were not read, the cut is as without.
        per_class: how many images of each class train keeps, at most; None for all. Val and test do not depend on it, and fewer images
            are among more.
        left_out: bool (n,), images that train and val do without; None for none. The cut and test do not depend on it.

    Returns:
        (n,) of 'train', 'val', 'test', or `UNUSED`, which images without a label are, too.

    Raises:
        DataError: a class has too few usable images, or groups, to be in every split.
    """
    split = np.full(len(index.paths), "train", dtype="<U5") if index.given is None else np.fromiter(index.given, "<U5", len(index.given))
    usable = usable & index.labelled
    pool = np.flatnonzero((split == "train") & index.labelled)
    split[~usable] = UNUSED
    given = set(index.given or ())
    missing = {name: fraction for name, fraction in (("test", test_fraction), ("val", val_fraction)) if name not in given}
    by_content = stable and index.ids is not None
    split[pool] = _cut_strata(index.take(pool), usable[pool], missing, seed, by_content=by_content)
    if index.output.task == MULTI_LABEL and not by_content:
        split[pool] = _with_each_class(index.take(pool), split[pool])
    _check_all_splits(index, split)
    if left_out is not None:
        split = _without(index, split, left_out)
    if per_class is not None:
        _keep_few(index, split, per_class, seed)
    return split


def _cut_strata(index: Index, usable: NDArray[np.bool_], missing: Mapping[str, float], seed: int, *, by_content: bool) -> NDArray[np.str_]:
    """Cut splits from images that are all to train on, so that each class, or stratum, is in each of them.

    Where an image has not one class, and copies or groups do not let each stratum into each split, all images are one stratum.

    Raises:
        DataError: a class has too few usable images, or groups.
    """
    strata = stratified(index)
    try:
        for label, number in enumerate(np.bincount(strata.labels[usable], minlength=len(strata.classes))):
            _check_class_size(strata, label, int(number), LEAST_IN_TRAIN + len(missing), usable)
        return (_draw_pool if by_content else _cut_pool)(strata, usable, missing, seed)
    except DataError:
        if index.output == SINGLE_LABEL or len(strata.classes) == 1:
            raise
        together = replace(strata, labels=np.zeros_like(strata.labels), classes=("all images",))
        return (_draw_pool if by_content else _cut_pool)(together, usable, missing, seed)


def _with_each_class(index: Index, split: NDArray[np.str_]) -> NDArray[np.str_]:
    """The same splits, but train has an image of each class: of a class with few images, chance may have given it none."""
    split, blocks = split.copy(), blocks_of(index)
    for label in np.flatnonzero(index.sizes(split == "train") == 0):
        rows = np.flatnonzero(index.labels[:, label] & (split != UNUSED))
        if len(rows) and (split[rows] != "train").all():  # none came with that of another class
            moved = np.arange(len(split)) == rows[0] if blocks is None else blocks == blocks[rows[0]]
            split[moved & (split != UNUSED)] = "train"
    return split


def _without(index: Index, split: NDArray[np.str_], left_out: NDArray[np.bool_]) -> NDArray[np.str_]:
    """The same splits with some images left out of train and val.

    Raises:
        DataError: a class has too few images left.
    """
    left = np.where(left_out & (split != "test"), UNUSED, split)
    for name, least in (("train", LEAST_IN_TRAIN if index.output == SINGLE_LABEL else 1), ("val", 1)):
        for label, number in enumerate(index.sizes(left == name)):
            if number < least and _needs_each_class(index, name):
                images = "1 image" if number == 1 else f"{number} images"
                raise DataError(
                    f"data.exclude: leaves {images} of class '{index.classes[label]}' in {name}, expected at least {least}. "
                    "Take some off the list."
                )
    return left


def _keep_few(index: Index, split: NDArray[np.str_], per_class: int, seed: int) -> None:
    """Leave the first images of each class in train, in an order that the seed gives to all images of the class."""
    for label, rows in enumerate(_rows_by_class(index)):
        order = np.random.default_rng([seed, label, len(SPLIT_NAMES)]).permutation(rows)  # not the order of the cut
        split[order[split[order] == "train"][per_class:]] = UNUSED


def _cut_pool(index: Index, usable: NDArray[np.bool_], missing: Mapping[str, float], seed: int) -> NDArray[np.str_]:
    """Cut splits from images that are all to train on: (n,) of 'train', the `missing`, or `UNUSED`."""
    split = np.where(usable, "train", UNUSED).astype("<U5", copy=False)
    orders = [np.random.default_rng([seed, label]).permutation(rows) for label, rows in enumerate(_rows_by_class(index))]
    blocks = blocks_of(index)
    alone = np.ones(len(split), bool) if blocks is None else np.bincount(blocks)[blocks] == 1
    for order in orders:
        if alone[order].all():
            order = order[usable[order]]  # a file that does not decode moves few of the others to another split
            for target, number in zip(missing, _numbers(len(order), missing), strict=True):
                split[order[:number]] = target
                order = order[number:]
    together = [order for order in orders if not alone[order].all()]
    if blocks is not None and together:
        _cut_together(index, blocks, split, together, missing, seed)
    return split


def _draw_pool(index: Index, usable: NDArray[np.bool_], missing: Mapping[str, float], seed: int) -> NDArray[np.str_]:
    """The same by a number in [0, 1) that each image has for itself, or its block through the smallest of its images.

    Raises:
        DataError: a split got no image of a class.
    """
    names: Iterable[bytes] = index.ids.tolist() if index.groups is None else (each.encode(errors="surrogatepass") for each in index.groups)  # type: ignore[union-attr]
    numbers = np.array([int.from_bytes(hashlib.sha256(b"%d " % seed + name).digest()[:8], "big") / 2**64 for name in names])
    blocks = blocks_of(index)
    if blocks is not None:
        smallest = np.ones(int(blocks.max()) + 1)
        np.minimum.at(smallest, blocks, numbers)
        numbers = smallest[blocks]
    split, begin = np.full(len(numbers), "train", dtype="<U5"), 0.0
    for target, fraction in missing.items():
        split[(numbers >= begin) & (numbers < begin + fraction)] = target
        begin += fraction
    split[~usable] = UNUSED
    for name in (*missing, "train"):
        for label in np.flatnonzero(np.bincount(index.labels[split == name], minlength=len(index.classes)) == 0):
            raise DataError(
                f"{index.root}: data.stable_split: no image of class '{index.classes[label]}' was drawn for {name}. "
                "Add images, take another data.split_seed, or leave data.stable_split out."
            )
    return split


def _numbers(size: int, missing: Mapping[str, float]) -> list[int]:
    """How many of the images of a class each missing split gets."""
    numbers: list[int] = []
    for place, fraction in enumerate(missing.values()):
        spare = size - sum(numbers) - LEAST_IN_TRAIN - (len(missing) - place - 1)  # what later splits and train do not need
        numbers.append(min(max(1, round(fraction * size)), spare))
    return numbers


def _cut_together(
    index: Index, blocks: Blocks, split: NDArray[np.str_], orders: list[NDArray[np.int64]], missing: Mapping[str, float], seed: int
) -> None:
    """Fill in the splits of those classes that have blocks of several images.

    Args:
        split: of each image, 'train' where it is usable.
        orders: the images of each of these classes, in a random order: a block's place is that of its first image.
    """
    place = np.empty(len(split))
    for order in orders:
        place[order] = np.arange(len(order)) / len(order)
    rows = np.sort(np.concatenate(orders))
    usable = split[rows] != UNUSED
    _, first, block = np.unique(blocks[rows], return_index=True, return_inverse=True)
    labels = np.unique(index.labels[rows], return_inverse=True)[1].astype(np.int32)
    sizes = (np.bincount(each, minlength=len(orders)) for each in (labels, labels[usable]))
    wanted, wanted_of_usable = (np.array([_numbers(int(size), missing) for size in each]).T for each in sizes)
    order = np.argsort(place[rows[first]], kind="stable")
    parts = cut_blocks(labels, block, usable, order, (wanted, wanted_of_usable), [seed, len(index.classes)])
    if parts is None:
        raise _too_few_blocks(index.take(rows[usable]), block[usable], (*missing, "train"))
    for part, target in enumerate(missing):
        split[rows[parts == part]] = target


def _too_few_blocks(index: Index, blocks: Blocks, splits: Sequence[str]) -> DataError:
    """Why whole groups cannot be cut into splits, by the class that has the fewest."""
    numbers = {name: len(np.unique(blocks[index.labels == label])) for label, name in enumerate(index.classes) if label in index.labels}
    name = min(numbers, key=lambda each: numbers[each])
    images, wanted = int((index.labels == index.classes.index(name)).sum()), f"{', '.join(splits[:-1])} and {splits[-1]}"
    if index.groups is None:
        why = f"{images} images of {numbers[name]} different contents, and copies stay together"
    else:
        why = f"{images} images in {numbers[name]} group{'s' * (numbers[name] > 1)} that stay together (groups, and copies)"
    if numbers[name] >= len(splits):
        why += f"; no way was found to give each class to each of {wanted}"
    else:
        why += f"; {wanted} need at least one each"
    return DataError(f"{index.root}: class '{name}' has {why}. Add images of other {'groups' if index.groups else 'contents'}.")


def _rows_by_class(index: Index) -> list[NDArray[np.int64]]:
    rows = np.argsort(index.labels, kind="stable")
    return np.split(rows, np.searchsorted(index.labels[rows], np.arange(1, len(index.classes))))


def _check_class_size(index: Index, label: int, number: int, least: int, usable: NDArray[np.bool_]) -> None:
    if number >= least:
        return
    bad = int((~usable & (index.labels == label)).sum())
    images = "no image" if number == 0 else f"{number} image" + "s" * (number > 1)
    lost = f" ({bad} more do not decode)" if bad else ""
    raise DataError(
        f"{index.root}: class '{index.classes[label]}' has {images} to train on and split{lost}; it needs at least {least}. "
        "Add images, or remove the class."
    )


def _check_all_splits(index: Index, split: NDArray[np.str_]) -> None:
    for name in SPLIT_NAMES:
        if not (split == name).any() and index.output.task == MULTI_LABEL and index.given is None:
            raise DataError(
                f"{index.root}: no image is left for {name}: train needs one of each of {len(index.classes)} classes, and many have few. "
                "Remove rare classes, or add images."
            )
        if not (split == name).any():
            raise DataError(f"{index.root}: {name} has no readable image. Add some, or repair the damaged ones.")
        for label in np.flatnonzero(index.sizes(split == name) == 0):
            if _needs_each_class(index, name):
                elsewhere = int(index.sizes(split != UNUSED)[label])
                if elsewhere and index.output.task == MULTI_LABEL:
                    raise DataError(
                        f"{index.root}: train has no image of class '{index.classes[label]}', and val or test has {elsewhere}. "
                        "Add some to train, or remove the class."
                    )
                raise DataError(
                    f"{index.root}: {name} has no readable image of class '{index.classes[label]}'. Add some, or repair the damaged ones."
                )


def _needs_each_class(index: Index, split: str) -> bool:
    """Whether a split needs an image of each class: where an image may have several, no cut gives all of them to each split."""
    return split == "train" or index.output == SINGLE_LABEL


def outside_test(split: NDArray[np.str_]) -> NDArray[np.int64]:
    """Positions of the images of train and val, int64 (m,), ascending; those of test are left for the one test."""
    return np.flatnonzero(np.isin(split, ("train", "val")))


def stratified_sample(labels: NDArray[np.integer], num: int, seed: int) -> NDArray[np.int64]:
    """Choose images so that each class keeps its share, and none is lost where there are no more classes than `num`.

    Args:
        labels: integers (n,).
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
    """Write splits.csv: of each usable image its path below the data folder, its label, its split, the id of its content, its group, its
    weight, and of soft labels the share of each class.

    An index without ids, groups, weights or soft labels is written without their columns.
    """
    used = np.flatnonzero(split != UNUSED)
    columns: dict[str, Iterable[str]] = {
        "path": Texts.of(index.paths).take(used),
        COLUMNS[index.output.task]: texts_of(index, used),
        "split": (str(split[row]) for row in used),
    }
    if index.ids is not None:
        columns[CONTENT] = map(to_hex, index.ids[used])
    if index.groups is not None:
        columns[GROUP] = Texts.of(index.groups).take(used)
    if index.weights is not None:
        columns[WEIGHT] = map(number_text, index.weights[used])
    if index.shares is not None:
        columns |= {f"{PROBABILITY}{name}": map(number_text, index.shares[used, label]) for label, name in enumerate(index.classes)}
    write_csv(path, tuple(columns), zip(*columns.values(), strict=True))


def read_splits(path: Path, root: Path) -> tuple[Index, NDArray[np.str_]]:
    """Read splits.csv back.

    Args:
        path: a file that `write_splits` wrote.
        root: the data folder that its paths are relative to.

    Returns:
        The index of the images that the run used, without ids, groups or weights where the file does not have them, and their splits.

    Raises:
        RunFolderError: the file is missing, has other columns, or a split of another name.
    """
    with reading(path, "a table of splits", "Give the folder of a complete run."), open_text(path) as file:
        return _read_table(read_csv(file), path, root)


def _leaves_its_folder(file: str) -> bool:
    """Whether a path, which may come from a stranger, is not a relative one that stays below where it begins."""
    strange = not file or file.startswith("/") or "\0" in file or (os.name == "nt" and ("\\" in file or ":" in file))
    return strange or (".." in file and ".." in file.split("/"))


def _read_table(lines: Iterator[list[str]], path: Path, root: Path) -> tuple[Index, NDArray[np.str_]]:
    header = next(lines, [])
    task = next((task for task, column in COLUMNS.items() if header[:3] == ["path", column, "split"]), None)
    shared = [name.removeprefix(PROBABILITY) for name in header[3:] if name.startswith(PROBABILITY) and task == SINGLE_LABEL.task]
    more = header[3 : len(header) - len(shared)]
    if task is None or more != [name for name in FURTHER if name in more]:
        expected = ", ".join(("path", COLUMNS[SINGLE_LABEL.task], "split", CONTENT))
        raise RunFolderError(f"{path}: has columns {', '.join(header) or 'of no name'}, expected {expected}.")
    paths, texts, splits = TextList(), TextList(shared=True), TextList(shared=True)
    groups, weights, contents = TextList(shared=True), TextList(), IdList()
    further: dict[str, TextList | IdList] = {GROUP: groups, WEIGHT: weights, CONTENT: contents}
    shares: list[NDArray[np.float32]] = []
    for line in lines:
        if len(line) != len(header):
            raise ValueError(f"a line of {len(line)} columns")
        file, text, split = line[:3]
        if split not in SPLIT_NAMES:
            raise RunFolderError(f"{path}: line {len(paths) + 2} has the split {split!r}, expected one of {', '.join(SPLIT_NAMES)}.")
        if _leaves_its_folder(file):
            raise RunFolderError(f"{path}: line {len(paths) + 2} has the path {file!r}, expected one inside of the data folder.")
        paths.append(file)
        texts.append(text)
        splits.append(split)
        for column, value in zip(more, line[3:], strict=False):
            further[column].append(value)
        if shared:
            shares.append(numbers_of(line[len(line) - len(shared) :]))
    names, given = texts.texts(), splits.texts()
    classes, labels, output = labels_of(task, names)
    if shared:
        classes, labels = tuple(shared), SINGLE_LABEL.classes_of(np.array(shares)).astype(np.int32)
        if any(classes[label] != text for label, text in zip(labels.tolist(), names, strict=True)):
            raise ValueError("the class of an image is not its most probable one")
    split_names = np.fromiter(given, "<U5", len(given))
    index = Index(
        root=root,
        classes=classes,
        paths=paths.texts(),
        labels=labels,
        shares=np.array(shares) if shared else None,
        output=output.fitted(labels[split_names == "train"]),
        given=given,
        groups=groups.texts() if GROUP in more else None,
        weights=numbers_of(weights.texts()) if WEIGHT in more else None,
        ids=contents.ids() if CONTENT in more else None,
    )
    return index, split_names
