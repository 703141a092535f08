"""The cut: stratified, whole, obeyed where given, the same again for the same seed; and splits.csv there and back."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tl_keras.data.index import Index
from tl_keras.data.splits import UNUSED, cut, read_splits, stratified_sample, write_splits
from tl_keras.errors import DataError, RunFolderError

ROOT = Path("data")


def index_of(*counts, given=None, names=None):
    """An index of `counts[label]` images a class; `given` holds a split for each image."""
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    classes = tuple(names or (f"c{label:02d}" for label in range(len(counts))))
    paths = tuple(f"{classes[label]}/{i}.png" for i, label in enumerate(labels))
    return Index(root=ROOT, classes=classes, paths=paths, labels=labels, given=given)


def cut_of(index, usable=None, val=0.15, test=0.15, seed=0, per_class=None):
    usable = np.ones(len(index.paths), bool) if usable is None else usable
    return cut(index, usable, val_fraction=val, test_fraction=test, seed=seed, per_class=per_class)


def table(index, split):
    """How many images of each class are in train, val and test."""
    return [[int((split[index.labels == label] == name).sum()) for name in ("train", "val", "test")] for label in range(len(index.classes))]


def test_every_class_gives_its_fraction():
    index = index_of(100, 40, 20)
    assert table(index, cut_of(index, val=0.1, test=0.2)) == [[70, 10, 20], [28, 4, 8], [14, 2, 4]]


@pytest.mark.parametrize("number", range(4, 12))
@pytest.mark.parametrize("fraction", [0.01, 0.15, 0.49])
def test_small_classes_are_in_every_split(number, fraction):
    index = index_of(number, number)
    for train, val, test in table(index, cut_of(index, val=fraction, test=fraction)):
        assert train + val + test == number
        assert train >= 2
        assert val >= 1
        assert test >= 1


def test_a_cut_is_the_same_again_and_another_for_another_seed():
    index = index_of(50, 50)
    zero = cut_of(index, seed=0)
    np.testing.assert_array_equal(zero, cut_of(index, seed=0))
    assert (zero != cut_of(index, seed=1)).any()


def test_seed_zero_shuffles():
    split = cut_of(index_of(100, 100))
    assert list(split[:100]) != sorted(split[:100])
    assert (split[:100] != split[100:]).any()  # each class by itself


@pytest.mark.parametrize("missing", ["val", "test"])
def test_a_missing_split_is_cut_from_train_alone(missing):
    there = "test" if missing == "val" else "val"
    given = tuple(["train"] * 20 + [there] * 10) * 2
    index = index_of(30, 30, given=given)
    split = cut_of(index, val=0.2, test=0.2)
    given = np.array(given)
    assert (split[given == there] == there).all()
    assert (split[given == "train"] != there).all()
    assert [(split[given == "train"] == name).sum() for name in ("train", missing)] == [32, 8]


def test_given_splits_are_obeyed():
    given = tuple(np.random.default_rng(0).choice(["train", "val", "test"], 60))
    np.testing.assert_array_equal(cut_of(index_of(30, 30, given=given), seed=3), given)


def test_bad_images_are_in_no_split():
    index = index_of(20, 20)
    usable = np.ones(40, bool)
    usable[[3, 25, 26]] = False
    split = cut_of(index, usable)
    assert set(split[~usable]) == {UNUSED}
    assert set(split[usable]) == {"train", "val", "test"}


@pytest.mark.parametrize("lost", [0, 50, 99])
def test_a_bad_image_moves_few_of_the_others(lost):
    """Each image that moves into train has features to be computed again."""
    index = index_of(100, 100)
    whole = cut_of(index)
    usable = np.ones(200, bool)
    usable[lost] = False
    moved = usable & (cut_of(index, usable) != whole)
    assert moved.sum() <= 4
    assert not moved[100:].any()  # the other class stays as it is


@pytest.mark.parametrize(
    ("splits", "number", "text"),
    [
        ((), 1, "class 'c01' has 1 image to train on and split; it needs at least 4."),
        ((), 3, "class 'c01' has 3 images to train on and split; it needs at least 4."),
        (("test",), 2, "class 'c01' has 2 images to train on and split; it needs at least 3."),
        (("val", "test"), 1, "class 'c01' has 1 image to train on and split; it needs at least 2."),
    ],
)
def test_a_class_that_is_too_small(splits, number, text):
    given = None
    if splits:
        given = ("train",) * 5 + splits + ("train",) * number + splits
    with pytest.raises(DataError, match=text):
        cut_of(index_of(5 + len(splits), number + len(splits), given=given))


def test_a_class_that_loses_its_images():
    usable = np.array([True] * 10 + [False] * 8 + [True] * 2)
    with pytest.raises(DataError, match=r"class 'c01' has 2 images to train on and split \(8 more do not decode\); it needs at least 4"):
        cut_of(index_of(10, 10), usable)


def test_a_given_split_that_loses_a_class():
    given = ("train", "train", "val", "test") * 2
    usable = np.array([True] * 6 + [False, True])
    with pytest.raises(DataError, match=r"data: val has no readable image of class 'c01'\. Add some, or repair the damaged ones\."):
        cut_of(index_of(4, 4, given=given), usable)


def test_splits_csv_comes_back(tmp_path):
    names = ["Löwe, groß", '"quoted"', "plain", "10", "9"]
    index = index_of(*[6] * 5, names=sorted(names))
    odd = tuple(path.replace("/3.", "/a, b\nc\r.") for path in index.paths)
    index = replace(index, paths=odd)
    usable = np.ones(30, bool)
    usable[7] = False
    split = cut_of(index, usable)
    write_splits(tmp_path / "splits.csv", index, split)
    again, split_again = read_splits(tmp_path / "splits.csv", ROOT)
    assert again.classes == index.classes
    assert again.paths == tuple(path for path, good in zip(index.paths, usable, strict=True) if good)
    np.testing.assert_array_equal(again.labels, index.labels[usable])
    assert again.labels.dtype == np.int32
    np.testing.assert_array_equal(split_again, split[usable])
    np.testing.assert_array_equal(cut_of(again, seed=9), split[usable])  # a run that is continued keeps its cut


def test_splits_csv_is_a_plain_table(tmp_path):
    write_splits(tmp_path / "splits.csv", index_of(1, 1), np.array(["train", "val"]))
    assert (tmp_path / "splits.csv").read_text() == "path,class,split\nc00/0.png,c00,train\nc01/1.png,c01,val\n"
    assert read_splits(tmp_path / "splits.csv", ROOT)[0].ids is None  # as older runs wrote it


def test_splits_csv_knows_the_content_of_each_image(tmp_path):
    ids = np.array([b"\x01" * 15, b"x" * 16, b"\0" * 4 + b"y"], "S16")  # zero bytes at the end of an id are kept
    index = replace(index_of(1, 2), ids=ids)
    write_splits(tmp_path / "splits.csv", index, np.array(["train", UNUSED, "test"]))
    lines = (tmp_path / "splits.csv").read_text().splitlines()
    assert lines[:2] == ["path,class,split,content", "c00/0.png,c00,train," + "01" * 15 + "00"]
    again, _ = read_splits(tmp_path / "splits.csv", ROOT)
    assert again.ids.tolist() == ids[[0, 2]].tolist()


def test_splits_csv_holds_every_name_that_a_file_may_have(tmp_path):
    names = ("a\rb", "a\nb", 'say "no", please', os.fsdecode(b"b\xe4r"))
    index = index_of(1, 1, 1, 1, names=sorted(names))
    write_splits(tmp_path / "splits.csv", index, np.array(["train", "val", "test", "train"]))
    again, _ = read_splits(tmp_path / "splits.csv", ROOT)
    assert again.paths == index.paths
    assert again.classes == index.classes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read (No such file or directory). Give the folder of a complete run."),
        (b"\xff\xfe", "has columns \udcff\udcfe, expected path, class, split"),
        (b"path,class,split\na.png,a\n", "is damaged, or is not a table of splits"),
        (b"path,class,split,content\na.png,a,train\n", "is damaged, or is not a table of splits"),
        (b"path,class,split,content\na.png,a,train,xyz\n", "is damaged, or is not a table of splits"),
        (b"path,class,split,content\na.png,a,train,abcd\n", "is damaged, or is not a table of splits"),
        (b"", "has columns of no name, expected path, class, split, content."),
        (b"file,label\n", "has columns file, label, expected path, class, split, content."),
        (b"path,class,split\n/etc/passwd,a,train\n", "line 2 has the path '/etc/passwd', expected one inside of the data folder."),
        (b"path,class,split\na.png,a,train\na/../../b.png,a,train\n", "line 3 has the path 'a/../../b.png'"),
        (b"path,class,split\n,a,train\n", "line 2 has the path ''"),
        (b"path,class,split\na.png,a,train\nb.png,b,trian\n", "line 3 has the split 'trian', expected one of train, val, test."),
    ],
)
def test_splits_csv_that_is_none(tmp_path, text, message):
    path = tmp_path / "splits.csv"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(RunFolderError) as caught:
        read_splits(path, ROOT)
    assert str(caught.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize("seed", [0, 1])
def test_a_sample_keeps_shares_and_loses_no_class(seed):
    labels = np.repeat([0, 1, 2, 3], [600, 300, 97, 3]).astype(np.int32)
    chosen = stratified_sample(labels, 100, seed)
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert len(chosen) == 100
    counts = np.bincount(labels[chosen], minlength=4)
    assert np.all(np.abs(counts - [60, 30, 9.7, 0.3]) <= 1)
    assert counts.min() >= 1
    np.testing.assert_array_equal(chosen, stratified_sample(labels, 100, seed))
    assert not np.array_equal(chosen, stratified_sample(labels, 100, seed + 1))


def test_a_sample_of_all_is_all():
    labels = np.array([1, 0, 1], np.int32)
    for num in (3, 10):
        np.testing.assert_array_equal(stratified_sample(labels, num, 0), [0, 1, 2])


# --- few images of each class --------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [None, tuple(["train"] * 20 + ["val"] * 5 + ["test"] * 5) * 3])
def test_few_images_of_each_class_are_among_more_and_val_and_test_stay(given):
    index = index_of(30, 30, 30, given=given)
    whole, before = cut_of(index), np.zeros(90, bool)
    for number in (1, 2, 5, 10):
        split = cut_of(index, per_class=number)
        assert [row[0] for row in table(index, split)] == [number] * 3
        np.testing.assert_array_equal(np.isin(split, ("val", "test")), np.isin(whole, ("val", "test")))
        np.testing.assert_array_equal(split[split != UNUSED], whole[split != UNUSED])
        assert before[split == "train"].sum() == before.sum()
        before = split == "train"


def test_few_images_are_others_for_another_seed_and_not_the_first():
    index = index_of(30, 30, given=tuple(["train"] * 20 + ["val"] * 5 + ["test"] * 5) * 2)
    rows = [tuple(np.flatnonzero(cut_of(index, seed=seed, per_class=3) == "train")) for seed in range(3)]
    assert len(set(rows)) == 3
    assert rows[0] == tuple(np.flatnonzero(cut_of(index, seed=0, per_class=3) == "train"))
    assert (0, 1, 2) not in {row[:3] for row in rows}


def test_a_class_with_fewer_images_keeps_all_of_them():
    index = index_of(30, 6)
    assert [row[0] for row in table(index, cut_of(index, per_class=10))] == [10, table(index, cut_of(index))[1][0]]


def test_a_file_that_does_not_decode_is_replaced_by_the_next_and_moves_no_other():
    index = index_of(40, 40, given=tuple(["train"] * 30 + ["val"] * 5 + ["test"] * 5) * 2)
    first = np.flatnonzero(cut_of(index, per_class=5) == "train")
    usable = np.ones(80, bool)
    usable[first[0]] = False
    again = np.flatnonzero(cut_of(index, usable, per_class=5) == "train")
    assert len(again) == 10
    assert set(first[1:]) <= set(again)


def test_a_run_that_goes_on_keeps_its_few_images(tmp_path):
    index = index_of(30, 30)
    split = cut_of(index, per_class=4)
    write_splits(tmp_path / "splits.csv", index, split)
    again, known = read_splits(tmp_path / "splits.csv", ROOT)
    assert sum(known == "train") == 8
    np.testing.assert_array_equal(cut_of(again, per_class=4), known)


# Splits that content draws.


def known(index, *, groups=None):
    """The same with an id for each path, and groups perhaps."""
    ids = np.array([hashlib.sha256(path.encode()).digest()[:16] for path in index.paths])
    return replace(index, ids=ids, groups=None if groups is None else tuple(map(groups, index.paths)))


def drawn(index, seed=0):
    usable = np.ones(len(index.paths), bool)
    return cut(index, usable, val_fraction=0.15, test_fraction=0.2, seed=seed, stable=True)


def test_a_stable_split_meets_the_fractions_roughly():
    for train, val, test in table(index := known(index_of(2000, 500)), drawn(index)):
        number = train + val + test
        assert val == pytest.approx(0.15 * number, abs=4 * np.sqrt(0.15 * 0.85 * number))
        assert test == pytest.approx(0.2 * number, abs=4 * np.sqrt(0.2 * 0.8 * number))


def test_groups_may_have_names_that_are_not_utf_8():
    assert set(drawn(known(index_of(60, 60), groups=lambda path: f"\udce9{path[-6:-4]}"))) == {"train", "val", "test"}


@pytest.mark.parametrize("groups", [None, lambda path: path[-6:-4]], ids=["alone", "groups"])
def test_an_image_never_changes_sides_when_others_come(groups):
    many = known(index_of(300, 300), groups=groups)
    few = many.take(np.concatenate([np.arange(60), np.arange(300, 360)]))
    before, after = (dict(zip(index.paths, drawn(index), strict=True)) for index in (few, many))
    assert {path: after[path] for path in before} == before
    assert any(drawn(few) != drawn(few, seed=1))
    if groups is not None:
        assert len({(groups(path), split) for path, split in after.items()}) == len({groups(path) for path in after})


def test_copies_are_drawn_together():
    index = known(index_of(100, 100))
    ids = index.ids.copy()
    ids[1::2] = ids[::2]
    split = drawn(replace(index, ids=ids))
    np.testing.assert_array_equal(split[1::2], split[::2])


def test_a_split_that_was_drawn_no_image_of_a_class_is_told():
    with pytest.raises(DataError, match=r"data.stable_split: no image of class 'c01' was drawn for (val|test). Add images, take another"):
        drawn(known(index_of(500, 4)))


def test_without_contents_the_cut_is_as_ever():
    index = index_of(50, 50)
    np.testing.assert_array_equal(drawn(index), cut_of(index, test=0.2))


def test_groups_that_a_copy_joins_are_drawn_together():
    """Each image of the second half of the groups is a copy of one of the first half."""
    index = known(index_of(100, 100), groups=lambda path: path)
    ids, groups = index.ids.copy(), np.array([f"g{row // 2}" for row in range(200)])
    ids[[1, 3, 5, 101, 103]] = ids[[10, 20, 30, 110, 120]]
    split = drawn(replace(index, ids=ids, groups=tuple(groups)))
    for row, other in zip([1, 3, 5, 101, 103], [10, 20, 30, 110, 120], strict=True):
        assert len(set(split[np.isin(groups, groups[[row, other]])])) == 1


def soft_index(*names):
    """Images of each class that are that class in part only."""
    index = index_of(*[5] * len(names), names=sorted(names))
    shares = np.random.default_rng(0).dirichlet(np.ones(len(names)), len(index.paths)) + 2 * np.eye(len(names))[index.labels]
    return replace(index, shares=(shares / shares.sum(axis=1, keepdims=True)).astype(np.float32))


def test_splits_csv_holds_soft_labels_to_the_last_bit(tmp_path):
    index = replace(soft_index("Löwe, groß", "a;b:0.5", "p_c"), groups=tuple(map(str, range(15))))
    split = cut_of(index)
    write_splits(tmp_path / "splits.csv", index, split)
    again, split_again = read_splits(tmp_path / "splits.csv", ROOT)
    assert (again.classes, again.groups) == (index.classes, index.groups)
    np.testing.assert_array_equal(again.shares, index.shares)
    np.testing.assert_array_equal(again.labels, index.labels)
    assert (again.labels.dtype, again.shares.dtype) == (np.int32, np.float32)
    np.testing.assert_array_equal(split_again, split)


@pytest.mark.parametrize(("old", "new"), [("0.5,0.5", "0.2,0.8"), ("0.5,0.5", "0.5"), ("0.5,0.5", "x,0.5"), (",c0,", ",c1,")])
def test_soft_labels_in_splits_csv_that_were_changed_are_refused(tmp_path, old, new):
    path = tmp_path / "splits.csv"
    path.write_text("path,class,split,p_c0,p_c1\na.png,c0,train,0.5,0.5\n".replace(old, new))
    with pytest.raises(RunFolderError, match="is damaged, or is not a table of splits"):
        read_splits(path, ROOT)
