"""The names of a run's files, and how they are written: whole or not at all.

A run folder is the interface between modes: a later mode takes `--run-dir` and needs nothing else. This module knows
names and bytes; it must not know what a model, a split or a metric is.
"""

import csv
import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

from tl_keras.errors import RunFolderError

CONFIG = "config.yaml"
SPLITS = "splits.csv"
BAD_IMAGES = "bad_images.csv"
HISTORY = "history.csv"
METRICS = "metrics.json"
EVALUATIONS = "evaluations"  # a folder 1, 2, ... for each evaluation of a run
EVALUATION = "evaluation.json"
PREDICTIONS = "predictions.csv"
CONFUSION = "confusion.png"
CURVES = "curves.png"
CLASSES = "classes.txt"  # a name a line, in the order of the model's outputs
MODEL = "model.keras"
BACKBONE = "backbone.keras"
ENVIRONMENT = "environment.json"
CHECKPOINTS = "checkpoints"
SNAPSHOTS = "snapshots"  # the weights of each cycle's end, and what val says of them
EXPORT = "export"
RANKING = "rank.csv"
RANKING_JSON = "rank.json"
RANKING_PICTURE = "rank.png"
CROSSVAL = "crossval.json"
FOLDS = "folds.csv"
OUT_OF_FOLD = "out_of_fold.csv"
ENSEMBLE = "ensemble.json"
SEARCH = "search.json"
TRIALS = "trials.csv"
TRIALS_PICTURE = "trials.png"
BEST = "best"  # the run folder of a search's winner
RUNS = "saved_models"  # the folder of run folders, where none is given
ALWAYS = (ENVIRONMENT, SPLITS, METRICS)  # one of them lies beside config.yaml in every run folder
DAMAGED = (  # what reading a file may raise that holds something else than it should
    OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, EOFError, csv.Error, zipfile.BadZipFile,
)  # fmt: skip
SCRATCH = "scratch"  # pixels of the run in progress; removed when it stops


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file or folder beside `path`, then rename it to `path` in one step.

    Args:
        path: the final name. A file of that name is replaced; so is a folder.
        write: called with the temporary name, which keeps the suffixes of `path`.

    Raises:
        OSError: whatever `write` or the rename met; the temporary file is gone and `path` is as it was.
    """
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        write(temporary)
        if temporary.is_dir():
            _replace_folder(temporary, path)
        else:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        _remove(temporary)


def write_numbered(parent: Path, write: Callable[[Path], object]) -> Path:
    """Let `write` fill a new folder `parent/1`, `parent/2`, ..., the first number after those that are there; it appears atomically.

    Returns:
        The folder.

    Raises:
        OSError: whatever `write` or the rename met; nothing new is left.
    """
    parent.mkdir(exist_ok=True)
    temporary = parent / f".{os.getpid()}.new"
    try:
        temporary.mkdir()
        write(temporary)
        while True:
            taken = [int(entry.name) for entry in parent.iterdir() if entry.name.isdecimal()]
            folder = parent / str(max(taken, default=0) + 1)
            try:
                temporary.rename(folder)  # never over another: a folder with files in it is not replaced
                return folder
            except OSError:
                if not folder.exists():
                    raise
    finally:
        _remove(temporary)


def _replace_folder(temporary: Path, path: Path) -> None:
    old = path.with_name(f".{os.getpid()}.old.{path.name}")
    if path.exists():
        path.rename(old)
    temporary.rename(path)
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        with suppress(OSError):  # not empty, or not made
            folder.rmdir()


def open_text(path: Path, mode: Literal["r", "w", "a"] = "r") -> TextIO:
    """Open a text file that may hold names of files, which need not be UTF-8: their bytes stay what they are on disk."""
    return path.open(mode, newline="", encoding="utf-8", errors="surrogateescape")


@contextmanager
def reading(path: Path, what: str, mend: str) -> Iterator[None]:
    """Turn whatever goes wrong while a file of a run is read, and its content used, into one line that names the file.

    Args:
        what: that it should be, such as "the state of a phase".
        mend: what to do, a sentence.

    Raises:
        RunFolderError: the file is missing, damaged or of something else.
    """
    try:
        yield
    except DAMAGED as error:
        cause = error.strerror if isinstance(error, OSError) else None  # HDF5's errors are OSErrors without
        why = f"cannot be read ({cause})" if cause else f"is damaged, or is not {what}"
        raise RunFolderError(f"{path}: {why}. {mend}") from error


def read_json(path: Path, what: str, mend: str) -> dict[str, Any]:
    """A JSON document that is an object; see `reading`."""
    with reading(path, what, mend):
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise TypeError("it is not an object")
        return found


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""

    def write(temporary: Path) -> None:
        with open_text(temporary, "w") as file:
            file.write(text)

    write_whole(path, write)


def json_text(value: Any, *, indent: int | None = None) -> str:
    """A JSON document. The bytes of a file's name that are not UTF-8 are escaped, as JSON has to be; `json.loads` restores them."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return re.sub("[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON document, indented, whole or not at all."""
    write_text(path, json_text(value, indent=2) + "\n")


_FORMULA = re.compile("'*[=+@\t\r-]")  # how a cell begins that a spreadsheet computes, or that was quoted for it
_NUMBER = re.compile(r"[+-](\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-](inf|nan)")


