"""Training losses, and how much each image counts in them.

Every loss takes logits and targets that may be soft (smoothed or mixed labels). Nothing here knows models, data files
or epochs: `make_loss` goes to `compile`, and the class weights go, image by image, into the stream that feeds `fit`.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from tl_keras import tasks
from tl_keras.config import TrainConfig
from tl_keras.errors import ConfigError, DataError
from tl_keras.models.outputs import SINGLE_LABEL, Labels, Output
from tl_keras.tasks import is_plain


def make_loss(train: TrainConfig, output: Output = SINGLE_LABEL, shifts: NDArray[np.float32] | None = None) -> keras.losses.Loss:
    """The loss that `train.loss` names, with its focal gamma and its label smoothing, which are filled already.

    Args:
        output: what the logits mean.
        shifts: see `logit_shifts`.
    """
    smoothing = train.label_smoothing or 0.0
    if shifts is not None:
        return LogitAdjusted(shifts.tolist(), smoothing)
    match train.loss, output.task:
        case loss, task if is_plain(loss, task):
            return output.loss(smoothing)
        case "focal", tasks.MULTI_LABEL:
            return keras.losses.BinaryFocalCrossentropy(gamma=train.focal_gamma, from_logits=True, label_smoothing=smoothing)
        case "focal", tasks.SINGLE_LABEL:
            return FocalLoss(train.focal_gamma, smoothing)
        case "mse", tasks.SINGLE_LABEL:
            return SquaredError(smoothing)
        case "huber", tasks.REGRESSION:
            return keras.losses.Huber()
    raise ValueError(f"{output.task} has no loss {train.loss!r}")


class _SmoothedLoss(keras.losses.Loss):
    """A loss whose targets give up `label_smoothing` of their probability, spread evenly over the k classes.

    Keras casts targets and logits to float32 before `call`, also under mixed precision.
    """

    def __init__(self, label_smoothing: float = 0.0, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.label_smoothing = label_smoothing

    def smooth(self, targets: Any) -> Any:
        return targets * (1.0 - self.label_smoothing) + self.label_smoothing / targets.shape[-1]

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"label_smoothing": self.label_smoothing}


@keras.saving.register_keras_serializable(package="tl_keras")
class FocalLoss(_SmoothedLoss):
    """Cross-entropy in which an image counts less the surer the model is: -sum_c y_c (1 - p_c)^gamma log p_c.

    For rare classes among many easy images. Takes targets and logits of shape (b, k) float32; gives (b,) >= 0, and
    for gamma = 0 the cross-entropy.

    Reference: Lin et al. 2017, arXiv:1708.02002, eq. 4, summed over the classes of a soft target.
    """

    def __init__(self, gamma: float = 2.0, label_smoothing: float = 0.0, name: str = "focal", **kwargs: Any) -> None:
        super().__init__(label_smoothing, name=name, **kwargs)
        self.gamma = gamma

    def call(self, y_true: Any, y_pred: Any) -> Any:
        log_p = SINGLE_LABEL.log_probabilities_op(y_pred)
        # 1 - p from log p, kept above 0: the gradient of x ** gamma has no limit at 0 for gamma < 1.
        doubt = ops.maximum(-ops.expm1(log_p), keras.config.epsilon())
        return -ops.sum(self.smooth(y_true) * doubt**self.gamma * log_p, axis=-1)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"gamma": self.gamma}


@keras.saving.register_keras_serializable(package="tl_keras")
class SquaredError(_SmoothedLoss):
    """Mean over the classes of (p_c - y_c)^2, with p the probabilities: the Brier score over k.

    Bounded, so a mislabelled image cannot dominate. Takes targets and logits (b, k) float32; gives (b,) in [0, 2 / k].
    """

    def __init__(self, label_smoothing: float = 0.0, name: str = "mse", **kwargs: Any) -> None:
        super().__init__(label_smoothing, name=name, **kwargs)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return ops.mean(ops.square(SINGLE_LABEL.answers_op(y_pred) - self.smooth(y_true)), axis=-1)


@keras.saving.register_keras_serializable(package="tl_keras")
class LogitAdjusted(_SmoothedLoss):
    """Cross-entropy of logits to which a number is added for each class: logit adjustment.

    With tau times the log of the class' share of train, a rare class has to win by more in training, and the network's own logits treat
    all classes alike. Takes targets and logits (b, k) float32; gives (b,) >= 0.

    Reference: Menon et al. 2021, arXiv:2007.07314, eq. 10.
    """

    def __init__(self, shifts: Sequence[float], label_smoothing: float = 0.0, name: str = "logit_adjusted", **kwargs: Any) -> None:
        super().__init__(label_smoothing, name=name, **kwargs)
        self.shifts = list(shifts)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return -ops.sum(self.smooth(y_true) * SINGLE_LABEL.log_probabilities_op(y_pred + ops.convert_to_tensor(self.shifts)), axis=-1)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"shifts": self.shifts}


def logit_shifts(train: TrainConfig, labels: Labels, classes: Sequence[str]) -> NDArray[np.float32] | None:
    """What logit adjustment adds to the logits in the loss: tau times the log of each class' share of the weight of train.

    Args:
        labels: class numbers of the training images, at least one of each class.

    Returns:
        float32 (k,), at most 0; None where `train.logit_adjustment` is 0.
    """
    if not train.logit_adjustment:
        return None
    weight = class_weight_vector(train.class_weights, labels, classes) * np.bincount(labels, minlength=len(classes))
    found: NDArray[np.float32] = (train.logit_adjustment * np.log(weight / weight.sum())).astype(np.float32)
    return found


def class_weight_vector(class_weights: str | Mapping[str, float], labels: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """How much an image of each class counts.

    Args:
        class_weights: 'none'; 'balanced', n / (k n_c), by which all classes count alike and an image counts 1 in the
            mean; or weights by class name, 1 where a class is not named.
        labels: class numbers of the n training images, integers (n,) in 0..k-1.
        classes: the k names.

    Returns:
        float32 (k,), above 0.

    Raises:
        ConfigError: a weight is given to a class that there is not.
        DataError: 'balanced', and a class has no image.
    """
    if isinstance(class_weights, Mapping):
        for name in class_weights:
            _require_class(name, classes)
        return np.array([class_weights.get(name, 1.0) for name in classes], np.float32)
    if class_weights == "none":
        return np.ones(len(classes), np.float32)
    counts = np.bincount(labels, minlength=len(classes))
    empty = [name for name, count in zip(classes, counts, strict=True) if count == 0]
    if empty:
        raise DataError(f"class {empty[0]!r} has no training image, so train.class_weights cannot be 'balanced'.")
    return (len(labels) / (len(classes) * counts)).astype(np.float32)


def image_weights(class_weights: str | Mapping[str, float], labels: Labels, classes: Sequence[str], output: Output) -> np.ndarray:
    """How much each training image counts, float32 (n,): as much as its class, see `class_weight_vector`; where it has not one, 1."""
    if output != SINGLE_LABEL:
        return np.ones(len(labels), np.float32)
    found: np.ndarray = class_weight_vector(class_weights, labels, classes)[labels]
    return found


def _require_class(name: str, classes: Sequence[str]) -> None:
    if name not in classes:
        near = get_close_matches(name, classes, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"The classes are {', '.join(map(repr, classes))}."
        raise ConfigError(f"train.class_weights: unknown class {name!r}. {hint}")
