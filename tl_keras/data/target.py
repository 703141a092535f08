"""The images of a target domain: with labels or without, none of which is for training or choosing."""

from pathlib import Path

import numpy as np

from tl_keras.config import DataConfig
from tl_keras.data.index import UNLABELLED, Index
from tl_keras.data.layouts import SPLIT_FOLDERS
from tl_keras.data.places import is_folder
from tl_keras.data.sources import check_source, open_labelled
from tl_keras.data.sources.addresses import is_address
from tl_keras.data.sources.source import path_of
from tl_keras.data.walk import images_below, left_out_lines, peek
from tl_keras.errors import ConfigError, DataError, UnknownClassError
from tl_keras.progress import Progress

LEAST_IMAGES = 20  # of which the statistics of a domain can be told at all


def check_target(config: DataConfig, target: str | None) -> str:
    """Refuse a target domain that there is not: cheap, and nothing below it is read. What is there is returned.

    Raises:
        ConfigError: none is named.
        DataError: nothing of that name.
    """
    if target is None:
        raise ConfigError("adapt.target: got none. Give the images of the target domain: --target FOLDER; they need no labels.")
    check_source(_beside(config, target))
    return target


def open_target(config: DataConfig, target: str | None, source: Index, progress: Progress) -> Index:
    """Find the images of the target domain.

    Args:
        config: of the source domain.
        target: a folder that holds images itself, which have no labels; or what `data.source` may be, with some of the source's classes.
        source: the images of the source domain.

    Returns:
        An index with the classes of the source; its labels are `UNLABELLED` where there are none.

    Raises:
        ConfigError: there is no target.
        DataError: nothing of that name, classes that the source does not have, or too few images.
    """
    target = check_target(config, target)
    here = _holds_images(target)
    found = _unlabelled(path_of(target), source) if here else _labelled(config, target, source, progress)
    if not here and _only_test(found):
        progress.line("target: of its folders train, val and test only test is read")
    for line in (*found.notes, *left_out_lines(found.ignored)):
        progress.line(f"target: {line}")
    if len(found.paths) < LEAST_IMAGES:
        raise DataError(
            f"{target}: holds {len(found.paths)} images, and fewer than {LEAST_IMAGES} tell too little of a target domain. Add images; "
            "they need no labels."
        )
    return found


def _holds_images(target: str) -> bool:
    return not is_address(target) and is_folder(path_of(target)) and peek(path_of(target))[0]


def _beside(config: DataConfig, target: str) -> DataConfig:
    """How the target is read: as the source is, but for what is said of the source's own images."""
    return config.replace("source", target).replace("exclude", None)


def _labelled(config: DataConfig, target: str, source: Index, progress: Progress) -> Index:
    try:
        return open_labelled(_beside(config, target), source.classes, progress)
    except UnknownClassError as error:
        raise DataError(f"{error} Images without labels go straight into the folder that --target names.") from error


def _only_test(found: Index) -> bool:
    """Whether the class folders that were read are in a folder test, so that train and val beside it were not."""
    tops = {path.split("/")[0] for path in found.paths}
    tops -= set(found.classes)
    return len(tops) == 1 and SPLIT_FOLDERS.get(tops.pop().lower()) == "test" and any(path.count("/") > 1 for path in found.paths)


def _unlabelled(root: Path, source: Index) -> Index:
    images, left_out = images_below(root)
    paths = tuple(path.relative_to(root).as_posix() for path in images)
    return Index(root=root, classes=source.classes, paths=paths, labels=np.full(len(paths), UNLABELLED, np.int32), ignored=left_out)


def require_another(target: Index, source: Index, progress: Progress) -> None:
    """Refuse a target that is the source itself, and say where they share files; both are identified.

    Raises:
        DataError: every file of the target is one of the source.
    """
    shared = np.isin(target.ids, source.ids) if target.ids is not None and source.ids is not None else np.zeros(0, bool)
    if len(shared) and shared.all():
        raise DataError(f"{target.root}: all {len(shared)} images are images of the source too. Give the target domain's own.")
    if shared.any():
        first = target.paths[int(np.flatnonzero(shared)[0])]
        progress.line(f"target: {int(shared.sum())} of {len(shared)} images are images of the source too; the first is {first}")
