"""The target domain of a training run: its images, and what the frozen trunk of the source makes of them."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tl_keras.config import Config
from tl_keras.data import dataset
from tl_keras.data.index import Index
from tl_keras.data.pipeline import Pixels
from tl_keras.errors import DataError
from tl_keras.progress import Progress
from tl_keras.transfer.features import FrozenFeatures, StoredFeatures
from tl_keras.transfer.frozen import POOLED
from tl_keras.transfer.trunk import BATCH_SIZE

MIXED_IMAGES = 1_000  # of the target that another image is mixed into
SHARE = 0.55  # of the image itself in a mixed one, as in MixVal


@dataclass(frozen=True)
class Target:
    """Images of the target domain.

    Attributes:
        index: the images; nothing that trains or chooses reads its labels.
        frozen: the features of these images.
        rows: positions of those that decode.
    """

    index: Index
    frozen: FrozenFeatures
    rows: NDArray[np.int64]

    @property
    def features(self) -> StoredFeatures:
        """float32 (m, d), of those that decode."""
        return self.frozen.stored(POOLED, self.rows)

    @property
    def known_by(self) -> str:
        """The same only for the same images, by path and content, in the same order."""
        found = hashlib.sha256()
        for row in self.rows:
            found.update(f"{self.pixels.ids[row].hex()} {self.index.paths[row]}\n".encode(errors="surrogateescape"))
        return found.hexdigest()

    @property
    def pixels(self) -> Pixels:
        """Evaluation pixels of all images."""
        return self.frozen.pixels


def bring_in(config: Config, index: Index, source: FrozenFeatures, progress: Progress) -> Target:
    """Compute the features of the target domain by what computed those of the source.

    Raises:
        DataError: too many images do not decode; see `dataset.check`.
        StoreError: there is no room for the features.
    """
    height, width, _ = source.pixels.shape
    pixels = dataset.open_pixels(index, config.data, (height, width))
    pixels.identify(progress, index.ids)
    frozen = source.of(pixels)
    rows = np.arange(len(index.paths))
    frozen.compute([rows], progress, lambda: dataset.check(pixels, config.data))
    rows = np.setdiff1d(rows, list(pixels.bad))
    if pixels.bad:
        progress.line(f"target: {dataset.skipped_line(len(pixels.bad), len(index.paths))}")
    if not len(rows):
        raise DataError(f"{index.root}: none of its {len(index.paths)} images decodes. First: {pixels.bad[0]}.")
    return Target(index, frozen, rows)


def mixed_features(target: Target, seed: int, progress: Progress) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Features of target images, the first of a random order, with some of another one mixed in.

    Returns:
        Positions in `target.rows` of images and of what is mixed into each, int64 (2, p), and features of the mixtures, (p, d).
    """
    order = np.random.default_rng(seed).permutation(len(target.rows))[:MIXED_IMAGES]
    pairs = np.stack([order, np.roll(order, 1)])
    found = []
    with progress.bar("mixed images", len(order)) as advance:
        for start in range(0, len(order), BATCH_SIZE):
            own, other = (target.pixels.read(target.rows[each[start : start + BATCH_SIZE]]).astype(np.float32) for each in pairs)
            mixed = np.rint(SHARE * own + (1 - SHARE) * other).astype(np.uint8)
            found.append(target.frozen.trunk(mixed)[POOLED])
            advance(len(mixed))
    return pairs, np.concatenate(found)
