"""Finetuning: train the head first, then the upper stages of the backbone with it.

Training the head first keeps its random start from distorting the features that are to be transferred (Kumar et al.
2022, arXiv:2202.10054). The stages that stay frozen run once: the rest learns from their outputs.
"""

import math
from collections.abc import Mapping
from typing import Any

import keras

from tl_keras.models.classifier import Classifier, cut_below, first_epochs, unfreeze, update_scales
from tl_keras.models.fused import fused
from tl_keras.models.outputs import Output
from tl_keras.run_folder import CHECKPOINTS, RunFolder, read_json, write_json
from tl_keras.tasks import figure_text
from tl_keras.transfer.checkpoints import AGAIN, PhaseState
from tl_keras.transfer.defaults import required
from tl_keras.transfer.feeds import Feed, PixelFeed, StoredFeed
from tl_keras.transfer.frozen import POOLED
from tl_keras.transfer.head.train import train_head
from tl_keras.transfer.interpolate import Weights, interpolate
from tl_keras.transfer.keep_features import keep_features
from tl_keras.transfer.phases import Phase, measure, run_phase
from tl_keras.transfer.pruning import pruning_of
from tl_keras.transfer.task import Task

# Of flowers, 80 training images gave 0.77 on test with the head alone and 0.76 to 0.79 finetuned, 600 gave 0.845 and 0.93.
FEW_IMAGES = 100
INTERPOLATION = "interpolation.json"  # among the checkpoints: what a run that goes on still has to report


def finetune(task: Task) -> None:
    """Train the head, then the backbone from `train.unfreeze_from` up together with it.

    The head on the frozen backbone is epoch 0 of finetuning: where no epoch is better on val, by `train.monitor` or the metric, it stays.
    With `train.sparsity` it does not count, for none of its weights are zero.
    """
    num = len(task.data.rows("train"))
    if num < FEW_IMAGES:
        task.progress.line(f"{num} training images are few for finetuning: --mode extract trains the head alone, and is often as good")
    train_head(task)
    config, head = task.config, task.classifier.head
    output = task.data.output
    start = measure(head, StoredFeed(task, head, [POOLED]).ordered("val"), output)  # the backbone has run over these images already
    lowest, still = required(config.train.unfreeze_from), config.model.freeze_batchnorm
    feed = finetune_feed(task, task.classifier)
    before = feed.model.get_weights() if config.train.interpolate else []
    turns = {} if (every := config.train.unfreeze_every) is None else first_epochs(task.classifier, every)
    sparsity = config.train.sparsity
    counts = None if sparsity else start
    state = train_backbone(task, feed, "finetune", lowest, freeze_batchnorm=still, start=counts, turns=turns, sparsity=sparsity)
    if config.train.interpolate and state.best_epoch:
        _interpolate(task, feed, before)
    if state.best_epoch == 0 and state.trained is not None:
        task.progress.line(head_kept(output, config.train.monitor, start[config.train.monitor], state.trained))


def _interpolate(task: Task, feed: Feed, before: Weights) -> None:
    """Go back towards the weights before finetuning as far as that is better on val."""
    output, monitor = task.data.output, task.config.train.monitor
    best, points = interpolate(feed.model, before, feed.ordered("val"), output, monitor)
    found = figure_text(monitor, best.figures[monitor])
    task.progress.line(f"finetune: {best.share:.0%} of the way from the weights before is kept, with val {output.titles[monitor]} {found}")
    report = {"share": best.share, "points": [{"share": point.share} | point.figures for point in points]}
    write_json(task.run / CHECKPOINTS / INTERPOLATION, report)


def read_interpolation(run: RunFolder) -> dict[str, Any]:
    """What a run has to report of `train.interpolate`; empty where nothing was interpolated."""
    file = run / CHECKPOINTS / INTERPOLATION
    return read_json(file, "the record of an interpolation", AGAIN) if file.is_file() else {}


def head_kept(output: Output, monitor: str, start: float, trained: float) -> str:
    """One line for a finetuning whose epochs were all no better than what it began with."""
    figures = " or ".join(dict.fromkeys([output.titles[monitor], output.metric_title]))
    told = f"{output.titles[monitor]} {figure_text(monitor, start)}; at best {figure_text(monitor, trained)}"
    return f"no epoch has a better val {figures} than the head before finetuning ({told}): that head is kept"


def finetune_feed(task: Task, classifier: Classifier) -> Feed:
    """The tail of a classifier on stored activations, or where there are none the whole of it on pixels."""
    cut = cut_below(classifier, required(task.config.train.unfreeze_from)) if task.tail else None
    return PixelFeed(task, classifier.model) if cut is None else StoredFeed(task, cut[1], task.tail)


def train_backbone(
    task: Task,
    feed: Feed,
    name: str,
    lowest: str,
    *,
    freeze_batchnorm: bool,
    start: Mapping[str, float] | None = None,
    turns: Mapping[str, int] | None = None,
    sparsity: float = 0.0,
) -> PhaseState:
    """Train head and backbone together: the phase that finetuning and pretraining share.

    Args:
        feed: the model, or that part of it which is not frozen, and its batches.
        name: of the phase.
        lowest: the lowest stage that trains, or 'all'.
        freeze_batchnorm: hold BatchNorm still in stages that train.
        start: the figures on val of the weights as they are, see `Phase.start`.
        turns: when each variable begins to train, see `Phase.first_epochs`; None where all begin at once.
        sparsity: the share of the weights of kernels that becomes zero, see `Pruning`.

    Returns:
        How the phase ended.

    Raises:
        ConfigError: the backbone has no such stage, or nothing in it to prune.
    """
    train, num_images = task.config.train, len(task.data.rows("train"))
    unfreeze(task.classifier, lowest, freeze_batchnorm=freeze_batchnorm)
    task.tell_parameters(name)
    phase = Phase(
        name=name,
        epochs=required(train.epochs),
        num_images=num_images,
        learning_rate=required(train.learning_rate),
        scales=update_scales(task.classifier, required(train.layer_decay)),
        patience=train.patience,
        whole=task.classifier.model,
        start=start,
        mixes=train.mixes,
        output=task.data.output,
        shifts=task.logit_shifts,
        first_epochs=turns or {},
        pruning=pruning_of(task.classifier, sparsity, math.ceil(num_images / train.batch_size) * required(train.epochs)),
    )
    return run_phase(_trained(task, feed, lowest), feed.train, feed.ordered("val"), phase, train, task.run, task.progress)


def _trained(task: Task, feed: Feed, lowest: str) -> keras.Model:
    """The model of a feed as it is trained: in fewer operations, and held to its features where these are to be kept."""
    strength = task.config.train.keep_features if task.config.mode == "finetune" else 0.0
    return keep_features(task.classifier, lowest, strength, stored=isinstance(feed, StoredFeed)) if strength else fused(feed.model)
