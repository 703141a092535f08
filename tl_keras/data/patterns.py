"""From the words of a command line to files: files, folders that are searched, and patterns. Imports no TensorFlow."""

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tl_keras.data.archives import READERS
from tl_keras.data.places import exists, is_folder
from tl_keras.data.walk import LeftOut, images_below
from tl_keras.errors import DataError

NO_WORDS = "no images given. Add files, folders or globs: tl-keras predict RUN photo.jpg 'folder/*.png'."


def find_images(words: Sequence[str]) -> tuple[list[Path], LeftOut]:
    """The files that words name, in the order given, and what was left out of the folders among them, for `walk.left_out_lines`.

    A file is taken as it is. A folder or an archive is searched for images, at any depth; so is one that a pattern matches. A pattern
    gives a file once.

    Raises:
        DataError: nothing was given, or something given leads to no file.
    """
    if not words:
        raise DataError(NO_WORDS)
    found: list[Path] = []
    left_out: dict[str, Counter[str]] = {}
    for word in words:
        files: dict[Path, None] = {}
        kinds: set[str] = set()
        for match in sorted(matches(word)):
            images, others = images_below(match) if is_folder(match) else ([match], {})
            files |= dict.fromkeys(images)
            kinds |= others.keys()
            for kind, places in others.items():
                left_out.setdefault(kind, Counter()).update(places)
        if not files:
            packed = next((f" Give the archives in it: '{word.rstrip('/')}/*{kind}'." for kind in READERS if kind in kinds), "")
            raise DataError(f"{word}: no such file, or no images in it.{packed}")
        found += files
    return found, left_out


def matches(word: str) -> Iterator[Path]:
    """The files and folders that a word names: itself where it is there, else what it matches as a pattern.

    In a pattern, as much of it as is there is taken literally from the left: '[' in the name of a folder that exists is a letter.
    """
    path = Path(word).expanduser()
    if exists(path):
        yield path
        return
    there = next(parent for parent in (*path.parents, Path()) if os.path.lexists(parent))
    rest = str(path.relative_to(there))
    yield from (there / match for match in glob.iglob(rest, root_dir=there, recursive=True))
