"""The labels of a table for each task, and one line for each mistake in them."""

from pathlib import Path

import numpy as np
import pytest

from tl_keras.data.sources.table_labels import Found, LabelCells, read_labels
from tl_keras.errors import DataError
from tl_keras.models.outputs import OUTPUTS

TABLE = Path("t.csv")


def read(task: str, *texts: str, separator: str = ";", known: tuple[str, ...] | None = None) -> Found:
    cells = LabelCells(TABLE, "label", texts, [f"line {number + 2}" for number in range(len(texts))], separator)
    return read_labels(cells, task, known)


def error_of(task: str, *texts: str, separator: str = ";", known: tuple[str, ...] | None = None) -> str:
    with pytest.raises(DataError) as caught:
        read(task, *texts, separator=separator, known=known)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix("t.csv: ")


@pytest.mark.parametrize("separator", [";", "|", ", ", " "])
def test_several_classes_in_a_cell(separator: str) -> None:
    found = read("multi_label", f"sea{separator}beach", "", "sea", separator=separator)
    assert (found.classes, found.output, found.notes) == (("beach", "sea"), OUTPUTS["multi_label"], ())
    np.testing.assert_array_equal(found.labels, [[True, True], [False, False], [False, True]])


def test_blanks_empty_parts_and_repeats_in_a_cell_mean_nothing() -> None:
    found = read("multi_label", " sea ;; beach;sea; ", "")
    assert (found.classes, found.labels.tolist()) == (("beach", "sea"), [[True, True], [False, False]])


def test_a_model_says_the_order_of_its_classes() -> None:
    found = read("multi_label", "sea", "", known=("sea", "beach"))
    assert (found.classes, found.labels.tolist()) == (("sea", "beach"), [[True, False], [False, False]])
    found = read("single_label", "sea", known=("sea", "beach"))
    assert (found.classes, found.labels.tolist()) == (("sea", "beach"), [0])
    found = read("regression", "3", known=("age",))
    assert (found.classes, found.labels.tolist()) == (("age",), [3])
    for task in ("single_label", "multi_label"):
        assert (
            error_of(task, "beech", known=("sea", "beach")) == "has a class 'beech', which the model does not know. Did you mean 'beach'?"
        )


def test_numbers_are_numbers() -> None:
    found = read("regression", "3", "-0.5", "1e3")
    assert (found.classes, found.labels.tolist(), found.labels.dtype) == (("label",), [3, -0.5, 1000], np.float32)


@pytest.mark.parametrize(
    ("task", "texts", "message"),
    [
        ("regression", ("3", "3,5"), "line 3 has '3,5' in the column 'label', expected a finite number. Write 3.5."),
        (
            "regression",
            ("x", "y", "1"),
            "line 2 has 'x' in the column 'label', expected a finite number; 2 rows are like that. Mend it, or remove the row.",
        ),
        ("regression", ("1", "inf"), "line 3 has 'inf' in the column 'label', expected a finite number. Mend it, or remove the row."),
        (
            "regression",
            ("1,234", "2"),
            "line 2 has '1,234' in the column 'label', expected a finite number. Write 1234, or 1.234 if the comma is a decimal one.",
        ),
        ("regression", ("1,234,567.5", "2"), "line 2 has '1,234,567.5' in the column 'label', expected a finite number. Write 1234567.5."),
        ("regression", ("2", "2"), "all numbers in the column 'label' are 2; there is nothing to learn."),
        ("multi_label", ("a;b", "b; a"), "all images have the same classes (a, b); there is nothing to learn."),
        ("multi_label", ("", " ; "), "no image has a class: the column 'label' is empty. Fill it in."),
        (
            "multi_label",
            ("Sea;beach", "sea"),
            "the labels 'Sea' (1 rows) and 'sea' (1 rows) differ in nothing but case or blanks. Give both the same name.",
        ),
        ("single_label", ("a", "a"), "one class only ('a'); a classifier needs at least 2."),
    ],
)
def test_each_mistake_is_one_line(task: str, texts: tuple[str, ...], message: str) -> None:
    assert error_of(task, *texts) == message


def test_a_class_cannot_hold_what_separates_classes_in_a_run() -> None:
    assert error_of("multi_label", "a;b|c", separator="|") == (
        "has a class 'a;b'; a name cannot hold ';', which separates names in the tables of a run. "
        "Set data.label_separator to it, or rename the class."
    )


def test_numbers_are_not_taken_for_classes() -> None:
    ages = [str(age) for age in range(30)]
    assert error_of("single_label", *ages) == (
        "the column 'label' has 30 different numbers, and 30 of them in fewer than 4 rows: too few for a class. "
        "To predict a number, set data.task=regression."
    )
    assert error_of("multi_label", *ages) == error_of("single_label", *ages)
    assert len(read("single_label", *ages * 4).classes) == 30  # there are enough of each


def test_what_looks_like_several_classes_is_told() -> None:
    assert read("single_label", "sea", "beach", "sea|beach").notes == (
        "the label 'sea|beach' counts as one class; if an image may have several, set data.task=multi_label and data.label_separator='|'",
    )
    assert read("single_label", "sea", "sea, north").notes == ()
    assert read("multi_label", "sea|beach", "sea").notes == (
        "no image has more than one class, and one is called 'sea|beach'; if '|' separates names, set data.label_separator='|'",
    )
    assert read("multi_label", "sea, north", "beach").notes == (
        "no image has more than one class, and one is called 'sea, north'; if ',' separates names, set data.label_separator=','",
    )
    assert read("multi_label", "sea", "beach").notes == ("no image has more than one class",)


def test_numbers_that_float32_cannot_tell_apart_are_refused() -> None:
    clock = [f"{1_700_000_000 + second}" for second in range(60)]
    assert error_of("regression", *clock) == (
        "the numbers in the column 'label' lie between 1700000000 and 1700000059, too close together for their size: rounding to float32 "
        "changes them by up to 59. Subtract 1700000000 from each."
    )
    assert error_of("regression", "1700000001", "1700000002").startswith("the numbers in the column 'label' lie between")
    assert read("regression", *clock, known=("age",)).classes == ("age",)  # a model that is there has learned from other numbers
    assert read("regression", "2015.1", "2015.2", "2016.9").labels.dtype == np.float32
