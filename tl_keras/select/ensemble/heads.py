"""The members of an ensemble of heads: linear heads on stored features of one or several frozen backbones.

Each image goes through each backbone once, whatever is combined. The members learn from train and choose by val, as `extract`
does; out of fold they learn from folds of both, so that the meta-learner never sees in-sample predictions.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_keras.config import Config
from tl_keras.data.dataset import ImageData
from tl_keras.data.index import Index
from tl_keras.data.splits import stratified_sample
from tl_keras.data.strata import stratified
from tl_keras.models.backbone_loading import native_image_size
from tl_keras.models.backbone_names import short_name
from tl_keras.models.outputs import Labels, MultiLabel, Output, Regression
from tl_keras.models.rules import Probabilities
from tl_keras.progress import Progress
from tl_keras.select.crossval.folds import Fold
from tl_keras.select.crossval.heads import cut_folds, solve_fold
from tl_keras.transfer.backbone_features import BackboneFeatures, open_features
from tl_keras.transfer.features import StoredFeatures
from tl_keras.transfer.frozen import POOLED, num_views
from tl_keras.transfer.head.probe import LinearProbe
from tl_keras.transfer.head.problem import SolvedHead
from tl_keras.transfer.losses import class_weight_vector

BOOSTED_BYTES = 250 * 10**6  # of features that boosting, which wants all of them at once, is given
Stages = Callable[[NDArray[np.float32]], Iterator[Probabilities]]  # features (n, d) -> some columns of the answers after each round
CHOOSING = ("train", "val")  # the splits that are learned from and chosen by


@dataclass(frozen=True)
class FrozenMember:
    """One backbone's features of all images, in the splits that all members share.

    Attributes:
        data: its output is fitted to train, as that of the head is.
    """

    name: str
    opened: BackboneFeatures
    data: ImageData

    @property
    def config(self) -> Config:
        """The configuration of a head on this backbone, without open settings."""
        return self.opened.config

    def features(self, split: str) -> StoredFeatures:
        """Plain features of a split."""
        return self.opened.frozen.stored(POOLED, self.data.rows(split))

    @cached_property
    def class_weights(self) -> NDArray[np.float32]:
        """float32 (k,): the weight of each class in the loss."""
        return class_weight_vector(self.config.train.class_weights, self.data.labels("train"), self.data.classes)

    @cached_property
    def head(self) -> SolvedHead:
        """The head that `extract` would train."""
        return self.opened.problem.solve(self.config, self.data.rows("train"), self.data.rows("val"))


def open_members(config: Config, backbones: Sequence[str], index: Index, progress: Progress) -> list[FrozenMember]:
    """Compute the features of each backbone for all images, and cut the splits.

    Raises:
        UserError: from the data, a backbone or the store.
    """
    config = with_one_size(config, backbones, progress)
    found: list[FrozenMember] = []
    with progress.bar("backbones", len(backbones)) as advance:
        for name, backbone in zip(distinct([short_name(each) for each in backbones]), backbones, strict=True):
            opened = open_features(config.replace("model.backbone", backbone), index, progress)
            pixels = opened.frozen.pixels
            split = opened.compute_and_cut(progress)
            output = index.output.fitted(index.labels[split == "train"])
            found.append(FrozenMember(name, opened, ImageData(index, pixels, split).with_output(output)))
            advance(1)
    return found


def with_one_size(config: Config, backbones: Sequence[str], progress: Progress) -> Config:
    """The configuration with one image size for all backbones, as one model takes one: the largest of their own, unless it is set."""
    if config.data.image_size is not None:
        return config
    sizes = [native_image_size(name, trust=config.model.trust) for name in backbones]
    largest = max(sizes)
    others = ", ".join(f"{short_name(name)}'s own is {size}" for name, size in zip(backbones, sizes, strict=True) if size != largest)
    if others:
        progress.line(f"images of {largest} pixels a side for all ({others})")
    return config.replace("data.image_size", largest)


def distinct(names: Sequence[str]) -> list[str]:
    """The same names, numbered where one comes again."""
    total, met, found = Counter(names), Counter[str](), []
    for name in names:
        met[name] += 1
        found.append(name if total[name] == 1 else f"{name}#{met[name]}")
    return found


def solve_head(member: FrozenMember) -> LinearProbe:
    """The head that `extract` would train on a backbone, for raw features."""
    return member.head.on_raw


def bag_heads(member: FrozenMember, num: int, seed: int) -> list[LinearProbe]:
    """Heads on resamples of train, each with as many images of each class, or stratum, as there are, drawn with replacement.

    Reference: Breiman 1996, Machine Learning 24, 123; here stratified, so that a small class is in every resample.
    """
    rows, val = member.data.rows("train"), member.data.rows("val")
    strata = stratified(member.data.index.take(rows)).labels
    draws = [np.sort(resample(strata, np.random.default_rng([seed, number]))) for number in range(num)]
    return [member.opened.problem.solve(member.config, rows[draw], val, like=member.head).on_raw for draw in draws]


def answer(head: LinearProbe, features: StoredFeatures, output: Output) -> Probabilities:
    """Answers (n, k) to raw features (n, d), of logits that mean what `output` says."""
    return output.answers(head.logits(features))


def resample(labels: NDArray[np.int32], draws: np.random.Generator) -> NDArray[np.int64]:
    """Positions int64 (n,), drawn with replacement within each class."""
    rows = (np.flatnonzero(labels == label) for label in np.unique(labels))
    return np.concatenate([draws.choice(each, len(each)) for each in rows])


@dataclass(frozen=True)
class OutOfFoldPredictions:
    """Predictions of the members for those images of train and val that they have not learned from.

    Attributes:
        rows: positions of the images, int64 (n,), ascending.
        folds: of positions in `rows`.
        probabilities: answers, (m, n, k).
        labels: of each image, soft ones where it has them.
    """

    rows: NDArray[np.int64]
    folds: list[Fold]
    probabilities: Probabilities
    labels: Labels


def answer_out_of_fold(members: Sequence[FrozenMember], config: Config, progress: Progress) -> OutOfFoldPredictions:
    """Solve each member's head on folds of train and val (`crossval.folds`), each image held out once."""
    data = members[0].data
    rows = np.sort(np.concatenate([data.rows("train"), data.rows("val")]))
    index = data.index.take(rows)
    folds = cut_folds(config.replace("crossval.repeats", 1), index)
    found = np.empty((len(members), len(rows), len(index.classes)))
    with progress.bar("folds", len(members) * len(folds)) as advance:
        for place, member in enumerate(members):
            member.opened.compute([rows] * (1 + num_views(member.config)), progress)  # views of val too: folds learn from it
            for fold in folds:
                found[place, fold.held_out] = solve_fold(member.config, member.opened.problem, rows, fold).values
                advance(1)
    return OutOfFoldPredictions(rows, folds, found, index.learned)


