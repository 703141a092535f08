"""A sketch adds columns with signs: against a plain loop, and products are kept on average."""

import numpy as np
import pytest

from tl_keras.transfer.head.probe import Standardiser
from tl_keras.transfer.head.sketch import Sketch


@pytest.mark.parametrize(("wide", "width"), [(10, 3), (64, 16), (17, 16)])
def test_each_column_is_in_one_sum(wide: int, width: int) -> None:
    rows = np.eye(wide, dtype=np.float32)
    sketch = Sketch(rows, Standardiser.identity(wide), width)
    found = sketch[0:wide]
    assert sketch.shape == found.shape == (wide, width)
    np.testing.assert_array_equal(np.abs(found).sum(axis=1), np.ones(wide))
    assert np.abs(found).sum(axis=0).min() >= 1
    assert set(np.unique(found)) == {-1, 0, 1}


def test_rows_are_those_of_standardised_features_whatever_the_slice() -> None:
    x = np.random.default_rng(0).normal(3, 2, (20, 50)).astype(np.float32)
    standardise = Standardiser.fit(x)
    sketch, plain = Sketch(x, standardise, 8), Sketch(standardise(x), Standardiser.identity(50), 8)
    np.testing.assert_allclose(sketch[0:20], plain[0:20], rtol=1e-5)
    np.testing.assert_array_equal(np.concatenate([sketch[0:7], sketch[7:20]]), sketch[0:20])


def test_products_are_kept_on_average() -> None:
    x = np.random.default_rng(0).normal(size=(40, 4000)).astype(np.float32)
    sketched = Sketch(x, Standardiser.identity(4000), 1000)[0:40]
    error = (sketched @ sketched.T - x @ x.T) / 4000
    assert np.abs(error).mean() < 0.05
    assert abs(error.mean()) < 0.01
