"""Layouts of which a scan would make wrong classes: what each is told, with the real folders and the moves that mend it."""

import pytest

from tl_keras.data.layouts import split_word
from tl_keras.data.sources.class_folders import scan_folder
from tl_keras.errors import DataError


def tree(root, *folders):
    """Two images in each folder; the scan looks at names alone."""
    for folder in folders:
        (root / folder).mkdir(parents=True)
        for number in range(2):
            (root / folder / f"{number}.png").touch()
    return root


def error_of(root):
    with pytest.raises(DataError) as caught:
        scan_folder(root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def moved(root, *moves):
    """What a user does who is told to."""
    for old, new in moves:
        (root / new).parent.mkdir(parents=True, exist_ok=True)
        (root / old).rename(root / new)
    for folder in sorted(root.rglob("*"), reverse=True):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    return scan_folder(root)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("training_set", "train"),
        ("seg_train", "train"),
        ("Images-Val", "val"),
        ("testset", "test"),
        ("train2017", "train"),
        ("training", "train"),
        ("batch1", None),
        ("rain", None),
        ("contest", None),
        ("trainer", None),
        ("train_test", None),
    ],
)
def test_the_split_that_a_name_speaks_of(name, split):
    assert split_word(name) == split


def test_splits_in_folders_of_their_own_name(tmp_path):
    tree(tmp_path, *(f"{split}/{split}/{name}" for split in ("training_set", "test_set") for name in ("cats", "dogs")))
    assert error_of(tmp_path) == (
        f"{tmp_path}: 'test_set' and 'training_set' hold the same folders and no images, and look like splits, not classes. "
        f"Move {tmp_path}/test_set/test_set to {tmp_path}/test, {tmp_path}/training_set/training_set to {tmp_path}/train, "
        f"and remove {tmp_path}/test_set and {tmp_path}/training_set, then empty."
    )
    index = moved(tmp_path, ("test_set/test_set", "test"), ("training_set/training_set", "train"))
    assert index.classes == ("cats", "dogs")
    assert set(index.given) == {"train", "test"}


def test_splits_of_other_names_with_images_that_are_not_labelled(tmp_path):
    tree(tmp_path, "seg_train/sea", "seg_train/street", "seg_test/sea", "seg_test/street", "seg_pred")
    assert error_of(tmp_path) == (
        f"{tmp_path}: 'seg_test' and 'seg_train' hold the same folders and no images, and look like splits, not classes. "
        f"Move {tmp_path}/seg_test to {tmp_path}/test, {tmp_path}/seg_train to {tmp_path}/train, and take {tmp_path}/seg_pred away."
    )


def test_images_train_and_images_val(tmp_path):
    tree(tmp_path, "images_train/a", "images_train/b", "images_val/a", "images_val/b")
    assert error_of(tmp_path).endswith(f"Move {tmp_path}/images_train to {tmp_path}/train, {tmp_path}/images_val to {tmp_path}/val.")
    assert moved(tmp_path, ("images_train", "train"), ("images_val", "val")).classes == ("a", "b")


def test_parts_of_the_data_beside_each_other(tmp_path):
    tree(tmp_path, *(f"batch{number}/{name}" for number in (1, 2) for name in ("cat", "dog")))
    assert error_of(tmp_path) == (
        f"{tmp_path}: 'batch1' and 'batch2' hold the same folders, 'cat' and 'dog', and no images. If 'cat' and 'dog' are the classes, "
        f"bring them together: move the images of {tmp_path}/batch1/cat and {tmp_path}/batch2/cat to {tmp_path}/cat, and the others "
        "likewise. If 'batch1' and 'batch2' are the classes, move their images out of those folders. "
        "If each folder in them is a class of its own, set data.nested_classes=true."
    )


def test_parts_within_a_split(tmp_path):
    tree(tmp_path, *(f"train/batch{number}/{name}" for number in (1, 2) for name in ("cat", "dog")))
    assert error_of(tmp_path).startswith(f"{tmp_path}/train: 'batch1' and 'batch2' hold the same folders")


@pytest.mark.parametrize("names", [("train", "test"), ("train_images", "test_images")])
def test_splits_within_the_classes(tmp_path, names):
    tree(tmp_path, *(f"{animal}/{name}" for animal in ("cat", "dog") for name in names))
    assert error_of(tmp_path) == (
        f"{tmp_path}: 'cat' and 'dog' hold the same folders, '{names[1]}' and '{names[0]}', and no images: the splits lie inside the "
        f"classes. Put the split first: move {tmp_path}/cat/{names[1]} to {tmp_path}/test/cat, {tmp_path}/cat/{names[0]} to "
        f"{tmp_path}/train/cat, and the others likewise."
    )
    moves = [(f"{animal}/{name}", f"{split_word(name)}/{animal}") for animal in ("cat", "dog") for name in names]
    assert moved(tmp_path, *moves).classes == ("cat", "dog")


def test_a_split_with_a_folder_too_many(tmp_path):
    tree(tmp_path, *(f"{split}/{split}/{name}" for split in ("train", "test") for name in ("cats", "dogs")))
    assert error_of(tmp_path) == (
        f"{tmp_path}/train: holds no class folders but 'train', which holds the folders 'cats' and 'dogs'. "
        f"If those are the classes, move them from {tmp_path}/train/train to {tmp_path}/train."
    )


@pytest.mark.parametrize(
    "folders",
    [
        ("animal/cat", "animal/dog", "vehicle/car", "vehicle/bus"),  # classes of classes
        ("animal/cat", "animal/other", "vehicle/car", "vehicle/other"),
        ("cat/images", "dog/images"),
        ("cat/2020", "cat/2021", "dog/2022"),
        ("cat", "cat/more", "cat/old", "dog", "dog/more", "dog/old"),  # images beside the folders
        ("bullet train/day", "test tube/lab"),
    ],
)
def test_folders_in_classes_that_mean_nothing(tmp_path, folders):
    tree(tmp_path, *folders)
    assert scan_folder(tmp_path).classes == tuple(sorted({folder.split("/")[0] for folder in folders}))
