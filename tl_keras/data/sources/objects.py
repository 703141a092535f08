"""What lies at an address, listed once: which objects are fetched, and which are not and why.

Names in a store are any text; here they become the paths of files, or are left out. Nothing is fetched; that is for `mirror`.
"""

import os
import posixpath
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple

from tl_keras.data.archives import LARGEST
from tl_keras.data.sources.addresses import Opened, telling
from tl_keras.data.walk import MAYBE_IMAGES, UNSTORABLE, ending, is_seen
from tl_keras.errors import DataError
from tl_keras.run_folder import ALWAYS, CONFIG

VERSIONS = ("ETag", "etag", "md5Hash", "content_md5", "blob_id", "LastModified", "last_modified", "Last-Modified", "mtime", "created")
DEEPEST_LINKS = 8  # of a web server, whose folders may link back to one another
ASKED_AT_ONCE = 16  # objects of a web server
LONGEST_NAME = 255  # bytes of a name; file systems have this limit, or a higher one
NO_NAMES = ("", ".", "..")
FOLDERS_KEPT = 65_536  # of which is known what they are: most objects lie in one with others
LONGEST_PATH = 2048  # bytes of a folder below the one that is mirrored; systems take paths of twice that
DEEPEST = 64  # folders in one another
NOT_ON_WINDOWS = frozenset('<>:"|?*\\')


class Object(NamedTuple):
    """An object in a store.

    Attributes:
        path: below the folder that is mirrored, divided by '/'.
        size: in bytes.
        version: what the store says of its content, so that it changes with it, such as "ETag=..."; '' where it says nothing.
    """

    path: str
    size: int
    version: str

    def differs_from(self, other: "Object") -> bool:
        """Whether this is plainly another content; a list and a look at one object may name its version in two ways."""
        keys = {each.version.partition("=")[0] for each in (self, other)}
        return self.size != other.size or (len(keys) == 1 and self.version != other.version)


@dataclass(frozen=True)
class Listing:
    """What is to be there of an address.

    Attributes:
        objects: that are fetched, by path.
        folders: that hold anything, sorted, be it left out.
        left_out: (folder, kind as `walk` counts them) -> number of the other objects.
    """

    objects: list[Object]
    folders: list[str] = field(default_factory=list)
    left_out: Counter[tuple[str, str]] = field(default_factory=Counter)


def list_objects(opened: Opened, folder: str = "") -> Iterator[Object]:
    """The objects below a folder of an address, by path; the marks that some programs leave for folders have a '/' at their end.

    Args:
        folder: relative to the address; '' for all.

    Raises:
        DataError: the store refuses; see `addresses`.
    """
    with telling(opened.address):
        found = dict(_found_below(opened, opened.below(folder)))
    # a '?' of a web server is in the links by which it sorts its lists
    names = [name for name in sorted(found, key=opened.name_of) if not (opened.is_web and "?" in name)]

    def described(name: str) -> Object:
        path = opened.name_of(name.removeprefix(opened.path).removeprefix("/"))
        return as_object(opened, path, found.pop(name))  # a million take 0.7 GB

    if not opened.is_web:
        yield from map(described, names)
        return
    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        yield from pool.map(described, names)


