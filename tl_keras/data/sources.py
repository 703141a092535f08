"""From what the user names to an `Index`: which files there are, with which label, in which given split.

Every source is, in the end, a folder of class folders: `unpack` writes scikit-learn's digits and TFDS data sets out
as such, once. Nothing is decoded here; the next stop is `splits`.
"""

from collections import Counter
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tl_keras.config import DataConfig
from tl_keras.data import unpack
from tl_keras.data.images import IMAGE_SUFFIXES
from tl_keras.errors import DataError

SPLITS = ("train", "val", "test")
SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
LEAST_PER_CLASS = 2


@dataclass(frozen=True)
class Index:
    """The labelled files of a data set, in a fixed order: by split, class and path.

    Attributes:
        root: the folder that `paths` are relative to.
        classes: names, sorted; a label is a position in this tuple.
        paths: POSIX paths relative to `root`, n of them.
        labels: int32 (n,), each in [0, len(classes)).
        given: the split of each file where the folders say it, each of `SPLITS`; None where splits are to be cut.
        ignored: how many files were passed over, by ending ('' for none).
    """

    root: Path
    classes: tuple[str, ...]
    paths: tuple[str, ...]
    labels: NDArray[np.int32]
    given: tuple[str, ...] | None
    ignored: dict[str, int]


def open_source(config: DataConfig) -> Index:
    """Find the images that `data.source` names.

    Args:
        config: `source` is a folder of class folders, with or without train/ val/ test/ above them; 'digits'; or a
            TFDS name or the folder of a prepared TFDS data set.

    Raises:
        DataError: nothing of that name, no images, fewer than two classes, or classes that differ between splits.
    """
    source = config.source
    path = Path(source).expanduser()
    if source == "digits":
        return scan_folder(unpack.digits())
    if path.is_dir():
        return scan_folder(unpack.prepared_tfds(path)) if unpack.is_prepared_tfds(path) else scan_folder(path)
    if path.exists():
        raise DataError(f"{source}: is a file. Give the folder that holds one folder of images per class.")
    if "/" in source.partition("/")[2] or source.startswith((".", "/", "~")) or not unpack.looks_like_tfds(source):
        raise DataError(f"{source}: no such folder.{_neighbour(path)} Give a folder of class folders, 'digits' or a TFDS name.")
    return scan_folder(unpack.named_tfds(source, download=config.download, timeout_s=config.download_timeout_s))


def _neighbour(path: Path) -> str:
    folders = [entry.name for entry in path.parent.iterdir() if entry.is_dir()] if path.parent.is_dir() else []
    near = get_close_matches(path.name, folders, n=1)
    return f" Did you mean '{path.parent / near[0]}'?" if near else ""


def scan_folder(root: Path) -> Index:
    """Read the class folders below `root`; see `open_source` for the layouts and errors."""
    folders = _folders(root)
    if "train" in folders and _folders(root / "train"):
        return _scan_given_splits(root, folders)
    return _scan_classes(root, folders)


def _folders(root: Path) -> list[str]:
    return sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _scan_classes(root: Path, classes: list[str]) -> Index:
    files = {name: _images(root / name) for name in classes}
    _check_classes(root, classes, files)
    return _index(root, tuple(classes), [("", name, files[name]) for name in classes], split=False)


def _scan_given_splits(root: Path, folders: list[str]) -> Index:
    strange = [name for name in folders if name not in SPLIT_FOLDERS]
    if strange:
        raise DataError(
            f"{root}: has train/ and beside it '{strange[0]}', which is no split (train, val, test). "
            "Move the class folders into train/, or take '" + strange[0] + "' away."
        )
    by_split: dict[str, str] = {}
    for name in folders:
        split = SPLIT_FOLDERS[name]
        if split in by_split:
            raise DataError(f"{root}: has both {by_split[split]}/ and {name}/ for the {split} split. Keep one of them.")
        by_split[split] = name
    classes = _folders(root / by_split["train"])
    entries = []
    for split in (split for split in SPLITS if split in by_split):
        folder = root / by_split[split]
        _check_same_classes(root, by_split[split], _folders(folder), classes)
        files = {name: _images(folder / name) for name in classes}
        _check_classes(folder, classes, files, least=LEAST_PER_CLASS if split == "train" else 1)
        entries += [(split, name, files[name]) for name in classes]
    return _index(root, tuple(classes), entries, split=True)


def _check_same_classes(root: Path, split: str, found: list[str], classes: list[str]) -> None:
    missing, extra = sorted(set(classes) - set(found)), sorted(set(found) - set(classes))
    if missing:
        raise DataError(
            f"{root}: {split} has no folder '{missing[0]}', which train has ({len(classes)} classes). "
            f"Add {split}/{missing[0]}, or drop {split}/ to split train."
        )
    if extra:
        near = get_close_matches(extra[0], classes, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise DataError(f"{root}: {split} has a folder '{extra[0]}', which train has not ({len(classes)} classes).{hint}")


def _images(folder: Path) -> tuple[list[Path], Counter[str]]:
    images, ignored = [], Counter[str]()
    for path in sorted(folder.rglob("*")):
        if path.name.startswith(".") or not path.is_file():
            continue
        suffix = path.suffix.lower()
        if suffix in IMAGE_SUFFIXES:
            images.append(path)
        else:
            ignored[suffix] += 1
    return images, ignored


def _check_classes(root: Path, classes: list[str], files: dict[str, tuple[list[Path], Counter[str]]], least: int = LEAST_PER_CLASS) -> None:
    endings = ", ".join(sorted(IMAGE_SUFFIXES))
    if not classes:
        loose = " It holds images, but not in class folders." if any(p.suffix.lower() in IMAGE_SUFFIXES for p in root.iterdir()) else ""
        raise DataError(f"{root}: no class folders found.{loose} Make one folder of images per class: {root}/cat, {root}/dog.")
    if not any(images for images, _ in files.values()):
        found = sum((ignored for _, ignored in files.values()), Counter[str]()).most_common(1)
        other = f" (found {found[0][1]} files ending in '{found[0][0]}')" if found else ""
        raise DataError(f"{root}: no images in its {len(classes)} folders{other}. Endings read: {endings}.")
    if len(classes) == 1:
        inner = _folders(root / classes[0])
        hint = f" Did you mean '{root / classes[0]}', which holds {len(inner)} folders?" if len(inner) > 1 else ""
        raise DataError(f"{root}: one class only ('{classes[0]}'); a classifier needs at least 2 class folders.{hint}")
    for name in classes:
        check_class_size(root, name, len(files[name][0]), least)


def check_class_size(root: Path, name: str, number: int, least: int = LEAST_PER_CLASS) -> None:
    """Raise DataError when a class has fewer images than can be learned from and split."""
    if number < least:
        images = "no image" if number == 0 else f"{number} image" + "s" * (number > 1)
        raise DataError(f"{root}: class '{name}' has {images}; it needs at least {least}. Add images, or take the folder away.")


def _index(
    root: Path,
    classes: tuple[str, ...],
    entries: list[tuple[str, str, tuple[list[Path], Counter[str]]]],
    *,
    split: bool,
) -> Index:
    paths, labels, given = [], [], []
    ignored: Counter[str] = Counter()
    for split_name, class_name, (images, passed_over) in entries:
        paths += [image.relative_to(root).as_posix() for image in images]
        labels += [classes.index(class_name)] * len(images)
        given += [split_name] * len(images)
        ignored += passed_over
    return Index(root, classes, tuple(paths), np.asarray(labels, np.int32), tuple(given) if split else None, dict(ignored))
