"""Cuts that take no block apart: over random groups and copies, and against the cut of images that are all alone."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tl_keras.data.block_cut import REST, cut_blocks
from tl_keras.data.groups import blocks_of
from tl_keras.data.index import UNLABELLED, Index
from tl_keras.data.splits import UNUSED, cut
from tl_keras.errors import DataError

ROUNDS = 60  # random data sets of each seed


def index_of(
    labels: NDArray[np.int64],
    groups: NDArray[np.int64] | None = None,
    contents: NDArray[np.int64] | None = None,
    given: tuple[str, ...] | None = None,
) -> Index:
    return Index(
        root=Path("photos"),
        classes=tuple(f"c{label}" for label in range(int(labels.max()) + 1)),
        paths=tuple(f"{row}.png" for row in range(len(labels))),
        labels=labels.astype(np.int32),
        groups=None if groups is None else tuple(f"p{group}" for group in groups),
        ids=None if contents is None else np.array([b"%d" % content for content in contents], "S16"),
        given=given,
    )


def cut_of(index: Index, usable: NDArray[np.bool_] | None = None, seed: int = 0, val: float = 0.15, test: float = 0.15) -> NDArray[np.str_]:
    usable = np.ones(len(index.paths), bool) if usable is None else usable
    return cut(index, usable, val_fraction=val, test_fraction=test, seed=seed)


def draw(rng: np.random.Generator) -> Index:
    """A random data set: few or many classes, images, groups and copies, some groups of one class and some of several."""
    num_classes, num = int(rng.integers(2, 5)), int(rng.integers(20, 200))
    labels = np.concatenate([np.repeat(np.arange(num_classes), 4), rng.choice(num_classes, num, p=rng.dirichlet(np.ones(num_classes)))])
    num = len(labels)
    groups = contents = None
    if rng.random() < 0.7:
        groups = rng.integers(0, rng.integers(5, num), num)
        if rng.random() < 0.5:
            groups = groups * num_classes + labels  # pure in their class
    if groups is None or rng.random() < 0.5:
        contents = rng.integers(0, rng.integers(num // 2, 20 * num), num)
    return index_of(labels, groups, contents)


def sides(values: object, split: NDArray[np.str_]) -> bool:
    """Whether no value is in two splits."""
    pairs = {(value, str(name)) for value, name in zip(values, split, strict=True) if name != UNUSED}  # type: ignore[call-overload]
    return len({value for value, _ in pairs}) == len(pairs)


@pytest.mark.parametrize("seed", range(3))
def test_no_group_and_no_content_is_on_two_sides_of_a_cut(seed: int) -> None:
    rng, refused = np.random.default_rng(seed), 0
    for _ in range(ROUNDS):
        index = draw(rng)
        usable = rng.random(len(index.paths)) < rng.choice([0.8, 1.0])
        try:
            split = cut_of(index, usable, seed=int(rng.integers(100)))
        except DataError:
            refused += 1
            continue
        assert index.groups is None or sides(index.groups, split)
        assert index.ids is None or sides(index.ids.tolist(), split)
        np.testing.assert_array_equal(split == UNUSED, ~usable)
        for label in range(len(index.classes)):
            parts = split[index.labels == label]
            assert {"train", "val", "test"} <= set(parts.tolist())
            assert (parts == "train").sum() >= 2
    assert refused < ROUNDS / 2


def cut_of_images_alone(index: Index, usable: NDArray[np.bool_], seed: int, val: float, test: float) -> NDArray[np.str_]:
    """The cut as it has always been for images that are all alone."""
    split = np.full(len(index.paths), "train", dtype="<U5") if index.given is None else np.array(index.given, dtype="<U5")
    by_class = [np.flatnonzero((split == "train") & (index.labels == label)) for label in range(len(index.classes))]
    split[~usable] = UNUSED
    missing = [each for each in (("test", test), ("val", val)) if each[0] not in set(index.given or ())]
    for label, rows in enumerate(by_class):
        order = np.random.default_rng([seed, label]).permutation(rows)
        order = order[usable[order]]
        size = len(order)
        for place, (target, fraction) in enumerate(missing):
            number = min(max(1, round(fraction * size)), len(order) - 2 - (len(missing) - place - 1))
            split[order[:number]] = target
            order = order[number:]
    return split


@pytest.mark.parametrize("seed", range(3))
def test_images_that_are_all_alone_are_cut_as_ever(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(ROUNDS):
        labels = np.concatenate([np.repeat(np.arange(3), 8), rng.integers(0, 3, 60)])
        given = None if rng.random() < 0.5 else tuple(rng.permutation(["train"] * 70 + ["test"] * 14).tolist())
        numbers = rng.permutation(len(labels))
        groups, contents = (numbers if rng.random() < 0.5 else None for _ in range(2))
        index, usable = index_of(labels, groups, contents, given), rng.random(len(labels)) < 0.95
        options = {"seed": int(rng.integers(9)), "val": float(rng.uniform(0.01, 0.4)), "test": float(rng.uniform(0.01, 0.4))}
        try:
            found = cut_of(index, usable, **options)  # type: ignore[arg-type]
        except DataError:  # a class that is too small, as ever
            continue
        np.testing.assert_array_equal(found, cut_of_images_alone(index, usable, **options))  # type: ignore[arg-type]


def test_a_walk_over_images_that_are_alone_is_that_cut_too() -> None:
    labels = np.repeat([0, 1, 2], [50, 20, 7])
    index = index_of(labels)
    order = np.argsort(
        np.concatenate([np.argsort(np.random.default_rng([0, label]).permutation(rows)) / len(rows) for label, rows in rows_of(labels)]),
        kind="stable",
    )
    needs = np.array([[10, 4, 1], [5, 2, 1]])
    found = cut_blocks(labels.astype(np.int32), np.arange(77), np.ones(77, bool), order, (needs, needs), [0])
    assert found is not None
    expected = cut_of_images_alone(index, np.ones(77, bool), 0, 0.1, 0.2)
    np.testing.assert_array_equal(np.array(["test", "val", "train"])[found], expected)
    assert (found == REST).sum() == 77 - needs.sum()


def rows_of(labels: NDArray[np.int64]) -> list[tuple[int, NDArray[np.int64]]]:
    return [(label, np.flatnonzero(labels == label)) for label in range(3)]


def test_a_few_copies_move_only_images_of_their_classes() -> None:
    labels, contents = np.repeat([0, 1], 100), np.arange(200)
    contents[[3, 50]] = 7  # of class 0, and with 7 three copies
    before, after = cut_of(index_of(labels)), cut_of(index_of(labels, None, contents))
    np.testing.assert_array_equal(before[100:], after[100:])
    assert (before[:100] != after[:100]).sum() <= 4
    assert [int((after[:100] == name).sum()) for name in ("train", "val", "test")] == [70, 15, 15]


@pytest.mark.parametrize("seed", range(5))
def test_parts_are_as_large_as_groups_allow(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], [300, 200])
    groups = rng.integers(0, 60, 500)  # each with images of both classes
    split = cut_of(index_of(labels, groups), seed=seed)
    for label, size in enumerate((300, 200)):
        for name in ("val", "test"):
            assert abs((split[labels == label] == name).sum() - 0.15 * size) <= 5


def test_seeds_differ_and_the_same_seed_is_the_same() -> None:
    index = index_of(np.tile([0, 1], 100), np.arange(200) // 10)
    first, again, other = (cut_of(index, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_file_that_does_not_decode_moves_few_of_the_others() -> None:
    rng = np.random.default_rng(0)
    index, usable = index_of(rng.integers(0, 3, 500), rng.integers(0, 100, 500)), np.ones(500, bool)
    before = cut_of(index, usable)
    usable[17] = False
    after = cut_of(index, usable)
    assert after[17] == UNUSED
    assert (np.delete(before, 17) != np.delete(after, 17)).sum() <= 30


def test_given_splits_are_kept_and_the_rest_is_cut_by_groups() -> None:
    given = tuple(["train"] * 40 + ["test"] * 4)
    index = index_of(np.tile([0, 1], 22), np.arange(44) // 4, given=given)
    split = cut_of(index)
    assert (split[40:] == "test").all()
    assert set(split[:40]) == {"train", "val"}
    assert sides(index.groups, split)


@pytest.mark.parametrize("seed", range(3))
def test_a_cut_that_exists_is_found(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(ROUNDS):
        num = int(rng.integers(4, 7))
        groups = np.repeat(np.arange(num), rng.integers(2, 6, num))
        index = index_of(np.concatenate([[0, 1], rng.integers(0, 2, len(groups) - 2)]), groups)
        if min(np.bincount(index.labels)) < 4:
            continue
        exists = any(is_whole(index, groups, assigned) for assigned in np.ndindex(*[3] * num))
        try:
            cut_of(index)
        except DataError:
            assert not exists
        else:
            assert exists


def is_whole(index: Index, groups: NDArray[np.int64], assigned: tuple[int, ...]) -> bool:
    """Whether each class is in each of three parts, and twice at least in the first."""
    parts = np.array(assigned)[groups]
    counts = np.zeros((3, 2), int)
    np.add.at(counts, (parts, index.labels), 1)
    return bool((counts[0] >= 2).all() and (counts >= 1).all())


def test_cuts_that_are_impossible_are_one_line() -> None:
    labels = np.tile([0, 1], 30)
    with pytest.raises(DataError) as caught:
        cut_of(index_of(labels, np.where(labels == 1, 99, np.arange(60) // 4)))
    assert str(caught.value) == (
        "photos: class 'c1' has 30 images in 1 group that stay together (groups, and copies); test, val and train need at "
        "least one each. Add images of other groups."
    )
    with pytest.raises(DataError, match=r"class 'c0' has 30 images in 2 groups that stay together"):
        cut_of(index_of(labels, np.arange(60) // 30))
    with pytest.raises(DataError, match=r"class 'c1' has 30 images of 2 different contents, and copies stay together; test, val and train"):
        cut_of(index_of(labels, None, np.where(labels == 1, np.arange(60) // 30, 100 + np.arange(60))))
    blocks = np.array([0, 0, 1, 1, 2, 2, 0, 0, 3, 3, 4, 4])  # where 0 is, there is no second part with both classes
    with pytest.raises(DataError, match=r"no way was found to give each class to each of test, val and train"):
        cut_of(index_of(np.repeat([0, 1, 2], 12), np.concatenate([blocks % 3, [0] * 4 + [1] * 4 + [3] * 4, [0] * 4 + [2] * 4 + [3] * 4])))


def test_images_without_a_label_are_in_no_split() -> None:
    labels = np.concatenate([np.repeat([0, 1], 20), np.full(5, UNLABELLED)])
    split = cut_of(index_of(labels))
    assert (split[40:] == UNUSED).all()
    np.testing.assert_array_equal(split[:40], cut_of(index_of(labels[:40])))


def test_many_images_are_cut_quickly() -> None:
    labels = np.arange(20_000) % 10
    index = index_of(labels, np.arange(20_000) // 3)
    blocks = blocks_of(index)
    assert blocks is not None
    assert sides(blocks.tolist(), cut_of(index))
