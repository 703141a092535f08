"""A source task: a backbone and its head trained together, and the backbone saved for `--backbone PATH`.

Nothing is frozen and BatchNorm learns its statistics; with `model.weights=none` the start is random.
"""

import keras

from tl_keras.models.classifier import ALL_STAGES
from tl_keras.models.saved import write_model
from tl_keras.run_folder import BACKBONE
from tl_keras.runtime import building_as
from tl_keras.transfer.feeds import PixelFeed
from tl_keras.transfer.finetune import train_backbone
from tl_keras.transfer.task import Task


def pretrain(task: Task) -> None:
    """Train every layer on the source task."""
    train_backbone(task, PixelFeed(task, task.classifier.model), "pretrain", ALL_STAGES, freeze_batchnorm=False)


def save_backbone(task: Task, model: keras.Model) -> None:
    """Write backbone.keras: pixels 0..255 -> feature map, preprocessing inside, without pooling and head.

    Args:
        model: the trained classifier, in float32.
    """
    feature_map = model.get_layer(task.classifier.trunk.layers[-1].name).input  # what pooling reads
    with building_as(model):
        backbone = keras.Model(model.input, feature_map, name=model.name)
    write_model(task.run / BACKBONE, backbone)
