"""Labels as text and back."""

import numpy as np
import pytest

from tl_keras.data.label_texts import label_text, labels_of, names_of, number_text, numbers_of
from tl_keras.models.outputs import OUTPUTS, SINGLE_LABEL, MultiLabel, Regression

CLASSES = ("beach", "dog", "sea")


def test_one_label_is_its_name_several_are_joined_and_a_number_is_short() -> None:
    assert label_text(SINGLE_LABEL, np.int32(1), CLASSES) == "dog"
    assert label_text(MultiLabel(), np.array([True, False, True]), CLASSES) == "beach;sea"
    assert label_text(MultiLabel(), np.zeros(3, bool), CLASSES) == ""
    assert label_text(Regression(), np.float32(61.1), ("age",)) == "61.1"
    assert names_of([False, True, True], CLASSES) == ["dog", "sea"]


@pytest.mark.parametrize("number", [0, 3, -0.5, 1 / 3, 1e-30, 16777217.0, 123456.78])
def test_a_number_is_read_back_to_the_last_bit(number: float) -> None:
    assert numbers_of([number_text(number)])[0] == np.float32(number)


@pytest.mark.parametrize("text", ["", "x", "nan", "inf", "1e99", "3,5"])
def test_what_is_not_a_finite_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a number"):
        numbers_of(["1", text])


@pytest.mark.parametrize(
    ("task", "texts", "classes", "labels"),
    [
        ("single_label", ["b", "a", "b"], ("a", "b"), [1, 0, 1]),
        ("multi_label", ["b;a", "", "b"], ("a", "b"), [[True, True], [False, False], [False, True]]),
        ("regression", ["1.5", "-2"], ("value",), [1.5, -2]),
    ],
)
def test_labels_of_each_task(task: str, texts: list[str], classes: tuple[str, ...], labels: list[object]) -> None:
    found, array, output = labels_of(task, texts)
    assert (found, array.tolist(), output) == (classes, labels, OUTPUTS[task])
