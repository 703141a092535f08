"""The head's own phase: a classifier learned on stored features of the frozen backbone.

A linear head is solved by `probe`; one with hidden layers learns by steps, in `phases`. Both see standardised
features, and both end as weights of the Keras head on raw features. Where the schedule restarts, this phase has a plain cosine.
"""

import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from tl_keras.config import Config
from tl_keras.models.classifier import unfreeze
from tl_keras.models.saved import write_weights
from tl_keras.progress import Progress
from tl_keras.run_folder import CHECKPOINTS, HISTORY, RunFolder, read_json, reading, write_csv, write_json
from tl_keras.transfer.checkpoints import AGAIN, HISTORY_HEADER, weights_view
from tl_keras.transfer.feeds import StoredFeed
from tl_keras.transfer.frozen import POOLED
from tl_keras.transfer.phases import Phase, run_phase
from tl_keras.transfer.probe import PENALTIES, LinearProbe, StandardisedRows, Standardiser, fit_linear_probe
from tl_keras.transfer.relevance import Pair
from tl_keras.transfer.selection import select_features
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
        standardise = Standardiser.fit(task.stored(POOLED, "train"))
        if solves_exactly(task.config):
            _solve_head(task, standardise)
        else:
            _step_head(task, standardise)
        write_weights(done, task.classifier.head)
    with reading(done, "the weights of a head", AGAIN):
        task.classifier.head.load_weights(done)


def solves_exactly(config: Config) -> bool:
    """Whether the head is solved and not trained by steps: it is linear, and the loss is cross-entropy."""
    return not config.model.hidden and config.train.loss == "cross_entropy"


def _solve_head(task: Task, standardise: Standardiser) -> None:
    started = time.perf_counter()
    train, val = ((task.stored(POOLED, split), _labels(task, split)) for split in ("train", "val"))
    probe, selected = solve(task.config, train, val, standardise, task.class_weights, task.progress)
    if selected:
        write_json(task.run / CHECKPOINTS / SELECTION, selected)
    if task.config.mode == "extract":  # finetuning measures the head as its epoch 0
        seconds = time.perf_counter() - started
        _write_history(task.run / HISTORY, probe, StandardisedRows(train[0], standardise), train[1], seconds)
    logits = task.classifier.head.layers[-1]
    logits.set_weights([probe.kernel, probe.bias])
    standardise.fold(logits)


def _write_history(file: Path, probe: LinearProbe, rows: StandardisedRows, labels: NDArray[np.int32], seconds: float) -> None:
    """Write history.csv with the one line of a solved head: what an epoch's line has, and the penalty in place of a rate."""
    on_train = LinearProbe.measure(np.vstack([probe.kernel, probe.bias]), probe.penalty, rows, labels)
    figures = (on_train.val_loss, on_train.val_accuracy, probe.val_loss, probe.val_accuracy)
    line = ("head", 1, *(f"{value:.6g}" for value in figures), "", f"{seconds:.2f}", f"{probe.penalty:.6g}")
    write_csv(file, (*HISTORY_HEADER, "penalty"), [line])


def solve(
    config: Config, train: Pair, val: Pair, standardise: Standardiser, class_weights: NDArray[np.float32], progress: Progress
) -> tuple[LinearProbe, dict[str, Any]]:
    """The linear head of a configuration, on standardised features, and what there is to report of the selection, if any.

    See `probe` and `selection` for the arguments, and `Selection.report`.
    """
    wanted, penalty = config.features, config.train.head_penalty
    if wanted.selection == "none":
        num_tried = 0

        def told(_: LinearProbe) -> None:
            nonlocal num_tried
            num_tried += 1
            advance(1)

        with progress.bar("head: penalties", len(PENALTIES) if penalty is None else 1) as advance:
            probe = fit_linear_probe(train, val, standardise, class_weights, penalty, told)
        progress.line(describe(probe) + (f"  the best of {num_tried} penalties" if penalty is None else ""))
        return probe, {}
    found = select_features(
        wanted.selection, train, val, standardise, class_weights, keep=wanted.keep, penalty=penalty, seed=config.runtime.seed
    )
    progress.line(f"{describe(found.probe)}  {found.summary}")
    return found.probe, found.report()


def read_selection(run: RunFolder) -> dict[str, Any]:
    """What a run has to report of the selection for its head; empty where nothing was selected, or by a version that kept no record."""
    file = run / CHECKPOINTS / SELECTION
    return read_json(file, "the record of a selection", AGAIN) if file.is_file() else {}


def _labels(task: Task, split: str) -> NDArray[np.int32]:
    labels = task.data.labels(split)
    return np.tile(labels, len(task.stored(POOLED, split)) // len(labels))


def describe(probe: LinearProbe) -> str:
    """One line about a solved head; its val loss is the log loss, as everywhere."""
    return f"head  C {probe.penalty:.2g}  val loss {probe.val_loss:.4f} accuracy {probe.val_accuracy:.4f}"


def _step_head(task: Task, standardise: Standardiser) -> None:
    train = task.config.train
    if train.schedule == "cosine_restarts":  # the head is one start for all cycles to come: nobody keeps snapshots of it
        train = train.model_copy(update={"schedule": "cosine"})
    phase = Phase(
        name="head",
        epochs=train.head_epochs,
        num_images=len(task.data.labels("train")),
        learning_rate=train.head_learning_rate,
        scales={},
        patience=HEAD_PATIENCE,
    )
    feed = StoredFeed(task, weights_view(task.classifier.head), [POOLED], standardise)
    try:
        run_phase(feed.model, feed.train, feed.ordered("val"), phase, train, task.run, task.progress)
    finally:  # after Ctrl-C too: the model is saved as it stands
        standardise.fold(next(layer for layer in feed.model.layers if isinstance(layer, keras.layers.Dense)))
