"""A data set made ready: every file found, decoded once, and assigned to a split.

The last step of `data`: what comes out is all that training and evaluation know about images.
"""

from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tl_keras.config import DataConfig
from tl_keras.data import splits
from tl_keras.data.exclusion import excluded
from tl_keras.data.images import Decoding
from tl_keras.data.index import Index
from tl_keras.data.pipeline import Pixels, check_bad, fits
from tl_keras.models.outputs import Labels, Output
from tl_keras.progress import Progress
from tl_keras.run_folder import BAD_IMAGES, SPLITS, RunFolder, write_csv


@dataclass(frozen=True)
class ImageData:
    """Labelled images with their pixels and splits.

    Attributes:
        index: the n files.
        pixels: their evaluation pixels.
        split: (n,) of 'train', 'val', 'test', or '' for a file that does not decode, or is left out of train.
    """

    index: Index
    pixels: Pixels
    split: NDArray[np.str_]

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; a label is a position in them."""
        return self.index.classes

    @property
    def output(self) -> Output:
        """What labels, and the outputs of a model that learns them, mean; fitted to those of train."""
        return self.index.output

    def with_output(self, output: Output) -> "ImageData":
        """The same images, for a model whose outputs mean this."""
        return replace(self, index=replace(self.index, output=output))

    def rows(self, split: str) -> NDArray[np.int64]:
        """Positions of the images of one split, ascending."""
        return np.flatnonzero(self.split == split)

    def labels(self, split: str) -> Labels:
        """Labels of the images of one split, in the order of `rows`."""
        return self.index.labels[self.rows(split)]

    def learned(self, split: str) -> Labels:
        """What a model learns of the images of one split, in the order of `rows`; see `Index.learned`."""
        return self.index.learned[self.rows(split)]

    def counts(self) -> dict[str, int]:
        """Images in each split, and the number of classes, as `metrics.json` holds them."""
        return {name: len(self.rows(name)) for name in ("train", "val", "test")} | {"classes": len(self.classes)}


def open_pixels(index: Index, config: DataConfig, image_size: tuple[int, int]) -> Pixels:
    """The images of an index, not decoded yet."""
    return Pixels(index.files, image_size, config.resize, decoding=Decoding.of(config))


def keep_pixels(pixels: Pixels, config: DataConfig, scratch: Path) -> None:
    """Let what is decoded from now on stay in the folder `scratch`, where all of it fits there."""
    scratch.mkdir(parents=True, exist_ok=True)
    if fits(len(pixels.paths), (pixels.shape[0], pixels.shape[1]), scratch, config.cache_gb):
        pixels.keep(scratch / "pixels.npy")


def check(pixels: Pixels, config: DataConfig, num_beside: int = 0) -> None:
    """Raise DataError for files that do not decode, where `data.on_bad_image` or `data.max_bad_fraction` forbid them."""
    check_bad(pixels.bad, len(pixels.paths) + num_beside, on_bad_image=config.on_bad_image, max_bad_fraction=config.max_bad_fraction)


def decode(pixels: Pixels, config: DataConfig, progress: Progress, *, num_beside: int = 0) -> None:
    """Decode every image once.

    Args:
        num_beside: images of the same folder that are known to decode, and need not.

    Raises:
        DataError: see `check`.
    """
    with progress.bar("decode images", len(pixels.paths)) as advance:
        pixels.decode_all(advance)
    check(pixels, config, num_beside)


def cut(index: Index, config: DataConfig, bad: Container[int]) -> NDArray[np.str_]:
    """Cut the splits of an index among the images that are not `bad`, and leave those of `data.exclude` out of train and val.

    Raises:
        DataError: see `splits.cut`, or the list cannot be read.
    """
    usable = np.fromiter((row not in bad for row in range(len(index.paths))), bool, len(index.paths))
    return splits.cut(
        index,
        usable,
        val_fraction=config.val_fraction,
        test_fraction=config.test_fraction,
        seed=config.split_seed,
        stable=config.stable_split,
        per_class=config.per_class,
        left_out=None if config.exclude is None else excluded(index, config.exclude),
    )


def cut_decodable(index: Index, config: DataConfig, pixels: Pixels, read: Callable[[NDArray[np.str_]], None]) -> NDArray[np.str_]:
    """Cut the splits among the images that decode.

    Each file that does not changes the cut, and with it what is read of which images, so this goes on until no new one is found;
    most often the first round is the last.

    Args:
        read: is given the splits, and reads every image of them that has not been read.
    """
    while True:
        num_bad = len(pixels.bad)
        split = cut(index, config, pixels.bad)
        read(split)
        if len(pixels.bad) == num_bad:
            return split


def decode_and_cut(index: Index, config: DataConfig, pixels: Pixels, progress: Progress) -> NDArray[np.str_]:
    """Decode every image once, and cut the splits among those that do.

    Raises:
        DataError: see `check`.
    """
    return cut_decodable(index, config, pixels, lambda _: decode(pixels, config, progress))


def write(data: ImageData, run: RunFolder, progress: Progress) -> None:
    """Write splits.csv to a run folder, and bad_images.csv where there are any, which is said."""
    bad = data.pixels.bad
    if bad:
        progress.line(skipped_line(len(bad), len(data.index.paths)))
        write_csv(run / BAD_IMAGES, ("path", "reason"), bad_rows(bad, data.index))
    index = replace(data.index, ids=data.pixels.ids) if len(data.pixels.ids) else data.index
    splits.write_splits(run / SPLITS, index, data.split)


def skipped_line(num_bad: int, num_files: int) -> str:
    """What is said of files that do not decode where the others will do."""
    return f"skipped {num_bad} of {num_files} files that do not decode; {BAD_IMAGES} lists them"


def bad_rows(bad: dict[int, str], index: Index) -> Iterable[tuple[str, str]]:
    """The lines of bad_images.csv: path and reason, in the order of the index."""
    return ((index.paths[row], bad[row].removeprefix(f"{index.root / index.paths[row]}: ")) for row in sorted(bad))
