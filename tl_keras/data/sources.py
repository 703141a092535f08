"""From what the user names to an `Index`: which files there are, with which label, in which given split.

Every source is, in the end, a folder of class folders: `unpack` writes scikit-learn's digits and TFDS data sets out
as such, once. Nothing is decoded here; the next stop is `splits`.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from tl_keras.config import DataConfig
from tl_keras.data import unpack
from tl_keras.errors import DataError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
NEAR = 0.75  # likeness from which a name is taken for a misspelt other: 'flowrs' for 'flowers', but not 'photos' for 'toto'
SPLITS = ("train", "val", "test")
SPLIT_FOLDERS = {  # in any case
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}

Files = tuple[list[str], Counter[str]]  # images as POSIX paths, and how many other files there are of each ending


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
            TFDS name or the folder of a prepared TFDS data set. ('./digits' is a folder of that name.)

    Raises:
        DataError: nothing of that name, no images, fewer than two classes, or classes that differ between splits.
    """
    check_source(config)
    try:
        return scan_folder(_folder_of(config))
    except OSError as error:
        raise _unreadable(config, error) from error


def check_source(config: DataConfig) -> None:
    """Refuse a `data.source` that there is not: cheap, without TensorFlow or the network, and nothing below it is read.

    Raises:
        DataError: no such folder, a file, a folder that may not be read, or a TFDS data set that is neither on disk nor to be fetched.
    """
    source, path = config.source, Path(config.source).expanduser()
    try:
        if source == "digits":
            return
        if path.is_dir():
            os.scandir(path).close()
        elif path.exists():
            raise DataError(f"{source}: is a file. Give the folder that holds one folder of images per class.")
        elif not unpack.looks_like_tfds(source) or ("/" in source and path.parent.is_dir()):
            raise DataError(f"{source}: no such folder.{_neighbour(path)} Give a folder of class folders, 'digits' or a TFDS name.")
        elif not config.download and not unpack.is_tfds_on_disk(source):
            looked = unpack.tfds_folder() / source.partition(":")[0]
            raise DataError(
                f"{source}: no such folder, and no TFDS data set of that name on disk (looked for {looked}).{_neighbour(path)} "
                "Give a folder of class folders or 'digits'; a TFDS data set is fetched with --set data.download=true."
            )
    except OSError as error:
        raise _unreadable(config, error) from error


def _unreadable(config: DataConfig, error: OSError) -> DataError:
    return DataError(f"{config.source}: cannot be read ({error.strerror or error}). Give a folder that you may read.")


def _folder_of(config: DataConfig) -> Path:
    path = Path(config.source).expanduser()
    if config.source == "digits":
        return unpack.digits()
    if path.is_dir():
        return unpack.prepared_tfds(path) if unpack.is_prepared_tfds(path) else path
    return unpack.named_tfds(config.source, download=config.download, timeout_s=config.download_timeout_s)


def _neighbour(path: Path) -> str:
    """A hint at the folder, or the digits, that a name may be a slip of; '' where nothing is really like it."""
    known = _folders(path.parent) if path.parent.is_dir() else []
    by_lower = {name.lower(): name for name in [*(["digits"] if path.parent == Path() else []), *known]}
    near = get_close_matches(path.name.lower(), by_lower, n=1, cutoff=NEAR)
    return f" Did you mean '{path.parent / by_lower[near[0]]}'?" if near else ""


def scan_folder(root: Path) -> Index:
    """Read the class folders below `root`; see `open_source` for the layouts and errors.

    Hidden files and folders, and links to folders below a class folder, are not followed.
    """
    folders = _folders(root)
    holds_folders = [name for name in folders if name.lower() in SPLIT_FOLDERS and _folders(root / name)]
    only_splits = len(folders) > 1 and all(name.lower() in SPLIT_FOLDERS for name in folders)
    if holds_folders or only_splits:  # a class may be called 'train', but such a class holds images
        return _scan_given_splits(root, _split_folders(root, folders))
    _check_found(root, folders, files := _class_files(root, "", folders))
    return _index(root, tuple(folders), {None: files}, _loose(root))


def _folders(root: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))


def _split_folders(root: Path, folders: list[str]) -> dict[str, str]:
    """The folder of each split that is there, in the order of `SPLITS`."""
    strange = [name for name in folders if name.lower() not in SPLIT_FOLDERS]
    by_split: dict[str, str] = {}
    for name in (name for name in folders if name not in strange):
        split = SPLIT_FOLDERS[name.lower()]
        if split in by_split:
            raise DataError(f"{root}: has both {by_split[split]}/ and {name}/ for the {split} split. Keep one of them.")
        by_split[split] = name
    if strange:
        raise DataError(
            f"{root}: has {next(iter(by_split.values()))}/ with folders in it and beside it '{strange[0]}', which is no split "
            f"(train, val, test). Move the class folders into train/, or take '{strange[0]}' away."
        )
    if "train" not in by_split:
        raise DataError(f"{root}: has {' and '.join(f'{name}/' for name in by_split.values())}, but no train/. Add train/.")
    return {split: by_split[split] for split in SPLITS if split in by_split}


