"""An image of a shard as it is read for the first time, and its label."""

from typing import NamedTuple

LONGEST_LABEL = 1000  # characters; what is longer is not the name of a class


class Sample(NamedTuple):
    """An image of a shard.

    Attributes:
        name: of the image in its shard, with '/' between folders.
        start: where its bytes begin, or the number of its record.
        size: its bytes.
        label: a name or a number as text; None where the shard says that it has none.
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
