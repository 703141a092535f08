"""Files that are being written are in a private folder beside their final path, `.{16 hexadecimal digits}.partial/`, until it is complete.

The process that writes holds a lock on that folder, so that whoever finds one that is not locked knows that its process was
killed, and clears it. The lock is not on the file itself, because HDF5 locks files on its own account.
"""

import ctypes
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tl_keras.file_locks import is_same, try_lock

ABANDONED_S = 3600.0  # where there are no locks, a partial folder of this age belongs to no running process
REPLACED = ".replaced"  # inside a partial folder: the folder that a new one is about to replace
_NAME = re.compile(r"\.[0-9a-f]{16}\.partial")
_PATTERN = ".*.partial"
_AT_CWD, _EXCHANGE = -100, 2  # of renameat2(2)


@contextmanager
def partial_folder(parent: Path) -> Iterator[Path]:
    """A new folder in `parent` for what is being written; it is gone afterwards, with what is still in it.

    Raises:
        OSError: it cannot be made.
    """
    folder, descriptor = _make_locked(parent)
    try:
        yield folder
    finally:
        _clear(folder)
        if descriptor is not None:
            os.close(descriptor)


def _make_locked(parent: Path) -> tuple[Path, int | None]:
    while True:
        folder = parent / f".{secrets.token_hex(8)}.partial"
        folder.mkdir(mode=0o700)
        descriptor = _open(folder)
        if descriptor is None and folder.is_dir():  # Windows opens no folders
            return folder, None
        if descriptor is not None:
            if try_lock(descriptor) is not False and is_same(descriptor, folder):
                return folder, descriptor
            os.close(descriptor)  # another process was quicker, and is about to clear it


def _open(folder: Path) -> int | None:
    try:
        return os.open(folder, os.O_RDONLY)
    except OSError:
        return None


def is_partial(path: str) -> bool:
    """Whether a path is that of a partial folder, or leads into one."""
    return any(_NAME.fullmatch(part) for part in Path(path).parts)


def clear_partial(parent: Path, pattern: str = "") -> None:
    """Remove what killed processes were writing in a folder; what running processes write is left alone.

    Args:
        pattern: of the folders below `parent` to look in; '**/' for all.
    """
    with suppress(OSError):  # a folder that cannot be read, or is gone
        for folder in list(parent.glob(pattern + _PATTERN)):
            if _NAME.fullmatch(folder.name):
                _clear_abandoned(folder)


def _clear_abandoned(folder: Path) -> None:
    descriptor = _open(folder)
    try:
        locked = None if descriptor is None else try_lock(descriptor)
        if locked or (locked is None and _age_s(folder) > ABANDONED_S):
            _clear(folder)
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _age_s(folder: Path) -> float:
    """Seconds since anything in a folder was written."""
    with suppress(OSError):
        return time.time() - max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))
    return 0.0


def _clear(folder: Path) -> None:
    """Remove a partial folder; a folder that was moved into it and not replaced goes back first."""
    with suppress(OSError):
        for old in list((folder / REPLACED).glob("*")):
            if not (folder.parent / old.name).exists():
                old.rename(folder.parent / old.name)
    shutil.rmtree(folder, ignore_errors=True)


def replace_folder(new: Path, path: Path) -> None:
    """Move a folder from its partial folder to its place. The folder that is there is replaced: a kill leaves one of the two there,
    or what `clear_partial` puts back.

    Raises:
        OSError: it cannot be moved; what was there is still there.
    """
    if not path.exists():
        new.rename(path)
    elif not _exchange(new, path):
        replaced = new.parent / REPLACED
        replaced.mkdir()
        path.rename(replaced / path.name)
        new.rename(path)


def _exchange(one: Path, other: Path) -> bool:
    """Let two paths change places in one step; False where the system cannot."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    return bool(rename(_AT_CWD, os.fsencode(one), _AT_CWD, os.fsencode(other), ctypes.c_uint(_EXCHANGE)) == 0)
