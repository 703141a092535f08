"""The names of a run's files, and how they are written: atomically.

A run folder is the interface between modes: a later mode takes `--run-dir` and needs nothing else. This module knows
names and bytes; it must not know what a model, a split or a metric is.
"""

import csv
import errno
import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TextIO

from tl_keras import claim
from tl_keras.claim import CLAIM, Claim
from tl_keras.errors import RunFolderError
from tl_keras.links import require_no_way_out
from tl_keras.modes import MODES
from tl_keras.partial import clear_partial, is_partial, partial_folder, replace_folder

CONFIG = "config.yaml"
SPLITS = "splits.csv"
BAD_IMAGES = "bad_images.csv"
HISTORY = "history.csv"
EVENTS = "tensorboard"  # what TensorBoard shows of the run
TRACKER = "tracker.json"  # what the run is called there
METRICS = "metrics.json"
EVALUATIONS = "evaluations"  # a folder 1, 2, ... for each evaluation of a run
EVALUATION = "evaluation.json"
EXPLANATIONS = "explanations"  # a folder 1, 2, ... for each time that images were explained
EXPLANATION = "explanations.json"
PREDICTIONS = "predictions.csv"
VAL_PREDICTIONS = "val_predictions.csv"
CONFUSION = "confusion.png"
AVERAGE_PRECISION = "average_precision.png"
SCATTER = "scatter.png"
CURVES = "curves.png"
REPORT = "report.html"  # what the run is worth, for someone who has not trained it
CLASSES = "classes.txt"  # a name a line, in the order of the model's outputs
OUTPUT = "output.json"  # what the model's outputs mean, where an image has not one class
MODEL = "model.keras"
NOVELTY = "novelty.npz"  # what tells images of none of the classes
STAGES = "stages.json"  # where the stages of model.keras end
BACKBONE = "backbone.keras"
ENVIRONMENT = "environment.json"
CHECKPOINTS = "checkpoints"
SNAPSHOTS = "snapshots"  # the weights of each cycle's end, and their figures on val
EXPORT = "export"
EXPORT_RECORD = "export.json"  # in that folder
COMPRESS = "compress"  # a run folder for each smaller form, and what they come to:
COMPRESS_RECORD = "compress.json"
COMPRESS_TABLE = "compress.csv"
COMPRESS_PICTURE = "compress.png"
CHECK = "check.json"
CHECK_TABLE = "check.csv"
CHECK_PAGE = "check.html"
DISTRIBUTION = "distribution.csv"  # of the labels that `check` found
AUGMENTED = "augmented.png"  # images and their random views
EXCLUDE = "exclude.csv"  # images that training is to leave out, for data.exclude
RANKING = "rank.csv"
RANKING_JSON = "rank.json"
RANKING_PICTURE = "rank.png"
ADAPTATION = "adaptation.json"  # the scores of each method, and the distances between the domains
DOMAINS = "domains.png"  # both domains in a plane, before and after
TARGET_PREDICTIONS = "target_predictions.csv"
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


@dataclass(frozen=True)
class RunKind:
    """How far a run of some mode has come, by its files.

    Attributes:
        noun: what it is called.
        started_by: a pattern of what lies beside config.yaml from when --resume can go on with it; None where it always starts over.
        finished_by: what is there in the end, and never before.
    """

    noun: str
    started_by: str | None
    finished_by: tuple[str, ...]


TRAINING_RUN = RunKind("run", SPLITS, (METRICS, MODEL))
KINDS = {  # mode -> kind of run; the modes that are missing are training runs
    "crossval": RunKind("cross-validation", FOLDS, (CROSSVAL,)),
    "search": RunKind("search", "study-*", (SEARCH,)),
    "check": RunKind("check", None, (CHECK,)),
    "rank": RunKind("ranking", None, (RANKING_JSON,)),
    "ensemble": RunKind("ensemble", None, (ENSEMBLE, METRICS)),
}


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an error of the system name the file that is meant: a write that fails names none, or a temporary one."""
    try:
        yield
    except OSError as error:
        named = None if error.filename is None else os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
        if error.errno is not None and (named is None or is_partial(named)):
            error.filename = str(path)
        raise


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file or folder beside `path`, then rename it to `path` in one step.

    Args:
        path: the final name. A file of that name is replaced; so is a folder.
        write: called with the temporary name, which keeps the suffixes of `path`.

    Raises:
        OSError: whatever `write` or the rename met; the temporary file is gone and `path` is as it was.
    """
    with naming(path), partial_folder(path.parent) as folder:
        temporary = folder / path.name
        write(temporary)
        if temporary.is_dir():
            replace_folder(temporary, path)
        else:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)


