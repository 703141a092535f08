"""The order in which a grid is gone through: spread over the whole grid from the first combinations on, and each once.

Gone through like a clock, a grid varies its last settings alone for as long as anybody waits. Here the positions come from an
additive sequence whose every beginning fills the cube evenly (Roberts 2018, The unreasonable effectiveness of quasirandom
sequences), and what that leaves out comes at the end, in an order drawn from the seed. Knows numbers only.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np

DRAWS = 4  # of the sequence for each combination of a grid: about one in fifty is then left for the end


def spread(sizes: Sequence[int], seed: int) -> Iterator[tuple[int, ...]]:
    """Every combination of positions in a grid at least once; the first ones lie far from each other.

    A combination may come again: whoever asks knows which of them are the same to him, such as those that differ only in a
    setting that does not count.

    Args:
        sizes: numbers of values of each dimension, at least 1.
        seed: of where the sequence begins, and of the order of the rest.
    """
    draws, num = np.random.default_rng(seed), math.prod(sizes)
    start, steps = draws.random(len(sizes)), root(len(sizes)) ** -np.arange(1.0, len(sizes) + 1)
    for number in range(DRAWS * num):
        point = (start + number * steps) % 1
        yield tuple(int(part * size) for part, size in zip(point, sizes, strict=True))
    for place in permuted(num, draws):
        yield tuple(map(int, np.unravel_index(place, sizes)))


def root(dimensions: int) -> float:
    """The positive solution of x ** (dimensions + 1) = x + 1, the golden ratio for one dimension."""
    x = 2.0
    for _ in range(64):  # each round brings it nearer by a factor
        x = (1 + x) ** (1 / (dimensions + 1))
    return x


def permuted(num: int, draws: np.random.Generator) -> Iterator[int]:
    """0 to num - 1 in another order, of which no list is made: a grid may have more combinations than memory holds."""
    step = int(draws.integers(1, num + 1))
    while math.gcd(step, num) != 1:
        step += 1
    place = int(draws.integers(num))
    for _ in range(num):
        yield place
        place = (place + step) % num
