"""From a folder of class folders to an `Index`: which files there are, with which label, in which given split."""

import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tl_keras.data.index import SPLIT_NAMES, Index
from tl_keras.data.layouts import SPLIT_FOLDERS, check_depth, check_layout
from tl_keras.data.regular import SPECIAL, special_files
from tl_keras.data.sources.source import NEAR, source_files
from tl_keras.data.walk import (
    BESIDE,
    HEIC,
    IMAGE_SUFFIXES,
    INSTALL_HEIC,
    Files,
    LeftOut,
    files_below,
    holds_runs,
    loose_files,
    peek,
    reads_heic,
    subfolders,
)
from tl_keras.errors import DataError, UnknownClassError

ClassFolders = dict[str, str]  # name of each class, in Unicode's composed form (NFC), sorted -> its folder as it is on disk
Arrangement = dict[str | None, tuple[str, ClassFolders]]  # split, None where they are to be cut -> 'train/' or '', and the classes there


def check_readable(root: Path) -> None:
    """Raise OSError where a folder may not be read."""
    os.scandir(root).close()


def check_arrangement(root: Path, *, nested: bool = False) -> None:
    """Refuse folders that are not arranged for training; what the images below them tell is left to `scan_folder`.

    Raises:
        DataError: as `scan_folder`.
    """
    _arrange(root, nested)


def scan_known(root: Path, classes: tuple[str, ...], *, nested: bool = False) -> Index:
    """Read class folders for a model that knows its classes already; see `open_labelled` and `scan_folder`."""
    known = {class_name(name): name for name in classes}  # older models may have names that are not composed
    folders = _candidates(root)
    named = [name for name in folders if name.lower() in SPLIT_FOLDERS and not (name in known and peek(root / name)[0])]
    by_split = _as_splits(root, named, [name for name in folders if name not in named]) if named else {}
    wheres = [f"{by_split['test']}/"] if "test" in by_split else [f"{name}/" for name in by_split.values()] or [""]
    found: dict[str | None, dict[str, Files]] = {}
    loose = loose_files(root)
    for where in wheres:
        inside = _classes(root / where, _class_folders(root / where, subfolders(root / where) if where else folders, nested))
        files = {name: files_below(root, f"{where}{folder}", [root]) for name, folder in inside.items()}
        unknown = sorted(name for name in files if files[name].images and name not in known)
        if unknown:
            near = get_close_matches(unknown[0], known, n=1, cutoff=NEAR)
            hint = f" Did you mean '{near[0]}'?" if near else f" It knows {', '.join(classes)}."
            raise UnknownClassError(f"{root / where}: has a class '{unknown[0]}', which the model does not know.{hint}")
        found[where] = {known[name]: files.get(name, Files([], Counter())) for name in known}
        loose += loose_files(root / where) if where else Counter()
    index = _index(root, classes, found, loose)
    if not index.paths:
        above = f" If '{root.name}' is the class, give {root.parent}." if class_name(root.name) in known else ""
        raise DataError(f"{root}: no images in folders of the model's classes ({', '.join(classes)}).{above}")
    return replace(index, given=None)


def scan_folder(root: Path, *, nested: bool = False) -> Index:
    """Read the class folders below `root`; see `open_source` for the layouts and errors.

    Hidden files, what systems leave in folders, and run folders of this package are not seen.

    Args:
        nested: the class folders lie one level deeper, and 'animal/cat' is the name of a class.
    """
    names: tuple[str, ...] = ()
    found: dict[str | None, dict[str, Files]] = {}
    loose = loose_files(root)
    for split, (where, classes) in _arrange(root, nested).items():
        names = tuple(classes)
        found[split] = {name: files_below(root, f"{where}{folder}", [root, root / where]) for name, folder in classes.items()}
        _check_images(root / where, found[split])
        loose += loose_files(root / where) if where else Counter()
    return _index(root, names, found, loose)


