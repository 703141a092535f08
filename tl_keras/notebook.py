"""The notebook side of `progress`: lines as output of the cell, and bars that are drawn in place and go away when they are done."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tl_keras.progress import Progress

WIDTH = 30  # characters of a bar
REDRAW_S = 0.2  # between two drawings: each is a message to the browser


class NotebookProgress(Progress):
    """Needs nothing but IPython, which every notebook has."""

    def line(self, text: str) -> None:
        print(text)

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        from IPython.display import display

        shown = display({"text/plain": drawn(title, 0, total)}, raw=True, display_id=True)
        done, drawn_at = 0, time.monotonic()

        def advance(more: int) -> None:
            nonlocal done, drawn_at
            done += more
            if time.monotonic() - drawn_at >= REDRAW_S:
                shown.update({"text/plain": drawn(title, done, total)}, raw=True)
                drawn_at = time.monotonic()

        try:
            yield advance
        finally:
            shown.update({"text/plain": ""}, raw=True)


def drawn(title: str, done: int, total: int) -> str:
    """A bar as text: 'predict ███░░░ 50/100'."""
    full = WIDTH * done // max(1, total)
    return f"{title} {'█' * full}{'░' * (WIDTH - full)} {done}/{total}"
