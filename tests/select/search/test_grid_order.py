"""The order of a grid: every combination, the first ones spread over all of it."""

import itertools
import math

import numpy as np
import pytest

from tl_keras.select.search.grid_order import permuted, root, spread


@pytest.mark.parametrize("sizes", [(1,), (7,), (2, 3, 10), (2, 2, 10, 10, 2)])
def test_all_combinations_come(sizes: tuple[int, ...]) -> None:
    assert set(spread(sizes, seed=0)) == set(itertools.product(*map(range, sizes)))


@pytest.mark.parametrize("seed", range(5))
def test_the_first_combinations_fill_the_grid(seed: int) -> None:
    sizes = (2, 2, 10, 10, 2)
    first = np.array(list(itertools.islice(spread(sizes, seed), 100)))
    for column, size in zip(first.T, sizes, strict=True):
        counts = np.bincount(column, minlength=size)
        assert counts.min() >= 0.6 * 100 / size
        assert counts.max() <= 1.5 * 100 / size
    halves = first >= np.array(sizes) / 2
    for one, other in itertools.combinations(halves.T, 2):  # every pair of settings, each low and high
        assert np.bincount(2 * one + other, minlength=4).min() >= 10


def test_a_seed_is_an_order_and_others_are_others() -> None:
    orders = [list(itertools.islice(spread((5, 5, 5), seed), 20)) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_a_grid_that_memory_does_not_hold_begins_at_once() -> None:
    assert len(set(itertools.islice(spread((1000,) * 8, seed=0), 50))) == 50


def test_the_rest_is_each_number_once() -> None:
    for num in (1, 2, 12, 97):
        assert sorted(permuted(num, np.random.default_rng(num))) == list(range(num))


def test_the_root_is_the_golden_ratio_for_one_dimension() -> None:
    assert root(1) == pytest.approx((1 + math.sqrt(5)) / 2)
    assert root(4) ** 5 == pytest.approx(root(4) + 1)
