"""What the classes of two domains have in common, by labels of the target."""

import numpy as np
import pytest

from tl_keras.terminal.domains import relation_lines
from tl_keras.workflows.measure_target import relation_of_classes

CLASSES = ("ant", "bee", "fly")
PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.0, 0.4, 0.6], [0.2, 0.2, 0.6]])


def test_the_mean_is_over_the_images_of_a_class_and_nce_is_a_conditional_entropy() -> None:
    found = relation_of_classes(PROBABILITIES, np.array([0, 0, 2, 0]), CLASSES)
    assert set(found["mean_probabilities"]) == {"ant", "fly"}
    assert found["mean_probabilities"]["ant"] == pytest.approx({"ant": 1 / 3, "bee": 0.4, "fly": 0.8 / 3})
    assert found["mean_probabilities"]["fly"] == pytest.approx({"ant": 0, "bee": 0.4, "fly": 0.6})
    assert found["nce"] == pytest.approx(0.5 * np.log(0.5))  # half of the images are predicted as fly, which is an ant as often as a fly


def test_of_one_class_nce_says_nothing() -> None:
    found = relation_of_classes(PROBABILITIES, np.array([1, 1, 1, 1]), CLASSES)
    assert found["nce"] is None
    assert relation_lines(found) == [
        "target: mean probabilities of the images of each class, the 3 largest",
        "  bee: bee 0.40, fly 0.35, ant 0.25",
    ]


def test_many_classes_are_not_printed() -> None:
    names = [str(place) for place in range(11)]
    assert relation_lines(relation_of_classes(np.eye(11), np.arange(11), names)) == []
