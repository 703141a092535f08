"""The head's own phase: a classifier learned on stored features of the frozen backbone.

A linear head is solved, see `problem`; one with hidden layers learns by steps, in `phases`. Both see standardised
features, and both end as weights of the Keras head on raw features. Where the schedule restarts, this phase has a plain cosine.
"""

import time
from typing import Any

import keras

from tl_keras.models.classifier import unfreeze
from tl_keras.models.saved import read_weights, write_weights
from tl_keras.run_folder import CHECKPOINTS, HISTORY, RunFolder, read_json, reading, write_json
from tl_keras.runtime import is_chief
from tl_keras.transfer.checkpoints import AGAIN, weights_view, write_only_epoch
from tl_keras.transfer.feeds import StoredFeed
from tl_keras.transfer.frozen import POOLED
from tl_keras.transfer.head.probe import Standardiser
from tl_keras.transfer.head.problem import solves_exactly
from tl_keras.transfer.phases import Phase, run_phase
from tl_keras.transfer.replicas import take_chiefs_weights
from tl_keras.transfer.task import Task

HEAD_WEIGHTS = "head.weights.h5"
SELECTION = "selection.json"  # beside the weights: what a run that goes on from them still has to report
HEAD_PATIENCE = 10


def train_head(task: Task) -> None:
    """Train the head on features of the frozen backbone; a run that did so before is continued from the result."""
    unfreeze(task.classifier, None, freeze_batchnorm=True)
    task.tell_parameters("head")
    (task.run / CHECKPOINTS).mkdir(exist_ok=True)
    done = task.run / CHECKPOINTS / HEAD_WEIGHTS
    if not done.is_file():
        if not solves_exactly(task.config):
            _step_head(task)
        elif is_chief():
            _solve_head(task)
        take_chiefs_weights(task.classifier.head)
        write_weights(done, task.classifier.head)
    with reading(done, "the weights of a head", AGAIN):
        read_weights(done, task.classifier.head)


def _solve_head(task: Task) -> None:
    started = time.perf_counter()
    problem, train = task.head_problem, task.data.rows("train")
    solved = problem.solve(task.config, train, task.data.rows("val"), task.progress)
    if solved.selection:
        write_json(task.run / CHECKPOINTS / SELECTION, solved.selection)
    if task.config.mode == "extract":  # finetuning measures the head as its epoch 0
        seconds = round(time.perf_counter() - started, 2)
        probe, on_train = solved.probe, solved.judge(problem.pair(train, problem.num_views))
        figures = dict(zip(solved.output.history, (*on_train, probe.val_loss, probe.val_metric), strict=True))
        figures |= {"seconds": seconds, "head_c": probe.c}
        write_only_epoch(task.run / HISTORY, "head", figures, solved.output, task.progress)
    task.classifier.head.layers[-1].set_weights([solved.on_raw.kernel, solved.on_raw.bias])


def read_selection(run: RunFolder) -> dict[str, Any]:
    """What a run has to report of the selection for its head; empty where nothing was selected, or by a version that kept no record."""
    file = run / CHECKPOINTS / SELECTION
    return read_json(file, "the record of a selection", AGAIN) if file.is_file() else {}


def _step_head(task: Task) -> None:
    train, standardise = task.config.train, Standardiser.fit(task.stored(POOLED, "train"))
    if train.schedule == "cosine_restarts":  # the head is one start for all cycles to come: nobody keeps snapshots of it
        train = train.replace("schedule", "cosine")
    phase = Phase(
        name="head",
        epochs=train.head_epochs,
        num_images=len(task.data.labels("train")),
        learning_rate=train.head_learning_rate,
        scales={},
        patience=HEAD_PATIENCE,
        output=task.data.output,
        shifts=task.logit_shifts,
    )
    feed = StoredFeed(task, weights_view(task.classifier.head), [POOLED], standardise)
    try:
        run_phase(feed.model, feed.train, feed.ordered("val"), phase, train, task.run, task.progress)
    finally:  # after Ctrl-C too: the model is saved as it stands
        first = next(layer for layer in feed.model.layers if isinstance(layer, keras.layers.Dense))
        first.set_weights(standardise.fold(*first.get_weights()))
