"""A copy on this disk of what lies at an address, below the cache: fetched once, then only what has changed.

    remote/{address, hashed}/          lock        held while something is fetched
    remote/{address, hashed}/{state}/  listing.csv what is to be there
                                       parts/      large objects that are not complete
                                       {name}/     the files

The state is a hash of the names, sizes and versions of all objects. So what lies in a folder never changes beneath a process that reads
it: when objects change, another folder is made, with links to the files that are the same. Each file appears complete, and which are
missing is seen from the listing: a fetch that was killed goes on, and so does one beside it.
"""

import errno
import hashlib
import os
import shutil
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TypeVar

from tl_keras.cache import cache_folder
from tl_keras.data.sources.addresses import Opened, UnreachableError, telling
from tl_keras.data.sources.objects import Listing, Object, as_object
from tl_keras.errors import DataError, first_line
from tl_keras.file_locks import is_same, try_lock
from tl_keras.partial import clear_partial, partial_folder
from tl_keras.progress import Progress
from tl_keras.run_folder import open_text, read_csv, write_csv

LISTING, LOCK, PARTS = "listing.csv", "lock", "parts"
HEADER = ("what", "path", "size", "version")
FILE, FOLDER, LEFT_OUT = "file", "folder", "left out"  # what a line of a listing is of
NAME_LENGTH = 16  # hexadecimal digits of the name of a state
BLOCK = 16 * 2**20  # bytes of an object, or of several small ones, that are fetched at once; what a kill loses
BATCH = 64  # small objects that are fetched at once
AT_ONCE = 4  # blocks or batches; twice as many are in memory
PAUSE_S = 0.2  # between two looks whether another process has done
FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))

Work = TypeVar("Work")
Result = TypeVar("Result")
_held: dict[Path, int] = {}  # the states that this process reads, until it ends


def home_of(address: str) -> Path:
    """The folder for the copies of an address."""
    return cache_folder() / "remote" / hashlib.sha256(address.encode("utf-8", "surrogateescape")).hexdigest()[:NAME_LENGTH]


def mirror(opened: Opened, home: Path, name: str, listing: Listing, progress: Progress) -> Path:
    """Bring the copy of an address to a state, and keep it there as long as this process lives.

    Args:
        home: of the address; see `home_of`.
        name: of the folder that the files come to lie in.

    Returns:
        The folder.

    Raises:
        DataError: the store refuses, an object changed while it was fetched, or there is no room for it.
        UnreachableError: the store does not answer.
    """
    with _storable(opened.address, home):
        state = home / _state(listing)
        _hold(state)
        if _missing(listing, state / name) or not (state / LISTING).is_file():
            with _alone(home, opened.address, progress) as is_locked:
                _complete(opened, home, state / name, listing, progress, is_locked=is_locked)
        os.utime(state / LISTING)
        _clear_others(home, state)
    return state / name


def last_mirror(home: Path, name: str) -> tuple[Path, Listing, datetime] | None:
    """The copy that was complete last, what is in it, and when the store was asked; None where there is none."""
    for state in _states(home):
        _hold(state)
        with suppress(OSError, ValueError):
            asked = datetime.fromtimestamp((state / LISTING).stat().st_mtime)
            listing = _read(state / LISTING)
            if not _missing(listing, state / name):
                return state / name, listing, asked
    return None


def use_last(home: Path, name: str, error: UnreachableError, progress: Progress) -> tuple[Path, Listing]:
    """The copy that was complete last in place of a store that does not answer, which a line says.

    Raises:
        UnreachableError: there is none.
    """
    found = last_mirror(home, name)
    if found is None:
        raise error
    folder, listing, asked = found
    progress.line(f"{str(error).partition(' Check')[0]}")
    progress.line(f"  going on with the copy of {asked:%Y-%m-%d %H:%M}; what has changed since is not seen")
    return folder, listing


