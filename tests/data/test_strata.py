"""The strata that images with several classes, or with numbers, are cut by."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tl_keras.data import splits
from tl_keras.data.index import Index
from tl_keras.data.strata import stratified
from tl_keras.errors import DataError
from tl_keras.models.outputs import SINGLE_LABEL, MultiLabel, Regression

FRACTIONS = {"val_fraction": 0.2, "test_fraction": 0.2}


def index_of(labels: np.ndarray, output: MultiLabel | Regression, classes: tuple[str, ...]) -> Index:
    paths = tuple(f"{number:03}.png" for number in range(len(labels)))
    return Index(root=Path("photos"), classes=classes, paths=paths, labels=labels, output=output)


def numbers(num: int, seed: int = 0) -> Index:
    return index_of(np.random.default_rng(seed).exponential(10, num).astype(np.float32), Regression(), ("age",))


def several(shares: tuple[float, ...], num: int = 400) -> Index:
    has = np.random.default_rng(0).random((num, len(shares))) < shares
    return index_of(has, MultiLabel(), tuple("abcdefgh"[: len(shares)]))


def test_classes_are_strata_already() -> None:
    index = Index(root=Path(), classes=("a", "b"), paths=("0", "1"), labels=np.array([0, 1], np.int32))
    assert stratified(index) is index


@pytest.mark.parametrize(("num", "parts"), [(1000, 10), (55, 5), (9, 1)])
def test_numbers_are_cut_into_equal_parts_by_size(num: int, parts: int) -> None:
    index = numbers(num)
    strata = stratified(index)
    assert (len(strata.classes), strata.output) == (parts, SINGLE_LABEL)
    sizes = np.bincount(strata.labels)
    assert sizes.max() - sizes.min() <= 1
    ends = [(index.labels[strata.labels == part].min(), index.labels[strata.labels == part].max()) for part in range(parts)]
    assert all(high <= low for (_, high), (low, _) in pairwise(ends))


def test_an_image_belongs_to_its_rarest_class() -> None:
    index = several((0.7, 0.4, 0.1))
    strata = stratified(index)
    rarest_first = [2, 1, 0]
    for has, label in zip(index.labels, strata.labels, strict=True):
        expected = next((index.classes[k] for k in rarest_first if has[k]), "none of the classes")
        assert strata.classes[label] == expected


def test_a_class_with_few_images_of_its_own_is_no_stratum() -> None:
    index = several((0.7, 0.01))
    strata = stratified(index)
    assert strata.classes == ("a", "none of the classes")
    assert (strata.labels == 0)[index.labels[:, 0]].all()


def test_every_split_gets_its_share_of_the_numbers() -> None:
    index = numbers(500)
    split = splits.cut(index, np.ones(500, bool), **FRACTIONS, seed=0)
    assert {name: int((split == name).sum()) for name in ("train", "val", "test")} == {"train": 300, "val": 100, "test": 100}
    means = [float(index.labels[split == name].mean()) for name in ("train", "val", "test")]
    by_chance = [float(np.random.default_rng(seed).permutation(index.labels)[:100].mean()) for seed in range(50)]
    assert np.ptp(means) < np.std(by_chance)


def test_every_split_gets_its_share_of_each_class() -> None:
    index = several((0.7, 0.4, 0.1, 0.05))
    split = splits.cut(index, np.ones(400, bool), **FRACTIONS, seed=0)
    for k in range(4):
        assert abs((split[index.labels[:, k]] == "test").mean() - 0.2) < 0.05


def test_what_every_split_cannot_have_only_train_needs() -> None:
    index = several((0.7, 0.0))
    index.labels[0, 1] = True
    index = replace(index, given=("train",) * 300 + ("val",) * 50 + ("test",) * 50)
    assert splits.cut(index, np.ones(400, bool), **FRACTIONS, seed=0)[0] == "train"
    index = replace(index, given=("test",) * 50 + ("val",) * 50 + ("train",) * 300)
    with pytest.raises(DataError, match="photos: train has no image of class 'b', and val or test has 1"):
        splits.cut(index, np.ones(400, bool), **FRACTIONS, seed=0)


@pytest.mark.parametrize("seed", range(5))
def test_train_gets_an_image_of_each_rare_class(seed: int) -> None:
    index = several((0.5, *[0.0] * 7))
    index.labels[np.arange(14), np.repeat(np.arange(1, 8), 2)] = True  # two images each: in 1 of 6 cuts neither is in train
    for each in (index, replace(index, groups=tuple(f"{number // 2}" for number in range(400)))):
        split = splits.cut(each, np.ones(400, bool), **FRACTIONS, seed=seed)
        assert each.sizes(split == "train").min() >= 1
        assert (split == "train").sum() <= 255
        if each.groups is not None:
            assert (split[::2] == split[1::2]).all()


def test_classes_of_one_image_each_leave_nothing_to_judge_on() -> None:
    index = index_of(np.eye(30, dtype=bool), MultiLabel(), tuple(f"c{number:02}" for number in range(30)))
    with pytest.raises(DataError, match="photos: no image is left for val: train needs one of each of 30 classes, and many have few"):
        splits.cut(index, np.ones(30, bool), **FRACTIONS, seed=0)


def test_a_list_of_others_leaves_a_rare_class_alone() -> None:
    index = several((0.5, 0.0))
    index.labels[0, 1] = True
    listed = np.arange(400) == np.flatnonzero(index.labels[:, 0])[5]
    split = splits.cut(index, np.ones(400, bool), **FRACTIONS, seed=0, left_out=listed)
    assert split[0] == "train"


def test_copies_that_fill_a_stratum_leave_the_others_a_cut() -> None:
    index = several((0.5, 0.3))
    index.labels[:20] = False
    ids = np.array([b"same"] * 20 + [b"%d" % number for number in range(380)])
    index = replace(index, ids=ids)
    split = splits.cut(index, np.ones(400, bool), **FRACTIONS, seed=0)
    assert len(set(split[:20].tolist())) == 1
    assert set(split.tolist()) == {"train", "val", "test"}


@pytest.mark.parametrize("index", [numbers(40), several((0.5, 0.2), 60)], ids=["regression", "multi_label"])
def test_a_table_of_splits_keeps_labels_and_what_they_mean(index: Index, tmp_path: Path) -> None:
    split = splits.cut(index, np.ones(len(index.paths), bool), **FRACTIONS, seed=0)
    splits.write_splits(tmp_path / "splits.csv", index, split)
    again, same = splits.read_splits(tmp_path / "splits.csv", index.root)
    np.testing.assert_array_equal(again.labels, index.labels)
    np.testing.assert_array_equal(same, split)
    assert again.labels.dtype == index.labels.dtype
    assert again.output == index.output.fitted(index.labels[split == "train"])
