"""What is told of the images that were found, in 80 columns; copies in two splits or classes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tl_keras.config import DataConfig
from tl_keras.data.file_ids import ID_BYTES
from tl_keras.data.found import clashes, copies_lines, found_line, groups_line, straddling_lines, tell_found
from tl_keras.data.index import Index
from tl_keras.models.outputs import MultiLabel, Regression
from tl_keras.progress import Progress


class Heard(Progress):
    """Keeps what it was told."""

    def __init__(self):
        self.lines = []

    def line(self, text):
        self.lines.append(text)


def index_of(ignored=None, **counts):
    labels = np.repeat(np.arange(len(counts)), list(counts.values())).astype(np.int32)
    paths = tuple(f"{name}/{number}.png" for name, count in counts.items() for number in range(count))
    return Index(root=Path("photos"), classes=tuple(counts), paths=paths, labels=labels, ignored=ignored or {})


def ids_of(*letters):
    return np.array([letter.encode() for letter in letters], f"S{ID_BYTES}")


def test_the_classes_and_the_splits_that_are_cut():
    heard = Heard()
    tell_found(index_of(ants=50, bees=50), DataConfig(source="photos/"), heard)
    assert heard.lines == ["photos/: 100 images, ants 50, bees 50; train 68, val 16, test 16"]


def test_the_folder_at_hand_is_called_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert found_line(".", index_of(a=1, b=1), np.array(["train"] * 2)).startswith(f"{tmp_path.name}/: 2 images, ")


def test_few_images_of_each_class_and_classes_with_fewer_are_told():
    heard = Heard()
    tell_found(index_of(ants=50, bees=50, cats=8), DataConfig(source="photos/", per_class=10), heard)
    assert heard.lines == [
        "photos/: 108 images, ants 50, bees 50, cats 8; train 26, val 17, test 17",
        "data.per_class=10: 48 further images of train are not used; train has fewer of cats 6",
    ]
    tell_found(index_of(**{f"c{number}": 10 for number in range(6)}), DataConfig(source="photos/", per_class=9), heard)
    assert heard.lines[-1] == "data.per_class=9: 0 further images of train are not used; train has fewer of c0 6, c1 6, c2 6, 3 more"


def test_the_digits_are_called_bundled_and_files_left_out_are_told():
    heard = Heard()
    tell_found(index_of({".txt": {"a": 1}}, a=10, b=10), DataConfig(), heard)
    assert heard.lines == [
        "digits: 20 images, a 10, b 10; train 12, val 4, test 4",
        "digits are bundled with tl_keras; --data FOLDER takes your own images",
        "left out 1 file: 1 .txt (a 1)",
    ]


@pytest.mark.parametrize(
    ("source", "index", "line"),
    [
        ("p", index_of(**{f"class{number}": 40 + number for number in range(8)}), "p: 348 images, 8 classes of 40 to 47; "),
        ("p", index_of(**{f"class{number}": 40 for number in range(8)}), "p: 320 images, 8 classes of 40; "),
        ("/a/long/way/" + "to/" * 20 + "photos/", index_of(a=2, b=3), ".../photos: 5 images, a 2, b 3; "),
    ],
)
def test_a_line_that_would_be_too_wide_is_shortened(source, index, line):
    found = found_line(source, index, np.full(len(index.paths), "train"))
    assert found == f"{line}train {len(index.paths)}, val 0, test 0"
    assert len(found) <= 80


def test_copies_in_two_splits_and_in_two_classes():
    index = replace(index_of(cat=4, dog=3), ids=ids_of("a", "b", "c", "a", "b", "d", ""))
    split = np.array(["train", "val", "", "test", "val", "train", "train"])
    assert list(copies_lines(index, split)) == [
        "1 image is in more than one split: figures measured on such copies are too optimistic",
        "  first cat/0.png (train) and cat/3.png (test)",
        "1 image is in more than one class: one of the labels must be wrong",
        "  first cat/1.png and dog/0.png",
    ]
    assert list(copies_lines(replace(index, ids=ids_of(*"abcdefg")), split)) == []


def test_files_that_are_not_used_or_not_read_are_not_copies():
    index, split = index_of(cat=2, dog=2), np.array(["train", "train", "", "test"])
    assert list(copies_lines(replace(index, ids=ids_of("a", "", "a", "")), split)) == []
    assert list(copies_lines(index, split)) == []


def test_copies_in_one_split_are_told():
    index = replace(index_of(cat=4, dog=3), ids=ids_of("a", "b", "c", "a", "b", "d", "d"))
    split = np.array(["train", "val", "train", "train", "val", "test", "test"])
    assert list(copies_lines(index, split)) == [
        "3 images are there more than once: copies stay in one split",
        "  first cat/0.png and cat/3.png",
        "1 image is in more than one class: one of the labels must be wrong",
        "  first cat/1.png and dog/0.png",
    ]


def test_groups_in_two_splits_are_told():
    index = replace(index_of(cat=3, dog=1), groups=("p2", "p1", "p2", "p1"))
    assert list(straddling_lines(index, np.array(["train", "val", "test", "val"]))) == [
        "1 group is in more than one split: figures measured on it are too optimistic",
        "  first cat/0.png (train) and cat/2.png (test)",
    ]
    assert list(straddling_lines(index, np.array(["train", "val", "train", "val"]))) == []
    assert list(straddling_lines(index_of(cat=2), np.array(["train", "val"]))) == []


@pytest.mark.parametrize(
    ("groups", "line"),
    [
        (("p1", "p1", "p2"), "data.group_pattern: 2 groups of 1 to 2 images, such as 'p1'"),
        (("p", "p", "p"), "data.group_pattern: 1 group of 3 images, such as 'p'"),
    ],
)
def test_the_groups_that_a_pattern_made_are_told(groups, line):
    assert groups_line(groups, "data.group_pattern") == line


def test_groups_are_told_after_the_images():
    heard = Heard()
    tell_found(replace(index_of(ants=10, bees=10), groups=tuple("abcde" * 4)), DataConfig(source="photos/", group_pattern="."), heard)
    assert heard.lines[1] == "data.group_pattern: 5 groups of 4 images, such as 'a'"


@pytest.mark.parametrize("seed", range(5))
def test_clashes_are_those_of_a_double_loop(seed):
    rng = np.random.default_rng(seed)
    letters = rng.integers(0, 12, 30)
    groups = rng.integers(0, 3, 30)
    number, pair = clashes(ids_of(*(chr(97 + letter) for letter in letters)), groups)
    of_letter = {letter: set(groups[letters == letter].tolist()) for letter in letters.tolist()}
    assert number == sum(len(found) > 1 for found in of_letter.values())
    first = min(row for row in range(30) if len(of_letter[letters[row]]) > 1)
    second = min(row for row in range(30) if letters[row] == letters[first] and groups[row] != groups[first])
    assert pair == (first, second)
    assert clashes(ids_of(), np.zeros(0, np.int64)) == (0, ())


def test_several_labels_and_what_is_not_measured_are_told():
    has = np.zeros((60, 3), bool)
    has[:30, 0] = has[10:40, 1] = has[50, 2] = True
    paths = tuple(f"{number:02}.png" for number in range(60))
    given = ("train",) * 20 + ("val",) * 15 + ("test",) * 5 + ("train",) * 20
    index = Index(root=Path("."), classes=("sea", "sun", "fog"), paths=paths, labels=has, output=MultiLabel(), given=given)
    heard = Heard()
    tell_found(index, DataConfig(source="labels.csv", task="multi_label"), heard)
    assert heard.lines == [
        "labels.csv: 60 images, 3 classes of 1 to 30, none of them 19; train 40, val 15, test 5",
        "val has no image of fog: nothing is measured of it there",
        "test has no image of sea, fog: nothing is measured of it there",
    ]


def test_numbers_are_told_by_their_range():
    numbers = np.arange(60, dtype=np.float32)
    paths = tuple(map(str, range(60)))
    index = Index(root=Path("."), classes=("age",), paths=paths, labels=numbers, output=Regression())
    heard = Heard()
    tell_found(index, DataConfig(source="ages.csv", task="regression"), heard)
    assert heard.lines == ["ages.csv: 60 images, age 0 to 59, 29.5 on average; train 36, val 12, test 12"]


def test_copies_with_different_labels_of_any_kind_are_told():
    split = np.array(["train"] * 4)
    for output, labels in ((Regression(), [1, 2, 3, 3]), (MultiLabel(), [[1, 0], [0, 1], [1, 1], [1, 1]])):
        index = replace(index_of(a=4), labels=np.array(labels, np.float32 if output == Regression() else bool), output=output)
        index = replace(index, ids=ids_of("x", "x", "y", "y"))
        assert "1 image is there with different labels: one must be wrong" in list(copies_lines(index, split))
