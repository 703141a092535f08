"""A finished run, read back: its model and what is needed to use it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from tl_keras import run_folder
from tl_keras.config import Config
from tl_keras.config_file import from_run, from_yaml, to_yaml
from tl_keras.data import splits
from tl_keras.data.index import Index
from tl_keras.data.sources import find_root, is_there, was_asked_for
from tl_keras.errors import DataError, RunFolderError
from tl_keras.models.backbone_kinds import BACKBONE_KINDS, PRESET
from tl_keras.models.backbone_names import short_name
from tl_keras.models.keras_loading import BROKEN, code_in, load_keras_file
from tl_keras.models.outputs import SINGLE_LABEL, Output, from_json, to_json
from tl_keras.models.saved import read_classes
from tl_keras.models.saved_stages import read_stages
from tl_keras.progress import Progress
from tl_keras.run_folder import RunFolder
from tl_keras.runtime import restoring_process
from tl_keras.tasks import REGRESSION

NO_CONTENT = "this run is of a version that did not record the content of images: they are known by their paths alone"
NOT_FOUND = "Could not locate"  # in Keras' error for a class that it cannot import
ADVICE = "If the model learned from such images, train it again with data.bit_depth={}."  # see `depth.tell_depth`


def read_config(run: RunFolder) -> Config:
    """The resolved configuration of a run, but for what it allows; see `from_run`."""
    return from_run(_config_text(run), str(run / run_folder.CONFIG))


def write_config(run: RunFolder, config: Config) -> None:
    """Write the resolved configuration of a run; that a SavedModel was trusted stays on record when the run goes on."""
    if (run / run_folder.CONFIG).is_file() and from_yaml(_config_text(run), str(run / run_folder.CONFIG)).model.trust:
        config = config.replace("model.trust", True)
    run_folder.write_text(run / run_folder.CONFIG, to_yaml(config))


def _config_text(run: RunFolder) -> str:
    path = run / run_folder.CONFIG
    with run_folder.reading(path, "the configuration of a run", "Give the folder of a complete run."), run_folder.open_text(path) as file:
        return file.read()


def require_asked_for(config: Config, run: RunFolder) -> None:
    """Refuse to fetch images because a run folder, which may come from a stranger, names an address.

    Raises:
        DataError: nobody on this machine has asked for that address yet.
    """
    source = config.data.source
    if not was_asked_for(source):
        raise DataError(
            f"{run.path}: its images are at {source}, which nobody on this machine has asked for yet. If you trust whoever wrote that, "
            f"name the address yourself: with --data, or fetch the images with: tl-keras check {source}"
        )


def data_root(config: Config, run: RunFolder, progress: Progress, moved: str | None = None) -> Path:
    """The folder that the paths of a run's splits.csv are relative to; what lies at an address is fetched, if it has changed.

    Args:
        moved: where its images are said to lie now; None where the run found them.

    Raises:
        DataError: they are not there any more, or see `require_asked_for`.
    """
    if moved is None:
        require_asked_for(config, run)
    source = Path(config.data.source)
    if moved is None and source.is_absolute() and not is_there(config.data.source):
        raise DataError(f"{run.path}: its images were in {source}, which no longer exists. Say with --data where they are now.")
    return find_root(config.data if moved is None else config.data.replace("source", moved), progress)


def data_root_if_there(config: Config, run: RunFolder, progress: Progress, moved: str | None = None) -> Path | None:
    """As `data_root`; None, and a line that says why, where they are gone.

    Raises:
        DataError: they are not at `moved`.
    """
    try:
        return data_root(config, run, progress, moved)
    except DataError as error:
        if moved is not None:
            raise
        progress.line(f"no pictures: {error}")
        return None


@dataclass(frozen=True)
class TrainedRun:
    """A finished run, read back: its model and what is needed to use it."""

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

    @property
    def stages(self) -> dict[str, Any]:
        """ "stage1", ... from input to output -> the symbolic tensor of `model` that the stage outputs; none for an ensemble of networks.

        Raises:
            RunFolderError: the run has no stages.json, as those of earlier versions, or one of another model.
        """
        with run_folder.reading(self.run / run_folder.STAGES, "what goes with this run's model.keras", "Train again, or restore the file."):
            return read_stages(self.run / run_folder.STAGES, self.model)

    def images(self, split: str, root: Path) -> Index:
        """The run's images of one split, at their paths below `root`; whether they lie there nobody has looked."""
        return replace(self.index.take(np.flatnonzero(self.split == split)), root=root)


