"""A folder of shards as a source: which images they hold in all, of which classes, in which splits; see `data.shards`."""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tl_keras.config import DataConfig
from tl_keras.data.file_ids import ID_BYTES
from tl_keras.data.index import SPLIT_NAMES, Index
from tl_keras.data.layouts import SPLIT_FOLDERS, split_word
from tl_keras.data.places import scandir
from tl_keras.data.regular import open_regular
from tl_keras.data.shards.contents import format_of, is_compressed
from tl_keras.data.shards.reading import contents_of, read_shards
from tl_keras.data.shards.sample import number_and_name
from tl_keras.data.sources.source import NEAR, path_of
from tl_keras.data.texts import TextList
from tl_keras.data.walk import is_seen, subfolders
from tl_keras.errors import DataError, UnknownClassError
from tl_keras.progress import Progress

CLASS_FILES = ("classes.txt", "labels.txt", "label.labels.txt")  # beside the shards, the first that is there; the last is TFDS'
MOST_CLASS_BYTES = 10**8
UNLABELLED_IMAGES = "images without a label"
WRITE_CLASSES = f"Write {CLASS_FILES[0]} beside the shards: the name of each class, one a line, the first for number 0."


def is_shards(source: str) -> bool:
    """Whether a `data.source` is a folder that holds shards, itself or in folders train, val and test, and no other folders."""
    path = path_of(source)
    return path.is_dir() and bool(_shards(path))


def check_shards(config: DataConfig) -> None:
    """Refuse shards of which it is plain by their names that they cannot be read.

    Raises:
        DataError: one is compressed.
    """
    root = path_of(config.source)
    for name in _shards(root):
        if is_compressed(name):
            how = "gunzip" if name.lower().endswith(("gz", "gzip")) else "unpack"
            raise DataError(
                f"{root / name}: is compressed as a whole, so that no image in it can be read without unpacking all before it. "
                f"Make plain shards: {how} {root / name}. The images in them are compressed already."
            )


def check_shard_splits(config: DataConfig) -> None:
    """Refuse shards whose names say the splits of some only, or of val and test alone.

    Raises:
        DataError: naming one.
    """
    root = path_of(config.source)
    by_split = _by_split(root)
    if None in by_split and len(by_split) > 1:
        first = next(name for split, names in by_split.items() if split for name in names)
        raise DataError(f"{root}: the name of {by_split[None][0]} says no split (train, val, test), and that of {first} does. Rename one.")
    if None not in by_split and "train" not in by_split:
        raise DataError(f"{root}: has shards of {' and '.join(map(str, by_split))}, but none of train. Add some, such as train-000000.tar.")


def prepare_shards(config: DataConfig, progress: Progress) -> None:
    """Read the shards of which it is not known what they hold; see `read_shards`."""
    root = path_of(config.source)
    read_shards([root / name for name in _shards(root)], progress)


def scan_shards(config: DataConfig) -> Index:
    """The index of all images.

    Raises:
        DataError: no images, fewer than two classes, or a number that no class has.
    """
    check_shard_splits(config)
    root = path_of(config.source)
    index = _index(root, _by_split(root))
    if len(index.classes) < 2:
        raise DataError(f"{root}: its images have one label only ({index.classes[0]!r}); a classifier needs at least 2 classes.")
    return index


def scan_known_shards(config: DataConfig, classes: Sequence[str]) -> Index:
    """The index of labelled images for a model that knows its classes; of shards of several splits those of test alone.

    Raises:
        UnknownClassError: an image of another class.
        DataError: no images, or a number that no class has.
    """
    root = path_of(config.source)
    by_split = _by_split(root)
    found = _index(root, {"test": by_split["test"]} if "test" in by_split else by_split, classes)
    return replace(found, given=None)


def _shards(root: Path) -> list[str]:
    """The shards of a folder, sorted; none where it holds other folders than those of splits, which hold shards."""
    folders = subfolders(root)
    if not all(name.lower() in SPLIT_FOLDERS for name in folders):
        return []
    found = _shards_in(root)
    for folder in folders:
        inside = [] if subfolders(root / folder) else _shards_in(root / folder)
        if not inside:
            return []
        found += [f"{folder}/{name}" for name in inside]
    return found


def _shards_in(folder: Path) -> list[str]:
    entries = (entry for entry in scandir(folder) if is_seen(entry.name) and entry.is_file())
    return sorted(entry.name for entry in entries if format_of(entry.name) or is_compressed(entry.name))


def _by_split(root: Path) -> dict[str | None, list[str]]:
    """The shards of each split that there is, in the order of `SPLIT_NAMES`; None where the name says none."""
    found: dict[str | None, list[str]] = {split: [] for split in (*SPLIT_NAMES, None)}
    for name in _shards(root):
        folder, _, own = name.rpartition("/")
        found[SPLIT_FOLDERS[folder.lower()] if folder else split_word(own)].append(name)
    return {split: names for split, names in found.items() if names}


