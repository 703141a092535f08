"""The table of labels counts every image, and one typo does not fill it."""

from pathlib import Path

import numpy as np

from tl_keras.data.check.balance import INTERVALS, parts_of
from tl_keras.data.index import Index
from tl_keras.models.outputs import OUTPUTS


def index(labels: np.ndarray, task: str, classes: tuple[str, ...]) -> Index:
    return Index(root=Path("."), classes=classes, paths=tuple(map(str, range(len(labels)))), labels=labels, output=OUTPUTS[task])


def test_images_of_a_class_and_of_none() -> None:
    single = parts_of(index(np.array([0, 1, 1, -1], np.int32), "single_label", ("a", "b")))
    assert [(part.name, part.rows.tolist()) for part in single] == [("a", [0]), ("b", [1, 2]), ("no label", [3])]
    several = parts_of(index(np.array([[1, 1], [0, 1], [0, 0]], bool), "multi_label", ("a", "b")))
    assert [(part.name, part.rows.tolist()) for part in several] == [("a", [0]), ("b", [0, 1]), ("none of the classes", [2])]


def test_intervals_take_every_number_once() -> None:
    numbers = np.arange(100, dtype=np.float32)
    parts = parts_of(index(numbers, "regression", ("age",)))
    assert len(parts) == INTERVALS
    assert [part.name for part in parts[:2]] == ["from 0 to 9.9", "from 9.9 to 19.8"]
    assert np.concatenate([part.rows for part in parts]).tolist() == list(range(100))
    with_typo = parts_of(index(np.append(numbers, np.float32(1e6)), "regression", ("age",)))
    assert with_typo[-1].name.endswith(" on")
    assert max(len(part.rows) for part in with_typo) < 50
    assert sum(len(part.rows) for part in with_typo) == 101


def test_numbers_that_are_nearly_all_equal_have_intervals_too() -> None:
    parts = parts_of(index(np.array([0] * 9 + [5], np.float32), "regression", ("age",)))
    assert sum(len(part.rows) for part in parts) == 10
