"""Affine maps: what is folded into a head says the same as mapped features; samples."""

import numpy as np
import pytest

from tl_keras.transfer.adapt.affine import Affine, sample
from tl_keras.transfer.head.probe import Standardiser

DRAWS = np.random.default_rng(0)
X = DRAWS.normal(size=(20, 6)).astype(np.float32)
MAPS = {
    "identity": Affine.identity(6),
    "diagonal": Affine.standardising(Standardiser.fit(X)),
    "matrix": Affine.of(DRAWS.normal(size=6), DRAWS.normal(size=(6, 4))),
    "diagonal, then a matrix": Affine.of(DRAWS.normal(size=6), DRAWS.normal(size=6)).then(DRAWS.normal(size=(6, 3))),
}


@pytest.mark.parametrize("name", MAPS)
def test_a_folded_head_says_of_raw_features_what_it_says_of_mapped_ones(name: str) -> None:
    mapping = MAPS[name]
    kernel, bias = DRAWS.normal(size=(mapping.width, 3)).astype(np.float32), DRAWS.normal(size=3).astype(np.float32)
    folded = mapping.fold(kernel, bias)
    np.testing.assert_allclose(X @ folded[0] + folded[1], mapping(X) @ kernel + bias, atol=1e-4)


def test_then_is_one_map_after_the_other() -> None:
    first, matrix = MAPS["matrix"], DRAWS.normal(size=(4, 2))
    np.testing.assert_allclose(first.then(matrix)(X), first(X) @ matrix, atol=1e-4)


def test_a_sample_has_no_row_twice_and_all_rows_where_they_are_few() -> None:
    rows, found = sample(X, 8, np.random.default_rng(0))
    assert len(set(rows)) == 8
    np.testing.assert_array_equal(found, X[rows])
    rows, found = sample(X, 20, np.random.default_rng(0))
    np.testing.assert_array_equal(rows, np.arange(20))
    np.testing.assert_array_equal(found, X)