def still_there(index: Index) -> Index:
    """Those of some images that lie below the folder of the index and are still the same."""
    found = index.identify(Progress())
    return index.take(np.flatnonzero(found != b"" if index.ids is None else found == index.ids))


@restoring_process()
def open_run(run_dir: Path | str) -> TrainedRun:
    """Read a run folder back.

    The index holds paths only: who reads images says below which folder they lie now. Its classes are those that the model file names,
    in the order of the model's outputs; of older versions, and of files saved again by Keras, those of splits.csv, which are sorted.

    Raises:
        RunFolderError: no run, or one that has not come to a model yet.
    """
    run = RunFolder.at(run_dir).require_model()
    config = read_config(run)
    try:
        model = load_keras_file(run / run_folder.MODEL)
        classes = read_classes(run / run_folder.MODEL)
    except BROKEN as error:
        if code := code_in(error):
            raise RunFolderError(f"{run / run_folder.MODEL}: is refused: {code}.") from error
        if isinstance(error, TypeError) and NOT_FOUND in str(error):
            raise RunFolderError(
                f"{run / run_folder.MODEL}: holds layers of a package that is not installed. "
                f"Where its backbone was KerasHub's: {BACKBONE_KINDS[PRESET].needs}."
            ) from error
        raise RunFolderError(
            f"{run / run_folder.MODEL}: is not a Keras model, or is cut short. Train again, or restore the file."
        ) from error
    if classes is not None and len(classes) != model.output.shape[-1]:
        raise RunFolderError(
            f"{run / run_folder.MODEL}: names {len(classes)} classes, and its model outputs {model.output.shape[-1]} numbers. "
            "Train again, or restore the file."
        )
    index, split = splits.read_splits(run / run_folder.SPLITS, Path())
    if config.data.task != index.output.task:
        raise RunFolderError(
            f"{run / run_folder.SPLITS}: has labels for {index.output.task}, and data.task in config.yaml is {config.data.task}. "
            "Restore the file that was changed."
        )
    index = index if classes is None else relabelled(run, index, classes)
    return TrainedRun(run, config, model, replace(index, output=read_output(run, index)), split)


def read_output(run: RunFolder, index: Index) -> Output:
    """What the outputs of a run's model mean.

    Raises:
        RunFolderError: it is not there, or does not go with the classes.
    """
    if index.output == SINGLE_LABEL:
        return SINGLE_LABEL
    path = run / run_folder.OUTPUT
    with run_folder.reading(path, "what a model's outputs mean", "Restore it, or train again."):
        found = from_json(run_folder.read_json(path, "what a model's outputs mean", "Restore it, or train again."))
        if found.task != index.output.task or len(getattr(found, "thresholds", ())) not in (0, len(index.classes)):
            raise ValueError("it is that of another model")
        return found


def write_output(run: RunFolder, output: Output) -> None:
    """Write what the outputs of a run's model mean; of one class an image there is nothing to say."""
    if output != SINGLE_LABEL:
        run_folder.write_json(run / run_folder.OUTPUT, to_json(output))


def relabelled(run: RunFolder, index: Index, classes: tuple[str, ...]) -> Index:
    """The images of a run under the labels that its model gives to their classes."""
    if index.output.task == REGRESSION:
        return replace(index, classes=classes)
    unknown = sorted(set(index.classes) - set(classes))
    if unknown:
        raise RunFolderError(
            f"{run.path}: splits.csv has a class '{unknown[0]}', which model.keras does not know ({', '.join(classes)}). "
            "Restore the file that was changed."
        )
    if index.labels.ndim == 2:
        labels = np.zeros((len(index.paths), len(classes)), bool)
        labels[:, [classes.index(name) for name in index.classes]] = index.labels
        return replace(index, classes=classes, labels=labels)
    order = np.array([classes.index(name) for name in index.classes], np.int32)
    shares = None
    if index.shares is not None:
        shares = np.zeros((len(index.paths), len(classes)), np.float32)
        shares[:, order] = index.shares
    return replace(index, classes=classes, labels=order[index.labels], shares=shares)
