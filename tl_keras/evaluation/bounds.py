"""What a model has to reach: bounds on its figures, for a program that decides by the exit status."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from tl_keras.errors import ConfigError
from tl_keras.tasks import SINGLE_LABEL


class Bound(NamedTuple):
    """A bound on a figure: `figure` is its name in metrics.json, `is_least` says on which side it lies."""

    figure: str
    is_least: bool


BOUNDS = {"min_accuracy": Bound("accuracy", is_least=True), "max_ece": Bound("ece", is_least=False)}


def require_bounds(given: Mapping[str, float | None], task: str) -> None:
    """Refuse a bound that no model of this task can be held to, before anything is measured.

    Args:
        given: by the names in `BOUNDS`; None where there is none.

    Raises:
        ConfigError: it is not a share, or of a figure that the task does not have.
    """
    for name, value in given.items():
        flag = f"--{name.replace('_', '-')}"
        if value is not None and not 0 <= value <= 1:
            raise ConfigError(f"{flag}: got {value:g}, expected a number from 0 to 1.")
        if value is not None and task != SINGLE_LABEL:
            raise ConfigError(f"{flag}: the run has data.task={task}, whose figures do not include {BOUNDS[name].figure}. Remove it.")


def missed(figures: Mapping[str, Any], given: Mapping[str, float | None]) -> list[str]:
    """A line for each bound that the figures of a split do not keep; the figure itself counts, not its interval."""
    lines = []
    for name, value in given.items():
        figure, is_least = BOUNDS[name]
        if value is not None and (figures[figure] < value if is_least else figures[figure] > value):
            lines.append(f"{figure} is {figures[figure]:.4f}, and has to be {'at least' if is_least else 'at most'} {value:g}")
    return lines
