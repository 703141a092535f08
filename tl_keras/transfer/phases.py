"""One phase: a period of training with one set of trainable weights, on batches that somebody else makes.

The head's own phase, finetuning and pretraining are all this: an optimiser, a loss, `fit`, checkpoints, the best
epoch restored.
"""

import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from tl_keras.config import TrainConfig
from tl_keras.interrupts import noted_interrupts
from tl_keras.models.outputs import PLAIN_LOSS, SINGLE_LABEL, Output
from tl_keras.progress import Progress
from tl_keras.run_folder import CHECKPOINTS, HISTORY, RunFolder
from tl_keras.runtime import on_devices, strategy
from tl_keras.tasks import figure_text
from tl_keras.transfer.checkpoints import (
    Bar,
    CheckFinite,
    History,
    KeepBest,
    KeyDropout,
    Monitor,
    PhaseFiles,
    PhaseState,
    PlainLossOfVal,
    SaveState,
    StopInTime,
    Watch,
    weights_view,
)
from tl_keras.transfer.defaults import required
from tl_keras.transfer.fit import fit
from tl_keras.transfer.interrupts import StopAfterInterrupt
from tl_keras.transfer.losses import make_loss
from tl_keras.transfer.optimizers import make_optimizer
from tl_keras.transfer.pruning import Prune, Pruning
from tl_keras.transfer.replicas import Replicas, require_equal, take_chiefs_weights, the_chiefs
from tl_keras.transfer.schedules import cycle_ends, make_schedule
from tl_keras.transfer.snapshots import KeepSnapshots


@dataclass(frozen=True)
class Phase:
    """What one phase is told.

    Attributes:
        name: 'head', 'finetune', 'pretrain' or a method that adapts: of checkpoints and history lines.
        epochs: passes at most.
        num_images: training images, from which the steps of an epoch follow.
        learning_rate: peak rate of the head.
        scales: factor on the update of a variable, by its path; 1 where it is not named.
        patience: epochs without a better one before it stops; None never stops early.
        whole: the classifier that the phase trains, all of it or a part, whose weights are kept at the end of each cycle of
            `schedule: cosine_restarts`; None keeps none.
        start: `val_loss` and the metric on val of the weights that the phase begins with, as `measure` finds them, where these may
            be better than any epoch: they are then epoch 0 of the choice. None where they are not worth keeping.
        mixes: whether the images that it trains on are mixed ones, on which there is no metric.
        output: what the labels, and the outputs of the model, mean.
        shifts: what is added to the logits in the loss, (k,); None for nothing.
        watch: measures what chooses the epoch in place of `train.monitor`; `start` then has it too.
        minutes: that it may take, see `StopInTime`; None for as long as it takes.
        first_epochs: the epoch, from 0, in which a variable begins to train, by its path; 0 where it is not named.
        pruning: what becomes zero meanwhile; the epochs before all of it is do not count. None for nothing.
    """

    name: str
    epochs: int
    num_images: int
    learning_rate: float
    scales: Mapping[str, float]
    patience: int | None
    whole: keras.Model | None = None
    start: Mapping[str, float] | None = None
    mixes: bool = False
    output: Output = SINGLE_LABEL
    shifts: NDArray[np.float32] | None = None
    first_epochs: Mapping[str, int] = field(default_factory=dict)
    pruning: Pruning | None = None
    watch: Watch | None = None
    minutes: float | None = None

    def monitors(self, name: str) -> tuple[Monitor, ...]:
        """What chooses the epoch, and what else may show it to be better than the start.

        Args:
            name: `train.monitor`.
        """
        if self.watch is not None:
            return (self.watch.monitor,)
        return tuple(Monitor.on_val(self.output, each) for each in dict.fromkeys((name, self.output.val_metric)))

    def passed_over(self, steps: int) -> int:
        """How many epochs, of so many steps each, end before all is pruned that is to be."""
        return 0 if self.pruning is None else self.pruning.ramp_steps // steps

    def steps(self, batch_size: int) -> int:
        """Batches of one epoch, the last, smaller one included."""
        return math.ceil(self.num_images / batch_size)


def compile_model(model: keras.Model, phase: Phase, config: TrainConfig) -> None:
    """Give a model the optimiser, schedule and loss of a phase; its trainable weights are fixed from here on."""
    steps = phase.steps(config.batch_size)
    schedule = make_schedule(config, phase.learning_rate, steps * phase.epochs, steps)
    first_steps = {path: epoch * steps for path, epoch in phase.first_epochs.items()}
    pruned = () if phase.pruning is None else phase.pruning.paths
    with on_devices():
        optimizer = make_optimizer(config, schedule, phase.scales, first_steps, pruned)
        model.compile(optimizer=optimizer, loss=make_loss(config, phase.output, phase.shifts), metrics=phase.output.metrics())
        model.optimizer.build(model.trainable_variables)


