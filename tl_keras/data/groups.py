"""Images that belong together: those of one group, by a pattern on their paths, and those of equal content.

Together they are a block, and no cut takes a block apart: else a model is tested on what it has seen.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_keras.data.file_ids import Ids
from tl_keras.data.index import Index
from tl_keras.errors import ConfigError, DataError

_AT_ONCE = 2**20  # ids copied at a time: ten million take 160 MB
Blocks = NDArray[np.int64]  # (n,), the number of each image's block

SEARCH_S = 30.0  # for all paths: a million take about two
_SEARCH = """
import json, re, sys
pattern, paths = json.load(sys.stdin.buffer)
try:
    expression = re.compile(pattern)
except (re.error, RecursionError, OverflowError) as error:
    print(json.dumps({"error": str(error)}))
    sys.exit()
found = [expression.search(path) for path in paths]
print(json.dumps({"places": [each and each.span(1 if expression.groups else 0) for each in found]}))
"""


def groups_of(paths: Sequence[str], pattern: str) -> tuple[str, ...]:
    """The groups of images: what the first bracket of a pattern, or all of it, finds in each path.

    Raises:
        ConfigError: the pattern is not a regular expression, or takes too long.
        DataError: it finds nothing in a path.
    """
    found = _found_in_time(paths, pattern)
    nothing = next((path for path, name in zip(paths, found, strict=True) if name is None), None)
    if nothing is not None:
        raise DataError(
            f"data.group_pattern {_shown(pattern)} matches nothing in the path '{nothing}', which then has no group. "
            "Change it so that it matches every path."
        )
    return tuple(sys.intern(str(name)) for name in found)


def _shown(pattern: str) -> str:
    """A pattern in quotes on one line, with its backslashes as they were typed."""
    return repr(pattern).replace("\\\\", "\\")


def _found_in_time(paths: Sequence[str], pattern: str) -> list[str | None]:
    """What the pattern finds in each path.

    In a process of its own: an expression with repeats inside of repeats may take longer than the universe, and no thread can be ended.
    """
    asked = json.dumps([pattern, list(paths)])
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _SEARCH], input=asked.encode(), capture_output=True, timeout=SEARCH_S, check=True
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError):  # the latter where it takes all memory
        raise ConfigError(
            f"data.group_pattern: got {_shown(pattern)}, which had not gone through {len(paths):,} paths after {SEARCH_S:g} s. "
            "Write it without nested repeats."
        ) from None
    found: dict[str, Any] = json.loads(done.stdout)
    if "error" in found:
        raise ConfigError(f"data.group_pattern: got {_shown(pattern)}, which is not a regular expression: {found['error']}.")
    return [None if place is None or place[0] < 0 else path[slice(*place)] for path, place in zip(paths, found["places"], strict=True)]


def blocks_of(index: Index) -> Blocks | None:
    """Number the blocks of an index: images of one group, of equal content or of one picture, be it through others.

    None where each image is alone.

    They are numbered in the order of the names of their groups where there are groups, else in that of their first images.
    """
    num = len(index.paths)
    if index.pictures is not None:
        contents = np.unique(index.pictures, return_inverse=True)[1].astype(np.int64)  # of an index that was taken of a larger one
    else:
        contents = np.arange(num) if index.ids is None else _content_numbers(index.ids)
    groups = None if index.groups is None else group_numbers(index.groups)
    blocks = contents if groups is None else _connected(groups, contents)
    return blocks if num and int(blocks.max()) + 1 < num else None


def group_numbers(groups: Sequence[str]) -> Blocks:
    """The number of each image's group, in the order of their names."""
    number = {name: place for place, name in enumerate(sorted(set(groups)))}
    return np.fromiter((number[name] for name in groups), np.int64, len(groups))


def _content_numbers(ids: Ids) -> Blocks:
    """Number contents by the first image of each; a file that cannot be read is like no other."""
    order = np.argsort(ids, kind="stable")  # images of one content in their order
    is_first = np.ones(len(ids), bool)
    is_first[1:] = _differ(ids, order)
    first_row = np.empty(len(ids), np.int64)
    first_row[order] = order[np.maximum.accumulate(np.where(is_first, np.arange(len(ids)), 0))]
    return (np.cumsum(first_row == np.arange(len(ids))) - 1)[first_row]


def _differ(ids: Ids, order: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each image but the first has another content than the one before it in an order, (n - 1,)."""
    found = np.empty(max(0, len(order) - 1), bool)
    for start in range(0, len(found), _AT_ONCE):
        part = ids[order[start : start + _AT_ONCE + 1]]
        found[start : start + _AT_ONCE] = (part[1:] != part[:-1]) | (part[1:] == b"")
    return found


def _connected(groups: Blocks, contents: Blocks) -> Blocks:
    """Number the groups, as one those that have a content in common, by the first group of each."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    num_groups, size = int(groups.max(initial=-1)) + 1, int(groups.max(initial=-1)) + int(contents.max(initial=-1)) + 2
    links = coo_matrix((np.ones(len(groups), np.int8), (groups, num_groups + contents)), shape=(size, size))
    component = connected_components(links, directed=False)[1][:num_groups]
    _, first = np.unique(component, return_index=True)
    return np.unique(first[component[groups]], return_inverse=True)[1].astype(np.int64)
