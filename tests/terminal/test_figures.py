"""The confusion matrix in a terminal."""

import numpy as np
import pytest

from tl_keras.terminal.figures import confusion_lines


def confused(classes: list[str], counts: int = 7) -> list[str]:
    matrix = np.full((len(classes), len(classes)), 0)
    np.fill_diagonal(matrix, counts)
    matrix[0, -1] = 3
    return confusion_lines({"per_class": {name: {} for name in classes}, "confusion_matrix": matrix.tolist()})


def test_a_confusion_matrix_has_a_row_for_each_true_class():
    lines = confused(["ant", "[bold]bee"])
    assert lines[0].split() == ["true", "\\", "predicted", "ant", "[bold]bee"]
    assert [line.split() for line in lines[1:]] == [["ant", "7", "3"], ["[bold]bee", "·", "7"]]


@pytest.mark.parametrize("counts", [7, 123_456])
def test_ten_classes_of_long_names_fit_and_no_number_is_cut(counts):
    lines = confused([f"a long name of a class, number {place}" for place in range(10)], counts)
    assert max(map(len, lines)) <= 80
    assert lines[0].split()[-10:] == [str(place) for place in range(1, 11)]
    assert all(line.split()[-10:].count(str(counts)) == 1 for line in lines[1:])


def test_more_classes_are_left_to_the_picture():
    assert confused([str(place) for place in range(11)]) == []
