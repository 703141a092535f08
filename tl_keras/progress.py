"""The interface for reporting progress, independent of any terminal.

`run` listens with a terminal; a caller from Python hears nothing unless it passes its own.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Progress:
    """A listener that hears and says nothing: the base of those that do."""

    def line(self, text: str) -> None:
        """Take a line of text that is worth keeping."""

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        """Follow a loop of `total` items: yields a function that is told how many were just done."""
        yield lambda _: None


class BarsOnly(Progress):
    """Shows the bars of another listener and keeps its lines out: for work that is done again and again and says the same each time."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        with self._progress.bar(title, total) as advance:
            yield advance
