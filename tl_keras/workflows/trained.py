"""A run read back: its model and what is needed to use it."""

from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from tl_keras import run_folder as names
from tl_keras.config import Config
from tl_keras.config_file import from_yaml
from tl_keras.data import splits
from tl_keras.data.sources import Index, open_source
from tl_keras.errors import RunFolderError
from tl_keras.models.backbone_names import short_name
from tl_keras.models.presets import INSTALL
from tl_keras.run_folder import RunFolder


def read_config(run: RunFolder) -> Config:
    """The resolved configuration of a run."""
    path = run / names.CONFIG
    try:
        return from_yaml(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be read ({error.strerror}). Give the folder of a whole run.") from error


def data_root(config: Config) -> Path:
    """The folder that the paths of a run's splits.csv are relative to."""
    return open_source(config.data).root


@dataclass(frozen=True)
class Trained:
    """A run read back: its model and what is needed to use it."""

    run: RunFolder
    config: Config
    model: keras.Model
    index: Index
    split: NDArray[np.str_]

    @property
    def backbone(self) -> str:
        """The name of its backbone, or of an ensemble's members."""
        members = self.config.ensemble.members
        return " + ".join(map(short_name, members)) if self.config.mode == "ensemble" else self.config.model.backbone

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        height, width = self.model.input.shape[1:3]
        return int(height), int(width)


def open_run(run_dir: Path | str) -> Trained:
    """Read a run folder back.

    The index holds paths only: who reads images says below which folder they lie now.

    Raises:
        RunFolderError: no run, or one that has not come to a model yet.
    """
    run = RunFolder.at(run_dir).require_model()
    config = read_config(run)
    keras.config.set_dtype_policy("float32")
    try:
        model = keras.models.load_model(run / names.MODEL, compile=False)
    except TypeError as error:  # Keras' error for a class that it cannot import
        raise RunFolderError(
            f"{run / names.MODEL}: holds layers of a package that is not installed. Where its backbone was KerasHub's: {INSTALL}."
        ) from error
    except (ValueError, OSError) as error:
        raise RunFolderError(f"{run / names.MODEL}: is no whole Keras model, or is cut short. Train again, or restore the file.") from error
    index, split = splits.read_splits(run / names.SPLITS, Path())
    return Trained(run, config, model, index, split)
