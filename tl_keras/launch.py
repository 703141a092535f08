"""Preparation for a mode: a name for its run folder, a check of every name and path, and TensorFlow without its noise.

The looks are cheap and need no TensorFlow, whose import takes seconds: a mistake is told at once. Shared by the command line
(`run`) and the functions for Python (`api`).
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tl_keras.arguments import RUNS, run_of
from tl_keras.errors import BackboneError, ConfigError, DataError, RunFolderError
from tl_keras.models.backbone_names import check_backbone, short_name
from tl_keras.modes import MODES, TRAININGS, load
from tl_keras.quiet import quiet
from tl_keras.run_folder import CONFIG, REPORT, RunFolder, open_text, reading, remove_empty
from tl_keras.tf_config import place_in

if TYPE_CHECKING:
    from tl_keras.config import Config

MOST_RUNS = 26  # side by side: a letter for each
CACHED = "cached"  # among the candidates of a ranking: each backbone whose weights lie on this machine
KINDS_OF_WEIGHTS = ("pretrained", "imagenet", "none")  # other than files
ENVIRONMENT = ("TF_CPP_MIN_LOG_LEVEL", "TF_FORCE_GPU_ALLOW_GROWTH")  # what is set here, for TensorFlow's start


@dataclass(frozen=True)
class Asked:
    """What a mode is to do, once all that it names was found.

    Attributes:
        run_dir: the run folder that is made or used.
        output: the file to write; None for the standard output.
        made: the configuration of a mode that makes a run.
    """

    run_dir: Path
    output: Path | None = None
    made: "Config | None" = None

    @property
    def config(self) -> "Config":
        """The configuration of the run that is made."""
        if self.made is None:
            raise ValueError("this mode has no configuration of its own")
        return self.made


_made: list[tuple[Path, ...]] = []  # what `make_run_dir` made, each folder with those above it, the deepest first


def make_run_dir(config: "Config") -> Path:
    """Make a folder of the name that `new_run_dir` gives, or of that name and a number where another process has it.

    Raises:
        RunFolderError: it cannot be made here.
    """
    name = new_run_dir(config)
    parents = tuple(folder for folder in name.parents if not folder.exists())
    for number in count(1):
        folder = name if number == 1 else name.with_name(f"{name.name}-{number}")
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir()
        except FileExistsError:
            if folder.parent.is_dir():
                continue
            raise RunFolderError(f"{folder.parent}: is not a folder. Give a --run-dir.") from None
        except OSError as error:
            remove_empty(parents)
            raise RunFolderError(
                f"{folder}: cannot write a run folder here ({error.strerror}). Give a --run-dir that you may write to."
            ) from error
        _made.append((folder, *parents))
        break
    return folder


def makes_folder(mode: str) -> bool:
    """Whether this process makes the folder of a run: of several that train together only the chief does."""
    here = place_in(os.environ) if MODES[mode].spreads else None
    return here is None or here.is_chief


def remove_unused() -> None:
    """Remove the folders of `make_run_dir` in which nothing came to lie."""
    while _made:
        remove_empty(_made.pop())


def new_run_dir(config: "Config") -> Path:
    """The name of a new folder below saved_models/: the mode, the settings that its row says, and the time."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    shown = [in_folder_name(setting, attrgetter(setting)(config)) for setting in MODES[config.mode].named_after]
    return RUNS / "-".join([config.mode, *shown, stamp])


def in_folder_name(setting: str, value: str) -> str:
    """A setting's value as the name of a folder shows it."""
    if setting == "model.backbone":
        return short_name(value)
    name = Path(value).name or Path(value).resolve().name  # of '.'
    return "".join(letter if letter.isprintable() else "_" for letter in name) or "data"  # bytes that are not UTF-8 are not, either


def check_names(config: "Config") -> None:
    """Look whether the images, backbones and weights that a configuration names are there.

    Raises:
        DataError: `data.source` is not there, or its folders are not arranged for training.
        BackboneError: a backbone or a file of weights is not there.
        ConfigError: a member of an ensemble is not there, no target domain is named, or a tracker is not installed.
    """
    from tl_keras.config import AUTO
    from tl_keras.data.sources import check_layout_of
    from tl_keras.data.target import check_target
    from tl_keras.evaluation.trackers import require_tracker
    from tl_keras.select.ensemble.member_names import runs_among

    paths = MODES[config.mode].paths
    asked = (config.model.backbone,) if paths is None else attrgetter(paths)(config)
    if not (config.mode == "ensemble" and runs_among(asked)):  # which have images of their own
        check_layout_of(config.data)
        for name in asked:
            if name not in (AUTO, CACHED):
                check_backbone(name)
    if config.mode == "adapt":
        check_target(config.data, config.adapt.target)
    require_tracker(config.runtime.tracker)
    weights = config.model.weights
    if weights not in KINDS_OF_WEIGHTS and not Path(weights).expanduser().is_file():
        raise BackboneError(f"{weights}: there is no such weights file. Expected a file or one of {', '.join(KINDS_OF_WEIGHTS)}.")


