"""Which form of a run answers: the fastest export that agreed with the model, or the model itself."""

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from tl_keras.deploy.export import hashes_of, read_exports, require_compared
from tl_keras.deploy.formats import FORMATS
from tl_keras.deploy.predictor import ExportedPredictor, Predictor
from tl_keras.packages import is_installed
from tl_keras.progress import Progress
from tl_keras.run_folder import EXPORT, RunFolder
from tl_keras.run_folder import MODEL as MODEL_FILE
from tl_keras.trained_run import TrainedRun

MODEL = "model"  # the name of the form that is the run's model itself
DIGITS = 12  # of a version


class Form(NamedTuple):
    """What answers for a run.

    Attributes:
        name: a key of `EXPORT_FORMATS`, or `MODEL`.
        version: tells its files from all others, see `version_of`.
        predictor: what reads them.
    """

    name: str
    version: str
    predictor: Predictor


def open_form(trained: TrainedRun, asked: str | None, progress: Progress, thresholds: Mapping[str, float] | None = None) -> Form:
    """What answers for a run, opened; see `choose`, and `Predictor` for the thresholds."""
    kind, version = choose(trained.run, asked, progress)
    predictor = Predictor(trained, thresholds) if kind == MODEL else ExportedPredictor(trained, kind, thresholds)
    return Form(kind, version, predictor)


def choose(run: RunFolder, asked: str | None, progress: Progress) -> tuple[str, str]:
    """The name of the form that answers for a run, and its version, by the files that are there.

    Args:
        asked: the form that somebody chose; None for the export that answered most images a second in batches, when it was compared with
            the model, of those whose runtime is here; for the model where there is none.

    Raises:
        ConfigError: the form that was asked for is not among the run's exports, or its runtime is not installed.
        RunFolderError: an export is not the file that was compared with the model.
    """
    kind = asked or fastest(read_exports(run / EXPORT), progress)
    if kind is None:
        return MODEL, version_of(hashes_of(run / MODEL_FILE))
    return kind, version_of(require_compared(run, kind)["sha256"])


def version_of(hashes: Mapping[str, str]) -> str:
    """A short name of what answers, the same wherever the same files do: of one file, `sha256sum FILE | sha256sum` begins with it.

    Args:
        hashes: see `hashes_of`.
    """
    lines = "".join(f"{digest}  {file}\n" for file, digest in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:DIGITS]


def fastest(rows: dict[str, dict[str, Any]], progress: Progress) -> str | None:
    """The format of most images a second, of those whose runtime is installed; None where there is none."""
    usable = {}
    for name, row in rows.items():
        missing = [package for package in FORMATS[name].runtime if not is_installed(package)]
        if missing:
            progress.line(f"the export '{name}' is left out: {' and '.join(missing)} is not installed here")
        else:
            usable[name] = float(row["images_per_second"])
    return max(usable, key=usable.__getitem__, default=None)
