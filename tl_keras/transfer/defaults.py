"""What the configuration leaves open (`None`), chosen from the number of images and the backbone.

The rules were measured; the table beside each says on what. They write themselves into the run's config.yaml.
"""

from tl_keras.config import Config, TrainConfig


def resolve(config: Config, num_train: int, stages: tuple[str, ...], num_parameters: int) -> Config:
    """Fill the open settings of `train` and return a configuration without any.

    Args:
        num_train: training images.
        stages: names of the backbone's stages, from the input up.
        num_parameters: of the backbone.
    """
    chosen = {
        "epochs": default_epochs(config.mode, num_train),
        "learning_rate": default_learning_rate(config.mode, config.train),
        "layer_decay": 0.8,
        "unfreeze_from": default_unfreeze(num_train, stages, num_parameters),
    }
    open_ = {name: value for name, value in chosen.items() if getattr(config.train, name) is None}
    return config.model_copy(update={"train": config.train.model_copy(update=open_)})


def default_epochs(mode: str, num_train: int) -> int:
    """Passes: about 12,000 images' worth of finetuning, between 3 and 30 passes; 30 of pretraining."""
    return 30 if mode == "pretrain" else min(30, max(3, round(12_000 / num_train)))


def default_learning_rate(mode: str, train: TrainConfig) -> float:
    """The peak rate of the head, for AdamW or SGD."""
    if mode == "pretrain":
        return 3e-3 if train.optimizer == "adamw" else 0.1
    return 5e-4 if train.optimizer == "adamw" else 0.01


def default_unfreeze(num_train: int, stages: tuple[str, ...], num_parameters: int) -> str:
    """The lowest stage that trains: all of a small backbone or with many images, else the last stage."""
    return "all" if num_parameters < 1_000_000 or num_train >= 10_000 else stages[-1]
