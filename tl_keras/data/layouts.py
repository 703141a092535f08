"""Folder layouts in which a scan would find wrong classes: splits or batches taken for classes.

Nothing is guessed here. A layout that can be meant in two ways is refused, with the moves that make it plain.
"""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from tl_keras.data.walk import peek
from tl_keras.errors import DataError

SPLIT_FOLDERS = {  # in any case
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_WORDS = re.compile("[a-z]+")
_SPLIT_WORD = re.compile(f"({'|'.join(sorted(SPLIT_FOLDERS, key=len, reverse=True))})(set|data|images?)?")
_DEEPEST = 8  # single folders in each other
_SHOWN = 3  # names in a message


def split_word(name: str) -> str | None:
    """The split that the name of a folder speaks of: 'train' for 'seg_train' and 'training_set'; None where it speaks of none."""
    found = {SPLIT_FOLDERS[match[1]] for word in _WORDS.findall(name.lower()) if (match := _SPLIT_WORD.fullmatch(word))}
    return found.pop() if len(found) == 1 else None


def check_layout(root: Path, folders: list[str]) -> None:
    """Refuse folders that would be taken for classes and seem to be splits or parts of the data.

    That is so where some hold no images themselves, but folders of the same names.

    Args:
        folders: the names of folders in `root`, each about to become a class.

    Raises:
        DataError: with the folders, and how to arrange them.
    """
    inner = {name: found for name in folders if (found := _inner(root, name))}
    splits = {name: split for name in folders if (split := split_word(name))}
    often = Counter(name for _, names in inner.values() for name in names)
    shared = sorted(name for name, number in often.items() if number > 1)
    alike = {name: place for name, (place, names) in inner.items() if len(set(shared).intersection(names)) > 1}
    outer_splits = {splits[name]: place for name, (place, _) in inner.items() if name in splits}
    if len(shared) and len(outer_splits) > 1 and len(outer_splits) == len(inner) and "train" in outer_splits:
        raise _splits_misnamed(root, outer_splits, inner, [name for name in folders if name not in inner])
    if len(alike) < 2:
        return
    if all(split_word(name) for name in shared):
        raise _classes_hold_splits(root, alike, shared)
    raise _parts_beside_each_other(root, alike, shared)


def check_depth(folder: Path, classes: list[str]) -> None:
    """Refuse a split folder that holds nothing but one folder with the class folders in it.

    Raises:
        DataError: with the folder to move them to.
    """
    if len(classes) == 1 and not peek(folder)[0] and (found := _inner(folder, classes[0])) and len(found[1]) > 1:
        place, names = found
        raise DataError(
            f"{folder}: holds no class folders but '{classes[0]}', which holds the folders {_list(names)}. "
            f"If those are the classes, move them from {folder / place} to {folder}."
        )


def _inner(root: Path, name: str) -> tuple[str, list[str]] | None:
    """The folders that lie in a folder without images, and where: a chain of single folders is gone down first."""
    place = name
    holds_images, names = peek(root / place)
    for _ in range(_DEEPEST):  # a link may lead back
        if holds_images or len(names) != 1:
            break
        below_holds_images, below = peek(root / place / names[0])
        if below_holds_images or not below:
            break
        place, names = f"{place}/{names[0]}", below
    return None if holds_images or not names else (place, names)


def _splits_misnamed(root: Path, splits: Mapping[str, str], inner: Mapping[str, object], others: list[str]) -> DataError:
    moves = ", ".join(f"{root / place} to {root / split}" for split, place in sorted(splits.items(), key=lambda item: item[1]))
    empty = [str(root / name) for name in inner if name not in splits.values()]
    rest = [f"remove {_and(empty)}, then empty"] if empty else []
    rest += [f"take {_and([str(root / name) for name in others])} away"] if others else []
    return DataError(
        f"{root}: {_and([f'{name!r}' for name in inner])} hold the same folders and no images, and look like splits, not classes. "
        f"Move {moves}{', and ' + ', and '.join(rest) if rest else ''}."
    )


def _classes_hold_splits(root: Path, alike: Mapping[str, str], shared: list[str]) -> DataError:
    first = next(iter(alike))
    moves = ", ".join(f"{root / alike[first] / name} to {root / str(split_word(name)) / first}" for name in shared)
    return DataError(
        f"{root}: {_list(list(alike))} hold the same folders, {_list(shared)}, and no images: the splits lie inside the classes. "
        f"Put the split first: move {moves}, and the others likewise."
    )


def _parts_beside_each_other(root: Path, alike: Mapping[str, str], shared: list[str]) -> DataError:
    name = shared[0]
    parts = [str(root / place / name) for place in alike.values() if (root / place / name).is_dir()]
    return DataError(
        f"{root}: {_list(list(alike))} hold the same folders, {_list(shared)}, and no images. If {_list(shared)} are the classes, bring "
        f"them together: move the images of {_and(parts[:_SHOWN])} to {root / name}, and the others likewise. "
        f"If {_list(list(alike))} are the classes, move their images out of those folders. "
        "If each folder in them is a class of its own, set data.nested_classes=true."
    )


def _and(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _list(names: list[str]) -> str:
    """Names in quotes, the first few of many."""
    quoted = [f"'{name}'" for name in names]
    return _and([*quoted[:_SHOWN], f"{len(names) - _SHOWN} more"] if len(names) > _SHOWN + 1 else quoted)
