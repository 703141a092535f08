"""The table of tasks: what the labels of an image are. Plain text and numbers, for the settings and whoever reads them.

What a model's outputs mean for each is `models.outputs`, whose rows have the same names.
"""

from dataclasses import dataclass

SINGLE_LABEL, MULTI_LABEL, REGRESSION = "single_label", "multi_label", "regression"


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task.

    Attributes:
        labels: what an image has, in a few words.
        losses: the losses that training may lower. A linear head is solved for the first, and `auto` means it.
        monitored: the figures that can choose an epoch.
        label_smoothing: what it is where nobody sets it.
    """

    labels: str
    losses: tuple[str, ...]
    monitored: tuple[str, ...]
    label_smoothing: float = 0.0


TASKS = {
    SINGLE_LABEL: Task(
        labels="one class",
        losses=("cross_entropy", "focal", "mse"),
        monitored=("val_loss", "val_accuracy"),
        label_smoothing=0.1,
    ),
    MULTI_LABEL: Task(
        labels="any number of classes",
        losses=("cross_entropy", "focal"),
        monitored=("val_loss", "val_map"),
    ),
    REGRESSION: Task(
        labels="a number",
        losses=("mse", "huber"),
        monitored=("val_loss", "val_mae"),
    ),
}


IN_UNIT = ("mae", "rmse")  # figures in the unit of the labels, which may be of any size


def figure_text(name: str, value: float, decimals: int = 4) -> str:
    """A figure, of val or not, as messages show it: with some decimals, or four digits where it is in the unit of the labels."""
    return f"{value:.4g}" if name.removeprefix("val_") in IN_UNIT else f"{value:.{decimals}f}"


def difference_text(name: str, value: float) -> str:
    """A difference in a figure, with its sign."""
    return "+" * (value >= 0) + figure_text(name, value)


def is_plain(loss: str, task: str) -> bool:
    """Whether a `train.loss` is the plain loss of a task, for which a linear head is solved."""
    return task in TASKS and loss in ("auto", TASKS[task].losses[0])


def solves_head(loss: str, task: str, training: str) -> bool:
    """Whether a linear head is solved, and not trained by steps.

    Finetuning of numbers solves it for the squared error whatever it lowers itself: a better start than steps find.

    Args:
        training: the training mode.
    """
    return is_plain(loss, task) or (task == REGRESSION and training == "finetune")
