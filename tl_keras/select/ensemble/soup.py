"""A greedy soup: the weights of several training runs averaged into one network, which costs no more to run than each of them.

Reference: Wortsman et al. 2022, Model soups, arXiv:2203.05482, recipe 1. Knows weights as lists of arrays, and val only as
numbers that it is given; it does not know where weights come from or what a network is. The result goes into a model.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_keras.errors import UserError

Arrays = list[NDArray[Any]]


@dataclass(frozen=True)
class Weights:
    """The weights of a network, in its order.

    Attributes:
        names: of each weight, the same for the same weight of each member; repeated names are compared by their place.
        arrays: their values, of any shape and dtype.
    """

    names: tuple[str, ...]
    arrays: Arrays


@dataclass(frozen=True)
class Score:
    """How good weights are on val: the metric of the task, with the sign that makes more better, and the loss >= 0."""

    merit: float
    loss: float


@dataclass(frozen=True)
class Step:
    """A member that was tried: the score of the average with it, and whether it stayed in."""

    member: str
    score: Score
    kept: bool


@dataclass(frozen=True)
class Soup:
    """What came of it.

    Attributes:
        weights: the average.
        score: that of the average on val; never worse than the best member's.
        steps: every member, in the order in which they were tried; the first is the best, by itself.
    """

    weights: Weights
    score: Score
    steps: tuple[Step, ...]

    @property
    def members(self) -> tuple[str, ...]:
        """Those that are in it, the best first."""
        return tuple(step.member for step in self.steps if step.kept)


def greedy_soup(members: Mapping[str, Score], load: Callable[[str], Weights], score: Callable[[Arrays], Score]) -> Soup:
    """Average the best member with each further one that does not make the average worse on val.

    Members come in the order of their metric, of equal ones that of lower loss first, of equal ones as given. One stays in
    where the metric of the average with it is better than without, or is the same and the loss no higher. The paper keeps
    every tie; here the loss decides, as some hundred images of val know few different accuracies.

    Weights of floating point are averaged, every member counting the same; counters, seeds and other whole numbers are those
    of the best member. BatchNorm's moving statistics are averaged like the rest. Where BatchNorm was held still they are the
    same in all members and stay so. Where it trained, the mean of the members' statistics is not what the averaged network
    would measure on the images of train: the soup is then worse than it could be, val sees that, and fewer members stay in.

    The sums are kept in float64. One of up to 2**29 float32 values of like size is exact there, so that it does not matter in
    which order members come, and a member averaged with its twins is itself to the last bit; a running float32 mean would
    drift with each member. At most three sets of weights lie in memory: the sums, of twice the size, the member that is tried
    and the average with it.

    Args:
        members: name -> score on val, as `score` would say it of the weights that `load` gives.
        load: gives a member's weights; called once for each, the best first.
        score: judges weights in the order and the dtypes of the best member's; must not change them.

    Raises:
        UserError: two members are of different networks.
        ValueError: there is no member, or a score is no finite number.
    """
    first, *others = ranked(members)
    best = load(first)
    names, dtypes = best.names, [each.dtype for each in best.arrays]
    sums = [np.array(each, np.float64 if _is_float(each.dtype) else each.dtype) for each in best.arrays]
    del best  # it lives on in the sums
    found, num, steps = members[first], 1, [Step(first, members[first], True)]
    for member in others:
        added = load(member)
        check_match(first, Weights(names, sums), member, added)
        told = score(_average(map(_plus, sums, added.arrays), num + 1, dtypes))
        steps.append(Step(member, told, no_worse(told, found)))
        if steps[-1].kept:
            for place, array in enumerate(added.arrays):  # one by one: a second set of sums would be the fourth in memory
                sums[place] = _plus(sums[place], array)
            found, num = told, num + 1
    return Soup(Weights(names, _average(sums, num, dtypes)), found, tuple(steps))


def ranked(members: Mapping[str, Score]) -> list[str]:
    """The members, the best metric first, of equal ones by rising loss, of equal ones as given.

    Raises:
        ValueError: there is none, or a score is no finite number.
    """
    if not members:
        raise ValueError("a soup needs at least one member. Received: none")
    for name, each in members.items():
        if not (math.isfinite(each.merit) and math.isfinite(each.loss)):
            raise ValueError(f"scores must be finite. Received: {each} for {name!r}")
    return sorted(members, key=lambda name: (-members[name].merit, members[name].loss))


def no_worse(new: Score, old: Score) -> bool:
    """Whether the metric is better, or the same and the loss no higher; never where one is not a number."""
    return new.merit > old.merit or (new.merit == old.merit and new.loss <= old.loss)


def check_match(name: str, weights: Weights, other: str, others: Weights) -> None:
    """Refuse weights of another network.

    Args:
        name: of the member that the `weights` are of; likewise `other` and `others`.

    Raises:
        UserError: they differ in the number, a name or a shape.
    """
    for place, (one, two) in enumerate(zip_longest(_described(weights), _described(others), fillvalue="none"), start=1):
        if one != two:
            raise UserError(
                f"{name} and {other} are of different networks, whose weights have no average: weight {place} is {one} in the "
                f"first and {two} in the second. Give training runs of one backbone with the same head."
            )


def _described(weights: Weights) -> list[str]:
    return [f"{name} {array.shape}" for name, array in zip(weights.names, weights.arrays, strict=True)]


def _is_float(dtype: np.dtype[Any]) -> bool:
    return "float" in dtype.name  # bfloat16 too, which NumPy does not count among its own


def _plus(total: NDArray[Any], added: NDArray[Any]) -> NDArray[Any]:
    return total + added.astype(np.float64) if _is_float(total.dtype) else total


def _average(sums: Iterable[NDArray[Any]], num: int, dtypes: list[np.dtype[Any]]) -> Arrays:
    """The sums over `num` members, in the dtypes given; what is not of floating point as it is."""
    return [(total / num).astype(dtype) if _is_float(dtype) else total for total, dtype in zip(sums, dtypes, strict=True)]
