"""Carrying a backbone to a task: first the head on frozen features, then the backbone's upper stages with it.

Training the head first keeps its random start from distorting the features that are to be transferred (Kumar et al.
2022, arXiv:2202.10054).
"""

from typing import Any

from tl_keras.data.pipeline import ordered_batches, train_batches
from tl_keras.models.classifier import unfreeze, update_scales
from tl_keras.transfer.head import train_head
from tl_keras.transfer.phases import Phase, run_phase
from tl_keras.transfer.task import Task, chosen


def finetune(task: Task) -> None:
    """Train the head, then the backbone from `train.unfreeze_from` up together with it."""
    train_head(task)
    config = task.config
    train_backbone(task, "finetune", chosen(config.train.unfreeze_from), freeze_batchnorm=config.model.freeze_batchnorm)


def train_backbone(task: Task, name: str, lowest: str, *, freeze_batchnorm: bool) -> None:
    """Train head and backbone together on augmented images: the phase that finetuning and pretraining share.

    Args:
        name: of the phase.
        lowest: the lowest stage that trains, or 'all'.
        freeze_batchnorm: hold BatchNorm still in stages that train.

    Raises:
        ConfigError: the backbone has no such stage.
    """
    train, data, classifier = task.config.train, task.data, task.classifier
    unfreeze(classifier, lowest, freeze_batchnorm=freeze_batchnorm)
    task.tell_parameters(name)
    phase = Phase(
        name=name,
        epochs=chosen(train.epochs),
        num_images=len(data.rows("train")),
        learning_rate=chosen(train.learning_rate),
        scales=update_scales(classifier, chosen(train.layer_decay)),
        patience=train.patience,
    )
    num_classes = len(data.classes)

    def batches(first_epoch: int) -> Any:
        return train_batches(
            data.pixels,
            data.rows("train"),
            data.index.labels,
            task.class_weights,
            batch_size=train.batch_size,
            augment=task.config.data.augment,
            seed=task.config.runtime.seed,
            first_epoch=first_epoch,
        )

    val = ordered_batches(data.pixels, data.rows("val"), data.index.labels, num_classes, batch_size=train.batch_size)
    run_phase(classifier.model, batches, val, phase, train, task.run, task.progress)
