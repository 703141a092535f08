"""Images at an address, such as s3://bucket/photos: brought to this disk, where they are a folder, an archive or a table as any other.

Of class folders the images are fetched, of a table what it names, and an archive as a whole. See `addresses` for what an address is,
`objects` for what is fetched, and `mirror` for where it comes to lie.
"""

import os
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from tl_keras.config import TABLE_SUFFIXES, DataConfig
from tl_keras.data.archives import READERS, inside_of
from tl_keras.data.index import Index
from tl_keras.data.sources.addresses import Opened, UnreachableError, as_written, is_address, open_address
from tl_keras.data.sources.class_folders import class_name
from tl_keras.data.sources.mirror import folds_case, home_of, mirror, use_last
from tl_keras.data.sources.objects import Listing, Object, as_object, images_among, list_objects, named_among
from tl_keras.data.sources.source import FILE_ENDINGS
from tl_keras.data.sources.table import paths_named
from tl_keras.data.walk import BESIDE, IMAGE_SUFFIXES, MAYBE_IMAGES, ending
from tl_keras.errors import DataError
from tl_keras.progress import Progress

TABLE_ALONE = "#table"  # behind the address of a table: what its copy without images is known by
SINGLE_FILES = (MAYBE_IMAGES | set(READERS)) - {""}  # endings of addresses of a web server that are not folders
NAME_LENGTH = 80  # letters of the folder that a copy comes to lie in


@dataclass(frozen=True)
class Here:
    """A data source on this disk.

    Attributes:
        config: whose source is a path, or a name.
        left_out: (folder, kind) -> number of files that were not fetched; see `objects.Listing`.
    """

    config: DataConfig
    left_out: Counter[tuple[str, str]]

    def with_left_out(self, index: Index) -> Index:
        """The index, which reports what was not fetched as what it left out itself."""
        if not self.left_out:
            return index
        ignored = {kind: Counter(places) for kind, places in index.ignored.items()}
        for (folder, kind), number in self.left_out.items():
            ignored.setdefault(kind, Counter())[_class_of(folder, index.classes)] += number
        return replace(index, ignored=ignored)


def check_address(config: DataConfig) -> None:
    """Refuse an address where there is nothing to be had; one question to the store, whose silence is no answer if there is a copy.

    Raises:
        DataError: see `addresses`.
    """
    opened = _look(config.source)
    if opened is not None:
        _kind_of(opened)


def require_there(address: str) -> None:
    """The same for files that are not to be trained on, of any kind.

    Raises:
        DataError: see `addresses`.
    """
    _look(address)


def _look(address: str) -> Opened | None:
    """What lies at an address; None where the store does not answer, and there may be a copy."""
    try:
        return _open(address)[0]
    except UnreachableError:
        if not was_fetched(address):
            raise
        return None


def was_fetched(address: str) -> bool:
    """Whether something of an address was ever fetched on this machine, and so somebody here has asked for it."""
    names = (address.rstrip("/"), inside_of(address)[0])
    return any(home_of(name + end).is_dir() for name in names for end in ("", TABLE_ALONE))


@contextmanager
def brought_here(config: DataConfig, progress: Progress) -> Iterator[Here]:
    """Fetch what lies at an address, as far as it is not here; any other source is here already.

    Mistakes in what was fetched are told of the address inside, not of the copy.

    Raises:
        DataError: see `addresses` and `mirror`.
    """
    if not is_address(config.source):
        yield Here(config, Counter())
        return
    copy = _bring(config, progress)
    with copy.telling_of_address():
        yield Here(config.replace("source", os.fspath(copy.path)), copy.left_out)


def fetch_files(address: str, progress: Progress) -> "Copy":
    """Fetch files that are not to be trained on: the images of a folder, an archive, or a single file, whatever it is.

    Raises:
        DataError: see `addresses` and `mirror`.
    """
    try:
        opened, inner = _open(address)
        if opened.is_file or (opened.is_web and ending(opened.path) in SINGLE_FILES):
            copy = _bring_file(opened, home_of(opened.address), progress)
            return replace(copy, inner=posixpath.join(copy.inner, inner).rstrip("/"))
        return _bring_folder(opened, "", DataConfig(), progress)
    except UnreachableError as error:
        return _last_copy(address, error, progress)


@dataclass(frozen=True)
class Copy:
    """What was fetched of an address.

    Attributes:
        address: of the folder that was copied.
        folder: the copy.
        inner: what in it is the data source; '' for the folder itself.
        left_out: see `Here`.
    """

    address: str
    folder: Path
    inner: str
    left_out: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def path(self) -> Path:
        """The data source."""
        return self.folder / self.inner

    def named(self, text: str) -> str:
        """A text that is about files of the copy, about those at the address."""
        return text.replace(os.fspath(self.folder), self.address)

    def kinds_left_out(self) -> Iterator[tuple[str, int]]:
        """The kinds of files that were not fetched, each with a number of them."""
        for (_, kind), number in self.left_out.items():
            yield kind, number

    @contextmanager
    def telling_of_address(self) -> Iterator[None]:
        try:
            yield
        except DataError as error:
            raise type(error)(self.named(str(error))) from error


def _bring(config: DataConfig, progress: Progress) -> Copy:
    try:
        opened, inner = _open(config.source)
        return BRINGING[_kind_of(opened)](opened, inner, config, progress)
    except UnreachableError as error:
        return _last_copy(config.source, error, progress)


