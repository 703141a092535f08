"""Advisory locks that the operating system releases when their process ends, however it ends."""

import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def try_lock(descriptor: int, *, shared: bool = False) -> bool | None:
    """Lock an open file or folder, without waiting; closing it releases the lock.

    Args:
        shared: together with others that lock it so.

    Returns:
        True where it is locked now, False where another process has it, and None where there are no locks: on Windows, and on
        some network disks.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # ENOTSUP, ENOLCK, EBADF: each file system has its own word for it
        return None
    return True


def is_same(descriptor: int, path: Path) -> bool:
    """Whether a path still leads to the open file or folder: somebody may have removed or replaced it before it was locked."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
