"""The kinds of members of an ensemble: run folders, or backbones; or why a name is neither. Knows no Keras or TensorFlow."""

import os
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from tl_keras import run_folder
from tl_keras.errors import ConfigError
from tl_keras.models.backbone_kinds import is_elsewhere
from tl_keras.run_folder import RunFolder


def runs_among(members: Sequence[str]) -> list[RunFolder]:
    """The members of an ensemble as runs; none where they are backbones.

    Raises:
        ConfigError: there are no members, a path leads nowhere, a run is given twice, or some are runs and others are not.
    """
    if not members:
        raise ConfigError("ensemble.members: got none. Name backbones, such as mobilenet_v2 resnet50, or the folders of runs.")
    folders = [RunFolder(Path(name).expanduser()) for name in members]
    runs = [folder for folder in folders if (folder / run_folder.CONFIG).is_file()]
    require_there(folders, runs)
    if runs and len(runs) < len(folders):
        other = next(folder.path for folder in folders if folder not in runs)
        raise ConfigError(f"ensemble.members: {runs[0].path} is a run and {other} is not. Give runs only, or backbones only.")
    return runs


def require_there(members: Sequence[RunFolder], runs: Sequence[RunFolder]) -> None:
    """Raise ConfigError for a path that leads nowhere, and for a run that is given twice."""
    for member in members:
        text = str(member.path)
        if not member.path.exists() and not is_elsewhere(text) and (os.sep in text or runs):
            near = get_close_matches(member.path.name, [path.name for path in member.path.parent.glob("*")], n=1)
            hint = f" Did you mean '{member.path.parent / near[0]}'?" if near else ""
            raise ConfigError(f"ensemble.members: there is no folder or file {text}.{hint}")
    places = [run.path.resolve() for run in runs]
    for run in runs:
        if places.count(run.path.resolve()) > 1:
            raise ConfigError(f"ensemble.members: {run.path} is given twice. Give each run once.")
