"""Two domains in one plane: the components are those of another implementation, and the picture is the same every time."""

import numpy as np
from sklearn.decomposition import PCA

from tl_keras.transfer.adapt.plane import principal_plane


def test_the_plane_is_that_of_scikit_learn() -> None:
    draws = np.random.default_rng(0)
    source, target = draws.normal(size=(40, 5)) * [1, 2, 3, 4, 5], draws.normal(size=(30, 5)) + 4
    found = principal_plane(source, target)
    both = np.concatenate([source, target])
    theirs = PCA(2).fit(both)
    points = theirs.transform(both)
    np.testing.assert_allclose(np.abs(found.source), np.abs(points[:40]), atol=1e-9)
    np.testing.assert_allclose(np.abs(found.target), np.abs(points[40:]), atol=1e-9)
    np.testing.assert_allclose(found.shares, theirs.explained_variance_ratio_)


def test_the_sign_of_an_axis_is_settled() -> None:
    rows = np.random.default_rng(0).normal(size=(20, 3))
    one, other = principal_plane(rows, rows + 1), principal_plane(rows[::-1], rows[::-1] + 1)
    np.testing.assert_allclose(one.target, other.target[::-1], atol=1e-9)


def test_one_feature_and_rows_that_are_all_the_same_have_a_plane_too() -> None:
    found = principal_plane(np.array([[0.0], [2.0]]), np.array([[4.0]]))
    np.testing.assert_allclose(np.concatenate([found.source, found.target]), [[-2, 0], [0, 0], [2, 0]], atol=1e-9)
    same = principal_plane(np.ones((4, 3)), np.ones((3, 3)))
    assert not same.source.any()
    assert not same.shares.any()
