"""A tar file of WebDataset: `KEY.jpg` beside `KEY.cls` or `KEY.json`; or of images in class folders.

The key of a file is its path up to the first dot of its name. An image's label is the text of `KEY.cls`, else `label` in `KEY.json`,
else the name of the folder that it lies in, if that lies in no other.

Reference: github.com/webdataset/webdataset, "The WebDataset Format".
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from tl_keras.data.archive_file import Member
from tl_keras.data.archives import LARGEST, Archive
from tl_keras.data.read_at import PlacedFile
from tl_keras.data.shards.sample import Sample, label_of
from tl_keras.data.walk import MAYBE_IMAGES, ending, is_seen

_LONGEST_TEXT = 2**20  # bytes of a label or its JSON
_TEXTS = (".cls", ".json")
_IMAGES = MAYBE_IMAGES - {""}  # a file without an ending is not looked into


class _File(NamedTuple):
    key: str
    suffix: str  # of all that follows the key: ".jpg" of "seg.jpg"
    name: str
    member: Member


def webdataset_samples(file: PlacedFile, size: int) -> Iterator[Sample]:
    """The images of a tar file, in the order in which they lie there; files beside images and labels are not read.

    Raises:
        DataError: the archive is damaged, or refused; see `archives.Archive`.
        ValueError: an image cannot be read in place, or has no label.
        OSError: it cannot be read.
    """
    files = sorted(_files(Archive(file.path)), key=lambda each: each.key)
    found = [part for _, group in groupby(files, key=attrgetter("key")) for part in _labelled(list(group))]
    for image, text in sorted(found, key=lambda part: part[0].member.start):
        label = _folder_of(image) if text is None else _label(file, image, text)
        place = image.member
        yield Sample(image.name, place.start, place.size, label, file.read_at(place.start, place.size))


def _files(archive: Archive) -> Iterator[_File]:
    for name, member, trouble in archive.files():
        folder, _, own = name.rpartition("/")
        stem, _, after = own.partition(".")
        suffix = ending(own)
        if not is_seen(own) or (suffix not in _IMAGES and f".{after.lower()}" not in _TEXTS):
            continue
        if trouble:
            raise ValueError(f"its file {name!a} is {trouble}")
        if member.size > (LARGEST if suffix in _IMAGES else _LONGEST_TEXT):
            raise ValueError(f"its file {name!a} has {member.size:,} bytes, more than any")
        yield _File(f"{folder}/{stem}" if folder else stem, suffix, name, member)


def _labelled(sample: list[_File]) -> Iterator[tuple[_File, _File | None]]:
    """Each image of a sample, and the file that says its label, if there is one."""
    texts = {each.suffix: each for each in sample if each.suffix in _TEXTS}
    text = next((texts[suffix] for suffix in _TEXTS if suffix in texts), None)
    return ((each, text) for each in sample if each.suffix in _IMAGES)


def _folder_of(image: _File) -> str:
    folder = image.name.rpartition("/")[0]
    if folder and "/" not in folder:
        return folder
    why = f"{folder} is a folder in another one, and which is its class is not plain" if folder else "it lies in no folder"
    raise ValueError(f"its image {image.name!a} has no label: no {image.key}.cls or {image.key}.json, and {why}")


def _label(file: PlacedFile, image: _File, text: _File) -> str | None:
    content = file.read_at(text.member.start, text.member.size)
    label: object = None
    try:
        if text.suffix == ".cls":
            found = label_of(content)
            return None if found[0] == "-" and found[1:].isdecimal() else found
        with suppress(RecursionError):
            read = json.loads(content)
            label = read.get("label") if isinstance(read, dict) else None
        if isinstance(label, str):
            return label_of(label.encode())
    except ValueError as error:
        raise ValueError(f"its file {text.name!a} holds no label ({error})") from error
    if isinstance(label, int) and not isinstance(label, bool):
        return None if label < 0 else str(label)
    if "/" in image.name and label is None:
        return _folder_of(image)
    raise ValueError(f"its file {text.name!a} holds no label, expected 'label' to be the name or number of a class")
