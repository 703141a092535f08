"""A kind of data source, and what several of them share. In the end each is files below one folder.

One form for all data keeps everything after it simple: any image can be opened, listed in splits.csv and predicted by its path. What is
not in files is written out into class folders, once, below the cache; encoded bytes are copied untouched.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from tl_keras.config import TABLE_SUFFIXES, DataConfig
from tl_keras.data.archives import READERS
from tl_keras.data.index import Index
from tl_keras.data.places import scandir
from tl_keras.data.walk import subfolders
from tl_keras.errors import DataError, first_line
from tl_keras.partial import clear_partial
from tl_keras.progress import Progress
from tl_keras.run_folder import write_atomically

NEAR = 0.75  # likeness from which a name is taken for a misspelt other: 'flowrs' for 'flowers', but not 'photos' for 'toto'
DIGITS = "digits"
FILE_ENDINGS = (*TABLE_SUFFIXES, *READERS)  # of sources that are files, in lower case


@dataclass(frozen=True, kw_only=True)
class Source:
    """A kind of data source.

    Attributes:
        matches: whether a `data.source` is of this kind.
        find: the folder that the paths of the index are relative to, which is written where there is none yet.
        scan: the index for training.
        scan_known: the index for a model that knows its classes.
        check: raises DataError where it is plain that `find` would fail; cheap, without TensorFlow or the network.
        check_layout: raises DataError where it is plain that the folders are not arranged for training; as cheap.
        prepare: writes once what the others need, with a bar.
    """

    matches: Callable[[str], bool]
    find: Callable[[DataConfig], Path]
    scan: Callable[[DataConfig], Index]
    scan_known: Callable[[DataConfig, Sequence[str]], Index]
    check: Callable[[DataConfig], None] = lambda config: None
    check_layout: Callable[[DataConfig], None] = lambda config: None
    prepare: Callable[[DataConfig, Progress], None] = lambda config, progress: None


def path_of(source: str) -> Path:
    """The path that a `data.source` is, if it is one."""
    return Path(source).expanduser()


def neighbour(path: Path) -> str:
    """A hint at the folder, archive or table, or the digits, that a name may be a slip of; '' where nothing is really like it."""
    known = [*subfolders(path.parent), *source_files(path.parent)] if path.parent.is_dir() else []
    by_lower = {name.lower(): name for name in [*([DIGITS] if path.parent == Path() else []), *known]}
    near = get_close_matches(path.name.lower(), by_lower, n=1, cutoff=NEAR)
    return f" Did you mean '{path.parent / by_lower[near[0]]}'?" if near else ""


def source_files(folder: Path) -> list[str]:
    """The archives and tables in a folder, sorted."""
    return sorted(entry.name for entry in scandir(folder) if entry.name.lower().endswith(FILE_ENDINGS) and not entry.is_dir())


def unpack_once(folder: Path, write: Callable[[Path], None]) -> Path:
    """Write a folder, atomically, unless it is there.

    Raises:
        DataError: it cannot be written.
    """
    if not folder.is_dir():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            clear_partial(folder.parent)
            write_atomically(folder, write)
        except OSError as error:
            reason = error.strerror or first_line(error)
            raise DataError(
                f"{folder}: cannot unpack a data set here ({reason}). Set TL_KERAS_CACHE to a folder that you may write to."
            ) from error
    return folder