def _scan_given_splits(root: Path, by_split: dict[str, str]) -> Index:
    classes = _folders(root / by_split["train"])
    by_split_files: dict[str | None, dict[str, Files]] = {}
    loose = _loose(root)
    for split, folder in by_split.items():
        if split != "train":
            _check_same_classes(root, folder, _folders(root / folder), classes)
        by_split_files[split] = _class_files(root, f"{folder}/", classes)
        _check_found(root / folder, classes, by_split_files[split])
        loose += _loose(root / folder)
    return _index(root, tuple(classes), by_split_files, loose)


def _check_same_classes(root: Path, split: str, found: list[str], classes: list[str]) -> None:
    missing, extra = sorted(set(classes) - set(found)), sorted(set(found) - set(classes))
    if missing:
        raise DataError(
            f"{root}: {split} has no folder '{missing[0]}', which train has ({len(classes)} classes). "
            f"Add {split}/{missing[0]}, or drop {split}/ to split train."
        )
    if extra:
        near = get_close_matches(extra[0], classes, n=1, cutoff=NEAR)
        hint = f" Did you mean '{near[0]}'?" if near else f" Add train/{extra[0]}, or take {split}/{extra[0]} away."
        raise DataError(f"{root}: {split} has a folder '{extra[0]}', which train has not ({len(classes)} classes).{hint}")


def _class_files(root: Path, prefix: str, classes: list[str]) -> dict[str, Files]:
    return {name: _sorted_out(_walk(root, f"{prefix}{name}")) for name in classes}


def _walk(root: Path, folder: str) -> Iterator[str]:
    """Files below a folder at any depth, by name, as POSIX paths relative to `root`. Plain strings: there may be millions."""
    for entry in sorted(os.scandir(root / folder), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(root, f"{folder}/{entry.name}")
        elif not entry.is_dir():  # a broken link is a file that does not decode, and is counted as one
            yield f"{folder}/{entry.name}"


def _loose(folder: Path) -> Counter[str]:
    """The files beside class folders, images or not, by ending: they have no label."""
    files = (entry.name for entry in os.scandir(folder) if not entry.is_dir() and not entry.name.startswith("."))
    return Counter(PurePosixPath(name).suffix.lower() for name in files)


def _sorted_out(files: Iterable[str]) -> Files:
    images, ignored = [], Counter[str]()
    for path in files:
        suffix = os.path.splitext(path)[1].lower()
        if suffix in IMAGE_SUFFIXES:
            images.append(path)
        else:
            ignored[suffix] += 1
    return images, ignored


def _check_found(root: Path, classes: list[str], files: dict[str, Files]) -> None:
    if not classes:
        loose = " It holds images, but not in class folders." if _loose(root).keys() & IMAGE_SUFFIXES else ""
        raise DataError(f"{root}: no class folders found.{loose} Make one folder of images per class: {root}/cat, {root}/dog.")
    if not any(images for images, _ in files.values()):
        found = sum((ignored for _, ignored in files.values()), Counter[str]()).most_common(1)
        other = f" (found {found[0][1]} files ending in '{found[0][0]}')" if found else ""
        endings = ", ".join(sorted(IMAGE_SUFFIXES))
        raise DataError(f"{root}: no images in its {len(classes)} folder{'s' * (len(classes) > 1)}{other}. Endings read: {endings}.")
    if len(classes) == 1:
        inner = _folders(root / classes[0])
        hint = f" Did you mean '{root / classes[0]}', which holds {len(inner)} folders?" if len(inner) > 1 else ""
        raise DataError(f"{root}: one class only ('{classes[0]}'); a classifier needs at least 2 class folders.{hint}")
    for name, (images, _) in files.items():
        if not images:
            raise DataError(f"{root}: class '{name}' has no image. Add images, or take the folder away.")


def _index(root: Path, classes: tuple[str, ...], by_split: dict[str | None, dict[str, Files]], loose: Counter[str]) -> Index:
    paths: list[str] = []
    labels: list[NDArray[np.int32]] = []
    given: list[str] = []
    ignored = Counter(loose)
    for split, files in by_split.items():
        for label, name in enumerate(classes):
            images, passed_over = files[name]
            paths += images
            labels.append(np.full(len(images), label, np.int32))
            given += [split] * len(images) if split else []
            ignored += passed_over
    return Index(root, classes, tuple(paths), np.concatenate(labels), tuple(given) or None, dict(ignored))
