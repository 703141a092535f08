"""Many texts without a Python object for each: ten million paths of 30 characters take 0.4 GB, and as strings in a tuple 0.9 GB.

What the columns of an `Index` are made of. It knows nothing of what the texts mean.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self, overload

import numpy as np
from numpy.typing import NDArray

_ERRORS = "surrogatepass"  # names of files may hold bytes that are no UTF-8, which Python writes as lone surrogates
_AT_ONCE = 2**16  # texts made into strings at a time where one goes through all


class Texts(Sequence[str]):
    """n texts; each is made a string when it is asked for. Equal to any sequence of the same texts, and never changed.

    Args:
        data: their bytes, uint8, in any order; those of equal texts may be shared.
        starts: where each begins there, unsigned (n,).
        lengths: bytes of each, uint32 (n,).
    """

    def __init__(self, data: NDArray[np.uint8], starts: NDArray[np.unsignedinteger], lengths: NDArray[np.uint32]) -> None:
        self._data, self._starts, self._lengths = data, starts, lengths

    @classmethod
    def of(cls, values: Sequence[str]) -> "Texts":
        """The same texts; texts that are packed already stay as they are."""
        return values if isinstance(values, Texts) else packed(values)

    @classmethod
    def chosen(cls, names: Sequence[str], numbers: NDArray[np.integer]) -> "Texts":
        """Some names, each as often as it is asked for: `names[numbers]`, int (n,)."""
        return cls.of(names).take(numbers)

    @classmethod
    def joined(cls, parts: Sequence["Texts"]) -> "Texts":
        """All texts of some parts, one part after the other."""
        before = np.cumsum([0, *(len(part._data) for part in parts)])
        starts = [part._starts.astype(np.uint64) + np.uint64(at) for part, at in zip(parts, before[:-1], strict=True)]
        return cls(
            np.concatenate([np.empty(0, np.uint8), *(part._data for part in parts)]),
            np.concatenate([np.empty(0, np.uint64), *starts]).astype(_unsigned(int(before[-1]))),
            np.concatenate([np.empty(0, np.uint32), *(part._lengths for part in parts)]),
        )

    def take(self, rows: NDArray[Any]) -> Self:
        """Some of the texts; their bytes are shared.

        Args:
            rows: positions, integers (m,), or bool (n,).
        """
        return type(self)(self._data, self._starts[rows], self._lengths[rows])

    def numbered(self) -> tuple[list[str], NDArray[np.int64]]:
        """The different texts, and the number of each text among them, int64 (n,)."""
        places, first, inverse = np.unique(self._starts * np.uint64(2) + (self._lengths > 0), return_index=True, return_inverse=True)
        number: dict[str, int] = {}
        numbers = np.fromiter((number.setdefault(self[row], len(number)) for row in first.tolist()), np.int64, len(places))
        return list(number), numbers[inverse]

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self._data.nbytes + self._starts.nbytes + self._lengths.nbytes

    def arrays(self) -> tuple[NDArray[np.uint8], NDArray[np.unsignedinteger], NDArray[np.uint32]]:
        """What `Texts` is made of, for a file."""
        return self._data, self._starts, self._lengths

    def __len__(self) -> int:
        return len(self._lengths)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> "Texts": ...
    def __getitem__(self, row: int | slice) -> "str | Texts":
        if isinstance(row, slice):
            return type(self)(self._data, self._starts[row], self._lengths[row])
        start = int(self._starts[row])
        return self._data[start : start + int(self._lengths[row])].tobytes().decode("utf-8", _ERRORS)

    def __iter__(self) -> Iterator[str]:
        view = self._data.data
        for first in range(0, len(self), _AT_ONCE):
            part = slice(first, first + _AT_ONCE)
            for start, length in zip(self._starts[part].tolist(), self._lengths[part].tolist(), strict=True):
                yield str(view[start : start + length], "utf-8", _ERRORS)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str | bytes):
            return NotImplemented
        return len(self) == len(other) and all(mine == its for mine, its in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # as a list has none

    def __repr__(self) -> str:
        return f"Texts({list(self)!r})" if len(self) <= 8 else f"Texts({list(self[:8])!r} and {len(self) - 8} more)"


class TextList:
    """A list of texts that only grows, for those that come one after the other.

    Args:
        shared: keep the bytes of equal texts once, which takes a Python object for each of the different ones.
    """

    def __init__(self, *, shared: bool = False) -> None:
        self._data = bytearray()
        self._starts, self._lengths = array("Q"), array("I")
        self._known: dict[str, tuple[int, int]] | None = {} if shared else None

    def append(self, text: str) -> None:
        """Add one at the end."""
        place = None if self._known is None else self._known.get(text)
        if place is None:
            content = text.encode("utf-8", _ERRORS)
            place = len(self._data), len(content)
            self._data += content
            if self._known is not None:
                self._known[text] = place
        self._starts.append(place[0])
        self._lengths.append(place[1])

    def __len__(self) -> int:
        return len(self._starts)

    def texts(self) -> Texts:
        """All that came so far; nothing may come after."""
        starts = np.frombuffer(self._starts, np.uint64) if self._starts else np.empty(0, np.uint64)
        lengths = np.frombuffer(self._lengths, np.uint32) if self._lengths else np.empty(0, np.uint32)
        return Texts(np.frombuffer(self._data, np.uint8), starts.astype(_unsigned(len(self._data))), lengths)


def packed(values: Iterable[str], *, shared: bool = False) -> Texts:
    """Pack texts as they come; see `TextList`."""
    found = TextList(shared=shared)
    for value in values:
        found.append(value)
    return found.texts()


def _unsigned(size: int) -> type[np.unsignedinteger]:
    """The type of places in so many bytes."""
    return np.uint32 if size < 2**32 else np.uint64
