"""Parts of a data set that take no block apart, with as many images of each class as they can have.

Which blocks give the best parts is a knapsack for each class; here a walk over the blocks in a random order takes each that
brings its part nearer to what is wanted, and of several such walks the one that comes nearest counts. Where each leaves a part
without some class, which is rare, integer programming finds parts if there are any.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tl_keras.data.groups import Blocks

NO_CLASS = -1
REST = -1  # the part of what is in none
LEAST_IN_REST = 2  # images of each class
MOST_WALKS = 30
MOST_STEPS = 15_000  # classes of blocks that all walks look at; there is one walk at least
SOLVE_S = 10.0

Needs = NDArray[np.int64]  # (parts, k): the images that each part should have of each class


def cut_blocks(
    labels: NDArray[np.int32], blocks: Blocks, usable: NDArray[np.bool_], order: Blocks, wanted: tuple[Needs, Needs], seed: Sequence[int]
) -> NDArray[np.int64] | None:
    """Give whole blocks to parts; each class is in each part, and at least `LEAST_IN_REST` of its images are in the rest.

    Args:
        labels: int32 (n,), each in [0, k).
        blocks: int64 (n,), each in [0, number of blocks).
        usable: bool (n,); what the others are counts only for the choice of the walk, so that it stays the same without them.
        order: of the blocks in the first walk; the others' are drawn.
        wanted: of all images, and of those that are usable.
        seed: of the draws.

    Returns:
        The part of each image, int64 (n,), `REST` for the others and for what is not usable; None where no parts are
        found in which each class is.
    """
    num_blocks = len(order)
    whole, part = (_Counts.of(labels[rows], blocks[rows], num_blocks) for rows in (np.ones(len(labels), bool), usable))
    walks = min(MOST_WALKS, max(1, MOST_STEPS // len(whole.classes)))
    orders = [order, *(np.random.default_rng([*seed, number]).permutation(num_blocks) for number in range(1, walks))]
    if walks > 1:
        orders.sort(key=lambda each: _distance(_Walk(whole, each, wanted[0]).parts(), whole, wanted[0]))
    for each in orders:
        parts = _Walk(part, each, wanted[1]).parts()
        if parts is not None:
            return np.where(usable, parts[blocks], REST)
    parts = _solve(part, wanted[1])
    return None if parts is None else np.where(usable, parts[blocks], REST)


@dataclass(frozen=True)
class _Counts:
    """How many images of which classes each block has: block b `numbers[i]` of `classes[i]`, for i from `starts[b]` to `starts[b + 1]`."""

    starts: list[int]
    classes: list[int]
    numbers: list[int]

    @classmethod
    def of(cls, labels: NDArray[np.int32], blocks: Blocks, num_blocks: int) -> "_Counts":
        base = int(labels.max(initial=0)) + 1
        pairs, numbers = np.unique(blocks * base + labels, return_counts=True)
        starts = np.searchsorted(pairs // base, np.arange(num_blocks + 1))
        return cls(starts.tolist(), (pairs % base).tolist(), numbers.tolist())

    def __getitem__(self, block: int) -> list[tuple[int, int]]:
        inside = slice(self.starts[block], self.starts[block + 1])
        return list(zip(self.classes[inside], self.numbers[inside], strict=True))


class _Walk:
    """One walk over the blocks for each part, the first part first.

    Args:
        order: of the blocks.
        needs: images of each class that each part should have.
    """

    def __init__(self, counts: _Counts, order: Blocks, needs: Needs) -> None:
        self._counts, self._needs = counts, needs
        self._parts = [REST] * len(order)
        sizes = np.diff(counts.starts)
        self._left = order[sizes[order] > 0].tolist()  # blocks that are in no part, in their order
        first = np.array([*counts.classes, NO_CLASS])[np.asarray(counts.starts[:-1])]
        self._lone = np.where(sizes == 1, first, NO_CLASS).tolist()  # the class of a block that is of one
        self._blocks_left, self._images_left = [0] * needs.shape[1], [0] * needs.shape[1]
        for label, number in zip(counts.classes, counts.numbers, strict=True):
            self._blocks_left[label] += 1
            self._images_left[label] += number

    def parts(self) -> NDArray[np.int64] | None:
        """The part of each block, `REST` for the others; None where a class is missing in a part or the rest."""
        for part, needs in enumerate(self._needs.tolist()):
            lacking, later = set(range(len(needs))), len(self._needs) - part - 1
            for block in self._left:
                label = self._lone[block]
                if label != NO_CLASS and needs[label] <= 0:
                    continue  # most blocks end here where most images are alone
                if _gain(self._counts[block], needs) > 0 and self._is_spared(block, later):
                    self._take(block, part, needs, lacking)
            while lacking:
                label = min(lacking, key=lambda each: self._blocks_left[each])  # the one with the least choice
                mine = [block for block in self._left if self._parts[block] == REST and self._has(block, label)]
                spared = [block for block in mine if self._is_spared(block, later)]
                if not spared:
                    return None
                self._take(max(spared, key=lambda block: _gain(self._counts[block], needs)), part, needs, lacking)
            self._left = [block for block in self._left if self._parts[block] == REST]
        return np.array(self._parts)

    def _has(self, block: int, label: int) -> bool:
        return any(each == label for each, _ in self._counts[block])

    def _is_spared(self, block: int, later: int) -> bool:
        """Whether enough is left without a block for the rest, and for as many later parts."""
        return all(
            self._blocks_left[label] > later + 1 and self._images_left[label] - number >= later + LEAST_IN_REST
            for label, number in self._counts[block]
        )

    def _take(self, block: int, part: int, needs: list[int], lacking: set[int]) -> None:
        self._parts[block] = part
        for label, number in self._counts[block]:
            needs[label] -= number
            lacking.discard(label)
            self._blocks_left[label] -= 1
            self._images_left[label] -= number


def _solve(counts: _Counts, needs: Needs) -> NDArray[np.int64] | None:
    """The parts that come nearest to what they need, by integer programming; None where there are none, or none is found in time."""
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array, eye_array, hstack, kron

    num_parts, num_classes = needs.shape
    num_blocks = len(counts.starts) - 1
    each = csr_array((counts.numbers, counts.classes, counts.starts), shape=(num_blocks, num_classes)).T  # images by class and block
    inside, missed = kron(eye_array(num_parts), each), eye_array(needs.size)  # the variables: is block b in part p, and what p misses
    nothing = csr_array((num_classes, needs.size))
    constraints = [
        LinearConstraint(hstack([inside, 0 * missed]), 1),  # each class in each part
        LinearConstraint(hstack([kron(np.ones((1, num_parts)), each), nothing]), ub=each.sum(axis=1) - LEAST_IN_REST),
        LinearConstraint(hstack([kron(np.ones((1, num_parts)), eye_array(num_blocks)), csr_array((num_blocks, needs.size))]), ub=1),
        LinearConstraint(hstack([inside, missed]), needs.ravel()),
        LinearConstraint(hstack([inside, -1 * missed]), ub=needs.ravel()),
    ]
    num_choices = num_parts * num_blocks
    found = milp(
        np.repeat([0.0, 1.0], [num_choices, needs.size]),
        integrality=np.repeat([1, 0], [num_choices, needs.size]),
        bounds=Bounds(0, np.repeat([1.0, np.inf], [num_choices, needs.size])),
        constraints=constraints,
        options={"time_limit": SOLVE_S},
    )
    if found.x is None:
        return None
    chosen = found.x[:num_choices].reshape(num_parts, num_blocks) > 0.5
    return np.where(chosen.any(axis=0), chosen.argmax(axis=0), REST)  # which part: not a class


def _gain(inside: list[tuple[int, int]], needs: list[int]) -> int:
    """By how many images a part comes nearer to what it needs with a block."""
    return sum(abs(needs[label]) - abs(needs[label] - number) for label, number in inside)


def _distance(parts: NDArray[np.int64] | None, counts: _Counts, needs: Needs) -> float:
    """How many images the parts have too many or too few, over all classes; infinite where there are no parts."""
    if parts is None:
        return np.inf
    found = np.zeros_like(needs)
    for block in np.flatnonzero(parts != REST).tolist():
        for label, number in counts[block]:
            found[parts[block], label] += number
    return float(np.abs(found - needs).sum())
