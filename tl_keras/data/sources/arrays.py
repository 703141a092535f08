"""Images that are in memory, or come from a `tf.data` pipeline, as a folder of class folders, or a table, that every mode takes.

Each becomes a PNG file, which keeps its pixels to the bit. In the cache the folder is known by what it holds, so that the same
images are written once, and runs on them share features.
"""

import errno
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tl_keras.cache import cache_folder
from tl_keras.data.label_texts import PROBABILITY, number_text
from tl_keras.data.layouts import SPLIT_FOLDERS
from tl_keras.data.sources.class_folders import class_name
from tl_keras.data.sources.table_shares import FROM_ONE
from tl_keras.data.walk import JUNK
from tl_keras.errors import DataError
from tl_keras.partial import clear_partial, partial_folder
from tl_keras.run_folder import write_csv

WRITTEN_AT_ONCE = 256  # images that wait for the threads
NAME, TABLE = "{:07d}.png", "labels.csv"
LEVEL = 1  # of PNG's compression: a tenth larger than the best, in a fraction of the time

Sample = tuple[Any, Any]  # an image and its label


def save_images(images: Any, labels: Any = None, *, folder: Path | str | None = None) -> Path:
    """Write images and labels as class folders, for `data` of the functions and `--data` of the command line; soft labels as a table.

    Args:
        images: uint8 (n, height, width, 3) in RGB, or (n, height, width) in grey; or an iterable of pairs of an image and its label, such
            as a `tf.data.Dataset`, batched or not, whose images may differ in size. It is read once, a few hundred images at a time.
        labels: of n images: texts or whole numbers; or soft labels (n, k), fractions of sum 1, how much of each of k classes an image is,
            which are called 0 to k - 1. None where the pairs have them.
        folder: where to write, a new folder; by default one in the cache, which is found again for the same images.

    Returns:
        The folder; with soft labels the table in it.

    Raises:
        DataError: pixels or labels of another kind, no images, or a folder that cannot be written.
    """
    target = None if folder is None else Path(folder).expanduser()
    if target is not None and target.exists():
        raise DataError(f"{target}: is there already. Give a folder that is not.")
    parent = cache_folder() / "arrays" if target is None else target.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        clear_partial(parent)
        with partial_folder(parent) as partial:
            written = partial / "images"
            written.mkdir()
            digest = _write(_samples(images, labels), written)
            found = parent / digest if target is None else target
            if not found.exists():
                with suppress(OSError) if target is None else nullcontext():  # another process may have been quicker
                    written.rename(found)
            if not found.is_dir():
                raise OSError(errno.EIO, "the folder could not be moved to its place", str(found))
    except OSError as error:
        raise DataError(f"{error.filename or parent}: cannot be written ({error.strerror}). Give another folder.") from error
    return found / TABLE if (found / TABLE).is_file() else found


def _samples(images: Any, labels: Any) -> Iterator[Sample]:
    if labels is not None:
        if not hasattr(images, "__len__") or not hasattr(labels, "__len__"):
            raise DataError("labels: for an iterator of images, give pairs of an image and its label instead.")
        if len(images) != len(labels):
            raise DataError(f"labels: got {len(labels)} for {len(images)} images. Give one for each.")
        yield from zip(images, labels, strict=True)
        return
    if isinstance(images, np.ndarray):
        raise DataError("labels: got none. Give one for each image.")
    for pair in images.as_numpy_iterator() if hasattr(images, "as_numpy_iterator") else images:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise DataError(f"images: an item is {_shown(pair)}, expected a pair of an image and its label.")
        image, label = (np.asarray(each) for each in pair)
        many = image.ndim == 4 or (image.ndim == 3 and image.shape[-1] not in (1, 3))
        is_batch = label.ndim == 2 or (label.ndim == 1 and many)
        yield from zip(image, label, strict=True) if is_batch and len(label) == len(image) else [(image, label)]


