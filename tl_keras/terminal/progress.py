"""The terminal side of `progress`: rich lines and bars on standard output, plain text where it is not a terminal."""

import re
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from tl_keras.progress import Progress

COMMANDS = ("tl_keras.run ", "tl-keras ")  # what a line has that shows a command
INDENT = "    "  # before the rest of a line that is cut


class ConsoleProgress(Progress):
    """Lines that stay and, in a terminal, bars that go away when they are done.

    Args:
        bars: False for lines only, where something else writes to the terminal too.
    """

    def __init__(self, console: Console, *, bars: bool = True) -> None:
        self.console = console
        self.bars = bars and console.is_terminal

    def line(self, text: str) -> None:
        told = fitted(text, self.console.width) if self.console.is_terminal else text
        self.console.print(told, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with RichProgress(*columns, console=self.console, transient=True, disable=not self.bars) as bars:
            task = bars.add_task(title, total=total)
            yield lambda done: bars.advance(task, done)


def fitted(text: str, width: int) -> str:
    """A line as lines of at most so many columns: it is cut between its fields, which two spaces separate, or else between words.

    A number, a word and a path stay whole, however long they are, and so does a command, which somebody may want to copy.
    """
    if len(text) <= width or any(command in text for command in COMMANDS):
        return text
    lines: list[str] = []
    for field in re.split(r"(?<=\S) {2,}(?=\S)", text):
        joined = f"{lines[-1]}  {field}" if lines else field
        if lines and len(joined) <= width:
            lines[-1] = joined
            continue
        indent = INDENT * bool(lines)
        lines += textwrap.wrap(
            field, width, initial_indent=indent, subsequent_indent=INDENT, break_long_words=False, break_on_hyphens=False
        )
    return "\n".join(lines)
