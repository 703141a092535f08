"""The control groups that this process is in, by which Linux limits what a container or a job may use."""

from collections.abc import Collection, Iterator
from pathlib import Path

UNIFIED = ""  # version 2, which has one tree of groups for everything; in version 1 each controller has a tree of its own, of its name
MOUNTED = Path("sys/fs/cgroup")


def own_groups(controller: str, root: Path = Path("/")) -> Iterator[tuple[bool, Path]]:
    """The folders of the groups that limit this process in one respect, which need not exist: its own, and all above it.

    Args:
        controller: of version 1, such as 'memory'.
        root: of the file system, another one for tests.

    Yields:
        Whether a folder is of version 2, and the folder.
    """
    for line in lines_of(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        for tree in {UNIFIED, controller} & set(controllers.split(",")):
            own = Path(path.lstrip("/"))
            for group in (own, *own.parents):  # a group has the limits of those above it too
                yield tree == UNIFIED, root / MOUNTED / tree / group


def lines_of(file: Path) -> list[str]:
    """The lines of a file of the system; none where it is not there."""
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def values(group: Path, names: Collection[str]) -> list[str]:
    """The content of some files of a group, each empty where it is not there."""
    return ["".join(lines_of(group / name)) for name in names]
