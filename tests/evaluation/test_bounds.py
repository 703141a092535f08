"""Bounds on figures: on which side they lie, and which are refused."""

import pytest

from tl_keras.errors import ConfigError
from tl_keras.evaluation.bounds import missed, require_bounds

FIGURES = {"accuracy": 0.9, "ece": 0.05}


@pytest.mark.parametrize(
    ("given", "lines"),
    [
        ({"min_accuracy": 0.9, "max_ece": 0.05}, []),
        ({"min_accuracy": None, "max_ece": None}, []),
        ({"min_accuracy": 0.91, "max_ece": None}, ["accuracy is 0.9000, and has to be at least 0.91"]),
        ({"min_accuracy": 0.0, "max_ece": 0.0}, ["ece is 0.0500, and has to be at most 0"]),
    ],
)
def test_a_bound_is_kept_or_told(given: dict[str, float | None], lines: list[str]) -> None:
    require_bounds(given, "single_label")
    assert missed(FIGURES, given) == lines


@pytest.mark.parametrize(
    ("given", "task", "message"),
    [
        ({"min_accuracy": 90.0}, "single_label", r"--min-accuracy: got 90, expected a number from 0 to 1\."),
        ({"max_ece": float("nan")}, "single_label", "--max-ece: got nan, expected"),
        ({"min_accuracy": 0.9}, "regression", r"data.task=regression, whose figures do not include accuracy\. Remove it\."),
    ],
)
def test_a_bound_that_nothing_can_be_held_to_is_refused(given: dict[str, float | None], task: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        require_bounds(given, task)
