"""Features in the store, for a terminal."""

from collections.abc import Sequence

from rich.console import Console

from tl_keras.terminal.table import plain_table
from tl_keras.transfer.store import Stored


def print_stored(console: Console, title: str, stored: Sequence[Stored]) -> None:
    """Collections of the feature store as a table, and their size in one line."""
    rows = [
        (
            f"{each.about['backbone']} {each.about['output']}" + " of all stages" * (each.about.get("stages") == "all"),
            "plain" if each.about["view"] == 0 else f"view {each.about['view']}",
            "x".join(map(str, each.about["image_size"])),
            f"{each.rows:,}",
            f"{each.bytes / 1e9:.3f}",
            f"{each.idle_s / 86_400:.1f}",
        )
        for each in stored
    ]
    if rows:
        console.print(plain_table(("features", "of", "pixels", "images", "GB", "days unused"), rows, title))
    total = sum(each.bytes for each in stored) / 1e9
    console.print(f"{title}: {len(stored)} collections, {total:.3f} GB", markup=False, highlight=False, soft_wrap=True)
