"""An image of a shard as it is read for the first time, and its label."""

import unicodedata
from typing import NamedTuple

LONGEST_LABEL = 1000  # characters; what is longer is not the name of a class
BETWEEN = "\t"  # a number and the name that a record gives it, which has no such character


class Sample(NamedTuple):
    """An image of a shard.

    Attributes:
        name: of the image in its shard, with '/' between folders.
        start: where its bytes begin, or the number of its record.
        size: its bytes.
        label: a name, a number as text, or both, see `numbered`; None where the shard says that it has none.
        image: the bytes themselves.
    """

    name: str
    start: int
    size: int
    label: str | None
    image: bytes


def label_of(content: bytes) -> str:
    """The label that some bytes are.

    Raises:
        ValueError: they are none.
    """
    label = content.decode("utf-8").strip()
    if not label or len(label) > LONGEST_LABEL or not label.isprintable():
        raise ValueError(f"{label[:20]!a} is not the name or number of a class")
    return label


def numbered(number: int, name: str) -> str:
    """The label of an image whose record has the number and the name of its class."""
    return f"{number}{BETWEEN}{name}"


def number_and_name(label: str) -> tuple[str, str]:
    """The number as text and the name, as NFC, that a label consists of; one of them is empty where it has the other alone."""
    number, both, name = unicodedata.normalize("NFC", label).partition(BETWEEN)
    if both:
        return number, name
    return (label, "") if label.isdecimal() else ("", number)
