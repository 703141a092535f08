"""The test images that an export is compared on: those of a kind that TensorFlow decodes, and a report of the others."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from tl_keras.data.decode_graph import refused_kind
from tl_keras.data.formats import HEAD_BYTES
from tl_keras.data.regular import open_regular


def describe(refused: Mapping[str, int], num_files: int) -> str:
    """Say which test images the signature 'bytes' will not take, as one line.

    Args:
        refused: how many there are of each kind, at least one.
        num_files: test images in all.
    """
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in sorted(refused.items(), key=lambda each: (-each[1], each[0])))
    number = sum(refused.values())
    return f"the signature 'bytes' will refuse {number:,} of {num_files:,} test images, which TensorFlow does not decode: {kinds}"


def refused_by(files: Sequence[Path], number: int) -> tuple[Counter[str], list[Path]]:
    """Sort out files that the signature 'bytes' refuses for their kind.

    Returns:
        How many of all files there are of each kind that is refused; and up to `number` of the others, spread evenly.
    """
    kinds = [_kind(file) for file in files]
    taken = [file for file, kind in zip(files, kinds, strict=True) if kind is None]
    return Counter(kind for kind in kinds if kind is not None), spread(taken, number)


def spread(files: Sequence[Path], number: int) -> list[Path]:
    """Up to `number` of some files, evenly spaced."""
    step = max(1, len(files) // number)
    return list(files[::step][:number])


def _kind(file: Path) -> str | None:
    try:
        with open_regular(file) as opened:
            return refused_kind(opened.read(HEAD_BYTES))
    except OSError:
        return "unreadable"