def _index(root: Path, by_split: Mapping[str | None, Sequence[str]], known: Sequence[str] | None = None) -> Index:
    """The images of some shards, one shard after the other, each in the order in which they lie there.

    Args:
        known: the classes of a model; None for those that the images have.
    """
    paths, splits = TextList(), TextList(shared=True)
    number: dict[str, int] = {}  # of each label as text
    labels, ids = [np.empty(0, np.int64)], [np.empty(0, f"S{ID_BYTES}")]
    unlabelled = Counter[str]()
    for split, names in by_split.items():
        for name in names:
            table = contents_of(root / name)
            for image in table.names:
                paths.append(f"{name}/{image}")
                splits.append(split or "")
            texts, rows = table.labels.numbered()
            labels.append(np.array([number.setdefault(text, len(number)) for text in texts], np.int64)[rows])
            ids.append(table.ids)
            unlabelled[name] += table.num_unlabelled
    if not number:
        raise DataError(f"{root}: none of its shards holds an image with a label.")
    classes, class_of = _classes(root, list(number), known)
    return Index(
        root=root,
        classes=classes,
        paths=paths.texts(),
        labels=class_of[np.concatenate(labels)],
        given=None if None in by_split else splits.texts(),
        ids=np.concatenate(ids),
        ignored={UNLABELLED_IMAGES: +unlabelled} if +unlabelled else {},
    )


def _classes(root: Path, texts: Sequence[str], known: Sequence[str] | None) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """The classes, and the class that each label as text is of, int32.

    Raises:
        UnknownClassError: one that is not known.
        DataError: a number of no class.
    """
    names = _named(root, texts)
    classes = tuple(sorted(set(names))) if known is None else tuple(known)
    number = {unicodedata.normalize("NFC", name): label for label, name in enumerate(classes)}
    unknown = sorted(set(names) - number.keys())
    if unknown:
        near = get_close_matches(unknown[0], number, n=1, cutoff=NEAR)
        hint = f" Did you mean '{near[0]}'?" if near else f" It knows {', '.join(classes)}."
        raise UnknownClassError(f"{root}: has images of a class '{unknown[0]}', which the model does not know.{hint}")
    return classes, np.array([number[name] for name in names], np.int32)


def _named(root: Path, labels: Sequence[str]) -> list[str]:
    """The name of the class of each label: what a file beside the shards calls its number, if all have one; else what the shards call it.

    Raises:
        DataError: a number of no class, one name for two numbers, or the file cannot be read.
    """
    parts = [number_and_name(label) for label in labels]
    file = next((root / name for name in CLASS_FILES if (root / name).is_file()), None)
    if file is None or not any(number for number, _ in parts):
        return _as_shards_say(root, parts)
    if bare := next((name for number, name in parts if not number), None):
        raise DataError(f"{file}: names the numbers of classes, but some images have the label {bare!a} and no number. Remove the file.")
    return _by_file(file, [number for number, _ in parts])


def _as_shards_say(root: Path, parts: Sequence[tuple[str, str]]) -> list[str]:
    names, numbers = dict[str, str](), dict[str, str]()  # of each number, of each name
    for number, name in parts:
        if not (number and name):
            continue
        if numbers.setdefault(name, number) != number:
            raise DataError(f"{root}: its records give the name {name!a} to the numbers {numbers[name]} and {number}. {WRITE_CLASSES}")
        if names.setdefault(number, name) != name:
            raise DataError(f"{root}: its records give the number {number} the names {names[number]!a} and {name!a}. {WRITE_CLASSES}")
    return [name or names.get(number, number) for number, name in parts]


def _by_file(file: Path, numbers: Sequence[str]) -> list[str]:
    try:
        with open_regular(file) as opened:
            names = opened.read(MOST_CLASS_BYTES).decode("utf-8-sig").rstrip("\n").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: is not UTF-8 text. Write the names of the classes into it, one a line.") from error
    for text in numbers:
        if int(text) >= len(names) or not names[int(text)].strip():
            raise DataError(
                f"{file}: names {len(names)} classes, the first of them number 0, and an image is of class {text}. Add the others; if "
                "the numbers begin with 1, also a first line for 0, such as 'none'."
            )
    found = {text: unicodedata.normalize("NFC", names[int(text)].strip()) for text in numbers}
    if twice := [name for name, times in Counter(found.values()).items() if times > 1]:
        raise DataError(f"{file}: names several classes {twice[0]!a}. Give each a name of its own, such as '{twice[0]} 2'.")
    return [found[text] for text in numbers]
