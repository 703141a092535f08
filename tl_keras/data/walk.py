"""Finds the image files below a folder, by their endings or else by their first bytes; and reports what is left out.

One rule for class folders and for folders to predict, on the disk and in archives. It imports no TensorFlow and opens only files
whose ending is not that of an image. What a folder means (a class, a split) is for `sources` to say.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from tl_keras import run_folder
from tl_keras.data.formats import CAMERA_RAW_SUFFIXES, HEAD_BYTES, image_format
from tl_keras.data.places import Entry, Identity, identity, is_file, scandir
from tl_keras.data.regular import SPECIAL, open_regular, special_files

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})  # listed without being opened
MAYBE_IMAGES = IMAGE_SUFFIXES | {".avif", ".heic", ".heif", ".jfif", ".jpe", ".mpo", ""}  # what may be one by its ending
JUNK = frozenset(  # what systems and programs leave in folders of images, in lower case; so do hidden files
    {"__macosx", "@eadir", "__pycache__", "lost+found", "$recycle.bin", "system volume information", "thumbs.db", "desktop.ini", "icon\r"}
)
HEIC = ".heic"  # what such a file is counted as, whatever it is called, where it cannot be read
INSTALL_HEIC = "pip install pillow-heif"
LONGEST_SUFFIX = 10  # what follows the last dot of 'IMG.taken on 2020-01-02' is not an ending
MOST_KINDS = 4  # of files left out that are told, and of the places of each
MOST_PLACES = 3

BESIDE = "beside the classes"
UNSTORABLE = "unstorable"  # what an object in a store is counted as whose name no file can have; endings of files begin with a dot

# Ending ('' for none), `SPECIAL` or `UNSTORABLE` -> class, or `BESIDE` ('' where there are no classes) -> number of files.
LeftOut = dict[str, Counter[str]]


@dataclass(frozen=True)
class Files:
    """What lies below a folder: images as POSIX paths, and how many other files there are of each ending."""

    images: list[str]
    left_out: Counter[str]


def subfolders(folder: Path) -> list[str]:
    """The folders in a folder, sorted, links to folders included; not hidden ones, junk, or run folders of this package."""
    return sorted(entry.name for entry in scandir(folder) if _is_seen(entry) and entry.is_dir() and not is_run(entry.path))


def peek(folder: Path) -> tuple[bool, list[str]]:
    """Whether a folder itself holds an image, and its `subfolders`, which are complete only where it does not."""
    found = []
    for entry in filter(_is_seen, scandir(folder)):
        if entry.is_dir():
            found += [] if is_run(entry.path) else [entry.name]
        elif _kind(entry) is None:
            return True, sorted(found)
    return False, sorted(found)


def files_below(root: Path, folder: str, above: Iterable[Path] = ()) -> Files:
    """The files below `root / folder` at any depth, by name.

    A link to a folder is followed, and each folder is visited once, so that loops end.

    Args:
        folder: a POSIX path relative to `root`, as the paths of the images are.
        above: folders that a link is not followed to.
    """
    images: list[str] = []
    left_out = Counter[str]()
    for path, kind in _walk(root, folder, {identity(other) for other in above}):
        if kind is None:
            images.append(path)
        else:
            left_out[kind] += 1
    return Files(images, left_out)


def images_below(folder: Path) -> tuple[list[Path], LeftOut]:
    """The images below a folder, by name, and what was left out, for `left_out_lines`."""
    found = files_below(folder, ".")
    return [folder / path for path in found.images], {kind: Counter({"": number}) for kind, number in found.left_out.items()}


def loose_files(folder: Path) -> Counter[str]:
    """The files in a folder itself, images or not, by ending."""
    return Counter(ending(entry.name) for entry in scandir(folder) if _is_seen(entry) and not entry.is_dir())


def holds_runs(folder: Path) -> bool:
    """Whether a folder is where runs of this package are kept, and nothing else."""
    holds_images, others = peek(folder)
    if holds_images or folder.name == run_folder.RUNS:
        return not holds_images
    return not others and any(entry.is_dir() and is_run(entry.path) for entry in scandir(folder))


def is_run(folder: str) -> bool:
    """Whether a folder is a run of this package."""
    return is_file(f"{folder}/{run_folder.CONFIG}") and any(is_file(f"{folder}/{name}") for name in run_folder.ALWAYS)


def _walk(root: Path, folder: str, visited: set[Identity]) -> Iterator[tuple[str, str | None]]:
    """Yield each file and its `_kind`. Paths are plain strings: there may be millions."""
    opened = [_opened(root, folder, visited)]  # the folders that lead to where we are: no recursion, they may be a thousand
    while opened:
        prefix, entries = opened[-1]
        entry = next(entries, None)
        if entry is None:
            opened.pop()
        elif not entry.is_dir():
            yield f"{prefix}{entry.name}", _kind(entry)
        elif not is_run(entry.path):
            opened.append(_opened(root, f"{prefix}{entry.name}", visited))


def _opened(root: Path, folder: str, visited: set[Identity]) -> tuple[str, Iterator[Entry]]:
    """What the paths in a folder begin with, and what is seen in it, by name: nothing where it was visited before."""
    prefix, here = "" if folder == "." else f"{folder}/", identity(root / folder)
    if here in visited:
        return prefix, iter(())
    visited.add(here)
    return prefix, iter(sorted(filter(_is_seen, scandir(root / folder)), key=lambda entry: entry.name))


def is_seen(name: str) -> bool:
    """Whether a file or folder of this name counts: not a hidden one, nor junk."""
    return not name.startswith(".") and name.lower() not in JUNK


def _is_seen(entry: Entry) -> bool:
    return is_seen(entry.name)


def _kind(entry: Entry) -> str | None:
    """None for an image, else what it is counted as when it is left out. A broken link is an image that does not decode."""
    suffix = ending(entry.name)
    if not entry.is_file():
        if os.path.exists(entry.path):
            return SPECIAL
        return None if suffix in IMAGE_SUFFIXES else suffix
    if suffix in IMAGE_SUFFIXES:
        return None
    if suffix in CAMERA_RAW_SUFFIXES:
        return suffix
    try:
        with open_regular(entry.path) as file:
            found = image_format(file.read(HEAD_BYTES))
    except OSError:
        return suffix
    if found is None:
        return suffix
    return HEIC if found == "heic" and not reads_heic() else None


def ending(name: str) -> str:
    """What a file is counted as when it is left out: the ending of its name, in lower case, '' for none."""
    suffix = os.path.splitext(name)[1].lower()
    return suffix if len(suffix) <= LONGEST_SUFFIX and " " not in suffix else ""


@cache
def reads_heic() -> bool:
    """Whether HEIC files can be decoded here."""
    return find_spec("pillow_heif") is not None


def left_out_lines(left_out: Mapping[str, Mapping[str, int]]) -> list[str]:
    """What to tell of files that were left out: nothing where there are none, else their number, endings and places."""
    kinds = sorted(left_out.items(), key=lambda item: (-sum(item[1].values()), item[0]))
    total = sum(sum(places.values()) for places in left_out.values())
    if not total:
        return []
    told = [f"{_counted(sum(places.values()), kind)}{_places(places)}" for kind, places in kinds[:MOST_KINDS]]
    rest = sum(sum(places.values()) for _, places in kinds[MOST_KINDS:])
    told += [f"{rest} of other endings"] if rest else []
    lines = [f"left out {total} file{'s' * (total > 1)}: {', '.join(told)}"]
    return [*lines, f"to read {HEIC}: {INSTALL_HEIC}"] if HEIC in left_out and not reads_heic() else lines


def _counted(number: int, kind: str) -> str:
    if kind == SPECIAL:
        return special_files(number)
    if kind == UNSTORABLE:
        return f"{number} of {'a name' if number == 1 else 'names'} that no file can have here"
    return f"{number} {kind or 'without an ending'}"


def _places(places: Mapping[str, int]) -> str:
    if set(places) == {""}:
        return ""
    by_number = sorted(places.items(), key=lambda item: (-item[1], item[0]))
    told = [f"{place} {number}" for place, number in by_number[:MOST_PLACES]]
    return f" ({', '.join([*told, '...'] if len(by_number) > MOST_PLACES else told)})"
