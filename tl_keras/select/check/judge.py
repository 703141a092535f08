"""What a frozen backbone says of all images and their labels: features from the store, then labels and outliers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tl_keras.config import Config
from tl_keras.data.check.faults import Finding
from tl_keras.data.index import Index
from tl_keras.errors import DataError
from tl_keras.models.backbone_names import short_name
from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.progress import Progress
from tl_keras.select.check.labels import LabelCheck, accuracy, answers_without, check_labels
from tl_keras.select.check.neighbours import Neighbours, find_neighbours
from tl_keras.select.check.outliers import find_outliers
from tl_keras.transfer.backbone_features import open_features
from tl_keras.transfer.features import StoredFeatures
from tl_keras.transfer.frozen import POOLED

LEAST_IMAGES = 20  # with fewer, a classifier has nothing to doubt labels by


@dataclass(frozen=True)
class Judgement:
    """What was found of the images at positions `rows`, int64 (m,), ascending; everything else is in their order.

    Attributes:
        backbone: what people call it.
        features: float32 (m, d).
        values: labels, int32 (m,).
        is_outlier: bool (m,).
    """

    rows: NDArray[np.int64]
    backbone: str
    features: StoredFeatures
    values: NDArray[np.int32]
    num_classes: int
    neighbours: Neighbours
    labels: LabelCheck
    is_outlier: NDArray[np.bool_]

    @property
    def accuracy(self) -> float:
        """Of the classifier on images that it has not seen, by the labels as they are."""
        return accuracy(self.labels.answers, self.values)

    def can_do_without(self, left_out: Sequence[int]) -> bool:
        """Whether enough is left to learn from."""
        kept = self.values[~np.isin(self.rows, left_out)]
        return len(kept) >= LEAST_IMAGES and len(np.unique(kept)) > 1

    def accuracy_without(self, left_out: Sequence[int]) -> tuple[float, float]:
        """The accuracy on the other images, unseen, of a classifier that learns from those that are left out too, and of one without."""
        out = np.isin(self.rows, left_out)
        without = answers_without(self.features, self.values, self.num_classes, out)
        return accuracy(self.labels.answers[~out], self.values[~out]), accuracy(without, self.values[~out])


def judge(config: Config, index: Index, good: NDArray[np.int64], progress: Progress) -> tuple[Judgement | None, list[str]]:
    """Compute the features of the images that decode, and judge them; nothing, and why, where there is too little to judge by.

    Args:
        good: positions of the images that decode, ascending.

    Raises:
        UserError: from the backbone or the store.
    """
    if index.output != SINGLE_LABEL:
        return None, ["Files and copies were looked at; labels and outliers are judged for data.task=single_label alone."]
    rows = good[index.labelled[good]]
    if len(rows) < LEAST_IMAGES or len(np.unique(index.labels[rows])) < 2:
        return None, [f"Labels were not judged: that takes {LEAST_IMAGES} images that decode, of two classes."]
    sample = index.take(rows)
    looked_at = config.replace("features.views", 0).replace("model.pooling", "avg")
    looked_at = looked_at.replace("data.max_bad_fraction", 1.0).replace("data.on_bad_image", "skip")
    try:
        opened = open_features(looked_at, sample, progress, varied=None)
    except DataError as error:  # such as that all images are the same
        return None, [f"Labels were not judged: {error}"]
    everything = np.arange(len(rows))
    opened.compute([everything], progress)
    kept = np.setdiff1d(everything, list(opened.frozen.pixels.bad))
    features, labels = opened.frozen.stored(POOLED, kept), sample.labels[kept]
    progress.line("look for wrong labels and outliers")
    neighbours = find_neighbours(features, labels, len(index.classes), opened.classifier.num_last)
    return (
        Judgement(
            rows[kept],
            short_name(config.model.backbone),
            features,
            labels,
            len(index.classes),
            neighbours,
            check_labels(features, labels, len(index.classes), neighbours),
            find_outliers(neighbours),
        ),
        [],
    )


def faults_of_labels(judged: Judgement, index: Index) -> Iterator[Finding]:
    """The findings of a judgement."""
    checked = judged.labels
    for place in np.flatnonzero(checked.is_suspect):
        likely, label = index.classes[checked.likely[place]], index.classes[judged.values[place]]
        detail = f"looks like {likely}; {checked.agreeing[place]:.0%} of its neighbours are labelled {label}"
        yield Finding(int(judged.rows[place]), "mislabelled", float(checked.suspicion[place]), detail)
    for place in np.flatnonzero(judged.is_outlier):
        distance = float(judged.neighbours.distance[place])
        yield Finding(int(judged.rows[place]), "outlier", distance, f"mean cosine with its neighbours {1 - distance:.2f}")
