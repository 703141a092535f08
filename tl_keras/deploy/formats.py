"""The table of export formats: how each is written, read without Keras, and how closely it must agree with the model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tl_keras.deploy import standalone_reader
from tl_keras.deploy.exported import Exported
from tl_keras.deploy.saved_model import write_saved_model


@dataclass(frozen=True, kw_only=True)
class Format:
    """One format of exported models.

    Attributes:
        write: writes a model to a path that does not exist; raises ExportError, its text without the path.
        answer: the function of `standalone_reader` that opens what was written, in a process that cannot import Keras.
        needs: the packages that reading it takes.
        tolerance: each signature -> the largest difference of an answer from the model's. Every signature takes pixels but 'bytes',
            which takes files.
    """

    write: Callable[[Exported, Path], None]
    answer: Callable[[str], standalone_reader.Signatures]
    needs: tuple[str, ...]
    tolerance: Mapping[str, float]


SAVED_MODEL = "saved_model"

# the name of the file or folder in a run's `export/` -> its format
FORMATS: dict[str, Format] = {
    SAVED_MODEL: Format(
        write=write_saved_model,
        answer=standalone_reader.open_saved_model,
        needs=("tensorflow",),
        tolerance={"float": 1e-5, "uint8": 1e-5, "bytes": 1e-3},
    ),
}