def _arrange(root: Path, nested: bool) -> Arrangement:
    """Find out which folders are classes, and of which splits; no more of the files is looked at than that needs.

    Raises:
        DataError: too few classes, classes that differ between splits, or folders that may be meant otherwise.
    """
    folders = _candidates(root)
    by_split = _split_folders(root, folders)
    if not by_split:
        if not nested:
            check_layout(root, folders)
        return {None: ("", _at_least_two(root, _classes(root, _class_folders(root, folders, nested))))}
    found: Arrangement = {}
    for split, folder in by_split.items():
        folders = subfolders(root / folder)
        if not nested:
            check_depth(root / folder, folders)
        classes = _classes(root / folder, _class_folders(root / folder, folders, nested))
        if split == "train":
            if not nested:
                check_layout(root / folder, folders)
            _at_least_two(root / folder, classes)
        else:
            _check_same_classes(root, folder, list(classes), list(found["train"][1]))
        found[split] = (f"{folder}/", classes)
    return found


def _candidates(root: Path) -> list[str]:
    """The folders that may be classes or splits."""
    return [name for name in subfolders(root) if not holds_runs(root / name)]


def _class_folders(root: Path, folders: list[str], nested: bool) -> list[str]:
    """The class folders in `root`: some folders, or, where classes are nested, the folders in each of them.

    Raises:
        DataError: classes are nested, and one of them holds images, or nothing.
    """
    if not nested:
        return folders
    found: list[str] = []
    for folder in folders:
        holds_images, inner = peek(root / folder)
        if holds_images or not inner:
            held = "images beside its folders, or no folders" if holds_images else "no folders"
            raise DataError(
                f"{root / folder}: holds {held}. With data.nested_classes=true each folder of {root} holds class folders: move the images "
                "into one, or leave the setting away."
            )
        found += [f"{folder}/{name}" for name in inner]
    return found


def class_name(folder: str) -> str:
    """The name of a class from that of its folder: composed (NFC), as macOS may write it decomposed and others do not."""
    return unicodedata.normalize("NFC", folder)


def _classes(root: Path, folders: Sequence[str]) -> ClassFolders:
    """The class of each folder.

    Raises:
        DataError: two folders differ in nothing but how their letters are composed.
    """
    found: ClassFolders = {}
    for folder in folders:
        twin = found.setdefault(class_name(folder), folder)
        if twin != folder:
            raise DataError(
                f"{root}: has two folders that look like '{class_name(folder)}'; their letters are composed differently (Unicode NFC "
                f"and NFD: {folder!a} and {twin!a}). Move the images of one into the other."
            )
    return dict(sorted(found.items()))


def _split_folders(root: Path, folders: list[str]) -> dict[str, str]:
    """The folder of each split that is there, in the order of `SPLIT_NAMES`; empty where the folders are classes.

    A class may be called 'train', but such a class holds images.
    """
    named = [name for name in folders if name.lower() in SPLIT_FOLDERS]
    strange = [name for name in folders if name not in named]
    looks = {name: peek(root / name) for name in named}
    holding_folders = [name for name, (holds_images, inner) in looks.items() if inner and not (holds_images and strange)]
    if not holding_folders and (strange or len(named) < 2):
        return {}
    if not holding_folders:
        raise DataError(_unlabelled(root, named))
    by_split = _as_splits(root, named, strange)
    if "train" not in by_split:
        raise DataError(f"{root}: has {' and '.join(f'{name}/' for name in by_split.values())}, but no train/. Add train/.")
    return {split: by_split[split] for split in SPLIT_NAMES if split in by_split}


def _as_splits(root: Path, named: Sequence[str], strange: Sequence[str]) -> dict[str, str]:
    """The folder of each split.

    Args:
        named: folders whose names are those of splits.
        strange: those beside them.

    Raises:
        DataError: there are some beside them, or two for one split.
    """
    by_split: dict[str, str] = {}
    for name in named:
        split = SPLIT_FOLDERS[name.lower()]
        if split in by_split:
            raise DataError(f"{root}: has both {by_split[split]}/ and {name}/ for the {split} split. Keep one of them.")
        by_split[split] = name
    if strange:
        raise DataError(
            f"{root}: has {next(iter(by_split.values()))}/ with folders in it and beside it '{strange[0]}', which is not a split "
            f"(train, val, test). If it is meant as one, rename it; else move the class folders into train/, or take '{strange[0]}' away."
        )
    return by_split


