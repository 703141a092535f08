"""Groups by a pattern, and blocks of images that belong together."""

from pathlib import Path

import numpy as np
import pytest

from tl_keras.data import groups
from tl_keras.data.groups import blocks_of, group_numbers, groups_of
from tl_keras.data.index import Index
from tl_keras.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [(r"(p\d+)_", "p1 p1 p2 p2"), (r"p\d+", "p1 p1 p2 p2"), (r"([ab])\.", "a b a b"), (r"^", "   ")],
)
def test_groups_are_what_the_pattern_finds(pattern: str, expected: str) -> None:
    assert groups_of(["x/p1_a.jpg", "x/p1_b.jpg", "y/p2_a.jpg", "y/p2_b.jpg"], pattern) == tuple(expected.split(" "))


def test_patterns_that_are_none() -> None:
    with pytest.raises(ConfigError, match=r"^data\.group_pattern: got '\(', which is not a regular expression: "):
        groups_of(["a"], "(")
    with pytest.raises(DataError, match=r"^data\.group_pattern 'p\\d' matches nothing in the path 'x/q1\.jpg'"):
        groups_of(["x/p1.jpg", "x/q1.jpg"], r"p\d")
    with pytest.raises(DataError, match="matches nothing in the path 'b'"):  # its bracket took no part
        groups_of(["a", "b"], "(a)|b")


def test_a_pattern_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "SEARCH_S", 0.5)
    with pytest.raises(ConfigError, match=r"which had not gone through 1 paths after 0\.5 s\. Write it without nested repeats"):
        groups_of(["x" * 60], "(x+x+)+y")


def index_of(names: str | None = None, contents: str | None = None, num: int = 0) -> Index:
    """An index of a letter for each image's group and content; '-' is a file that cannot be read."""
    num = len(names or contents or "") or num
    return Index(
        root=Path(),
        classes=("a",),
        paths=tuple(map(str, range(num))),
        labels=np.zeros(num, np.int32),
        groups=None if names is None else tuple(names),
        ids=None if contents is None else np.array([b"" if each == "-" else each.encode() for each in contents], "S16"),
    )


@pytest.mark.parametrize(
    ("names", "contents", "expected"),
    [
        (None, None, None),
        (None, "abcd--", None),
        ("pqrs", None, None),
        (None, "bacab-", [0, 1, 2, 1, 0, 3]),  # in the order of their first images
        ("rqrp", None, [2, 1, 2, 0]),  # in the order of their names
        ("rqrp", "abca", [0, 1, 0, 0]),  # r and p have a copy in common
        ("pqrst", "aabbc", [0, 0, 1, 1, 2]),
        ("pqqrrs", "abbccd", [0, 1, 1, 2, 2, 3]),
        ("pqqrrs", "aabbcd", [0, 0, 0, 0, 0, 1]),  # p is q's by a copy, and r's by another
    ],
)
def test_blocks(names: str | None, contents: str | None, expected: list[int] | None) -> None:
    found = blocks_of(index_of(names, contents, 6))
    assert (None if found is None else found.tolist()) == expected


def test_blocks_are_the_groups_where_no_copy_joins_them() -> None:
    drawn = np.random.default_rng(0).integers(0, 30, 100)
    names = tuple(f"p{number}" for number in drawn)
    index = Index(root=Path(), classes=("a",), paths=names, labels=np.zeros(100, np.int32), groups=names)
    np.testing.assert_array_equal(blocks_of(index), np.unique(names, return_inverse=True)[1])
    np.testing.assert_array_equal(group_numbers(names), np.unique(names, return_inverse=True)[1])


@pytest.mark.parametrize("seed", range(20))
def test_blocks_are_those_of_a_slow_search(seed: int) -> None:
    rng = np.random.default_rng(seed)
    num = 30
    names, contents = rng.integers(0, 20, num), rng.integers(0, 40, num)
    index = index_of("".join(chr(97 + each) for each in names), "".join(chr(65 + each) for each in contents))
    found = blocks_of(index)
    slow = np.arange(num)
    for _ in range(num):
        for row in range(num):
            for other in range(num):
                if names[row] == names[other] or contents[row] == contents[other]:
                    slow[row] = slow[other] = min(slow[row], slow[other])
    assert found is not None
    np.testing.assert_array_equal(found[:, None] == found, slow[:, None] == slow)
