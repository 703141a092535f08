"""The report on the images that were found: how many, of which classes, in which splits; what was left out; copies."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tl_keras.config import DataConfig
from tl_keras.data import dataset, splits
from tl_keras.data.exclusion import excluded
from tl_keras.data.file_ids import Ids
from tl_keras.data.groups import group_numbers
from tl_keras.data.index import SPLIT_NAMES, Index
from tl_keras.data.walk import left_out_lines
from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.progress import Progress
from tl_keras.tasks import MULTI_LABEL, REGRESSION

WIDTH = 80  # columns that a line should keep to
MOST_NAMED = 3  # classes with few images


def tell_found(index: Index, config: DataConfig, progress: Progress) -> None:
    """Say what was found, with the splits as they are if every file decodes, and which images are where they should not be.

    Raises:
        DataError: a class is too small, or in too few groups, to be cut into splits.
    """
    split, listed = dataset.cut(index, config, {}), excluded(index, config.exclude)
    progress.line(found_line(config.source, index, split))
    if config.per_class is not None:
        progress.line(per_class_line(index, split, config.per_class, listed))
    if index.groups is not None:
        progress.line(groups_line(index.groups, "groups of the table" if config.group_pattern is None else "data.group_pattern"))
    if config.exclude is not None:
        progress.line(excluded_line(listed, split))
    if config.source == "digits":
        progress.line("digits are bundled with tl_keras; --data FOLDER takes your own images")
    for line in (
        *index.notes,
        *missing_lines(index, split),
        *left_out_lines(index.ignored),
        *copies_lines(index, split),
        *straddling_lines(index, split),
    ):
        progress.line(line)


def found_line(source: str, index: Index, split: NDArray[np.str_]) -> str:
    """One line, which is shortened in steps where it is wider than `WIDTH`.

    Args:
        split: of each image, (n,).
    """
    in_splits = ", ".join(f"{name} {int((split == name).sum())}" for name in SPLIT_NAMES)
    name = Path(source).name or Path(source).resolve().name  # of '.'
    names = (source if Path(source).name else f"{name}/", f".../{name}")
    of_classes = contents(index)
    lines = [f"{name}: {len(index.paths)} images, {classes}; {in_splits}" for classes in of_classes for name in names]
    return next((line for line in lines if len(line) <= WIDTH), min(lines, key=len))


def contents(index: Index) -> tuple[str, str]:
    """What the labels of an index are, at length and in brief."""
    if index.output.task == REGRESSION:
        low, high, mean = (float(value) for value in (index.labels.min(), index.labels.max(), index.labels.mean(dtype=np.float64)))
        return (told := f"{index.classes[0]} {low:g} to {high:g}, {mean:.4g} on average"), told
    sizes = index.sizes(np.arange(len(index.paths)))
    each = [f"{name} {size}" for name, size in zip(index.classes, sizes, strict=True)]
    span = f"{sizes.min()} to {sizes.max()}" if sizes.min() < sizes.max() else f"{sizes.max()}"
    if index.output.task == MULTI_LABEL:
        without = int((~index.labels.any(axis=1)).sum())
        more = [f"none of them {without}"] * bool(without)
        return ", ".join(each + more), ", ".join([f"{len(sizes)} classes of {span}", *more])
    return ", ".join(each), f"{len(sizes)} classes of {span}"


def excluded_line(listed: NDArray[np.bool_], split: NDArray[np.str_]) -> str:
    """How many images `data.exclude` leaves out, so that a list of other images is seen at once.

    Args:
        listed: images that the list names, bool (n,).
        split: of each image, (n,).
    """
    if not listed.any():
        return "data.exclude: none of its paths matches an image here"
    tested = int((listed & (split == "test")).sum())
    of_test = f"; {tested} more {'is' if tested == 1 else 'are'} in test, which keeps {'it' if tested == 1 else 'them'}" if tested else ""
    return f"data.exclude: {_images(int(listed.sum()) - tested)} left out{of_test}"


def per_class_line(index: Index, split: NDArray[np.str_], per_class: int, listed: NDArray[np.bool_]) -> str:
    """How many images `data.per_class` leaves out of train, and which classes have fewer than it asks for.

    Args:
        split: of each image, (n,), '' for those that are left out.
        listed: images that `data.exclude` leaves out, bool (n,).
    """
    sizes = index.sizes(split == "train")
    line = f"data.per_class={per_class}: {int(((split == splits.UNUSED) & ~listed).sum())} further images of train are not used"
    few = [f"{name} {size}" for name, size in zip(index.classes, sizes, strict=True) if size < per_class]
    more = [f"{len(few) - MOST_NAMED} more"] if len(few) > MOST_NAMED else []
    return f"{line}; train has fewer of {', '.join(few[:MOST_NAMED] + more)}" if few else line


def missing_lines(index: Index, split: NDArray[np.str_]) -> Iterator[str]:
    """What to say of splits without an image of some class, where images have several: its figures there are missing."""
    for name in SPLIT_NAMES:
        absent = [index.classes[label] for label in np.flatnonzero(index.sizes(split == name) == 0)]
        if absent:
            more = f" and {len(absent) - MOST_NAMED} more" if len(absent) > MOST_NAMED else ""
            yield f"{name} has no image of {', '.join(absent[:MOST_NAMED])}{more}: nothing is measured of it there"


def groups_line(groups: Sequence[str], whose: str) -> str:
    """How many groups the images are in, so that a pattern that means something else is seen at once.

    Args:
        whose: who says the groups, such as "data.group_pattern".
    """
    numbers = Counter(groups)
    (first, most), fewest = numbers.most_common(1)[0], min(numbers.values())
    span = f"{fewest} to {most}" if fewest < most else f"{most}"
    return f"{whose}: {len(numbers)} group{'s' * (len(numbers) > 1)} of {span} images, such as '{first}'"


def copies_lines(index: Index, split: NDArray[np.str_]) -> Iterator[str]:
    """What to say of images that are there more than once: in two splits, in two classes, or in one of each.

    Args:
        split: of each image, (n,), '' for those that are not used.
    """
    if index.ids is None:
        return
    used = np.flatnonzero((index.ids != b"") & (split != splits.UNUSED))
    ids = index.ids[used]
    number, pair = clashes(ids, np.unique(split[used], return_inverse=True)[1])
    if number:
        first, second = (f"{index.paths[row]} ({split[row]})" for row in used[list(pair)])
        yield f"{_images(number)} in more than one split: figures measured on such copies are too optimistic"
        yield f"  first {first} and {second}"
    else:
        number, pair = clashes(ids, np.arange(len(used)))
        if number:
            first, second = (index.paths[row] for row in used[list(pair)])
            yield f"{_images(number)} there more than once: copies stay in one split"
            yield f"  first {first} and {second}"
    number, pair = clashes(ids, index.label_numbers[used])
    if number:
        first, second = (index.paths[row] for row in used[list(pair)])
        single = index.output == SINGLE_LABEL
        why = "in more than one class: one of the labels must be wrong" if single else "there with different labels: one must be wrong"
        yield f"{_images(number)} {why}"
        yield f"  first {first} and {second}"


def straddling_lines(index: Index, split: NDArray[np.str_]) -> Iterator[str]:
    """What to say of groups that are in more than one split, as they can be where the folders say the splits.

    Args:
        split: of each image, (n,), '' for those that are not used.
    """
    if index.groups is None:
        return
    used = np.flatnonzero(split != splits.UNUSED)
    number, pair = clashes(group_numbers(index.groups)[used], np.unique(split[used], return_inverse=True)[1])
    if number:
        first, second = (f"{index.paths[row]} ({split[row]})" for row in used[list(pair)])
        are, them = ("groups are", "them") if number > 1 else ("group is", "it")
        yield f"{number} {are} in more than one split: figures measured on {them} are too optimistic"
        yield f"  first {first} and {second}"


def _images(number: int) -> str:
    return f"{number} image{'s are' if number > 1 else ' is'}"


def clashes(ids: Ids | NDArray[np.int64], sides: NDArray[np.integer]) -> tuple[int, tuple[int, ...]]:
    """How many contents, or groups, lie on more than one side, and the first two files of the first of them, on two sides.

    Args:
        ids: of n files.
        sides: the number of each file's side, (n,).

    Returns:
        The number, and two positions; none where the number is 0.
    """
    if not len(ids):
        return 0, ()
    order = np.argsort(ids, kind="stable")
    ordered = ids[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    lowest, highest = (reduce.reduceat(sides[order], starts) for reduce in (np.minimum, np.maximum))
    found = np.flatnonzero(lowest != highest)
    if not len(found):
        return 0, ()
    ends = np.append(starts[1:], len(ids))
    first = found[np.argmin(order[starts[found]])]  # equal ids keep the order of the files
    rows = order[starts[first] : ends[first]]
    return len(found), (int(rows[0]), int(rows[sides[rows] != sides[rows[0]]][0]))