def _unlabelled(root: Path, named: list[str]) -> str:
    """What is said where folders have the names of splits, and no class folders in them."""
    folder = next((name for name in named if SPLIT_FOLDERS[name.lower()] == "train"), named[0])
    quoted = " and ".join(f"'{name}'" for name in named)
    return (
        f"{root / folder}: no class folders found. {quoted} are read as splits, with a folder of images per class in each: "
        f"make {root / folder / 'cat'}, {root / folder / 'dog'}. If {quoted} are the classes, rename one of them."
    )


def _check_same_classes(root: Path, split: str, found: list[str], classes: list[str]) -> None:
    missing, extra = sorted(set(classes) - set(found)), sorted(set(found) - set(classes))
    if not found:
        raise DataError(
            f"{root}: {split}/ has no class folders, so what its images show is not known. Sort them into folders as in train/ "
            f"({len(classes)} classes), or move {split}/ elsewhere: a split that is missing is cut from train."
        )
    near = get_close_matches(extra[0], missing or classes, n=1, cutoff=NEAR) if extra else []
    if missing and near:
        raise DataError(f"{root}: {split} has a folder '{extra[0]}', and train '{near[0]}'. Give both the same name.")
    if missing:
        raise DataError(
            f"{root}: {split} has no folder '{missing[0]}', which train has ({len(classes)} classes). "
            f"Add {split}/{missing[0]}, or drop {split}/ to split train."
        )
    if extra:
        hint = f" Did you mean '{near[0]}'?" if near else f" Add train/{extra[0]}, or take {split}/{extra[0]} away."
        raise DataError(f"{root}: {split} has a folder '{extra[0]}', which train does not have ({len(classes)} classes).{hint}")


def _at_least_two(root: Path, classes: ClassFolders) -> ClassFolders:
    if not classes:
        loose = " It holds images, but not in class folders." if peek(root)[0] else ""
        if files := source_files(root):
            loose += f" Did you mean '{root / files[0]}'?"
        raise DataError(f"{root}: no class folders found.{loose} Make one folder of images per class: {root}/cat, {root}/dog.")
    if len(classes) == 1:
        (folder,) = classes.values()
        inner = subfolders(root / folder)
        hint = f" Did you mean '{root / folder}', which holds {len(inner)} folders?" if len(inner) > 1 else ""
        raise DataError(f"{root}: one class only ('{folder}'); a classifier needs at least 2 class folders.{hint}")
    return classes


def _check_images(root: Path, files: dict[str, Files]) -> None:
    if not any(found.images for found in files.values()):
        left_out = sum((found.left_out for found in files.values()), Counter[str]())
        endings = ", ".join(sorted(IMAGE_SUFFIXES))
        raise DataError(f"{root}: no images in its {len(files)} folders{_others(left_out)}. Endings read: {endings}.{_heic_hint(left_out)}")
    for name, found in files.items():
        if not found.images:
            others, hint = _others(found.left_out), _heic_hint(found.left_out)
            raise DataError(f"{root}: class '{name}' has no image{others}. Add images, or remove the folder.{hint}")


def _others(left_out: Counter[str]) -> str:
    """What most files are where there is no image."""
    if not left_out:
        return ""
    ((ending, number),) = left_out.most_common(1)
    if ending == SPECIAL:
        return f" (found {special_files(number)})"
    return f" (found {number} file{'s' * (number > 1)} {f'ending in {ending!r}' if ending else 'without an ending'})"


def _heic_hint(left_out: Counter[str]) -> str:
    return f" To read {HEIC}: {INSTALL_HEIC}." if left_out[HEIC] and not reads_heic() else ""


def _index(root: Path, classes: tuple[str, ...], by_split: dict[str | None, dict[str, Files]], loose: Counter[str]) -> Index:
    paths: list[str] = []
    labels: list[NDArray[np.int32]] = []
    given: list[str] = []
    left_out: LeftOut = {}
    for kind, number in loose.items():
        left_out.setdefault(kind, Counter())[BESIDE] += number
    for split, files in by_split.items():
        for label, name in enumerate(classes):
            images = files[name].images
            paths += images
            labels.append(np.full(len(images), label, np.int32))
            given += [split] * len(images) if split else []
            for kind, number in files[name].left_out.items():
                left_out.setdefault(kind, Counter())[name] += number
    return Index(
        root=root,
        classes=classes,
        paths=paths,
        labels=np.concatenate(labels),
        given=given or None,
        ignored=left_out,
    )
