"""The training modes: from images to a run folder."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_keras import run_folder
from tl_keras.config import AUTO, Config
from tl_keras.config_file import used_to_yaml
from tl_keras.data import splits
from tl_keras.data.index import Index
from tl_keras.data.sources import absolute_source
from tl_keras.data.target import open_target, require_another
from tl_keras.errors import ConfigError
from tl_keras.evaluation.calibration import fit_temperature
from tl_keras.evaluation.event_log import EventLog, write_result
from tl_keras.evaluation.explain.small import small_maps
from tl_keras.evaluation.metrics import share
from tl_keras.evaluation.novelty import FALSE_ALARMS, Novelty, fit_novelty, with_energy_of
from tl_keras.evaluation.novelty_file import write_novelty
from tl_keras.evaluation.pictures import draw_curves, draw_domains
from tl_keras.evaluation.report.page import write_report
from tl_keras.evaluation.scoring import (
    Clock,
    check_agreement,
    choices_of_val,
    draw_errors,
    inference,
    measure,
    score,
    write_class_names,
    write_predictions,
)
from tl_keras.evaluation.trackers import tracking
from tl_keras.interrupts import noted_interrupts
from tl_keras.models.backbone_weights import copy_weights
from tl_keras.models.classifier import Classifier, count_parameters, divide_logits
from tl_keras.models.outputs import SingleLabel
from tl_keras.models.saved import save_classifier
from tl_keras.models.saved_stages import write_stages
from tl_keras.modes import MODES
from tl_keras.progress import Logged, Progress
from tl_keras.run_folder import RunFolder
from tl_keras.runtime import is_chief, place, restoring_process, set_up, spread
from tl_keras.trained_run import NO_CONTENT, data_root, read_config, write_config, write_output
from tl_keras.transfer.adapt.record import read_planes
from tl_keras.transfer.adapt.train import adapt, changes_backbone
from tl_keras.transfer.build import build
from tl_keras.transfer.checkpoints import weights_view
from tl_keras.transfer.cluster import NONE, cluster_let_go, reach
from tl_keras.transfer.feeds import Feed, PixelFeed, StoredFeed
from tl_keras.transfer.finetune import finetune, finetune_feed, read_interpolation
from tl_keras.transfer.frozen import POOLED
from tl_keras.transfer.gradient_registry import gradients_let_go
from tl_keras.transfer.head.train import read_selection, train_head
from tl_keras.transfer.prepare import prepare_task
from tl_keras.transfer.pretrain import pretrain, save_backbone
from tl_keras.transfer.pruning import zeros_in
from tl_keras.transfer.task import Task
from tl_keras.workflows.measure_target import measure_target
from tl_keras.workflows.novelty import with_signs
from tl_keras.workflows.rank import with_best_backbone
from tl_keras.workflows.setting_up import environment, folder_here, open_images, tell_shrunk, working_in
from tl_keras.workflows.teacher import require_teacher, taught

TRAININGS: dict[str, Callable[[Task], None]] = {"extract": train_head, "finetune": finetune, "pretrain": pretrain, "adapt": adapt}
AGREEMENT = {"extract": 1e-4, "adapt": 1e-4, "finetune": 1e-2}  # largest difference of a probability; finetuning goes on from float16


@restoring_process()
@gradients_let_go()
@cluster_let_go()
def train(
    config: Config,
    run_dir: Path | str,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    index: Index | None = None,
    scored: Sequence[str] = ("val", "test"),
    pictures: bool = True,
    source: str | None = None,
) -> dict[str, Any]:
    """Run one of the training modes, from images to a run folder.

    Args:
        config: `mode` is 'extract', 'finetune' or 'pretrain'; ignored where `resume` reads the run's own.
        run_dir: the run folder to make, or to continue.
        resume: go on with an interrupted run.
        index: the images, in place of those that `data.source` names; not looked at where `resume` has the run's own.
        scored: the splits that are measured at the end; without test where this is one of several to choose from.
        pictures: draw curves and the confusion matrix of test, and write the report; not where this is one of many.
        source: where the images of a run that goes on lie now, if they have moved.

    Returns:
        What `metrics.json` holds; nothing in a process of several that is not the chief.

    Raises:
        UserError: anything that the user can mend; a run folder made for it is gone again.
        KeyboardInterrupt: by Ctrl-C; the best weights so far are in `model.keras`.
    """
    clock, progress, run = Clock(), progress or Progress(), RunFolder.at(run_dir)
    if resume:
        config = moved_to(read_config(run.require_unfinished("extract")), source)
        config = config.replace("runtime.cluster", NONE)  # what a run folder says, which may come from a stranger, connects to nothing
    set_up(config.runtime)
    if MODES[config.mode].spreads:
        spread(config.runtime)
    if config.model.backbone == AUTO and place() is not None:
        raise ConfigError("model.backbone: got auto, which each process would choose on its own. Name one; rank says which suits.")
    if not is_chief():  # which says and records it all
        config, progress = config.replace("runtime.tracker", "none"), Progress()
    reach(config)
    if index is None and not resume:
        index = open_images(config.data, progress, run if is_chief() else None)
        tell_shrunk(config, index, progress)
    with (
        folder_here(run, resume=resume) as run,
        working_in(run, resume=resume) as keep,
        tracking(config, run, progress, resume=resume) as record,
    ):
        if resume or index is None:
            index = images_of(config, run, progress, source)
        config = with_best_backbone(config, index, run, progress)
        target = target_of(config, index, progress)
        require_teacher(config, index, run)
        task = prepare_task(config, index, run, progress, target)
        write_config(run, task.config)
        run_folder.write_json(run / run_folder.ENVIRONMENT, environment())
        record.begin(task.config)
        task = replace(task, progress=Logged(progress, EventLog(run).epoch, record.epoch))
        keep()
        clock.lap("prepare_s")
        try:
            with noted_interrupts(), task.data.pixels.named_failures("Put it back, then continue with --resume."):
                task = taught(task)
                TRAININGS[config.mode](task)
                clock.lap("train_s")
                if not is_chief():
                    return {}
                metrics = _finish(task, clock, scored, pictures)
                record.finish(metrics)
                return metrics
        except KeyboardInterrupt:
            _keep_best_so_far(task)
            raise


def images_of(config: Config, run: RunFolder, progress: Progress, source: str | None = None) -> Index:
    """The images of a run as they lie there now, identified; they are cut as the run has cut them.

    Raises:
        DataError: some are not there, or have changed.
    """
    index = splits.read_splits(run / run_folder.SPLITS, data_root(config, run, progress, source))[0]
    found = index.identify(progress)
    if index.ids is None:
        progress.line(NO_CONTENT)
    else:
        index.require_unchanged(found, "images of this run")
    return replace(index, ids=found)


def target_of(config: Config, source: Index, progress: Progress) -> Index | None:
    """The images of the target domain, identified, in the mode that has one."""
    if config.mode != "adapt":
        return None
    target = open_target(config.data, config.adapt.target, source, progress).identified(progress)
    require_another(target, source, progress)
    return target


def moved_to(config: Config, source: str | None) -> Config:
    """The configuration of a run whose images lie elsewhere now; the same where `source` is None."""
    return config if source is None else config.replace("data.source", absolute_source(source))


def in_float32(task: Task) -> Classifier:
    """The trained classifier in float32, whatever the precision of its training."""
    if task.config.runtime.precision == "float32":
        return task.classifier
    twin = build(task.config.replace("runtime.precision", "float32"), len(task.data.classes), None)
    copy_weights(task.classifier.model, twin.model)
    return twin


def scoring_feed(task: Task, classifier: Classifier) -> Feed:
    """What is left to run of a trained classifier, and on what: nothing frozen is computed again.

    Only where the features are of a lower precision than the model that is saved, the figures come from its pixels.
    """
    if not task.engine.is_exact:
        return PixelFeed(task, classifier.model)
    if task.config.mode == "adapt" and changes_backbone(task):
        return PixelFeed(task, classifier.model)  # the stored features are of the one that it was
    if task.config.mode in ("extract", "adapt"):
        return StoredFeed(task, classifier.head, [POOLED])
    return PixelFeed(task, classifier.model) if task.config.mode == "pretrain" else finetune_feed(task, classifier)


def _finish(task: Task, clock: Clock, scored: Sequence[str], pictures: bool) -> dict[str, Any]:
    run, config = task.run, task.config
    classifier = in_float32(task)
    model = weights_view(classifier.model)
    feed, basis = with_signs(task, classifier, scoring_feed(task, classifier))
    call = inference(feed.model)
    num = classifier.model.output.shape[-1]
    on_val, signs = np.split(score(feed, task.data, "val", task.progress, call), [num], axis=-1)  # which chooses, measured or not
    temperature = temperature_of(task, on_val)
    divide_logits(classifier, temperature)
    _save(task, classifier)
    if config.mode == "pretrain":
        save_backbone(task, model)
    told = {split: np.split(score(feed, task.data, split, task.progress, call), [num], axis=-1) for split in scored if split != "val"}
    told["val"] = [on_val / temperature, with_energy_of(signs, on_val / temperature) if basis else signs]
    scores = {split: task.data.output.answers(logits) for split, (logits, _) in told.items()}
    novelty = None if basis is None else fit_novelty(basis, told["val"][1])
    if novelty is not None:
        write_novelty(run, novelty)
    data = task.data.with_output(task.data.output.chosen(scores["val"], task.data.labels("val")))
    write_output(run, data.output)
    if "test" in scores:
        write_predictions(run / run_folder.PREDICTIONS, data, data.rows("test"), scores["test"])
        write_predictions(run / run_folder.VAL_PREDICTIONS, data, data.rows("val"), scores["val"])
    selected, interpolated = read_selection(run), read_interpolation(run)
    agreement = {} if isinstance(feed, PixelFeed) else {"agreement": check_agreement(data, model, scores["val"], AGREEMENT[config.mode])}
    clock.lap("evaluate_s")
    metrics: dict[str, Any] = {
        "mode": config.mode,
        "task": data.output.task,
        "backbone": config.model.backbone,
        "seed": config.runtime.seed,
        "engine": asdict(task.engine),
        "data": data.counts(),
        "parameters": count_parameters(task.classifier.model),
        **({"zeros": zeros_in(classifier.model)} if config.mode == "finetune" and config.train.sparsity else {}),
        **{split: measure(data, split, scores[split]) for split in scored},
        "temperature": temperature,
        **(
            choices_of_val(scores["val"], data.labels("val"), scores["test"], data.labels("test"))
            if "test" in scores and config.mode != "adapt" and isinstance(data.output, SingleLabel)
            else {}
        ),
        **({} if novelty is None else _flagged(novelty, told)),
        **agreement,
        **({"selection": selected} if selected else {}),
        **({"interpolation": interpolated} if interpolated else {}),
        **({} if task.target is None else {"target": measure_target(task, task.target)}),
        "features": {"computed": 0 if task.frozen is None else task.frozen.store.num_computed},
        "timing": clock.timing(),
    }
    if pictures:
        draw_curves(run / run_folder.CURVES, run / run_folder.HISTORY)
        if "test" in metrics:
            draw_errors(run, data, metrics["test"], scores["test"], "test")
        if config.mode == "adapt":
            draw_domains(run / run_folder.DOMAINS, read_planes(task))
        if "test" in metrics:
            maps = small_maps(classifier.model, data.output, classifier.boundaries, data.classes, config.data)
            write_report(run, config, metrics, data.index.root, maps)
    write_result(run, metrics, used_to_yaml(config))
    run_folder.write_json(run / run_folder.METRICS, metrics)
    shutil.rmtree(run / run_folder.CHECKPOINTS, ignore_errors=True)  # nothing goes on from a finished run
    return metrics


def temperature_of(task: Task, on_val: NDArray[np.float32]) -> float:
    """What the logits are to be divided by; 1 for numbers, and in adapting, of whose target the source's val says nothing."""
    return 1.0 if task.config.mode == "adapt" else fit_temperature(task.data.output, on_val, task.data.learned("val"))


def _flagged(novelty: Novelty, told: Mapping[str, Sequence[NDArray[np.float32]]]) -> dict[str, Any]:
    """From where on an image is none of the classes, and how many of test, which are of them, are called so."""
    flagged = {} if "test" not in told else share("flagged", ~novelty.is_known(novelty.score(told["test"][1])))
    return {"novelty": {"false_alarms": FALSE_ALARMS, "threshold": novelty.threshold, **flagged}}


def _save(task: Task, classifier: Classifier) -> None:
    write_stages(task.run / run_folder.STAGES, classifier.model, classifier.boundaries)
    save_classifier(task.run / run_folder.MODEL, weights_view(classifier.model), task.data.classes)
    write_class_names(task.run / run_folder.CLASSES, task.data.classes)
    write_output(task.run, task.data.output)


def _keep_best_so_far(task: Task) -> None:
    if any(".step" not in file.name for file in (task.run / run_folder.CHECKPOINTS).glob("*.weights.h5")):  # an epoch was done
        _save(task, in_float32(task))
