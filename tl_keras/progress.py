"""The interface for reporting progress, independent of any terminal.

`run` listens with a terminal; a caller from Python hears nothing unless it passes its own.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager


class Progress:
    """A listener that hears and says nothing: the base of those that do."""

    def line(self, text: str) -> None:
        """Take a line of text that is worth keeping."""

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        """Follow a loop of `total` items: yields a function that is told how many were just done."""
        yield lambda _: None

    def epoch(self, phase: str, number: int, figures: Mapping[str, float]) -> None:
        """Take the figures of an epoch of training, by the columns of history.csv that it has; they are in that file already."""


class BarsOnly(Progress):
    """Shows the bars of another listener and keeps its lines out: for work that is done again and again and says the same each time."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        with self._progress.bar(title, total) as advance:
            yield advance


class Logged(Progress):
    """Hands all that it hears to another listener, and the epochs to logs first."""

    def __init__(self, progress: Progress, *logs: Callable[[str, int, Mapping[str, float]], None]) -> None:
        self._progress, self._logs = progress, logs

    def line(self, text: str) -> None:
        self._progress.line(text)

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        with self._progress.bar(title, total) as advance:
            yield advance

    def epoch(self, phase: str, number: int, figures: Mapping[str, float]) -> None:
        for log in self._logs:
            log(phase, number, figures)
        self._progress.epoch(phase, number, figures)