def _open(source: str) -> tuple[Opened, str]:
    """What lies at an address; where that leads into an archive, the archive, and the name inside of it."""
    archive, inner = inside_of(source)
    if inner:
        try:
            opened = open_address(archive)
        except UnreachableError:
            raise
        except DataError:  # the folder of that name is told of below
            return open_address(source), ""
        if _kind_of(opened) == ARCHIVE:
            return opened, inner
    return open_address(source), ""


def _kind_of(opened: Opened) -> str:
    """What lies at an address: one of `BRINGING`.

    Raises:
        DataError: it is a file of another kind.
    """
    lower = opened.address.lower()
    if opened.is_file or opened.is_web:
        if lower.endswith(TABLE_SUFFIXES):
            return TABLE
        if lower.endswith(tuple(READERS)):
            return ARCHIVE
    if opened.is_file:
        raise DataError(
            f"{opened.address}: is a file. Give a folder that holds one folder of images per class, a .zip or .tar archive of it, or a "
            "table."
        )
    return FOLDER


def _bring_folder(opened: Opened, inner: str, config: DataConfig, progress: Progress) -> Copy:
    home = home_of(opened.address)
    listing = images_among(list_objects(opened), folds_case=folds_case(home))
    folder = mirror(opened, home, folder_name(opened.address), listing, progress)
    return Copy(opened.address, folder, "", listing.left_out)


def _bring_archive(opened: Opened, inner: str, config: DataConfig, progress: Progress) -> Copy:
    copy = _bring_file(opened, home_of(opened.address), progress)
    return replace(copy, inner=posixpath.join(copy.inner, inner).rstrip("/"))


def _bring_file(opened: Opened, home: Path, progress: Progress) -> Copy:
    """Fetch a single object, into a folder that holds nothing else."""
    above, own = _above(opened.address), _own_object(opened)
    return Copy(above, mirror(opened.above(), home, folder_name(above), Listing([own]), progress), own.path)


def _above(address: str) -> str:
    return address.rstrip("/").rpartition("/")[0]


def _own_object(opened: Opened) -> Object:
    return as_object(opened, opened.name_of(posixpath.basename(opened.path)), opened.about)


def _bring_table(opened: Opened, inner: str, config: DataConfig, progress: Progress) -> Copy:
    """Fetch a table, and then the images that it names; those that it names by absolute paths are on this disk."""
    alone = _bring_file(opened, home_of(opened.address + TABLE_ALONE), progress)
    with alone.telling_of_address():
        named = paths_named(config.replace("source", os.fspath(alone.path)))
    images = _images_named(opened, named, config.image_folder or "")
    if not images.objects:
        return alone
    above, own = _above(opened.address), _own_object(opened)
    listing = replace(images, objects=sorted({own, *images.objects}))
    folder = mirror(opened.above(), home_of(opened.address), folder_name(above), listing, progress)
    return Copy(above, folder, own.path)


def _images_named(opened: Opened, named: Sequence[str], image_folder: str) -> Listing:
    """The objects that a table names, below `data.image_folder` or else, as `evaluate` allows it, beside the table.

    Raises:
        DataError: some lie above the folder of the table.
    """
    relative = [text.replace("\\", "/") for text in named if not os.path.isabs(text)]
    found = Listing([])
    for start in dict.fromkeys([image_folder, ""]):
        if not relative or found.objects or os.path.isabs(os.path.expanduser(start)):
            break
        paths = {posixpath.normpath(posixpath.join(start, text)) for text in relative}
        if outside := next((path for path in sorted(paths) if path.split("/")[0] == ".."), None):
            raise DataError(
                f"{opened.address}: names the image {outside!r}, which lies above the folder of the table. "
                "Put the table into a folder above all of its images."
            )
        found = _named_below(opened.above(), paths, folds_case=folds_case(home_of(opened.address)))
    return found


def _named_below(above: Opened, paths: set[str], *, folds_case: bool) -> Listing:
    files = {inside_of(path)[0] for path in paths}  # images may lie in an archive
    top = posixpath.commonpath([posixpath.dirname(file) for file in files])

    def is_named(path: str) -> bool:
        return path in files or (posixpath.splitext(path)[0] in files and ending(path) in IMAGE_SUFFIXES)

    return named_among(list_objects(above, top), is_named, folds_case=folds_case)


FOLDER, ARCHIVE, TABLE = "folder", "archive", "table"
BRINGING: dict[str, Callable[[Opened, str, DataConfig, Progress], Copy]] = {
    FOLDER: _bring_folder,
    ARCHIVE: _bring_archive,
    TABLE: _bring_table,
}


def _last_copy(source: str, error: UnreachableError, progress: Progress) -> Copy:
    """What was fetched last, where the store does not answer.

    Raises:
        UnreachableError: there is nothing, or not all of it.
    """
    address, inner = inside_of(source.rstrip("/"))
    is_file = address.lower().endswith(FILE_ENDINGS)
    copied = _above(address) if is_file else address
    folder, listing = use_last(home_of(address), folder_name(copied), error, progress)
    if not is_file:
        return Copy(address, folder, "", listing.left_out)
    return Copy(copied, folder, posixpath.join(as_written(address, posixpath.basename(address)), inner).rstrip("/"))


def folder_name(address: str) -> str:
    """The name of the folder that the copy of an address comes to lie in: the last part of the address."""
    name = re.sub(r"[^\w .-]", "_", address.rstrip("/").rpartition("/")[2]).strip(". ")
    return name[-NAME_LENGTH:] or "data"


def _class_of(folder: str, classes: tuple[str, ...]) -> str:
    """The class that a folder belongs to, as far as its name says it."""
    parts = class_name(folder).split("/")
    return next((name for name in (*parts[:2], *map("/".join, pairwise(parts[:3]))) if name in classes), BESIDE)
