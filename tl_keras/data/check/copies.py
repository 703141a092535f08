"""Images that are there more than once: the same file, or the same picture compressed anew, resized or mirrored.

Copies of a picture are found in two steps. Candidates have a run of bits of their difference hashes in common, which sorting
finds without comparing all with all; they are copies if their thumbnails agree. (The cosine of a network's features was tried for
the second step: that of 200 copies of flower photos went down to 0.45, and that of different photos up to 0.95. The correlation
of thumbnails was at least 0.978, and at most 0.945.)
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tl_keras.data.check.facts import Facts
from tl_keras.data.file_ids import Ids

BANDS = 10  # runs of 12 or 13 bits that the 128 of a hash are cut into
MOST_BITS = 24  # in which the hashes of a picture and its copy differ; 17 at most in 200 copies, 64 on average where they are strangers
LEAST_CORRELATION = 0.96  # and more where strangers are alike, as digits, X-rays and products on white are:
CLOSER = 13  # times closer to 1 than the closest twentieth of pairs of strangers, which have 0.48 among photos and 0.78 among digits
NUM_STRANGERS, LEAST_IMAGES = 20_000, 50  # pairs that are looked at for that, and images from which they tell something
MOST_EQUAL = 1000  # images with the same bits in a band: so many have no picture in common, but a margin
LEAST_CONTRAST = 4.0  # below it a picture has no features of its own to compare
CHUNK = 2**18  # pairs whose hashes are compared at a time
CORRELATED = 2**14  # pairs whose thumbnails are
LARGEST = 0.9999  # likeness of files whose bytes differ

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Copy:
    """An image, one that came before it of which it is a copy, and how alike they are: 1 for the same bytes.

    Attributes:
        is_mirrored: whether it is like the other's mirror image, and not like the other itself.
    """

    row: int
    of: int
    likeness: float
    is_mirrored: bool = False


def same_files(ids: Ids) -> list[Copy]:
    """Every file whose bytes are those of one before it, beside the first of them.

    Args:
        ids: (n,), b"" for a file that cannot be read, which is like no other.
    """
    _, first, content = np.unique(ids, return_index=True, return_inverse=True)
    again = np.flatnonzero((first[content] != np.arange(len(ids))) & (ids != b""))
    return [Copy(int(row), int(first[content[row]]), 1.0) for row in again]


def same_pictures(facts: Facts, rows: Rows) -> list[Copy]:
    """Every picture that is a copy of one before it though its bytes differ, beside the one that it is most like.

    Args:
        facts: of all images, (n,).
        rows: those to compare, int64 (m,), ascending.
    """
    rows = rows[facts["contrast"][rows] >= LEAST_CONTRAST]
    rows = rows[np.unique(facts["id"][rows], return_index=True)[1]]  # the same bytes are not compared again
    if len(rows) < 2:
        return []
    thumbnails, hashes, mirrored_hashes = facts["thumbnail"][rows], facts["hash"][rows], facts["mirrored"][rows]
    best: dict[int, Copy] = {}
    least = _least_likeness(thumbnails, hashes, mirrored_hashes)
    for first, second in _candidates(hashes, mirrored_hashes):
        as_it_is, mirrored = _likeness(thumbnails, first, second)
        likeness = np.maximum(as_it_is, mirrored)
        for place in np.flatnonzero(likeness >= least):
            row, of = sorted((int(rows[first[place]]), int(rows[second[place]])), reverse=True)
            if row not in best or likeness[place] > best[row].likeness:
                best[row] = Copy(row, of, min(float(likeness[place]), LARGEST), bool(as_it_is[place] < least))
    return [best[row] for row in sorted(best)]


def _least_likeness(thumbnails: NDArray[np.uint8], hashes: NDArray[np.uint64], mirrored: NDArray[np.uint64]) -> float:
    """From which likeness two of these pictures are one: more than any strangers have, as far as a sample of pairs tells.

    Pairs whose hashes are near are left out of it: where pictures have many copies each, such pairs would be a good part of it.
    """
    if len(thumbnails) < LEAST_IMAGES:
        return LEAST_CORRELATION
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, len(thumbnails), (2, NUM_STRANGERS))
    far = (first != second) & (_bits_apart(hashes[first], hashes[second]) > MOST_BITS)
    far &= _bits_apart(hashes[first], mirrored[second]) > MOST_BITS
    if not far.any():
        return LEAST_CORRELATION
    strangers = _likeness(thumbnails, first[far], second[far]).max(axis=0)
    return max(LEAST_CORRELATION, 1 - (1 - float(np.quantile(strangers, 0.95))) / CLOSER)


def _bits_apart(left: NDArray[np.uint64], right: NDArray[np.uint64]) -> NDArray[np.integer]:
    """In how many bits the hashes (m, 2) of pairs differ, (m,)."""
    return np.bitwise_count(left ^ right).sum(axis=1)


def _likeness(thumbnails: NDArray[np.uint8], first: Rows, second: Rows) -> NDArray[np.float32]:
    """The correlation of the thumbnails of pairs (m,), float32 (2, m): with the second as it is, and with its mirror image."""
    found = np.empty((2, len(first)), np.float32)
    for start in range(0, len(first), CORRELATED):
        part = slice(start, start + CORRELATED)
        here, there = thumbnails[first[part]], thumbnails[second[part]]
        found[:, part] = [(_unit(here) * _unit(other)).sum(axis=1) for other in (there, there[:, :, ::-1])]
    return found


def number_pictures(copies: Iterable[Copy], num_images: int) -> Rows:
    """Number pictures by the first image of each: int64 (n,); copies, and copies of copies, share a number."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    pairs = np.array([(copy.row, copy.of) for copy in copies], np.int64).reshape(-1, 2)
    links = coo_matrix((np.ones(len(pairs), np.int8), pairs.T), shape=(num_images, num_images))
    picture = connected_components(links, directed=False)[1]
    return np.unique(picture, return_index=True)[1][picture]