class BoostedTrees:
    """Gradient-boosted trees on the features of all backbones side by side, with the number of rounds that val prefers.

    Each tree sees half of the images and each cut the square root of the features, which are thousands: on 600 images and 10,816
    features that takes ten seconds, where cuts by histograms of all of them had not ended after nine minutes. Features must be in
    memory: where train has more than BOOSTED_BYTES of them, the trees learn from a stratified sample of it, and as many of val choose.

    Where an image may have several classes there are trees for each, and where it has a number they lower the squared error.

    Reference: Friedman 2001, Annals of Statistics 29, 1189, and 2002, Computational Statistics & Data Analysis 38, 367.

    Attributes:
        num_train: images that it learned from.
        rounds: of boosting that it takes, a tree per class each.
    """

    def __init__(self, members: Sequence[FrozenMember], rounds: int, seed: int) -> None:
        self._members, data = members, members[0].data
        self._most_rows = max(2 * len(data.classes), BOOSTED_BYTES // (4 * sum(member.features("val").shape[1] for member in members)))
        train, val = (self._sample(data.rows(split), seed) for split in CHOOSING)
        output, truth = data.output, data.index.labels[val]
        how = {"n_estimators": rounds, "max_features": "sqrt", "subsample": 0.5, "random_state": seed}
        self._trees = _fit_trees(output, self._read(train), data.index.labels[train], members[0].class_weights, how)
        stages = self._stages(self._read(val))
        losses = [output.plain_losses(output.logits(answers), truth).mean() for answers in stages]
        self.num_train, self.rounds = len(train), int(np.argmin(losses)) + 1

    def __call__(self, split: str) -> Probabilities:
        """Answers (n, k) to the images of a split, which are read in parts."""
        rows = self._members[0].data.rows(split)
        parts = (rows[start : start + self._most_rows] for start in range(0, len(rows), self._most_rows))
        return np.concatenate([next(islice(self._stages(self._read(part)), self.rounds - 1, None)) for part in parts])

    def _stages(self, features: NDArray[np.float32]) -> Iterator[Probabilities]:
        """Answers (n, k) after each round of boosting."""
        for each in zip(*(trees(features) for trees in self._trees), strict=True):
            yield np.concatenate(each, axis=1)

    def _sample(self, rows: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
        """As many of some images as memory is given to, of each class, or stratum, its share."""
        return rows[stratified_sample(stratified(self._members[0].data.index.take(rows)).labels, self._most_rows, seed)]

    def _read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.concatenate([member.opened.frozen.stored(POOLED, rows)[:] for member in self._members], axis=1)


def _fit_trees(
    output: Output, features: NDArray[np.float32], labels: Labels, class_weights: NDArray[np.float32], how: dict[str, Any]
) -> list[Stages]:
    """Boosted trees for what images have; side by side their answers are those of the task."""
    from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor

    if isinstance(output, Regression):
        numbers = GradientBoostingRegressor(**how).fit(features, labels)
        return [lambda rows: (each[:, None] for each in numbers.staged_predict(rows))]
    if isinstance(output, MultiLabel):
        return [_fit_class(features, has, how) for has in labels.T]
    return [GradientBoostingClassifier(**how).fit(features, labels, sample_weight=class_weights[labels]).staged_predict_proba]


def _fit_class(features: NDArray[np.float32], has: NDArray[np.bool_], how: dict[str, Any]) -> Stages:
    """Trees for one of several classes; a constant where all images have it, or none."""
    from sklearn.ensemble import GradientBoostingClassifier

    if has.all() or not has.any():
        return lambda rows: repeat(np.full((len(rows), 1), float(has[0])), how["n_estimators"])
    trees = GradientBoostingClassifier(**how).fit(features, has)
    return lambda rows: (each[:, 1:] for each in trees.staged_predict_proba(rows))
