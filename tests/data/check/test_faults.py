"""Every fault of the table is found where it is, and not where it is not."""

import numpy as np
import pytest

from tl_keras.data.check.copies import Copy
from tl_keras.data.check.facts import FACT, Facts
from tl_keras.data.check.faults import ENDINGS, FAULTS, Finding, doubtful_copies, faults_of_copies, faults_of_files, of_classes, of_numbers
from tl_keras.data.walk import IMAGE_SUFFIXES

NUM = 30
CLASSES = ("cat", "dog")
BY_A_LOOK = {  # fault -> what an image with it is like
    "blank": {"contrast": 1.0},
    "blurred": {"sharpness": 0.01},
    "tiny": {"height": 20, "width": 40},
    "huge": {"height": 8000, "width": 8000},
    "long": {"height": 100, "width": 400},
    "unusual": {"saturation": 250.0},
    "ending": {"format": b"png"},
}
BY_OTHERS = {"unreadable", "conflict", "leak", "copy", "mirrored", "mislabelled", "outlier"}  # tested below, and in tests/select/check


def ordinary() -> tuple[Facts, list[str]]:
    """Images with nothing wrong, and their paths."""
    rng = np.random.default_rng(0)
    facts = np.zeros(NUM, FACT)
    facts["format"], facts["height"], facts["width"] = b"jpeg", 300, 400
    for name, middle, width in (("brightness", 120, 9), ("contrast", 50, 5), ("saturation", 60, 6), ("sharpness", 0.5, 0.05)):
        facts[name] = np.clip(rng.normal(middle, width, NUM), middle - 2 * width, middle + 2 * width)
    return facts, [f"cat/{number}.JPG" for number in range(NUM)]


def test_every_row_of_the_table_has_a_test() -> None:
    assert set(BY_A_LOOK) | BY_OTHERS == set(FAULTS)
    assert all(fault.title and fault.advice.endswith((".", "out.")) for fault in FAULTS.values())


def test_ordinary_images_have_no_fault() -> None:
    facts, paths = ordinary()
    assert list(faults_of_files(facts, {}, paths, (224, 224))) == []


@pytest.mark.parametrize("fault", BY_A_LOOK)
def test_a_fault_is_found_where_it_is(fault: str) -> None:
    facts, paths = ordinary()
    for name, value in BY_A_LOOK[fault].items():
        facts[name][7] = value
    found = list(faults_of_files(facts, {}, paths, (224, 224)))
    assert [(each.row, each.fault) for each in found] == [(7, fault)]
    assert found[0].detail


def test_a_file_that_does_not_decode_has_its_reason_and_no_other_fault() -> None:
    facts, paths = ordinary()
    facts[3] = np.zeros((), FACT)
    (found,) = faults_of_files(facts, {3: "cat/3.JPG: is empty (0 bytes)"}, paths, (224, 224))
    assert found == Finding(3, "unreadable", 1.0, "cat/3.JPG: is empty (0 bytes)")


def test_few_images_have_no_usual() -> None:
    facts, paths = ordinary()
    facts["saturation"][0] = 250.0
    assert list(faults_of_files(facts[:19], {}, paths[:19], (224, 224))) == []


def test_every_ending_that_is_listed_belongs_to_a_format() -> None:
    assert set().union(*ENDINGS.values()) >= IMAGE_SUFFIXES


@pytest.mark.parametrize(
    ("row", "of", "fault", "detail"),
    [
        (1, 0, "copy", "the same file"),
        (2, 0, "leak", "the same file, in test and train"),
        (3, 0, "conflict", "the same file, labelled dog and cat"),
        (4, 0, "copy", "the same file"),
    ],
)
def test_what_is_wrong_with_a_copy(row: int, of: int, fault: str, detail: str) -> None:
    labels, split = np.array([0, 0, 0, 1, 0], np.int32), np.array(["train", "train", "test", "test", ""])
    found = list(faults_of_copies([Copy(row, of, 1.0)], of_classes(labels), split, lambda row: CLASSES[labels[row]]))
    assert found == [Finding(row, fault, 1.0, detail, of)]


def test_a_leak_through_another_copy_is_one() -> None:
    """Two in train, one in test: both of train are better left out, and neither of test."""
    copies = [Copy(1, 0, 1.0), Copy(2, 0, 0.98)]
    labels, split = np.zeros(4, np.int32), np.array(["train", "train", "test", "val"])
    found = faults_of_copies(copies, of_classes(labels), split, lambda row: CLASSES[labels[row]])
    assert [(each.row, each.fault, each.other) for each in found] == [(1, "leak", 2), (2, "leak", 0)]
    assert doubtful_copies(copies, of_classes(labels), split) == {0: "leak", 1: "leak"}
    labels[1] = 1
    assert doubtful_copies(copies, of_classes(labels), split) == dict.fromkeys(range(3), "conflict")


def test_copies_without_a_label_or_a_split_are_copies() -> None:
    labels, split = np.array([-1, 0], np.int32), np.array(["", "train"])
    found = faults_of_copies([Copy(1, 0, 1.0)], of_classes(labels), split, lambda row: CLASSES[labels[row]])
    assert [each.fault for each in found] == ["copy"]
    assert doubtful_copies([Copy(1, 0, 1.0)], of_classes(labels), split) == {}