def measure(model: keras.Model, val: Any, output: Output = SINGLE_LABEL) -> dict[str, float]:
    """`val_loss` and the metric on val of a model as it stands, as a phase measures them at the end of an epoch.

    Args:
        val: (inputs, targets) batches, once through.
    """
    view = weights_view(model)  # its compilation is not the model's
    view.compile(loss=output.loss(), metrics=output.metrics())
    found = view.evaluate(val, verbose=0, return_dict=True)
    figures = np.array([found[PLAIN_LOSS], found[output.metric_name]], np.float64)
    return dict(zip(("val_loss", output.val_metric), the_chiefs([figures])[0].tolist(), strict=True))


def run_phase(
    model: keras.Model, train: Any, val: Any, phase: Phase, config: TrainConfig, run: RunFolder, progress: Progress
) -> PhaseState:
    """Train a model through one phase, or what is left of it, and leave the best epoch's weights in it.

    The best epoch is that with the lowest plain loss on val, or the best metric there, as `train.monitor` says, or by what the phase
    watches; of those that are as good it is the last (see `KeepBest`). Where the phase has a `start`, what it began with is epoch 0, and
    stays where no epoch is better by that figure or by the metric.

    Args:
        train: a function of the first epoch (0-based) and the first step in it that returns endless (images, targets, weights) batches;
            where several devices train, with `shares` it returns shares of these.
        val: (images, targets) batches, once through.
        run: where checkpoints and history go; a phase that was interrupted there is continued.

    Returns:
        How the phase ended.

    Raises:
        TrainingError: the loss is not finite any more.
        KeyboardInterrupt: by Ctrl-C. As after any other error, the model then has the best weights of the epochs that
            were done, or those that the phase began with.
    """
    folder = run / CHECKPOINTS
    folder.mkdir(exist_ok=True)
    files = PhaseFiles(folder, phase.name)
    take_chiefs_weights(model)
    state, start = files.read(), model.get_weights()
    monitor, *also = phase.monitors(config.monitor)
    begun = None if phase.start is None else phase.start[monitor.name]
    state.best = begun if state.best is None else state.best
    bar = Bar(phase.name, phase.steps(config.batch_size), progress)
    history = History(run / HISTORY, phase.name, phase.epochs, state.epoch, progress, phase.start, mixes=phase.mixes, output=phase.output)
    swap = [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)] if config.ema else []
    # SaveState sees the weights that train; those after the swap the averaged ones, which val saw. KeepBest commits the epoch.
    stop = StopAfterInterrupt()
    best = KeepBest(files, state, monitor, phase.patience, phase.start, also, passed_over=phase.passed_over(bar.steps))
    kept = [CheckFinite(phase.name), *_keep_snapshots(phase, config, run), best]
    watch = [] if phase.watch is None else [phase.watch]
    in_time = [] if phase.minutes is None else [StopInTime(phase.name, phase.minutes, progress)]
    prune = [] if phase.pruning is None else [Prune(phase.pruning)]
    save = SaveState(files, state, config.save_minutes)
    callbacks = [PlainLossOfVal(), stop, bar, *prune, KeyDropout(), save, *swap, *watch, history, *in_time, *kept]
    try:
        if not state.done:
            compile_model(model, phase, config)
            if state.epoch or state.step:
                files.load(model, files.state(state.epoch, state.step))
            done = {"first_epoch": state.epoch, "first_step": state.step}
            with noted_interrupts(stop.seen), ExitStack() as stack:
                begun_at, devices = partial(train, **done), None
                if (spread := strategy()) is not None:
                    devices = Replicas(model, phase.output, spread)
                    stack.enter_context(devices.working())
                batches = begun_at() if devices is None else devices.batches(begun_at)
                fit(model, batches, val, callbacks, epochs=phase.epochs, steps=bar.steps, devices=devices, **done)
                require_equal(model)
            if state.best_epoch:
                reached = f"{monitor.title} {figure_text(monitor.name, required(state.best))}"
                progress.line(f"{phase.name}: epoch {state.best_epoch} is kept, with {reached}")
    finally:
        bar.close()
        _restore_best(model, files, start)
    return files.read()


def _keep_snapshots(phase: Phase, config: TrainConfig, run: RunFolder) -> list[KeepSnapshots]:
    if config.schedule != "cosine_restarts" or phase.whole is None:
        return []
    return [KeepSnapshots(run, phase.whole, cycle_ends(phase.epochs, config.cycles), phase.output)]


def _restore_best(model: keras.Model, files: PhaseFiles, start: list[Any]) -> None:
    best_epoch = files.read().best_epoch  # as committed: an interrupt may have come halfway through an epoch's end
    if best_epoch:
        files.load(weights_view(model), files.best(best_epoch))
    else:
        model.set_weights(start)
