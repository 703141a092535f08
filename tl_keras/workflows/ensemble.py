"""Several models as one: heads on stored features of backbones, or the models of runs, combined, measured and kept as a run."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_keras import run_folder
from tl_keras.config import Config
from tl_keras.config_file import to_yaml
from tl_keras.data import dataset
from tl_keras.errors import ConfigError
from tl_keras.evaluation.metrics import figures_of
from tl_keras.evaluation.report.page import write_report
from tl_keras.evaluation.scoring import (
    AGREEMENT_IMAGES,
    Clock,
    check_agreement,
    choices_of_val,
    draw_errors,
    measure,
    write_class_names,
    write_predictions,
)
from tl_keras.models.classifier import count_parameters
from tl_keras.models.outputs import MultiLabel, Output, Regression, SingleLabel
from tl_keras.models.saved import save_classifier
from tl_keras.models.saved_stages import write_stages
from tl_keras.progress import Progress
from tl_keras.run_folder import RunFolder
from tl_keras.runtime import restoring_process, set_up
from tl_keras.select.ensemble.comparison import Answers, Ensemble, compare
from tl_keras.select.ensemble.from_backbones import of_backbones
from tl_keras.select.ensemble.from_runs import of_runs
from tl_keras.select.ensemble.member_names import runs_among
from tl_keras.trained_run import write_output
from tl_keras.workflows.setting_up import environment, open_images, working_in

AGREEMENT = 1e-4  # largest difference of an answer between the figures and the model that is saved


@restoring_process()
def ensemble(config: Config, run_dir: Path | str, *, progress: Progress | None = None) -> dict[str, Any]:
    """Combine the models of `ensemble.members` as `ensemble.method` says.

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
    runs = runs_among(config.ensemble.members)
    index = None if runs else open_images(config.data, progress, run)
    with working_in(run, resume=False):
        if index is None:
            found = of_runs(config, runs, run, progress)
            num, source = found.data.counts(), found.config.data.source
            of = "" if isinstance(found.data.output, Regression) else f" of {num['classes']} classes"
            progress.line(f"{source}: train {num['train']}, val {num['val']}, test {num['test']} images{of}")
        else:
            found = of_backbones(config, index, progress)
            dataset.write(found.data, run, progress)
        clock.lap("combine_s")
        result = write(found.decided, run, clock)
    return result


def checked(config: Config) -> Config:
    """The configuration in float32, in which the figures and the model that is saved agree.

    Raises:
        ConfigError: another precision is asked for.
    """
    if config.runtime.precision not in ("auto", "float32"):
        raise ConfigError(f"runtime.precision: got '{config.runtime.precision}', expected 'auto' or 'float32' for an ensemble.")
    return config.replace("runtime.precision", "float32")


def write(found: Ensemble, run: RunFolder, clock: Clock) -> dict[str, Any]:
    """Write what a run folder holds of an ensemble, the metrics last; splits.csv is there already."""
    run_folder.write_text(run / run_folder.CONFIG, to_yaml(found.config))
    run_folder.write_json(run / run_folder.ENVIRONMENT, environment())
    where, judged = found.judged  # a meta-learner has learned from val
    write_predictions(run / run_folder.PREDICTIONS, found.data, found.data.rows("test"), found.test.together)
    write_predictions(run / run_folder.VAL_PREDICTIONS, found.data, found.judged_rows, judged.together)
    output, agreement, parameters = found.data.output, {}, {}
    write_output(run, output)
    if found.model is not None:
        is_vote = found.config.ensemble.method == "vote"  # rounding may turn a near tie
        places = surest(output, found.val) if is_vote else None
        agreement = {"agreement": check_agreement(found.data, found.model, found.val.together, AGREEMENT, places)}
        parameters = {"parameters": count_parameters(found.model)}
        write_stages(run / run_folder.STAGES, found.model, found.stages)
        save_classifier(run / run_folder.MODEL, found.model, found.data.classes)
    clock.lap("write_s")
    metrics: dict[str, Any] = {
        "mode": "ensemble",
        "task": output.task,
        "backbone": " + ".join(found.names),
        "seed": found.config.runtime.seed,
        "data": found.data.counts(),
        **parameters,
        where: figures_of(output, judged.together, judged.labels, found.data.classes),
        "test": measure(found.data, "test", found.test.together),
        "temperature": found.temperature,
        **(_choices(found) if found.model is not None and isinstance(output, SingleLabel) and not found.config.is_adapted else {}),
        **agreement,
        "timing": clock.timing(),
    }
    wanted = found.config.ensemble
    result = {
        "task": output.task,
        "method": wanted.method,
        "members": list(wanted.members),
        **compare(found),
        **found.notes,
        "is_keras": found.model is not None,
        "metrics": metrics,
    }
    write_class_names(run / run_folder.CLASSES, found.data.classes)
    draw_errors(run, found.data, metrics["test"], found.test.together, "test")
    write_report(run, found.config, metrics, found.data.index.root)
    run_folder.write_json(run / run_folder.ENSEMBLE, result)
    run_folder.write_json(run / run_folder.METRICS, metrics)
    return result


def _choices(found: Ensemble) -> dict[str, Any]:
    """How what follows from val_predictions.csv does on test."""
    labels = found.data.index.labels[found.judged_rows]
    return choices_of_val(found.judged[1].together, labels, found.test.together, found.data.labels("test"))


def surest(output: Output, answers: Answers) -> NDArray[np.int64] | None:
    """The images that all members are the surest of; None where no member decides, as of numbers.

    Of one class an image it is by the least distance between a first and a second class, of several by that between a probability and the
    threshold of its class.
    """
    if isinstance(output, Regression):
        return None
    if isinstance(output, MultiLabel):
        limits = np.array([output.chosen(one, answers.labels).thresholds for one in answers.singles])
        margins = np.abs(answers.singles - limits[:, None]).min(axis=-1)
    else:
        first_two = np.sort(answers.singles, axis=-1)[..., -2:]
        margins = first_two[..., 1] - first_two[..., 0]
    return np.argsort(-np.min(margins, axis=0), kind="stable")[:AGREEMENT_IMAGES]
