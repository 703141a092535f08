"""An archive of class folders, read in place; see `data.archives`."""

from pathlib import Path

from tl_keras.config import DataConfig
from tl_keras.data.layouts import SPLIT_FOLDERS
from tl_keras.data.places import is_folder, scandir
from tl_keras.data.sources.class_folders import check_arrangement
from tl_keras.data.sources.source import path_of
from tl_keras.data.walk import peek
from tl_keras.errors import DataError

PLAIN_FROM = {  # ending of a compressed tar archive -> what makes a plain one of it
    ".tar.gz": "gunzip --keep",
    ".tgz": "gunzip --keep",
    ".tar.bz2": "bunzip2 --keep",
    ".tbz2": "bunzip2 --keep",
    ".tar.xz": "unxz --keep",
    ".txz": "unxz --keep",
    ".tar.zst": "unzstd",
    ".tzst": "unzstd",
}


def is_archive(source: str) -> bool:
    """Whether a `data.source` is an archive, a folder in one, or a compressed tar archive, which is refused later."""
    path = path_of(source)
    return (_unpacker(path) is not None and path.is_file()) or (not path.is_dir() and is_folder(path))


def check_archive(config: DataConfig) -> None:
    """Refuse an archive that cannot be read in place; its table of contents is read.

    Raises:
        DataError: it is damaged, encrypted or compressed as a whole; see `archives.Archive`.
    """
    path = path_of(config.source)
    unpacker = _unpacker(path)
    if unpacker is not None:
        raise DataError(
            f"{path}: is a compressed tar archive, of which no file can be read without unpacking all before it. Make a plain one: "
            f"{unpacker} {path}. Then give that, or a .zip file, or a folder."
        )
    next(scandir(path), None)


def check_archived_arrangement(config: DataConfig) -> None:
    """Refuse an archive whose folders are not arranged for training.

    Raises:
        DataError: see `class_folders.scan_folder`.
    """
    check_arrangement(top_folder(config), nested=config.nested_classes)


def top_folder(config: DataConfig) -> Path:
    """The folder in an archive where its class folders or split folders are.

    An archive is most often made of one folder, so a folder that holds nothing but another one is gone down, at any depth.
    """
    root = path_of(config.source)
    while inner := _only_folder(root, config.nested_classes):
        root = root / inner
    return root


def _only_folder(root: Path, nested: bool) -> str | None:
    """The name of the folder that `root` holds alone, where it is neither a split nor a class, nor, where these are nested, holds such."""
    holds_images, folders = peek(root)
    if holds_images or len(folders) != 1 or folders[0].lower() in SPLIT_FOLDERS:
        return None
    holds_images, inner = peek(root / folders[0])
    if inner and nested:
        holds_images, inner = peek(root / folders[0] / inner[0])
    return folders[0] if inner and not holds_images else None


def _unpacker(path: Path) -> str | None:
    return next((command for ending, command in PLAIN_FROM.items() if path.name.lower().endswith(ending)), None)