def _write(samples: Iterable[Sample], folder: Path) -> str:
    """Write the files; what they are known by."""
    digest, numbered, names, rows = hashlib.sha256(), enumerate(samples), set[str](), list[tuple[str, ...]]()

    def save(item: tuple[int, Sample]) -> tuple[str | tuple[str, ...], bytes]:
        number, (image, label) = item
        pixels, own = _pixels(image, number), _shares(label, number) or _class(label, number)
        path = folder / (own if isinstance(own, str) else "") / NAME.format(number)
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path, compress_level=LEVEL)
        return own, hashlib.sha256(f"{own!a} {pixels.shape} ".encode() + pixels.tobytes()).digest()

    with ThreadPoolExecutor() as pool:
        while part := list(islice(numbered, WRITTEN_AT_ONCE)):
            for own, content in pool.map(save, part):
                if isinstance(own, str):
                    names.add(own)
                else:
                    rows.append(own)
                digest.update(content)
    if not names and not rows:
        raise DataError("images: got none.")
    if rows:
        _write_table(folder / TABLE, rows, mixed=bool(names))
    else:
        _align(folder, names)
    return digest.hexdigest()[:16]


def _write_table(file: Path, rows: Sequence[tuple[str, ...]], *, mixed: bool) -> None:
    """Write the table of images with soft labels."""
    widths = sorted(set(map(len, rows)))
    if mixed or len(widths) > 1:
        kinds = "texts or whole numbers, and soft labels" if mixed else f"soft labels of {widths[0]} and of {widths[1]} classes"
        raise DataError(f"labels: got {kinds}. Give all of one kind.")
    digits = len(str(widths[0] - 1))
    header = ("path", *(f"{PROBABILITY}{label:0{digits}d}" for label in range(widths[0])))
    write_csv(file, header, ((NAME.format(number), *row) for number, row in enumerate(rows)))


def _pixels(image: Any, number: int) -> Any:
    pixels = np.asarray(image)
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    if pixels.dtype != np.uint8 or 0 in pixels.shape or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[-1] == 3)):
        hint = " Pixels from 0 to 1 become such by (255 * x).round().astype('uint8')." if pixels.dtype.kind == "f" else ""
        raise DataError(f"images: number {number} is {_shown(pixels)}, expected uint8 (height, width, 3) in RGB, or (height, width).{hint}")
    return np.ascontiguousarray(pixels)


def _shares(label: Any, number: int) -> tuple[str, ...]:
    """A soft label, as a table has it; empty where the label is not one."""
    value = np.asarray(label)
    if value.ndim != 1 or value.dtype.kind != "f" or len(value) < 2:
        return ()
    if not (value >= 0).all() or not abs(value.sum(dtype=np.float64) - 1) <= FROM_ONE:
        votes = " Votes become such by votes / votes.sum(axis=1, keepdims=True)." if (value >= 0).all() else ""
        raise DataError(f"labels: number {number} is {value.tolist()!s:.60}, expected fractions of 0 or more whose sum is 1.{votes}")
    return tuple(map(number_text, value))


def _class(label: Any, number: int) -> str:
    value = np.asarray(label)
    if value.ndim or value.dtype.kind not in "iubUSO" or value.item() is None:
        hint = " Of a row of 0 and 1 for each image, take labels.argmax(axis=1)." if value.ndim == 1 else ""  # not a class: it is advice
        raise DataError(f"labels: number {number} is {_shown(value)}, expected a text or a whole number.{hint}")
    try:
        text = value.item().decode() if isinstance(value.item(), bytes) else str(value.item())
        text.encode()
    except UnicodeError as error:
        raise DataError(f"labels: number {number} is {value.item()!a}, which is not UTF-8. Decode it, as by .decode('latin-1').") from error
    name = class_name(text)
    if not name or name.startswith(".") or name.lower() in {*JUNK, *SPLIT_FOLDERS} or any(letter in name for letter in "/\\\0"):
        raise DataError(f"labels: number {number} is {text!a}, which no class folder can be called. Give it another name, without '/'.")
    return name


def _align(folder: Path, names: set[str]) -> None:
    """Let the order of names be that of numbers, where all are: 02 comes before 10."""
    width = max(map(len, names))
    if all(name.isdecimal() for name in names) and len({name.zfill(width) for name in names}) == len(names):
        for name in names:
            (folder / name).rename(folder / name.zfill(width))


def _shown(value: Any) -> str:
    """What a value is, for an error."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} {value.shape}"
    return f"a {type(value).__name__}"
