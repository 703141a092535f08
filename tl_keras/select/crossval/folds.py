"""Folds: which images are held out in turn, stratified by class, whole groups at a time where there are groups."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tl_keras.data.splits import stratified_sample
from tl_keras.errors import DataError

LEAST_IN_CLASS = 4  # two to train on, one to choose by, one held out

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Fold:
    """One fold: positions of the images that it trains on, chooses by, and holds out, each int64 and ascending.

    Attributes:
        repeat: from 1.
        number: of the fold in its repeat, from 1.
    """

    repeat: int
    number: int
    train: Rows
    val: Rows
    held_out: Rows

    @property
    def name(self) -> str:
        """Such as '2-5': the fifth fold of the second repeat."""
        return f"{self.repeat}-{self.number}"


def make_folds(
    labels: NDArray[np.int32], groups: NDArray[np.int64] | None, *, num_folds: int, num_repeats: int, val_fraction: float, seed: int
) -> list[Fold]:
    """Cut images into folds, again and again; each repeat holds every image out once.

    Args:
        labels: int32 (n,).
        groups: int64 (n,), numbers of groups, which are never on two sides of a fold; None where each image is a group of its own.
        num_folds: at least 2.
        num_repeats: at least 1, each with another shuffle.
        val_fraction: of a fold's other images, those that choose; in (0, 0.5).
        seed: at least 0; the same seed and labels give the same folds.

    Raises:
        DataError: a class has fewer images, or there are fewer groups, than folds; or a class is in too few groups to be in all of train.
    """
    from sklearn.model_selection import StratifiedKFold

    _check_sizes(labels, groups, num_folds)
    found = []
    for repeat in range(num_repeats):
        if groups is None:
            cutter = StratifiedKFold(num_folds, shuffle=True, random_state=seed + repeat)
            parts = [held_out for _, held_out in cutter.split(labels, labels)]
        else:
            parts = list(cut_groups(labels, groups, num_folds, seed + repeat))
        for number, held_out in enumerate(parts):
            others = np.setdiff1d(np.arange(len(labels)), held_out)
            if len(np.unique(labels[others])) < len(np.unique(labels)):
                raise DataError(
                    "crossval.folds: all images of a class lie in one group, and there is none to train on where that is held out. "
                    "Take a narrower data.group_pattern, or add images of other groups."
                )
            val = others[_choose_val(labels[others], None if groups is None else groups[others], val_fraction, seed + repeat)]
            found.append(Fold(repeat + 1, number + 1, np.setdiff1d(others, val), val, held_out))
    return found


def _choose_val(labels: NDArray[np.int32], groups: NDArray[np.int64] | None, fraction: float, seed: int) -> Rows:
    if groups is None:
        return stratified_sample(labels, max(1, round(fraction * len(labels))), seed)
    num_groups = len(np.unique(groups))
    if num_groups < 2:
        raise DataError(
            "crossval.folds: a fold leaves one group to train on and to choose by. Take fewer folds, or a narrower data.group_pattern."
        )
    for val in cut_groups(labels, groups, min(max(2, round(1 / fraction)), num_groups), seed):
        if len(np.unique(np.delete(labels, val))) == len(np.unique(labels)):
            return val
    raise DataError(
        "crossval.folds: a class lies in too few groups of images: of a fold's groups, one alone has it, and is needed to choose by "
        "and to train on. Take more folds, or a narrower data.group_pattern."
    )


def cut_groups(labels: NDArray[np.int32], groups: NDArray[np.int64], num: int, seed: int) -> Iterator[Rows]:
    """Cut images into parts of whole groups, int64 each, with the classes in their shares as far as the groups allow."""
    from sklearn.model_selection import StratifiedGroupKFold

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with fewer images than parts is in fewer of them
        for _, part in StratifiedGroupKFold(num, shuffle=True, random_state=seed).split(labels, labels, groups):
            yield np.asarray(part, np.int64)


def _check_sizes(labels: NDArray[np.int32], groups: NDArray[np.int64] | None, num_folds: int) -> None:
    least, smallest = max(num_folds, LEAST_IN_CLASS), int(np.bincount(labels).min())
    if smallest < least:
        raise DataError(f"crossval.folds: got {num_folds}, for which each class needs {least} images outside test, and one has {smallest}.")
    num_groups = num_folds if groups is None else len(np.unique(groups))
    if num_groups < num_folds:
        raise DataError(f"crossval.folds: got {num_folds}, and there are {num_groups} groups of images. Take fewer folds.")