def quoted(cell: Any) -> Any:
    """A cell as it is written: text that a spreadsheet would take for a formula, and run, gets a ' in front; numbers stay numbers."""
    formula = isinstance(cell, str) and _FORMULA.match(cell) is not None and _NUMBER.fullmatch(cell) is None
    return f"'{cell}" if formula else cell


def read_csv(file: TextIO) -> Iterator[list[str]]:
    """The lines of a CSV file of ours, with the cells as they were before `quoted`."""
    for line in csv.reader(file):
        yield [cell[1:] if cell[:1] == "'" and _FORMULA.match(cell) else cell for cell in line]


class CsvWriter:
    """Writes lines of a CSV file that `read_csv` reads back whatever they hold, line breaks in names of files included.

    Args:
        file: opened with `newline=""`, as `open_text` does.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._writer = csv.writer(self, lineterminator="\r\n")  # a lone "\r" is quoted only where lines end in one

    def write(self, line: str) -> None:
        """Take a line from the csv module, and write it with a Unix line end."""
        self._file.write(line.removesuffix("\r\n") + "\n")

    def writerow(self, row: Iterable[Any]) -> None:
        """Write one line."""
        self._writer.writerow(map(quoted, row))

    def writerows(self, rows: Iterable[Iterable[Any]]) -> None:
        """Write several lines; `rows` may be a generator."""
        self._writer.writerows(map(quoted, row) for row in rows)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file with a header line, whole or not at all; `rows` may be a generator."""

    def write(temporary: Path) -> None:
        with open_text(temporary, "w") as file:
            writer = CsvWriter(file)
            writer.writerow(header)
            writer.writerows(rows)

    write_whole(path, write)


@dataclass(frozen=True)
class RunFolder:
    """A run's folder. `path / NAME` for the names above is the whole interface."""

    path: Path

    @classmethod
    def at(cls, path: Path | str) -> "RunFolder":
        """The folder of this name."""
        return cls(Path(path))

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @property
    def is_finished(self) -> bool:
        """Whether training came to its end here: the metrics are written last."""
        return (self / METRICS).is_file() and (self / MODEL).is_file()

    def require_free(self) -> None:
        """Raise RunFolderError where this folder holds something already."""
        try:
            taken = self.path.is_dir() and any(self.path.iterdir())
        except OSError as error:
            raise RunFolderError(f"{self.path}: cannot be read ({error.strerror}). Give another --run-dir.") from error
        if taken:
            raise RunFolderError(
                f"{self.path}: holds {'another run' if (self / CONFIG).exists() else 'other files'} already. "
                "Give another --run-dir; a training, search or crossval that was interrupted goes on with --resume."
            )

    def require_utf8(self, for_what: str) -> None:
        """Raise RunFolderError where the name of this folder is not UTF-8, for parts that take no other."""
        try:
            str(self.path).encode()
        except UnicodeEncodeError as error:
            raise RunFolderError(
                f"{self.path}: the name of this folder is not UTF-8, which {for_what} needs. Give another --run-dir."
            ) from error

    def start(self) -> tuple[Path, ...]:
        """Make the folder for a new run.

        Returns:
            What was made: this folder where it was not there before, and those above it, the deepest first. A start that fails
            hands them to `undo`.

        Raises:
            RunFolderError: it holds something already, or cannot be written.
        """
        self.require_free()
        made = tuple(folder for folder in (self.path, *self.path.parents) if not folder.exists())
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_text(self / ".writable", "")
            (self / ".writable").unlink()
        except OSError as error:
            _remove_empty(made)
            raise RunFolderError(
                f"{self.path}: cannot write a run folder here ({error.strerror}). Give a --run-dir that you may write to."
            ) from error
        return made

    def require_model(self) -> "RunFolder":
        """Return this folder, or raise RunFolderError when it holds no trained model."""
        if not self.path.is_dir():
            raise RunFolderError(f"{self.path}: no such run folder. Give the folder that a training wrote, or an ensemble.")
        missing = [name for name in (MODEL, CONFIG, SPLITS) if not (self / name).is_file()]
        if missing:
            mend = "Continue it with --resume." if (self / CONFIG).exists() else "Give the folder that a training wrote."
            if (self / BEST / MODEL).is_file():
                mend = f"Give {self.path / BEST}, the winner of this search."
            if (self / ENSEMBLE).is_file():
                mend = f"Its parts are not all Keras models, so that {PREDICTIONS} and {ENSEMBLE} are all there is."
            raise RunFolderError(f"{self.path}: holds no trained model ({missing[0]} is missing). {mend}")
        return self

    def require_resumable(self) -> "RunFolder":
        """Return this folder, or raise RunFolderError when no interrupted run lies in it."""
        if not (self / CONFIG).is_file() or not (self / SPLITS).is_file():
            raise RunFolderError(f"{self.path}: holds no interrupted run to resume. Start one without --resume.")
        if self.is_finished:
            raise RunFolderError(f"{self.path}: this run is finished; there is nothing to resume. Give another --run-dir.")
        return self

    def clear_scratch(self) -> None:
        """Remove what only a run in progress needs."""
        _remove(self / SCRATCH)

    def undo(self, made: Iterable[Path]) -> None:
        """Remove what a run that failed to start has left, and the folders that `start` made, where nothing else lies in them."""
        for entry in self.path.iterdir():
            _remove(entry)
        _remove_empty(made)