def folds_case(home: Path) -> bool:
    """Whether names that differ in case alone are one on the disk of a folder.

    Raises:
        DataError: it cannot be written.
    """
    with _storable("an address", home), partial_folder(home) as folder:
        (folder / "a").touch()
        return (folder / "A").exists()


@contextmanager
def _storable(address: str, home: Path) -> Iterator[None]:
    """Let a disk that is full, or a cache that cannot be written, be a DataError."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        mend = "Free space, or set" if error.errno in FULL else "Set"
        raise DataError(
            f"{error.filename or home}: cannot store a copy of {address} here ({error.strerror or first_line(error)}). "
            f"{mend} TL_KERAS_CACHE to a folder on another disk."
        ) from error


def _state(listing: Listing) -> str:
    digest = hashlib.sha256()
    for each in listing.objects:
        digest.update(f"{each.path}\0{each.size}\0{each.version}\0".encode("utf-8", "surrogatepass"))
    digest.update("\0".join(listing.folders).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:NAME_LENGTH]


def _missing(listing: Listing, folder: Path) -> list[Object]:
    """The objects that are not there, or not in their size."""
    top = os.fspath(folder)
    return [each for each in listing.objects if _size(f"{top}/{each.path}") != each.size]


def _size(path: str) -> int:
    try:
        return os.stat(path, follow_symlinks=False).st_size
    except OSError:
        return -1


def _hold(state: Path) -> None:
    """Make a folder, and keep others from clearing it until this process ends."""
    while not (state in _held and is_same(_held[state], state)):
        state.mkdir(parents=True, exist_ok=True)
        if os.name == "nt":  # where no folder can be opened, and no file removed that is open
            return
        with suppress(FileNotFoundError):  # somebody cleared it in this moment
            descriptor = os.open(state, os.O_RDONLY)
            if try_lock(descriptor, shared=True) is not False and is_same(descriptor, state):
                _held[state] = descriptor
            else:
                os.close(descriptor)
                time.sleep(PAUSE_S)


@contextmanager
def _alone(home: Path, address: str, progress: Progress) -> Iterator[bool]:
    """Wait until no other process fetches into a folder, and keep them waiting; yields False where there are no locks."""
    descriptor = os.open(home / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        locked = try_lock(descriptor)
        if locked is False:
            progress.line(f"{address}: another process is fetching it; waiting")
        while locked is False:
            time.sleep(PAUSE_S)
            locked = try_lock(descriptor)
        yield locked is not None
    finally:
        os.close(descriptor)


def _complete(opened: Opened, home: Path, folder: Path, listing: Listing, progress: Progress, *, is_locked: bool) -> None:
    """Bring what is missing into a folder."""
    state = folder.parent
    clear_partial(state)
    if not (state / LISTING).is_file():
        _write(state / LISTING, listing)
    folder.mkdir(exist_ok=True)
    for each in listing.folders:
        (folder / each).mkdir(exist_ok=True)
    before = [other for other in _states(home) if other != state]
    _link_the_same(before, folder, _missing(listing, folder))
    missing = _missing(listing, folder)
    _require_room(opened.address, home, missing)
    started = time.monotonic()
    with partial_folder(state) as partial:
        parts = state / PARTS if is_locked else partial
        parts.mkdir(exist_ok=True)
        _Fetch(opened, folder, partial, parts).all(missing, progress)
    shutil.rmtree(state / PARTS, ignore_errors=True)
    if missing:
        size = sum(each.size for each in missing)
        progress.line(f"{opened.address}: fetched {_files(len(missing))}, {size / 1e6:,.1f} MB, in {time.monotonic() - started:.1f} s")
    if before and (gone := _num_gone(before[0], listing)):
        progress.line(f"{opened.address}: {_files(gone)} of last time {'is' if gone == 1 else 'are'} gone")


def _files(number: int) -> str:
    return f"{number:,} file{'s' * (number != 1)}"


def _require_room(address: str, home: Path, missing: Sequence[Object]) -> None:
    needed, free = sum(each.size for each in missing), shutil.disk_usage(home).free
    if needed > free:
        raise DataError(
            f"{address}: its {_files(len(missing))} take {needed / 1e9:,.2f} GB, and the disk of {cache_folder()} has {free / 1e9:,.2f} GB "
            "free. Free space, or set TL_KERAS_CACHE to a folder on a larger disk."
        )


def _states(home: Path) -> list[Path]:
    """The states that were begun, that of which the store was asked last first."""
    times: dict[Path, float] = {}
    for file in home.glob(f"{'[0-9a-f]' * NAME_LENGTH}/{LISTING}"):
        with suppress(FileNotFoundError):  # another run removes what is old
            times[file.parent] = file.stat().st_mtime
    return sorted(times, key=times.__getitem__, reverse=True)


def _link_the_same(states: Iterable[Path], folder: Path, missing: Sequence[Object]) -> None:
    """Bring objects into a folder that other states have, without copying; where a disk has no such links, they are fetched."""
    wanted = {each for each in missing if each.version}
    for state in states if wanted else ():
        with suppress(OSError, ValueError):
            for each in wanted & set(_read(state / LISTING).objects):
                there = state / folder.name / each.path
                if _size(os.fspath(there)) == each.size:
                    (folder / each.path).unlink(missing_ok=True)
                    os.link(there, folder / each.path)
                    wanted.discard(each)


def _num_gone(before: Path, listing: Listing) -> int:
    """How many files of another state there are no more."""
    with suppress(OSError, ValueError):
        return len({each.path for each in _read(before / LISTING).objects} - {each.path for each in listing.objects})
    return 0


def _clear_others(home: Path, state: Path) -> None:
    """Remove the other states that no process reads; where there are no locks, nobody knows, and they stay."""
    for other in _states(home):
        if other == state or other in _held:
            continue
        with suppress(OSError):
            descriptor = os.open(other, os.O_RDONLY)
            try:
                if try_lock(descriptor):
                    shutil.rmtree(other, ignore_errors=True)
            finally:
                os.close(descriptor)


class _Fetch:
    """Fetches objects into a folder: small ones in batches, large ones in blocks, several of either at once.

    Args:
        partial: a folder for files that are being written.
        parts: a folder for the beginnings of large objects.
    """

    def __init__(self, opened: Opened, folder: Path, partial: Path, parts: Path) -> None:
        self._opened, self._folder, self._partial, self._parts = opened, folder, partial, parts
        self._num_threads = AT_ONCE if opened.is_async else 1

    def all(self, objects: Sequence[Object], progress: Progress) -> None:
        """Fetch objects; each appears when it is complete.

        Raises:
            DataError: the store refuses, or an object is not what was listed.
            OSError: the disk takes no more.
        """
        small = _batches(each for each in objects if each.size <= BLOCK)
        large = [each for each in objects if each.size > BLOCK]
        with progress.bar("fetch", sum(map(_num_blocks, objects))) as advance, ThreadPoolExecutor(self._num_threads) as pool:
            for number in _in_windows(pool, self._batch, small):
                advance(number)
            for each in large:
                self._large(each, pool, advance)

    def _batch(self, batch: Sequence[Object]) -> int:
        """Fetch small objects at once; their number. Those that came are kept where another did not."""
        answers = self._opened.read([self._remote(each) for each in batch])
        for one, data in zip(batch, answers, strict=True):
            if isinstance(data, bytes) and len(data) == one.size:
                temporary = self._partial / _hashed(one.path)
                temporary.write_bytes(data)
                self._place(temporary, one)
        for one, data in zip(batch, answers, strict=True):
            if not isinstance(data, bytes):
                with telling(self._opened.address):
                    raise data
            if len(data) != one.size:
                raise self._changed(one)
        return len(batch)

    def _large(self, one: Object, pool: ThreadPoolExecutor, advance: Callable[[int], None]) -> None:
        """Fetch an object in blocks, which a later process goes on with; from a web server as a whole."""
        part = self._parts / _hashed(one.path)
        if self._opened.is_web:
            with telling(self._opened.address):
                self._opened.system.get_file(self._remote(one), os.fspath(part))
            advance(_num_blocks(one))
        else:
            self._fetch_blocks(one, part, pool, advance)
        with telling(self._opened.address):
            now = as_object(self._opened, one.path, self._opened.system.info(self._remote(one)))
        if _size(os.fspath(part)) != one.size or now.differs_from(one):
            part.unlink()
            raise self._changed(one)
        self._place(part, one)

    def _fetch_blocks(self, one: Object, part: Path, pool: ThreadPoolExecutor, advance: Callable[[int], None]) -> None:
        def block(start: int) -> bytes:
            with telling(self._opened.address):
                found: bytes = self._opened.system.cat_file(self._remote(one), start=start, end=min(start + BLOCK, one.size))
            return found

        with part.open("ab") as file:
            there = file.tell() // BLOCK
            file.truncate(there * BLOCK)
            advance(there)
            for data in _in_windows(pool, block, range(there * BLOCK, one.size, BLOCK)):
                file.write(data)
                file.flush()
                advance(1)

    def _remote(self, one: Object) -> str:
        return self._opened.below(one.path)

    def _place(self, temporary: Path, one: Object) -> None:
        temporary.replace(self._folder / one.path)

    def _changed(self, one: Object) -> DataError:
        return DataError(f"{self._opened.address}: {one.path!r} changed while it was fetched. Run again.")


def _num_blocks(one: Object) -> int:
    return max(1, -(-one.size // BLOCK))


def _hashed(path: str) -> str:
    return hashlib.sha256(path.encode("utf-8", "surrogatepass")).hexdigest()


def _batches(objects: Iterable[Object]) -> Iterator[list[Object]]:
    """Objects in groups that are not too many, nor too large together."""
    batch: list[Object] = []
    size = 0
    for each in objects:
        if batch and (len(batch) == BATCH or size + each.size > BLOCK):
            yield batch
            batch, size = [], 0
        batch.append(each)
        size += each.size
    if batch:
        yield batch


def _in_windows(pool: ThreadPoolExecutor, do: Callable[[Work], Result], work: Iterable[Work]) -> Iterator[Result]:
    """What `pool.map` gives, in order, with few of them that wait: each may hold a block."""
    waiting = iter(work)
    coming = deque(pool.submit(do, each) for each in islice(waiting, 2 * AT_ONCE))
    try:
        while coming:
            found = coming.popleft().result()
            coming.extend(pool.submit(do, each) for each in islice(waiting, 1))
            yield found
    finally:
        for each in coming:
            each.cancel()


def _write(file: Path, listing: Listing) -> None:
    def lines() -> Iterator[tuple[str, str, int | str, str]]:
        yield from ((FILE, *each) for each in listing.objects)
        yield from ((FOLDER, each, "", "") for each in listing.folders)
        yield from ((LEFT_OUT, folder, number, kind) for (folder, kind), number in listing.left_out.items())

    write_csv(file, HEADER, lines())


def _read(file: Path) -> Listing:
    """What `_write` wrote.

    Raises:
        OSError: it is not there.
        ValueError: it is damaged.
    """
    objects: list[Object] = []
    folders: list[str] = []
    left_out = Counter[tuple[str, str]]()
    with open_text(file) as opened:
        lines = read_csv(opened)
        next(lines, None)
        for what, path, size, more in lines:
            if what == FILE:
                objects.append(Object(path, int(size), more))
            elif what == FOLDER:
                folders.append(path)
            else:
                left_out[path, more] += int(size)
    return Listing(objects, folders, left_out)
