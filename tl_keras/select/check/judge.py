"""What a frozen backbone says of all images and their labels: features from the store, then labels and outliers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tl_keras.config import Config
from tl_keras.data.check.faults import Finding
from tl_keras.data.index import Index
from tl_keras.data.label_texts import label_text
from tl_keras.data.strata import stratified
from tl_keras.errors import DataError
from tl_keras.models.backbone_names import short_name
from tl_keras.models.outputs import OUTPUTS, Labels, Output
from tl_keras.progress import Progress
from tl_keras.select.check.answers import SomeRows
from tl_keras.select.check.labels import LabelCheck, answer_labels, check_labels, told_label
from tl_keras.select.check.neighbours import Neighbours, find_neighbours
from tl_keras.select.check.numbers import answer_numbers, check_numbers, told_number
from tl_keras.select.check.outliers import find_outliers
from tl_keras.select.check.several import answer_several, check_several, told_several
from tl_keras.tasks import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from tl_keras.transfer.backbone_features import open_features
from tl_keras.transfer.features import StoredFeatures
from tl_keras.transfer.frozen import POOLED
from tl_keras.transfer.head.probe import Features

LEAST_IMAGES = 20  # with fewer, a classifier has nothing to doubt labels by

Answers = NDArray[np.float32]  # (n, k)


@dataclass(frozen=True)
class Way:
    """How the labels of a task are judged.

    Attributes:
        differ: what takes two of, in words.
        answer: features, labels, k -> the answers for images that a linear model has not seen.
        check: answers, labels, neighbours -> what the labels are worth.
        told: place, what was found, answers, labels, neighbours, classes -> why a label is suspect, in words.
    """

    differ: str
    answer: Callable[[Features, Labels, int], Answers]
    check: Callable[[Answers, Labels, Neighbours], LabelCheck]
    told: Callable[[int, LabelCheck, Answers, Labels, Neighbours, Sequence[str]], str]


WAYS = {
    SINGLE_LABEL: Way("classes", answer_labels, check_labels, told_label),
    MULTI_LABEL: Way("sets of classes", answer_several, check_several, told_several),
    REGRESSION: Way("numbers", answer_numbers, check_numbers, told_number),
}


@dataclass(frozen=True)
class Judgement:
    """What was found of the images at positions `rows`, int64 (m,), ascending; everything else is in their order.

    Attributes:
        backbone: what people call it.
        features: float32 (m, d).
        values: labels, as `output` says.
        classes: k names.
        answers: of a linear model that has not seen the image, float32 (m, k).
        is_outlier: bool (m,).
    """

    rows: NDArray[np.int64]
    backbone: str
    features: StoredFeatures
    values: Labels
    output: Output
    classes: tuple[str, ...]
    neighbours: Neighbours
    answers: Answers
    labels: LabelCheck
    is_outlier: NDArray[np.bool_]

    @property
    def figures(self) -> dict[str, float]:
        """Of the linear model on images that it has not seen, by the labels as they are."""
        return figures(self.output, self.answers, self.values)

    def can_do_without(self, left_out: Sequence[int]) -> bool:
        """Whether enough is left to learn from."""
        return can_judge(self.values[~np.isin(self.rows, left_out)])

    def figures_without(self, left_out: Sequence[int]) -> tuple[dict[str, float], dict[str, float]]:
        """The figures on the other images, unseen, of a model that learns from those that are left out too, and of one without."""
        kept = np.flatnonzero(~np.isin(self.rows, left_out))
        without = WAYS[self.output.task].answer(SomeRows(self.features, kept), self.values[kept], len(self.classes))
        return figures(self.output, self.answers[kept], self.values[kept]), figures(self.output, without, self.values[kept])


def figures(output: Output, answers: Answers, labels: Labels) -> dict[str, float]:
    """How good answers are, by the figure of their task; those to numbers by R2 too, which needs no unit."""
    found = {output.metric_name: output.metric(answers, labels)}
    if output.task == REGRESSION:
        found["r2"] = 1 - float(np.mean((labels - answers[:, 0]) ** 2, dtype=np.float64) / np.var(labels, dtype=np.float64))
    return found


def can_judge(labels: Labels) -> bool:
    """Whether labels are enough to doubt any by the others."""
    return len(labels) >= LEAST_IMAGES and len(np.unique(labels, axis=0)) > 1


def judge(config: Config, index: Index, good: NDArray[np.int64], progress: Progress) -> tuple[Judgement | None, list[str]]:
    """Compute the features of the images that decode, and judge them; nothing, and why, where there is too little to judge by.

    Args:
        good: positions of the images that decode, ascending.

    Raises:
        UserError: from the backbone or the store.
    """
    output = OUTPUTS[index.output.task]
    way, rows = WAYS[output.task], good[index.labelled[good]]
    if not can_judge(index.labels[rows]):
        return None, [f"Labels were not judged: that takes {LEAST_IMAGES} images that decode, of two {way.differ}."]
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
    features, labels, num_classes = opened.frozen.stored(POOLED, kept), sample.labels[kept], len(index.classes)
    progress.line("look for wrong labels and outliers")
    neighbours = find_neighbours(features, labels, num_classes, opened.classifier.num_last, output, stratified(sample).labels[kept])
    answers = way.answer(features, labels, num_classes)
    return (
        Judgement(
            rows[kept],
            short_name(config.model.backbone),
            features,
            labels,
            output,
            index.classes,
            neighbours,
            answers,
            way.check(answers, labels, neighbours),
            find_outliers(neighbours),
        ),
        [],
    )


def faults_of_labels(judged: Judgement) -> Iterator[Finding]:
    """The findings of a judgement."""
    checked, told = judged.labels, WAYS[judged.output.task].told
    for place in np.flatnonzero(checked.is_suspect).tolist():
        detail = told(place, checked, judged.answers, judged.values, judged.neighbours, judged.classes)
        likely = label_text(judged.output, checked.likely[place], judged.classes)
        yield Finding(int(judged.rows[place]), "mislabelled", float(checked.suspicion[place]), detail, likely=likely)
    for place in np.flatnonzero(judged.is_outlier).tolist():
        distance = float(judged.neighbours.distance[place])
        yield Finding(int(judged.rows[place]), "outlier", distance, f"mean cosine with its neighbours {1 - distance:.2f}")
