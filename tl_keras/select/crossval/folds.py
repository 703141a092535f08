"""Folds: which images are held out in turn, stratified by class, whole groups at a time where there are groups."""

import json
import subprocess
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_keras.data.splits import stratified_sample
from tl_keras.errors import ConfigError, DataError

LEAST_IN_CLASS = 4  # two to train on, one to choose by, one held out

Rows = NDArray[np.int64]

SEARCH_S = 30.0  # for all paths: a million take about two
_SEARCH = """
import json, re, sys
pattern, paths = json.load(sys.stdin.buffer)
try:
    expression = re.compile(pattern)
except (re.error, RecursionError, OverflowError) as error:
    print(json.dumps({"error": str(error)}))
    sys.exit()
found = [expression.search(path) for path in paths]
print(json.dumps({"places": [each and each.span(1 if expression.groups else 0) for each in found]}))
"""


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


def groups_of(paths: Sequence[str], pattern: str) -> NDArray[np.int64]:
    """Number the groups of images, int64 (n,), by what the first bracket of a pattern, or all of it, finds in each path.

    Raises:
        ConfigError: the pattern is no regular expression, or takes too long.
        DataError: it finds nothing in a path.
    """
    names = _found_in_time(paths, pattern)
    nothing = next((path for path, name in zip(paths, names, strict=True) if name is None), None)
    if nothing is not None:
        raise DataError(f"crossval.group_pattern {pattern!r} finds nothing in the path '{nothing}', which then has no group. Widen it.")
    return np.unique([str(name) for name in names], return_inverse=True)[1].astype(np.int64)


def _found_in_time(paths: Sequence[str], pattern: str) -> list[str | None]:
    """What the pattern finds in each path.

    In a process of its own: an expression with repeats inside of repeats may take longer than the universe, and no thread can be ended.
    """
    asked = json.dumps([pattern, list(paths)])
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _SEARCH], input=asked.encode(), capture_output=True, timeout=SEARCH_S, check=True
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError):  # the latter where it takes all memory
        raise ConfigError(
            f"crossval.group_pattern: got {pattern!r}, which had not gone through {len(paths):,} paths after {SEARCH_S:g} s. "
            "Write it without repeats inside of repeats."
        ) from None
    found: dict[str, Any] = json.loads(done.stdout)
    if "error" in found:
        raise ConfigError(f"crossval.group_pattern: got {pattern!r}, which is no regular expression: {found['error']}.")
    return [None if place is None or place[0] < 0 else path[slice(*place)] for path, place in zip(paths, found["places"], strict=True)]


def make_folds(
    labels: NDArray[np.int32], groups: NDArray[np.int64] | None, *, num_folds: int, num_repeats: int, val_fraction: float, seed: int
) -> list[Fold]:
    """Cut images into folds, again and again; each repeat holds every image out once.

    Args:
        labels: int32 (n,).
        groups: int64 (n,), images of one group are never on two sides of a fold; None where each is a group of its own.
        num_folds: at least 2.
        num_repeats: at least 1, each with another shuffle.
        val_fraction: of a fold's other images, those that choose; in (0, 0.5).
        seed: at least 0; the same seed and labels give the same folds.

    Raises:
        DataError: a class has fewer images, or there are fewer groups, than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    _check_sizes(labels, groups, num_folds)
    found = []
    for repeat in range(num_repeats):
        cutter = (StratifiedKFold if groups is None else StratifiedGroupKFold)(num_folds, shuffle=True, random_state=seed + repeat)
        for number, (others, held_out) in enumerate(cutter.split(labels, labels, groups)):
            val = others[_choose_val(labels[others], None if groups is None else groups[others], val_fraction, seed + repeat)]
            found.append(Fold(repeat + 1, number + 1, np.setdiff1d(others, val), val, held_out))
    return found


def _choose_val(labels: NDArray[np.int32], groups: NDArray[np.int64] | None, fraction: float, seed: int) -> Rows:
    if groups is None:
        return stratified_sample(labels, max(1, round(fraction * len(labels))), seed)
    from sklearn.model_selection import StratifiedGroupKFold

    if len(np.unique(groups)) < 2:
        raise DataError(
            "crossval.folds: a fold leaves one group to train on and to choose by. Take fewer folds, or a narrower group_pattern."
        )
    num = min(max(2, round(1 / fraction)), len(np.unique(groups)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with fewer images than parts is in fewer of them
        _, val = next(StratifiedGroupKFold(num, shuffle=True, random_state=seed).split(labels, labels, groups))
    return np.asarray(val, np.int64)


def _check_sizes(labels: NDArray[np.int32], groups: NDArray[np.int64] | None, num_folds: int) -> None:
    least, smallest = max(num_folds, LEAST_IN_CLASS), int(np.bincount(labels).min())
    if smallest < least:
        raise DataError(f"crossval.folds: got {num_folds}, for which each class needs {least} images outside test, and one has {smallest}.")
    num_groups = num_folds if groups is None else len(np.unique(groups))
    if num_groups < num_folds:
        raise DataError(f"crossval.folds: got {num_folds}, and there are {num_groups} groups of images. Take fewer folds.")