def test_numbers_of_copies_may_differ_a_little() -> None:
    numbers, split = np.array([1, 2, 3, -1, 0, 4, 5], np.float32), np.array(["train"] * 7)  # of spread 3
    copies = [Copy(1, 0, 1.0), Copy(2, 0, 1.0)]
    found = list(faults_of_copies(copies, of_numbers(numbers), split, lambda row: f"{numbers[row]:g}"))
    assert [(each.row, each.fault) for each in found] == [(1, "copy"), (2, "conflict")]
    assert [each.detail for each in found] == ["the same file, labelled 2 and 1", "the same file, labelled 3 and 1"]
    assert doubtful_copies(copies[:1], of_numbers(numbers), split) == {}
    assert doubtful_copies(copies, of_numbers(numbers), split) == dict.fromkeys(range(3), "conflict")


def test_an_image_that_is_unusual_in_two_ways_is_one_finding() -> None:
    facts, paths = ordinary()
    facts["saturation"][7], facts["sharpness"][7] = 250.0, 9.0
    assert [each.row for each in faults_of_files(facts, {}, paths, (224, 224))] == [7]


def test_a_picture_that_is_no_equal_file_is_called_a_picture() -> None:
    (found,) = faults_of_copies([Copy(1, 0, 0.97)], of_classes(np.zeros(2, np.int32)), np.array(["train", "train"]), lambda row: CLASSES[0])
    assert found.detail == "the same picture, likeness 0.970"


def test_a_typo_does_not_hide_that_the_numbers_of_copies_differ() -> None:
    numbers = np.append(np.arange(20), 1e6)
    assert of_numbers(numbers).differ(0, 10)
    assert not of_numbers(numbers).differ(0, 2)


def test_sets_of_classes_differ_where_one_class_does() -> None:
    has = np.array([[1, 1], [1, 0], [1, 1]], bool)
    numbers, split = np.unique(has, axis=0, return_inverse=True)[1], np.array(["train"] * 3)
    found = faults_of_copies(
        [Copy(1, 0, 1.0), Copy(2, 0, 1.0)], of_classes(numbers), split, lambda row: ";".join(np.array(CLASSES)[has[row]])
    )
    assert [(each.fault, each.detail) for each in found] == [
        ("conflict", "the same file, labelled cat and cat;dog"),
        ("conflict", "the same file, labelled cat;dog and cat"),
    ]


def test_a_mirror_image_with_another_label_is_told_and_kept() -> None:
    """Left and right: neither a conflict, nor a leak, nor left out; beside it a copy of the mirror image, and one that contradicts it."""
    copies = [Copy(1, 0, 0.98, True), Copy(2, 1, 0.97), Copy(3, 0, 0.99)]
    labels, split = np.array([0, 1, 1, 0], np.int32), np.array(["train", "test", "test", "train"])

    def found() -> list[tuple[int, str, int | None]]:
        return [
            (each.row, each.fault, each.other)
            for each in faults_of_copies(copies, of_classes(labels), split, lambda row: CLASSES[labels[row]])
        ]

    assert found() == [(1, "mirrored", 0), (2, "copy", 1), (3, "copy", 0)]
    assert doubtful_copies(copies, of_classes(labels), split) == {}
    labels[2] = 0
    assert found() == [(1, "conflict", 2), (2, "conflict", 1), (3, "copy", 0)]
    assert doubtful_copies(copies, of_classes(labels), split) == {1: "conflict", 2: "conflict"}
    labels[1:3] = 0
    assert found() == [(1, "leak", 0), (2, "leak", 0), (3, "leak", 1)]
    (first, *_) = faults_of_copies(copies, of_classes(labels), split, lambda row: CLASSES[labels[row]])
    assert first.detail == "the same picture, mirrored, likeness 0.980, in test and train"


@pytest.mark.parametrize("mode", ["classes", "numbers"])
def test_what_contradicts_is_what_a_double_loop_finds(mode: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        values = rng.integers(-1, 3, 6) if mode == "classes" else rng.normal(size=6).astype(np.float32)
        apart = of_classes(values) if mode == "classes" else of_numbers(values)
        rows = np.sort(rng.permutation(6)[:4])
        for row, other in zip(rows, apart.opposites(rows), strict=True):
            assert (other != row) == any(apart.differ(row, each) for each in rows)
            assert other == row or (other in rows and apart.differ(row, other))
        assert apart.are_apart(rows[:2], rows[2:]) == any(apart.differ(row, each) for row in rows[:2] for each in rows[2:])


def test_many_copies_of_one_picture_take_one_pass() -> None:
    """Comparing all with all would take minutes."""
    num = 40_000
    copies = [Copy(row, 0, 1.0) for row in range(1, num)]
    labels, split = np.zeros(num, np.int32), np.array(["train"] * num)
    labels[-1] = 1
    found = list(faults_of_copies(copies, of_classes(labels), split, lambda row: CLASSES[labels[row]]))
    assert {(each.fault, each.other) for each in found[:-1]} == {("conflict", num - 1)}
    assert found[-1].other == 0
    assert len(doubtful_copies(copies, of_classes(labels), split)) == num