def write_numbered(parent: Path, write: Callable[[Path], object]) -> Path:
    """Let `write` fill a new folder `parent/1`, `parent/2`, ..., the first number after those that are there; it appears atomically.

    Returns:
        The folder.

    Raises:
        OSError: whatever `write` or the rename met; nothing new is left.
    """
    with naming(parent):
        parent.mkdir(exist_ok=True)
    with naming(parent), partial_folder(parent) as partial:
        temporary = partial / "new"
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


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove those of some folders that are empty, in this order."""
    for folder in folders:
        with suppress(OSError):  # not empty, or not made
            folder.rmdir()


def require_no_special_file(path: Path) -> None:
    """Raise OSError where a path is a FIFO, a socket or a device: to open it may wait for ever."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def open_text(path: Path, mode: Literal["r", "w", "a"] = "r") -> TextIO:
    """Open a text file that may hold names of files, which need not be UTF-8: their bytes stay what they are on disk."""
    if mode == "r":
        require_no_special_file(path)
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
        require_no_special_file(path)
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
    """Write UTF-8 text atomically."""

    def write(temporary: Path) -> None:
        with open_text(temporary, "w") as file:
            file.write(text)

    write_atomically(path, write)


def json_text(value: Any, *, indent: int | None = None) -> str:
    """A JSON document. The bytes of a file's name that are not UTF-8 are escaped, as JSON has to be; `json.loads` restores them."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return re.sub("[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON document, indented, atomically."""
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
    """Write a CSV file with a header line, atomically; `rows` may be a generator."""

    def write(temporary: Path) -> None:
        with open_text(temporary, "w") as file:
            writer = CsvWriter(file)
            writer.writerow(header)
            writer.writerows(rows)

    write_atomically(path, write)


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
        return self._ended_as(TRAINING_RUN)

    def _ended_as(self, kind: RunKind) -> bool:
        return all((self / name).is_file() for name in kind.finished_by)

    def require_free(self) -> None:
        """Raise RunFolderError where this folder holds something already, or another process works in it.

        What a killed process has left that cannot be resumed is nothing: `start` clears it.
        """
        claim.require_unclaimed(self.path)
        self._require_empty(was_left=(self / CLAIM).exists())

    def _require_empty(self, *, was_left: bool) -> None:
        try:
            taken = self.path.is_dir() and any(entry.name != CLAIM for entry in self.path.iterdir())
        except OSError as error:
            raise RunFolderError(f"{self.path}: cannot be read ({error.strerror}). Give another --run-dir.") from error
        if not taken or (was_left and not self._has_ended and not self._can_resume):
            return
        if not (self / CONFIG).exists():
            raise RunFolderError(f"{self.path}: holds other files already. Give another --run-dir.")
        mend = ", or continue the interrupted one with --resume." if self._can_resume and not self._has_ended else "."
        raise RunFolderError(f"{self.path}: holds another run already. Give another --run-dir{mend}")

    @property
    def _has_ended(self) -> bool:
        """Whether a run of any mode came to its end here."""
        return any(self._ended_as(kind) for kind in (TRAINING_RUN, *KINDS.values()))

    @property
    def _can_resume(self) -> bool:
        """Whether a run came so far here that --resume goes on with it, in a mode that has it."""
        try:
            with open_text(self / CONFIG) as file:
                mode = next((line.partition(":")[2].strip() for line in file if line.startswith("mode:")), "")
        except OSError:
            return False
        return mode not in MODES or MODES[mode].resumes

    def require_utf8(self, for_what: str) -> None:
        """Raise RunFolderError where the name of this folder is not UTF-8, for parts that take no other."""
        try:
            str(self.path).encode()
        except UnicodeEncodeError as error:
            raise RunFolderError(
                f"{self.path}: the name of this folder is not UTF-8, which {for_what} needs. Give another --run-dir."
            ) from error

    def start(self) -> Claim:
        """Make and claim the folder of a new run.

        Returns:
            The claim, to be released at the end. A start that fails hands it to `undo`.

        Raises:
            RunFolderError: it holds something already, another process works in it, or it cannot be written.
        """
        self.require_free()
        made = tuple(folder for folder in (self.path, *self.path.parents) if not folder.exists())
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            mine = replace(claim.take(self.path), made=made)
        except OSError as error:
            remove_empty(made)
            raise RunFolderError(
                f"{self.path}: cannot write a run folder here ({error.strerror}). Give a --run-dir that you may write to."
            ) from error
        try:
            self._require_empty(was_left=mine.was_left)  # another process may have been here since
        except RunFolderError:
            mine.release()
            raise
        self._clear()  # what a killed start has left
        return mine

    def resume(self) -> Claim:
        """Claim the folder of an interrupted run, and clear what a killed process was writing.

        Raises:
            RunFolderError: another process works in it or has finished it, a link leads out of it, or it cannot be written.
        """
        require_no_way_out(self.path)
        try:
            mine = claim.take(self.path)
        except OSError as error:
            raise RunFolderError(f"{self.path}: cannot be written ({error.strerror}). Make it writable, or resume a copy of it.") from error
        if self._has_ended:
            mine.release()
            raise RunFolderError(f"{self.path}: this run is finished; there is nothing to resume. Give another --run-dir.")
        clear_partial(self.path, "**/")
        claim.clear_left(self.path)
        self.clear_scratch()
        return mine

    def require_model(self) -> "RunFolder":
        """Return this folder, or raise RunFolderError when it holds no trained model."""
        if not self.path.is_dir():
            raise RunFolderError(f"{self.path}: no such run folder. Give the folder of a training run, or an ensemble.")
        missing = [name for name in (MODEL, CONFIG, SPLITS) if not (self / name).is_file()]
        if missing:
            mend = "Continue it with --resume." if self._can_resume else "Give the folder of a training run."
            if (self / BEST / MODEL).is_file():
                mend = f"Give {self.path / BEST}, the winner of this search."
            if (self / ENSEMBLE).is_file():
                mend = f"Its parts are not all Keras models, so that {PREDICTIONS} and {ENSEMBLE} are all there is."
            raise RunFolderError(f"{self.path}: holds no trained model ({missing[0]} is missing). {mend}")
        return self

    def require_measured(self) -> "RunFolder":
        """Return this folder, or raise RunFolderError when it holds neither a trained model nor an ensemble without one."""
        has_figures = all((self / name).is_file() for name in (ENSEMBLE, CONFIG, SPLITS, METRICS, PREDICTIONS))
        return self if has_figures else self.require_model()

    def require_unfinished(self, mode: str) -> "RunFolder":
        """Return this folder, or raise RunFolderError when no interrupted run of this mode lies in it."""
        kind = KINDS.get(mode, TRAINING_RUN)
        if kind.started_by is None or not (self / CONFIG).is_file() or not any(self.path.glob(kind.started_by)):
            raise RunFolderError(f"{self.path}: holds no interrupted {kind.noun} to resume. Start one without --resume.")
        if self._ended_as(kind):
            raise RunFolderError(f"{self.path}: this {kind.noun} is finished; there is nothing to resume. Give another --run-dir.")
        return self

    def clear_scratch(self) -> None:
        """Remove what only a run in progress needs."""
        _remove(self / SCRATCH)

    def _clear(self) -> None:
        """Remove what lies in this folder, other than its claim."""
        for entry in self.path.iterdir():
            if entry.name != CLAIM:
                _remove(entry)

    def undo(self, mine: Claim) -> None:
        """Remove what this process has made since it claimed the folder, which was empty then; and release it."""
        self._clear()
        mine.release()
        remove_empty(mine.made)
