"""Progress of a loop that its reader drives, such as `for found in predict(...)`, in a terminal.

The bar is there while the next items are computed and is wiped before one is handed out: what the reader prints meanwhile goes
where it belongs, and a loop that is left leaves no bar behind.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TextIO, TypeVar

from tl_keras.notebook import drawn
from tl_keras.progress import Progress

Item = TypeVar("Item")


class StepwiseProgress(Progress):
    """Lines, and a bar that is drawn only where it says how far it is.

    Args:
        file: a terminal.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._is_drawn = False

    def line(self, text: str) -> None:
        self.wipe()
        print(text, file=self._file)

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        done = 0

        def advance(more: int) -> None:
            nonlocal done
            done += more
            self.wipe()
            if done < total:
                print(drawn(title, done, total), end="", file=self._file, flush=True)
                self._is_drawn = True

        advance(0)
        try:
            yield advance
        finally:
            self.wipe()

    def wipe(self) -> None:
        """Take the bar away, if there is one."""
        if self._is_drawn:
            print("\r\x1b[K", end="", file=self._file, flush=True)
            self._is_drawn = False

    def wiped_before_each(self, items: Iterable[Item]) -> Iterator[Item]:
        """Hand out items, each when the bar is away."""
        for item in items:
            self.wipe()
            yield item