def _unit(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(m, 256), of mean 0 and length 1: their products are correlations."""
    flat = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.divide(flat, length, out=np.zeros_like(flat), where=length > 0)


def _candidates(hashes: NDArray[np.uint64], mirrored: NDArray[np.uint64]) -> Iterator[tuple[Rows, Rows]]:
    """Pairs of positions whose hashes, one of them perhaps mirrored, agree in a band and differ in few bits.

    A pair that agrees in several bands comes several times.

    Args:
        hashes: uint64 (m, 2).
        mirrored: likewise, of the mirror images.
    """
    bits, flipped = _bits(hashes), _bits(mirrored)
    edges = np.linspace(0, bits.shape[1], BANDS + 1).astype(int)
    for begin, end in pairwise(edges):
        weights = 2 ** np.arange(end - begin)
        own = bits[:, begin:end] @ weights
        for other, other_hashes in ((own, hashes), (flipped[:, begin:end] @ weights, mirrored)):
            for first, second in _equal_pairs(own, other):
                near = (first < second) & (_bits_apart(hashes[first], other_hashes[second]) <= MOST_BITS)
                if near.any():
                    yield first[near], second[near]


def _bits(hashes: NDArray[np.uint64]) -> NDArray[np.uint8]:
    return np.unpackbits(np.ascontiguousarray(hashes).view(np.uint8).reshape(len(hashes), -1), axis=1)


def _equal_pairs(left: NDArray[np.int64], right: NDArray[np.int64]) -> Iterator[tuple[Rows, Rows]]:
    """The positions (i, j) of all pairs with left[i] == right[j], about `CHUNK` at a time; values that very many have are passed over."""
    order = np.argsort(right, kind="stable")
    begins, ends = (np.searchsorted(right[order], left, side) for side in ("left", "right"))
    numbers = ends - begins
    numbers[numbers > MOST_EQUAL] = 0
    cumulative = np.cumsum(numbers)
    start = 0
    while start < len(left):
        stop = max(start + 1, int(np.searchsorted(cumulative, (cumulative[start - 1] if start else 0) + CHUNK, "right")))
        some = numbers[start:stop]
        first = np.repeat(np.arange(start, stop), some)
        offsets = np.arange(some.sum()) - np.repeat(np.cumsum(some) - some, some)
        yield first, order[np.repeat(begins[start:stop], some) + offsets]
        start = stop