def check_images(data: str | None) -> None:
    """Look whether there is a source of images of this name, if one is given.

    Raises:
        DataError: there is none.
    """
    from tl_keras.config import DataConfig
    from tl_keras.data.sources import check_source

    if data is not None:
        check_source(DataConfig(source=data))


def check_run(run_dir: Path, data: str | None = None, *, needs_model: bool = True) -> None:
    """Look whether a folder holds a trained model, or at least the figures of one, and whether the images for it are there.

    Raises:
        UserError: it holds none, or they are not there.
    """
    run = RunFolder.at(run_dir)
    run.require_model() if needs_model else run.require_measured()
    check_images(data)


def check_output(output: Path | None, suffixes: Sequence[str]) -> None:
    """Refuse an --output of another kind than the mode writes, before anything is computed."""
    if output is not None and output.suffix not in suffixes:
        raise ConfigError(f"--output: got '{output}', expected a file ending in {' or '.join(suffixes)}.")
    if output is not None and output.is_dir():
        raise ConfigError(f"--output: '{output}' is a folder; give a file.")
    if output is not None and not os.access(output.parent, os.W_OK):
        raise ConfigError(f"--output: cannot write to the folder '{output.parent}'.")


def check_more_runs(run_dir: Path, others: Sequence[Path | str], output: Path | None) -> list[Path]:
    """Look whether several runs, and a file for them, are given together, and whether each run is one.

    Returns:
        The folders of the others.

    Raises:
        UserError: one is missing, is no run, or is there twice.
    """
    folders = [run_of(each) for each in others]
    for folder in folders:
        check_run(folder)
    if output is None and folders:
        raise ConfigError(f"report: got {len(folders) + 1} runs, expected --output FILE.html too, the page that puts them side by side.")
    if output is not None and not folders:
        raise ConfigError(f"report: got --output and one run, whose report is {run_dir}/{REPORT}. Name another run, or remove --output.")
    if len(folders) >= MOST_RUNS:
        raise ConfigError(f"report: got {len(folders) + 1} runs, expected at most {MOST_RUNS}.")
    seen: set[Path] = {run_dir.resolve()}
    for folder in folders:
        if folder.resolve() in seen:
            raise ConfigError(f"report: got {folder} twice, expected the folders of several runs.")
        seen.add(folder.resolve())
    return folders


def check_files(words: Sequence[str]) -> None:
    """Look whether there are files of these names, or that these patterns match.

    Raises:
        DataError: nothing was given, or something given matches nothing.
    """
    from tl_keras.data.patterns import NO_WORDS, matches
    from tl_keras.data.sources.addresses import is_address
    from tl_keras.data.sources.remote import require_there

    if not words:
        raise DataError(NO_WORDS)
    for word in words:
        if is_address(word):
            require_there(word)
        elif next(matches(word), None) is None:
            raise DataError(f"{word}: no such file, or no images in it.")


def stored_config(run_dir: Path, modes: Sequence[str]) -> "Config":
    """Read the configuration of an interrupted run, which must be of one of these modes.

    Raises:
        ConfigError: there is none, or it is of another mode.
    """
    from tl_keras.config_file import from_run

    file = run_dir / CONFIG
    if not file.is_file():
        raise ConfigError(f"--run-dir: {run_dir} holds nothing to resume. Start it without --resume.")
    with reading(file, "the configuration of a run", "Restore it, or start the run again in another --run-dir."), open_text(file) as opened:
        text = opened.read()
    config = from_run(text, str(file))
    if config.mode not in modes:
        raise ConfigError(f"--mode: got '{modes[0]}', but {run_dir} holds an interrupted run of mode '{config.mode}'.")
    if config.mode in TRAININGS:
        RunFolder(run_dir).require_unfinished(config.mode)
    return config


@contextmanager
def restoring_environment() -> Iterator[None]:
    """Leave the environment variables that are set before TensorFlow starts as they were."""
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def prepare_for_workers() -> None:
    """Let TensorFlow take of a GPU only what it needs: other processes on this machine use it too."""
    from tl_keras.select.search.local_workers import MEMORY_AS_NEEDED

    os.environ.update(MEMORY_AS_NEEDED)


def import_workflow(name: str, config: "Config | None" = None) -> Any:
    """Import TensorFlow and the function 'module:name' without their noise, and start TensorFlow's threads as a configuration asks.

    Raises:
        ConfigError: it asks for what this machine or process cannot do.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if config is not None and config.runtime.cluster != "none":
        prepare_for_workers()  # an actor may have the same GPU
    with quiet():
        import tensorflow as tf

        found = load(name)

        from tl_keras.runtime import Runtime, join_others, keep_to_limit, require_alone

        if config is None:
            keep_to_limit()
        else:
            Runtime.of(config.runtime).start_threads()
    with quiet():
        if config is not None and name == MODES[config.mode].run:
            (join_others if MODES[config.mode].spreads else require_alone)()  # before TensorFlow's first operation
        tf.zeros(())  # looks for GPU drivers, which is noisy too
    return found
