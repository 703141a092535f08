"""Where the images of a table lie: below which folder, at which paths, and whether they are there."""

import os
import posixpath
from collections.abc import Sequence
from pathlib import Path

from tl_keras.data.places import is_file, is_folder, scandir
from tl_keras.data.walk import IMAGE_SUFFIXES

ByStem = dict[str, list[str]]  # name without ending -> the images of a folder that are called so


def below_one_folder(texts: Sequence[str], folder: Path) -> tuple[Path, list[str]]:
    """A folder that all images lie below, and their POSIX paths from there: `folder`, unless an image lies elsewhere.

    Args:
        texts: paths as the table has them, relative to `folder` or absolute; backslashes divide them too.

    Raises:
        ValueError: they lie on several drives.
    """
    paths = [posixpath.normpath(text.replace("\\", "/")) for text in texts]
    if not any(os.path.isabs(path) or path.split("/")[0] == ".." for path in paths):
        return folder, paths
    top = os.path.abspath(folder)
    places = [os.path.abspath(os.path.join(top, path)) for path in paths]
    if not all(place.startswith(f"{top}{os.sep}") for place in places):
        top = os.path.commonpath([os.path.dirname(place) for place in places])
    return Path(top), [Path(os.path.relpath(place, top)).as_posix() for place in places]


def find_files(root: Path, paths: Sequence[str]) -> list[str | None]:
    """The path of each image that is there; None for the others.

    A path without an ending is that of the only image of this name in its folder.
    """
    listed: dict[str, ByStem] = {}
    return [path if is_file(root / path) else _with_ending(root, path, listed) for path in paths]


def _with_ending(root: Path, path: str, listed: dict[str, ByStem]) -> str | None:
    """The same with the ending of the only image of this name, if there is one.

    Args:
        listed: what is known of folders, to which more is added.
    """
    folder, name = posixpath.split(path)
    if folder not in listed:
        listed[folder] = _images_by_stem(root / folder)
    images = listed[folder].get(name, [])
    return posixpath.join(folder, images[0]) if len(images) == 1 else None


def _images_by_stem(folder: Path) -> ByStem:
    found: ByStem = {}
    for entry in scandir(folder) if is_folder(folder) else ():
        stem, ending = os.path.splitext(entry.name)
        if ending.lower() in IMAGE_SUFFIXES:
            found.setdefault(stem, []).append(entry.name)
    return found