def _found_below(opened: Opened, top: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """What the system says of all objects below a folder, by what it calls them; nothing where there is no such folder.

    Stores list all of a bucket at once. Where fsspec goes from folder to folder, it passes over those that cannot be listed, and what
    lies in them would be missing without a word: there we go ourselves.
    """
    system = opened.system
    if not opened.lists_by_folder:
        with suppress(FileNotFoundError):
            yield from system.find(top, detail=True).items()
        return
    deepest, seen, left = DEEPEST_LINKS if opened.is_web else DEEPEST, {top.rstrip("/")}, [(top, 1)]
    while left:
        folder, depth = left.pop()
        try:
            entries = system.ls(folder, detail=True)
        except FileNotFoundError:
            if folder == top:
                return
            raise
        for entry in entries:
            name = entry["name"].rstrip("/")
            if entry["type"] != "directory":
                yield entry["name"], entry
            elif name not in seen and depth < deepest:
                seen.add(name)
                left.append((entry["name"], depth + 1))


def as_object(opened: Opened, path: str, about: dict[str, Any]) -> Object:
    """An object as the store describes it; a web server lists no sizes, and is asked for each."""
    if about.get("size") is None:
        with telling(opened.address):
            about = opened.system.info(about["name"])
        if about.get("size") is None and opened.is_web:
            raise DataError(f"{opened.address}: the server does not say how large {path!r} is. Download it, and give the file.")
    version = next((f"{key}={_plain(about[key])}" for key in VERSIONS if about.get(key)), "")
    return Object(path, int(about.get("size") or 0), version)


def _plain(version: object) -> object:
    """A time in one form: a list and a look at one object may have it in two."""
    return version.timestamp() if isinstance(version, datetime) else version


def images_among(objects: Iterable[Object], *, folds_case: bool) -> Listing:
    """Those objects that may be images of class folders; hidden ones, junk, and run folders of this package are not seen, as on a disk.

    Args:
        folds_case: whether names that differ in case alone are one on this disk.
    """
    seen = without_runs([each for each in objects if _is_seen(each.path)])
    places = Places(seen, folds_case=folds_case)
    wanted: list[Object] = []
    left_out = Counter[tuple[str, str]]()
    for each in seen:
        if each.path.endswith("/"):
            places.mark(each.path.rstrip("/"))
            continue
        kind = ending(posixpath.basename(each.path))
        if not places.has(each.path):
            left_out[posixpath.dirname(each.path), UNSTORABLE] += 1
        elif kind not in MAYBE_IMAGES or each.size > LARGEST:
            left_out[posixpath.dirname(each.path), kind] += 1
        else:
            wanted.append(each)
    return Listing(wanted, sorted(places.folders), left_out)


def named_among(objects: Iterable[Object], is_named: Callable[[str], bool], *, folds_case: bool) -> Listing:
    """Those objects that something names, as far as they can be files here."""
    named = [each for each in objects if is_named(each.path)]
    places = Places(named, folds_case=folds_case)
    return Listing([each for each in named if places.has(each.path)], sorted(places.folders))


def without_runs(objects: list[Object]) -> list[Object]:
    """The objects that do not lie in a run folder of this package."""
    names = {each.path for each in objects if posixpath.basename(each.path) in (CONFIG, *ALWAYS)}
    configured = {posixpath.dirname(name) for name in names if posixpath.basename(name) == CONFIG}
    runs = {folder for folder in configured if folder and any(f"{folder}/{name}" in names for name in ALWAYS)}
    return [each for each in objects if not any(above in runs for above in above_of(each.path))] if runs else objects


def above_of(path: str) -> tuple[str, ...]:
    """The folders above a path, the highest first."""
    return _on_the_way(path.rpartition("/")[0])


@lru_cache(maxsize=FOLDERS_KEPT)
def _on_the_way(folder: str) -> tuple[str, ...]:
    return tuple(accumulate(folder.split("/"), lambda above, name: f"{above}/{name}")) if folder else ()


def _is_seen(path: str) -> bool:
    folder, _, name = path.rpartition("/")
    return _is_seen_folder(folder) and is_seen(name)


@lru_cache(maxsize=FOLDERS_KEPT)
def _is_seen_folder(folder: str) -> bool:
    return all(is_seen(name) or name in NO_NAMES for name in folder.split("/"))  # those are told of


class Places:
    """Which paths can be files here: none leads out of its folder, none is too long, and no two are the same file.

    Args:
        objects: all that there are, by path.
        folds_case: whether names that differ in case alone are one on this disk.
    """

    def __init__(self, objects: Iterable[Object], *, folds_case: bool) -> None:
        self.folders: set[str] = set()
        self._fold: Callable[[str], str] | None = _folded if folds_case else None
        self._spelt: dict[str, str] = {}
        self._holding = {above for each in objects if _is_possible(each.path) for above in above_of(each.path)}

    def has(self, path: str) -> bool:
        """Whether a path can be a file, whose folders are noted then; asked once of each."""
        if path in self._holding or not self._fits(path):
            return False
        self.folders.update(above_of(path))
        return True

    def mark(self, folder: str) -> None:
        """Note a folder that may be empty."""
        if self._fits(folder):
            self.folders.update([*above_of(folder), folder])

    def _fits(self, path: str) -> bool:
        if not _is_possible(path):
            return False
        fold = self._fold
        return fold is None or all(self._spelt.setdefault(fold(each), each) == each for each in [*above_of(path), path])


def _is_possible(path: str) -> bool:
    folder, slash, name = path.rstrip("/").rpartition("/")
    return _is_possible_name(name) and (not slash or _is_possible_folder(folder)) and len(path) <= LONGEST_PATH


@lru_cache(maxsize=FOLDERS_KEPT)
def _is_possible_folder(folder: str) -> bool:
    names = folder.split("/")
    return len(names) < DEEPEST and all(map(_is_possible_name, names)) and len(folder.encode()) <= LONGEST_PATH


def _is_possible_name(name: str) -> bool:
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return False
    possible = name not in NO_NAMES and size <= LONGEST_NAME and "\0" not in name
    return possible and (os.name != "nt" or _is_possible_on_windows(name))


def _is_possible_on_windows(name: str) -> bool:
    return not NOT_ON_WINDOWS & set(name) and min(name) >= " " and not name.endswith((".", " ")) and not _is_reserved(name)


def _is_reserved(name: str) -> bool:
    stem = name.partition(".")[0].upper()
    return stem in ("CON", "PRN", "AUX", "NUL") or (stem[:3] in ("COM", "LPT") and stem[3:].isdigit())


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()
