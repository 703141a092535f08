"""Folds: each image held out once a repeat, classes in their shares, groups never on two sides."""

import numpy as np
import pytest

from tl_keras.errors import DataError
from tl_keras.select.crossval.folds import make_folds

LABELS = np.repeat([0, 1, 2], [50, 30, 20]).astype(np.int32)
GROUPS = np.arange(100) // 5  # pure in their class
OPTIONS = {"num_folds": 5, "num_repeats": 2, "val_fraction": 0.2, "seed": 0}


@pytest.mark.parametrize("groups", [None, GROUPS], ids=["images", "groups"])
def test_each_image_is_held_out_once_a_repeat_and_no_image_is_on_two_sides(groups):
    folds = make_folds(LABELS, groups, **OPTIONS)
    assert [fold.name for fold in folds] == [f"{repeat}-{number}" for repeat in (1, 2) for number in (1, 2, 3, 4, 5)]
    for repeat in (1, 2):
        held_out = np.concatenate([fold.held_out for fold in folds if fold.repeat == repeat])
        np.testing.assert_array_equal(np.sort(held_out), np.arange(100))
    for fold in folds:
        np.testing.assert_array_equal(np.sort(np.concatenate([fold.train, fold.val, fold.held_out])), np.arange(100))
        assert 10 <= len(fold.val) <= 22  # a fifth of 80
        assert set(LABELS[fold.train]) == {0, 1, 2}


def test_classes_keep_their_shares():
    for fold in make_folds(LABELS, None, **OPTIONS):
        np.testing.assert_array_equal(np.bincount(LABELS[fold.held_out]), [10, 6, 4])
        np.testing.assert_allclose(np.bincount(LABELS[fold.val]), [8, 4.8, 3.2], atol=1)


def test_groups_stay_together():
    for fold in make_folds(LABELS, GROUPS, **OPTIONS):
        sides = [set(GROUPS[rows]) for rows in (fold.train, fold.val, fold.held_out)]
        assert sum(map(len, sides)) == len(set().union(*sides))


def test_seeds_and_repeats_differ_and_the_same_seed_is_the_same():
    first, again, other = (make_folds(LABELS, None, **OPTIONS | {"seed": seed}) for seed in (0, 0, 7))
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.held_out, two.held_out)
        np.testing.assert_array_equal(one.val, two.val)
    assert not np.array_equal(first[0].held_out, other[0].held_out)
    assert not np.array_equal(first[0].held_out, first[5].held_out)


def test_too_few_images_or_groups_are_said():
    with pytest.raises(DataError, match=r"got 5, for which each class needs 5 images outside test, and one has 4"):
        make_folds(np.repeat([0, 1], [9, 4]), None, **OPTIONS)
    with pytest.raises(DataError, match=r"got 2, for which each class needs 4 images outside test, and one has 3"):
        make_folds(np.repeat([0, 1], [9, 3]), None, **OPTIONS | {"num_folds": 2})
    with pytest.raises(DataError, match=r"got 5, and there are 4 groups of images"):
        make_folds(LABELS, np.arange(100) % 4, **OPTIONS)
    with pytest.raises(DataError, match=r"a fold leaves one group to train on and to choose by"):
        make_folds(LABELS, np.arange(100) % 2, **OPTIONS | {"num_folds": 2})
    with pytest.raises(DataError, match=r"all images of a class lie in one group, and there is none to train on"):
        make_folds(LABELS, np.where(LABELS == 2, 99, np.arange(100) % 8), **OPTIONS | {"num_folds": 3})
    with pytest.raises(DataError, match=r"a class lies in too few groups of images"):
        make_folds(np.repeat([0, 1, 2], [6, 4, 4]), np.array([0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 0, 0, 2, 2]), **OPTIONS | {"num_folds": 3})
