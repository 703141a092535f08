"""`tl-keras cache list | prune`: what stored features take, and making room. Needs no TensorFlow."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tl_keras.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from tl_keras.transfer.store import Stored

DAY_S = 86_400.0


def parse(arguments: Sequence[str], parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Read what comes after `tl-keras cache`."""
    parser.add_argument("action", choices=("list", "prune"), help="list: what is stored; prune: remove the longest unused")
    parser.add_argument("--max-gb", type=float, metavar="GB", help="prune: until so much is left (default: 0, everything goes)")
    parser.add_argument("--older-than", type=float, metavar="DAYS", help="prune: only what was not used for so many days")
    options = parser.parse_args(arguments)
    for name, value in (("--max-gb", options.max_gb), ("--older-than", options.older_than)):
        if value is not None and options.action == "list":
            raise ConfigError(f"{name}: cache list does not use it. Take it away.")
        if value is not None and not value >= 0:
            raise ConfigError(f"{name}: got {value:g}, expected a number >= 0.")
    return options


def manage(options: argparse.Namespace, console: "Console") -> None:
    """Do what the options say with the stored features."""
    from tl_keras.transfer import store

    root = store.feature_folder()
    if options.action == "list":
        found = store.describe(root)
        if found:
            console.print(_table(found))
        console.print(f"{len(found)} collections, {_gb(sum(each.bytes for each in found))} in {root}", highlight=False, soft_wrap=True)
        return
    removed = list(store.prune(root, older_than_s=(options.older_than or 0) * DAY_S, max_bytes=int((options.max_gb or 0) * 1e9)))
    freed, left = sum(each.bytes for each in removed), store.describe(root)
    console.print(
        f"removed {len(removed)} collections, {_gb(freed)}; {_gb(sum(each.bytes for each in left))} are left in {root}",
        highlight=False,
        soft_wrap=True,
    )


def _table(found: "Sequence[Stored]"):  # type: ignore[no-untyped-def]
    from tl_keras.console import plain_table

    rows = [
        (
            str(each.about["backbone"]),
            str(each.about["output"]),
            str(each.about["view"]),
            "x".join(map(str, each.about["image_size"])),
            f"{each.rows:,}",
            _gb(each.bytes),
            f"{each.idle_s / DAY_S:.1f}",
        )
        for each in found
    ]
    return plain_table(("backbone", "output", "view", "pixels", "images", "size", "days unused"), rows, "stored features")


def _gb(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.2f} GB"
