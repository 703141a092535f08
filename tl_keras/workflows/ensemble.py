"""Several classifiers as one: heads on stored features of backbones, or the models of runs, combined, measured and kept as a run."""

import os
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_keras import run_folder as names
from tl_keras.config import Config
from tl_keras.config_file import to_yaml
from tl_keras.data import dataset
from tl_keras.data.sources import open_source
from tl_keras.errors import ConfigError
from tl_keras.evaluation.metrics import classification_metrics
from tl_keras.models.backbone_names import is_preset
from tl_keras.models.classifier import count_parameters
from tl_keras.progress import Progress
from tl_keras.run_folder import RunFolder
from tl_keras.select.combining import Probabilities
from tl_keras.select.ensemble import Ensemble, compare
from tl_keras.select.ensemble_of_backbones import of_backbones
from tl_keras.workflows.ensemble_of_runs import of_runs
from tl_keras.workflows.scoring import AGREEMENT_IMAGES, Clock, check_agreement, measure
from tl_keras.workflows.setting_up import environment, set_up, undone_on_failure
from tl_keras.workflows.train import write_predictions

AGREEMENT = 1e-4  # largest difference of a probability between the figures and the model that is saved


def ensemble(config: Config, run_dir: Path | str, *, progress: Progress | None = None) -> dict[str, Any]:
    """Combine the classifiers of `ensemble.members` as `ensemble.method` says.

    Args:
        config: `mode` is 'ensemble'. Over runs, the sections `ensemble` and `runtime` count, those of `crossval` that cut a stack's
            folds, and `data.source` where their images have moved.
        run_dir: the folder to make: an ordinary run's, with `model.keras` wherever all parts are Keras models.

    Returns:
        What ensemble.json holds: see `select.ensemble.compare`; `method`, `members`, `is_keras`, and the `metrics` of metrics.json,
        which of a stack are `out_of_fold` and not of val.

    Raises:
        UserError: anything that the user can mend; a folder made for it is gone again.
    """
    clock, progress, run = Clock(), progress or Progress(), RunFolder.at(run_dir)
    config = checked(config)
    set_up(config.runtime)
    with undone_on_failure(run, resume=False):
        members = [RunFolder(Path(name).expanduser()) for name in config.ensemble.members]
        runs = [member for member in members if (member / names.CONFIG).is_file()]
        require_there(members, runs)
        if runs and len(runs) < len(members):
            other = next(member.path for member in members if member not in runs)
            raise ConfigError(f"ensemble.members: {runs[0].path} is a run and {other} is none. Give runs only, or backbones only.")
        if runs:
            found = of_runs(config, runs, run, progress)
        else:
            found = of_backbones(config, open_source(config.data), progress)
            dataset.write(found.data, run, progress)
        num, source = found.data.counts(), found.config.data.source
        progress.line(f"{source}: {num['train']} images of train, {num['val']} of val, {num['test']} of test in {num['classes']} classes")
        clock.lap("combine_s")
        result = write(found, run, clock)
    return result


def checked(config: Config) -> Config:
    """The configuration in float32, in which the figures and the model that is saved agree.

    Raises:
        ConfigError: another precision is asked for, or there are no members.
    """
    if config.runtime.precision not in ("auto", "float32"):
        raise ConfigError(f"runtime.precision: got '{config.runtime.precision}', expected 'auto' or 'float32' for an ensemble.")
    if not config.ensemble.members:
        raise ConfigError("ensemble.members: got none. Name backbones, such as mobilenet_v2 resnet50, or the folders of runs.")
    return config.model_copy(update={"runtime": config.runtime.model_copy(update={"precision": "float32"})})


def require_there(members: Sequence[RunFolder], runs: Sequence[RunFolder]) -> None:
    """Raise ConfigError for a path that leads nowhere, and for a run that is given twice."""
    for member in members:
        text = str(member.path)
        if not member.path.exists() and "://" not in text and not is_preset(text) and (os.sep in text or runs):
            near = get_close_matches(member.path.name, [path.name for path in member.path.parent.glob("*")], n=1)
            hint = f" Did you mean '{member.path.parent / near[0]}'?" if near else ""
            raise ConfigError(f"ensemble.members: there is no folder or file {text}.{hint}")
    places = [run.path.resolve() for run in runs]
    for run in runs:
        if places.count(run.path.resolve()) > 1:
            raise ConfigError(f"ensemble.members: {run.path} is given twice. Give each run once.")


def write(found: Ensemble, run: RunFolder, clock: Clock) -> dict[str, Any]:
    """Write what a run folder holds of an ensemble, the metrics last; splits.csv is there already."""
    names.write_text(run / names.CONFIG, to_yaml(found.config))
    names.write_json(run / names.ENVIRONMENT, environment())
    write_predictions(run / names.PREDICTIONS, found.data, "test", found.test.together)
    agreement, parameters = {}, {}
    if found.model is not None:
        places = surest(found.val.singles) if found.config.ensemble.method == "vote" else None  # else rounding turns a near tie
        agreement = {"agreement": check_agreement(found.data, found.model, found.val.together, AGREEMENT, places)}
        parameters = {"parameters": count_parameters(found.model)}
        names.write_whole(run / names.MODEL, found.model.save)
    clock.lap("write_s")
    where, judged = found.judged  # a meta-learner has learned from val
    metrics = {
        "mode": "ensemble",
        "backbone": " + ".join(found.names),
        "seed": found.config.runtime.seed,
        "data": found.data.counts(),
        **parameters,
        where: classification_metrics(judged.together, judged.labels, found.data.classes),
        "test": measure(found.data, "test", found.test.together),
        **agreement,
        "timing": clock.timing(),
    }
    wanted = found.config.ensemble
    result = {
        "method": wanted.method,
        "members": list(wanted.members),
        **compare(found),
        **found.notes,
        "is_keras": found.model is not None,
        "metrics": metrics,
    }
    names.write_json(run / names.ENSEMBLE, result)
    names.write_json(run / names.METRICS, metrics)
    return result


def surest(singles: Probabilities) -> NDArray[np.int64]:
    """The images that all members (m, n, k) are the surest of, by the least distance between a first and a second class."""
    first_two = np.sort(singles, axis=-1)[..., -2:]
    return np.argsort(-np.min(first_two[..., 1] - first_two[..., 0], axis=0), kind="stable")[:AGREEMENT_IMAGES]
