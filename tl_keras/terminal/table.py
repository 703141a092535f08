"""What the tables of a terminal have in common."""

from collections.abc import Callable, Sequence

from rich.table import Table

from tl_keras.tasks import figure_text

MOST_CLASSES = 30  # rows of the table per class; metrics.json has them all


def plain_table(header: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> Table:
    """A table of texts, numbers to the right from the second column on."""
    table = Table(title=title, title_justify="left")
    for number, name in enumerate(header):
        table.add_column(name, justify="right" if number else "left", overflow="fold", no_wrap=bool(number))  # no number is cut
    for row in rows:
        table.add_row(*row)
    return table


def interval(ends: Sequence[float]) -> str:
    """An interval after its figure."""
    return f" (95 % interval {ends[0]:.4g} to {ends[1]:.4g})"


def ends_text(name: str, ends: Sequence[float], shown: Callable[[str, float], str] = figure_text) -> str:
    """The ends of an interval of a figure."""
    return " to ".join(shown(name, end) for end in ends)
