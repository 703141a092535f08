"""From what the user names to an `Index`: a table of the kinds of sources, a file for each.

In the end each is files below one folder, on the disk or in an archive; what lies at an address is brought to this disk first
(`remote`), where it is of one of these kinds. Nothing is decoded here; the next stop is `splits`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tl_keras.config import TABLE_SUFFIXES, DataConfig, absolute
from tl_keras.data.groups import groups_of
from tl_keras.data.index import Index
from tl_keras.data.places import exists
from tl_keras.data.shards.contents import format_of
from tl_keras.data.sources import tfds
from tl_keras.data.sources.addresses import is_address
from tl_keras.data.sources.archive import check_archive, check_archived_arrangement, is_archive, top_folder
from tl_keras.data.sources.class_folders import check_arrangement, check_readable, scan_folder, scan_known
from tl_keras.data.sources.digits import unpack_digits
from tl_keras.data.sources.remote import Here, brought_here, check_address, was_fetched
from tl_keras.data.sources.shards import check_shard_splits, check_shards, is_shards, prepare_shards, scan_known_shards, scan_shards
from tl_keras.data.sources.source import DIGITS, FILE_ENDINGS, Source, neighbour, path_of
from tl_keras.data.sources.table import check_rows, check_table, is_table, scan_known_table, scan_table, table_root
from tl_keras.errors import DataError
from tl_keras.progress import Progress
from tl_keras.tasks import SINGLE_LABEL


def _class_folders(find: Callable[[DataConfig], Path], **more: Any) -> Source:
    """A kind of source that is a folder of class folders, which `find` finds."""
    return Source(
        find=find,
        scan=lambda config: scan_folder(find(config), nested=config.nested_classes),
        scan_known=lambda config, classes: scan_known(find(config), tuple(classes), nested=config.nested_classes),
        **more,
    )


SOURCES = {  # the first that matches counts
    "digits": _class_folders(matches=lambda source: source == DIGITS, find=lambda config: unpack_digits()),
    "tfds_folder": _class_folders(
        matches=lambda source: path_of(source).is_dir() and tfds.is_prepared_tfds(path_of(source)),
        find=lambda config: tfds.prepared_tfds(path_of(config.source)),
    ),
    "table": Source(
        matches=is_table,
        find=table_root,
        scan=scan_table,
        scan_known=scan_known_table,
        check=check_table,
        check_layout=check_rows,
    ),
    "archive": _class_folders(
        matches=is_archive,
        find=top_folder,
        check=check_archive,
        check_layout=check_archived_arrangement,
    ),
    "shards": Source(
        matches=is_shards,
        find=lambda config: path_of(config.source),
        scan=scan_shards,
        scan_known=scan_known_shards,
        check=check_shards,
        check_layout=check_shard_splits,
        prepare=prepare_shards,
    ),
    "class_folders": _class_folders(
        matches=lambda source: path_of(source).is_dir(),
        find=lambda config: path_of(config.source),
        check=lambda config: check_readable(path_of(config.source)),
        check_layout=lambda config: check_arrangement(path_of(config.source), nested=config.nested_classes),
    ),
    "tfds_name": _class_folders(
        matches=lambda source: not path_of(source).exists() and tfds.looks_like_tfds(source) and not _is_a_path(source),
        find=lambda config: tfds.named_tfds(config.source, download=config.download, timeout_s=config.download_timeout_s),
        check=tfds.require_at_hand,
    ),
}


def _is_a_path(source: str) -> bool:
    """Whether a source that looks like NAME/CONFIG is a path of which the last part alone is not there, or that of a file."""
    return ("/" in source and path_of(source).parent.is_dir()) or source.lower().endswith(FILE_ENDINGS)


def open_source(config: DataConfig, progress: Progress | None = None) -> Index:
    """Find the images that `data.source` names.

    Args:
        config: `source` is a folder of class folders, with or without train/ val/ test/ above them, or a .zip or .tar archive of such
            folders; a table of paths and labels; the address of one of these; a folder of shards; 'digits'; or a TFDS name or the folder
            of a prepared TFDS data set. ('./digits' is a folder of that name.)
        progress: of what is fetched from an address.

    Raises:
        ConfigError: `group_pattern` is not a regular expression, or the table says groups.
        DataError: nothing of that name, no images, fewer than two classes, classes that differ between splits, or an image without
            a group where there are groups.
    """
    with _at_hand(config, progress) as (kind, here):
        index = here.with_left_out(kind.scan(here.config))
    return index if config.group_pattern is None else replace(index, groups=groups_of(index.paths, config.group_pattern))


def find_root(config: DataConfig, progress: Progress | None = None) -> Path:
    """The folder that the paths of an index are relative to: the one that `data.source` names, or into which it is unpacked or fetched.

    What lies in it is not looked at.

    Raises:
        DataError: nothing of that name.
    """
    with _at_hand(config, progress) as (kind, here):
        return kind.find(here.config)


def absolute_source(source: str) -> str:
    """`data.source` as later modes find it from any folder: the path of a folder or an archive is absolute; names and addresses stay."""
    is_inside = is_archive(source) or is_table(source)
    return str(path_of(source).resolve()) if is_inside else absolute(source, (DIGITS,))


def is_there(source: str) -> bool:
    """Whether there is anything at the path that a `data.source` is; in an archive, too."""
    return exists(path_of(source))


def place_of(source: str, root: Path) -> str:
    """What to call the place of an index: the address where its images were fetched from one, else the folder that its paths begin at."""
    return source if is_address(source) else str(root)


def was_asked_for(source: str) -> bool:
    """Whether a `data.source` may be looked for because of what a run folder says: any but an address that was never fetched here."""
    return not is_address(source) or was_fetched(source)


def open_labelled(config: DataConfig, classes: Sequence[str], progress: Progress | None = None) -> Index:
    """Find labelled images for a model that knows its classes already: some of them may have no image, or no folder.

    Args:
        config: `source` as in `open_source`; of train/, val/ and test/ any may be missing, and where there is test/, it alone is read.
        classes: what the model knows, in the order of the labels.
        progress: of what is fetched from an address.

    Raises:
        DataError: nothing of that name, no images, images of a class that the model does not know, or not a table where `data.task`
            needs one.
    """
    if config.task != SINGLE_LABEL and not config.source.lower().endswith(TABLE_SUFFIXES):
        check_source(config)
        raise DataError(
            f"{config.source}: is not a table, and the model was trained for data.task={config.task}, whose labels only a table "
            f"({', '.join(TABLE_SUFFIXES)}) can hold. Give a table of these images."
        )
    with _at_hand(config, progress) as (kind, here):
        return here.with_left_out(kind.scan_known(here.config, classes))


def check_source(config: DataConfig) -> None:
    """Refuse a `data.source` that there is not: cheap, without TensorFlow, and nothing below it is read. Only for an address is the
    network used: a question or two.

    Raises:
        DataError: no such folder, a file, a folder that may not be read, a TFDS data set that is neither on disk nor to be fetched, or an
            address where nothing is to be had.
    """
    if is_address(config.source):
        check_address(config)
        return
    with _readable(config):
        _kind_of(config.source).check(config)


def check_layout_of(config: DataConfig) -> None:
    """Refuse a `data.source` that there is not, or whose folders are not arranged for training: cheap, and without TensorFlow.

    How folders at an address are arranged is seen when they have been fetched.

    Raises:
        DataError: as `open_source`, but for what only the images below the class folders tell.
    """
    check_source(config)
    if is_address(config.source):
        return
    with _readable(config):
        _kind_of(config.source).check_layout(config)


def _kind_of(source: str) -> Source:
    """The row of `SOURCES` that a source is of.

    Raises:
        DataError: it is of none.
    """
    for kind in SOURCES.values():
        if kind.matches(source):
            return kind
    path = path_of(source)
    if path.is_file() and format_of(path.name) is not None:
        raise DataError(f"{source}: is one shard. Give the folder that holds it, {path.parent}.")
    if path.exists():
        raise DataError(
            f"{source}: is a file. Give a folder that holds one folder of images per class, a .zip or .tar archive of it, or a table."
        )
    what = "file" if source.lower().endswith(FILE_ENDINGS) else "folder"
    raise DataError(f"{source}: no such {what}.{neighbour(path)} Give a folder of class folders, 'digits' or a TFDS name.")


@contextmanager
def _at_hand(config: DataConfig, progress: Progress | None) -> Iterator[tuple[Source, Here]]:
    """A source on this disk, as far as it is cheap to see that it is one, and its kind; see `remote.brought_here`."""
    with _readable(config), brought_here(config, progress or Progress()) as here:
        kind = _kind_of(here.config.source)
        kind.check(here.config)
        kind.prepare(here.config, progress or Progress())
        yield kind, here


@contextmanager
def _readable(config: DataConfig) -> Iterator[None]:
    """Let a folder that the system does not give be a DataError."""
    try:
        yield
    except OSError as error:
        place = error.filename or config.source  # which may be a folder deep below
        raise DataError(f"{place}: cannot be read ({error.strerror or error}). Give a folder that you may read.") from error
