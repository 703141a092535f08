"""The owner of a run folder while a process works in it: a file `.claim`, locked for as long as the process lives.

The lock ends with the process, however that ends. So a `.claim` that is there and not locked was left by a kill: a run was started
in this folder and did not end. What the file holds is for people: which process it is, where, and since when. Where there are no
locks (`file_locks.try_lock`) it decides, too.
"""

import json
import os
import platform
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tl_keras.errors import RunFolderError
from tl_keras.file_locks import is_same, try_lock

CLAIM = ".claim"
_ITSELF = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # not what a link in its place leads to; a FIFO is not waited for
TRIES, PAUSE_S = 6, 0.05  # somebody may hold the lock for a moment, only to see whether it can be had


@dataclass(frozen=True)
class Claim:
    """A folder that this process works in.

    Attributes:
        was_left: whether a process that was killed had left its own claim there.
        made: the folders that were made for it, the deepest first.
    """

    folder: Path
    descriptor: int
    was_left: bool = False
    made: tuple[Path, ...] = ()

    def release(self) -> None:
        """Let others have the folder."""
        try:
            (self.folder / CLAIM).unlink(missing_ok=True)  # while it is locked: later it may be another's
        except OSError:  # Windows removes no open file
            os.close(self.descriptor)
            with suppress(OSError):
                (self.folder / CLAIM).unlink(missing_ok=True)
        else:
            os.close(self.descriptor)


def take(folder: Path) -> Claim:
    """Claim a folder that is there.

    Raises:
        RunFolderError: another process works in it.
        OSError: it cannot be written.
    """
    while True:
        descriptor, is_new = _open(folder / CLAIM)
        locked = _lock(descriptor)
        if locked is False or (locked is None and not is_new and not _has_ended(_read(folder))):
            os.close(descriptor)
            raise RunFolderError(_in_use(folder, locked))
        if is_same(descriptor, folder / CLAIM):
            mine = Claim(folder, descriptor, was_left=not is_new)
            try:
                os.ftruncate(descriptor, 0)
                os.write(descriptor, json.dumps(_about_us()).encode())
            except OSError:  # a full disk; a claim that was left still says that it was
                mine.release() if is_new else os.close(descriptor)
                raise
            return mine
        os.close(descriptor)  # it was released, and removed, before we had the lock


def require_unclaimed(folder: Path) -> None:
    """Raise RunFolderError where another process works in a folder."""
    try:
        descriptor = os.open(folder / CLAIM, os.O_RDONLY | _ITSELF)
    except OSError:  # there is no claim, or nobody can read it
        return
    try:
        locked = try_lock(descriptor, shared=True)
        if locked is False or (locked is None and not _has_ended(_read(folder))):
            raise RunFolderError(_in_use(folder, locked))
    finally:
        os.close(descriptor)


def clear_left(folder: Path) -> None:
    """Remove the claims that killed processes left below a folder; those of running processes stay."""
    for path in list(folder.glob(f"*/**/{CLAIM}")):
        with suppress(OSError, RunFolderError):
            take(path.parent).release()


def _open(path: Path) -> tuple[int, bool]:
    """A claim's file, and whether it was made just now."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), True
    except FileExistsError:
        return os.open(path, os.O_RDWR | os.O_CREAT | _ITSELF, 0o666), False


def _lock(descriptor: int) -> bool | None:
    for _ in range(TRIES):
        locked = try_lock(descriptor)
        if locked is not False:
            return locked
        time.sleep(PAUSE_S)
    return False


def _about_us() -> dict[str, Any]:
    pid, now = os.getpid(), datetime.now().isoformat(" ", "seconds")
    return {"process": pid, "host": platform.node(), "since": now, "ticks": _start_ticks(pid)}


def _read(folder: Path) -> dict[str, Any]:
    """What a claim says; empty where its process has not written it yet."""
    with suppress(OSError, ValueError):
        found = json.loads((folder / CLAIM).read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    return {}


def _in_use(folder: Path, locked: bool | None) -> str:
    about = _read(folder)
    who = f" (process {about['process']} on {about['host']}, since {about['since']})" if {"process", "host", "since"} <= set(about) else ""
    mend = "" if locked is False else f" Where that process has ended, remove {folder / CLAIM}."
    return f"{folder}: another process{who} is working in this folder. Wait until it has ended, or give another --run-dir.{mend}"


def _has_ended(about: dict[str, Any]) -> bool:
    """Whether the process of a claim is known to be gone, where no lock says so."""
    pid = about.get("process")
    if os.name != "posix" or about.get("host") != platform.node() or not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # it is another user's
        return False
    return _start_ticks(pid) != about.get("ticks")


def _start_ticks(pid: int) -> int | None:
    """When a process began, in clock ticks since this machine did; None where the system does not tell."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
