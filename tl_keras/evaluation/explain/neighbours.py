"""The training images that a model sees as the most like a new one: the nearest by the features that its head reads.

Features are kept in the store of all runs. Of a run on a frozen backbone they lie there already; of another they are computed once, for a
sample of its training images.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_keras.data.dataset import open_pixels
from tl_keras.data.index import Index
from tl_keras.data.label_texts import text_of
from tl_keras.data.splits import stratified_sample
from tl_keras.models.classifier import head_of
from tl_keras.models.engines import PRECISIONS, TENSORFLOW, ConversionError, is_here
from tl_keras.progress import Progress
from tl_keras.trained_run import TrainedRun
from tl_keras.transfer.features import FrozenFeatures
from tl_keras.transfer.frozen import POOLED
from tl_keras.transfer.store import open_store
from tl_keras.transfer.trunk import Trunk

MOST = 2000  # training images that are looked through: each may have to go through the network once
SEED = 0


@dataclass(frozen=True)
class Neighbour:
    """A training image.

    Attributes:
        path: below the folder of the images.
        label: as text, as splits.csv has it.
        cosine: of its features and those of the image that it is near to.
    """

    path: str
    label: str
    cosine: float


@dataclass(frozen=True)
class References:
    """Training images with their features.

    Attributes:
        index: n images that lie below its root.
        features: float32 (n, d), each row of length 1.
        trunk: what computes them.
    """

    index: Index
    features: NDArray[np.float32]
    trunk: Trunk

    def nearest(self, pixels: NDArray[np.uint8], content: bytes, number: int) -> list[Neighbour]:
        """The nearest to an image, but for copies of it.

        Args:
            pixels: (h, w, 3) of the model's size.
            content: its id, see `file_ids`.
        """
        cosines = self.features @ _unit(self.trunk(pixels[None])[POOLED])[0]
        cosines[self.index.ids == content] = -np.inf
        rows = [row for row in np.argsort(-cosines, kind="stable")[:number].tolist() if np.isfinite(cosines[row])]
        return [Neighbour(self.index.paths[row], text_of(self.index, row), float(cosines[row])) for row in rows]


def open_references(trained: TrainedRun, root: Path, progress: Progress) -> References | str:
    """Read or compute the features of a run's training images, or of a sample of them that has each class by its share.

    Args:
        root: the folder that their paths are relative to.

    Returns:
        The images, or why there are none.

    Raises:
        StoreError: there is no room for the features.
    """
    head = head_of(trained.model)
    if not head:
        return "the model is made of several networks, which have no features in common"
    index = trained.images("train", root)
    index = index.take(stratified_sample(index.label_numbers, MOST, SEED))
    config = trained.config
    pixels = open_pixels(index, config.data, trained.image_size)
    pixels.identify(progress)
    same = np.flatnonzero((pixels.ids != b"") if index.ids is None else (pixels.ids == index.ids))
    if not len(same):
        return f"none of the training images lies in {root} as the run saw it"
    about = {"backbone": trained.backbone, "stages": config.features.stages}
    trunk = _trunk(trained, head[0].input)
    store = open_store(config.features.max_gb)
    frozen = FrozenFeatures(store, trunk, pixels, config.data.augment, about)
    frozen.compute([same], progress, lambda: None)
    rows = np.setdiff1d(same, list(pixels.bad))
    features = _unit(np.asarray(frozen.stored(POOLED, rows)[:]))
    return References(replace(index.take(rows), ids=pixels.ids[rows]), features, trunk)


def _trunk(trained: TrainedRun, features: Any) -> Trunk:
    """What computes the features, on the engine of the run, whose features may lie in the store; on TensorFlow where that does not run."""
    engine = trained.config.runtime.engine
    trunk = Trunk(trained.model, {POOLED: features}, engine if engine in PRECISIONS and is_here(engine) else TENSORFLOW)
    try:
        trunk.fold()
    except ConversionError:
        return trunk.on(TENSORFLOW)
    return trunk


def _unit(x: NDArray[np.float32]) -> NDArray[np.float32]:
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return np.divide(x, length, out=np.zeros_like(x), where=length > 0)
