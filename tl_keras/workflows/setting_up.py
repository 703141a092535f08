"""The first steps of every mode that makes a run folder."""

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import tensorflow as tf

from tl_keras import __version__
from tl_keras.claim import CLAIM
from tl_keras.config import Config, DataConfig
from tl_keras.data import images
from tl_keras.data.check.copies import Copy, number_pictures, same_files, same_pictures
from tl_keras.data.check.facts import Facts, examine
from tl_keras.data.dataset import cut
from tl_keras.data.depth import tell_depth
from tl_keras.data.found import tell_found
from tl_keras.data.index import Index
from tl_keras.data.shrinking import shrunk_sides
from tl_keras.data.sources import open_source
from tl_keras.progress import Progress
from tl_keras.run_folder import SCRATCH, RunFolder
from tl_keras.runtime import is_chief
from tl_keras.transfer.build import image_size_of
from tl_keras.transfer.replicas import wait_for_others


def open_images(config: DataConfig, progress: Progress, new: RunFolder | None = None, *, read: bool = True) -> Index:
    """Find the images, and say at once what was found and what would make them worthless; see `open_source` for the errors.

    Args:
        new: the folder of a run that is to be made, and is made after this only: it may lie among the images.
        read: read every file for its content, unless the source knows it, so that equal ones stay on one side of each cut.

    Raises:
        UserError: the new folder holds something already, or from the data.
    """
    if new is not None:
        new.require_free()
    index = open_source(config, progress)
    if read:
        cut(index, config, {})  # a class that is too small is said before every file is read
        if index.ids is None:
            index = index.identified(progress)
        if config.copies == "near":
            index = with_pictures(index, config, progress)
    tell_found(index, config, progress)
    tell_depth(index.files, config.bit_depth, progress)
    return index


def look_at_images(index: Index, config: DataConfig, progress: Progress) -> tuple[Facts, dict[int, str], list[Copy], list[Copy]]:
    """Decode every image that was not looked at before, and find copies.

    Args:
        index: n files, with ids.

    Returns:
        Facts (n,), see `examine`; the reason of each file that does not decode; the copies that are equal files; and those that are not.
    """
    files = index.files
    with progress.bar("look at images", len(files)) as advance:
        facts, bad = examine(files, index.ids, images.Decoding.of(config), advance)  # type: ignore[arg-type]
    good = np.setdiff1d(np.arange(len(files)), list(bad))
    return facts, bad, same_files(facts["id"]), same_pictures(facts, good)  # a file that does not decode has no id there


def with_pictures(index: Index, config: DataConfig, progress: Progress) -> Index:
    """The same index with the numbers of its pictures, and a line on copies that are not equal files."""
    _, _, equal, near = look_at_images(index, config, progress)
    if near:
        progress.line(
            f"data.copies: {len(near)} recompressed, resized or mirrored {'copies stay' if len(near) > 1 else 'copy stays'} in one split"
        )
        progress.line(f"  first {index.paths[near[0].of]} and {index.paths[near[0].row]}")
    return replace(index, pictures=number_pictures([*equal, *near], len(index.paths)))


def tell_shrunk(config: Config, index: Index, progress: Progress) -> None:
    """Say in two lines that the default backbone sees too little of these images."""
    fields = type(config.model).model_fields
    if config.model.backbone != fields["backbone"].default or config.data.image_size is not None:
        return
    height, width = image_size_of(config)
    if side := shrunk_sides(index.files, (height, width)):
        progress.line(f"images of about {side:,} pixels a side are shrunk to {height} x {width}, which loses detail:")
        progress.line(f"  {config.model.backbone} is for trying out; for photos take --backbone mobilenet_v2")


@contextmanager
def folder_here(run: RunFolder, *, resume: bool) -> Iterator[RunFolder]:
    """The folder that this process writes: the run's own, or, where another is the chief, a copy of it that is gone afterwards.

    So every process does the same, finds the same checkpoints, and only the chief's files stay.
    """
    if is_chief():
        if resume:
            wait_for_others()  # who copy it as it is now
        yield run
        return
    with TemporaryDirectory(prefix="tl_keras-") as scratch:
        copy = Path(scratch) / (run.path.name or "run")
        if resume:
            shutil.copytree(run.path, copy, ignore=shutil.ignore_patterns(SCRATCH, CLAIM))
            wait_for_others()
        yield RunFolder(copy)


@contextmanager
def working_in(run: RunFolder, *, resume: bool) -> Iterator[Callable[[], None]]:
    """Start a run folder, or go on with one, and have it to ourselves meanwhile.

    Yields:
        A function to be called once what lies there is worth keeping. A failure before that leaves no new folder behind.

    Raises:
        RunFolderError: it holds something already, another process works in it, or it cannot be written.
    """
    mine = run.resume() if resume else run.start()
    is_worth_keeping = resume

    def keep() -> None:
        nonlocal is_worth_keeping
        is_worth_keeping = True

    try:
        yield keep
        keep()
    finally:
        if is_worth_keeping:
            run.clear_scratch()
            mine.release()
        else:
            run.undo(mine)


def environment() -> dict[str, Any]:
    """What a run ran on: versions, machine, devices."""
    packages = ("tensorflow", "keras", "numpy", "scikit-learn", "pillow")
    return {
        "tl_keras": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "devices": [device.device_type for device in tf.config.list_physical_devices()],
    }
