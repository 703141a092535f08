"""The frozen features of a backbone for a set of images, without a training run: what ranking, folds and trials learn from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tl_keras.config import Config
from tl_keras.data import dataset
from tl_keras.data.index import Index
from tl_keras.models.classifier import Classifier, count_parameters
from tl_keras.progress import Progress
from tl_keras.transfer.build import build_and_tell, image_size_of, resolve
from tl_keras.transfer.engine import begun, settle_engine
from tl_keras.transfer.features import FrozenFeatures
from tl_keras.transfer.frozen import compute_and_cut, num_views, open_frozen, views_of
from tl_keras.transfer.head.problem import HeadProblem
from tl_keras.transfer.memory import require_memory
from tl_keras.transfer.store import open_store
from tl_keras.transfer.varied import require_varied


@dataclass(frozen=True)
class BackboneFeatures:
    """Features that can be computed and read.

    Attributes:
        config: without open settings, of mode 'extract'.
        index: the images.
        classifier: the network; its head is as it was built.
        num_parameters: of the backbone.
    """

    config: Config
    index: Index
    classifier: Classifier
    frozen: FrozenFeatures
    num_parameters: int

    def compute(self, wanted: list[NDArray[np.int64]], progress: Progress) -> None:
        """Compute what the store lacks of some rows, for each view; see `FrozenFeatures.compute`."""
        self.frozen.compute(wanted, progress, lambda: dataset.check(self.frozen.pixels, self.config.data))

    def compute_and_cut(self, progress: Progress, varied: Sequence[str] = ("train",)) -> NDArray[np.str_]:
        """Compute what the store lacks of every image, and cut the splits; see `frozen.compute_and_cut`."""
        return compute_and_cut(self.config, self.index, self.frozen, progress, varied)

    @property
    def problem(self) -> HeadProblem:
        """What linear heads are solved on."""
        index = self.index
        return HeadProblem(self.frozen, index.learned, index.classes, num_views(self.config), index.output, index.weights)


def open_features(config: Config, index: Index, progress: Progress, varied: Sequence[str] | None = ("train",)) -> BackboneFeatures:
    """Build the backbone of a configuration and open its features of the images of an index.

    They are computed, unless that takes so long that engines are compared first (see `engine.settle_engine`), or a file is bad:
    `compute` or `compute_and_cut` does what is left.

    Args:
        varied: the splits whose augmented views are needed; None where all images are one set.

    Raises:
        UserError: from the data, the backbone or the store.
    """
    config = config.replace("mode", "extract")
    classifier = build_and_tell(config, len(index.classes), progress)
    num_parameters = count_parameters(classifier.trunk)["total"]
    config = resolve(config, classifier, len(index.paths))
    require_memory(config, classifier)
    pixels = dataset.open_pixels(index, config.data, image_size_of(config))
    pixels.identify(progress, index.ids)
    require_varied(pixels, np.arange(len(index.paths)))
    frozen = begun(config, open_frozen(config, classifier, pixels, open_store(config.features.max_gb)))
    split = np.full(len(index.paths), "train") if varied is None else dataset.cut(index, config.data, {})
    wanted = views_of(split, num_views(config), varied or ())
    choice, classifier, frozen = settle_engine(config, classifier, frozen, wanted, progress)
    config = config.replace("runtime.engine", choice.engine)
    return BackboneFeatures(config, index, classifier, frozen, num_parameters)
