"""The meaning of a model's outputs: from labels to targets, and from logits to answers to a decision.

The mirror of the image contract: every model takes raw pixels and outputs logits, and what the logits say is one row of `OUTPUTS`, which
training, scoring, ensembles, predictions and exports share. A method whose name ends in `_op` is the same in `keras.ops`, for graphs; the
others take and return NumPy arrays and need neither Keras nor TensorFlow. There are two because `keras.ops` would bring TensorFlow to
code that knows arrays only; a test keeps them equal.

A row is a frozen dataclass: what is fitted or chosen for one model, such as thresholds, is a field of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from tl_keras import tasks
from tl_keras.models.precision_recall import best_threshold, mean_average_precision

if TYPE_CHECKING:
    import keras

PLAIN_LOSS = "plain_loss"  # of the labels as they are, every image counting the same: `val_loss`, see `PlainLossOfVal`
EXACT = float(np.finfo(np.float64).eps)  # what is nearer to a probability of 0 or 1 counts as it, also in the figures of a split
Labels = NDArray[Any]  # see the rows


def is_soft(labels: ArrayLike) -> bool:
    """Whether labels of images that have one class each are shares of the classes, and not numbers of classes."""
    return bool(np.issubdtype(np.asarray(labels).dtype, np.floating))


@dataclass(frozen=True)
class _Row:
    """What the rows have in common.

    Attributes:
        task: the key of the row.
        metric_name: what history files and monitors call the figure beside the loss.
        metric_title: what messages call it.
        metric_short: what a line of progress calls it.
        metric_direction: 'max' or 'min', which of it is better.
        metric_is_mean: whether it is a mean over images.
        loss_title: what `val_loss` is.
        loss_figure: its name among the figures of a split.
    """

    task: ClassVar[str]
    metric_name: ClassVar[str]
    metric_title: ClassVar[str]
    metric_short: ClassVar[str]
    metric_direction: ClassVar[str] = "max"
    metric_is_mean: ClassVar[bool] = True
    loss_title: ClassVar[str] = "log loss"
    loss_figure: ClassVar[str] = "log_loss"

    @property
    def val_metric(self) -> str:
        """The figure beside the loss, on val."""
        return f"val_{self.metric_name}"

    @property
    def history(self) -> tuple[str, str, str, str]:
        """What is known of an epoch: loss and metric on train, then on val."""
        return "loss", self.metric_name, "val_loss", self.val_metric

    @property
    def monitored(self) -> dict[str, str]:
        """What can choose an epoch or a trial -> 'min' or 'max', which of it is better."""
        return {"val_loss": "min", self.val_metric: self.metric_direction}

    @property
    def titles(self) -> dict[str, str]:
        """The same -> what messages call it."""
        return {"val_loss": "loss", self.val_metric: self.metric_title}

    def turned(self, monitor: str, value: float) -> float:
        """A value of a monitored figure with the sign that makes more better."""
        return value if self.monitored[monitor] == "max" else -value

    def is_better(self, monitor: str, value: float, other: float) -> bool:
        """Whether one value of a monitored figure is better than another."""
        return self.turned(monitor, value) > self.turned(monitor, other)

    def scores(self, figures: Mapping[str, Any]) -> dict[str, float]:
        """What can choose an epoch or a trial, of the figures of val.

        Raises:
            KeyError: they are of another task, or of none.
        """
        return {"val_loss": figures[self.loss_figure], self.val_metric: figures[self.metric_name]}

    def fitted(self, labels: Labels) -> Self:
        """The row for models that learn from these labels."""
        return self

    def chosen(self, answers: NDArray[np.float64], labels: Labels) -> Self:
        """The row for a model with these answers to images of val, whose labels these are."""
        return self

    def num_apart(self, answers: NDArray[np.float64], others: NDArray[np.float64]) -> float:
        """The largest difference of two models' answers to the same images, in a unit in which 0.01 is little."""
        return float(np.abs(answers - others).max())


@dataclass(frozen=True)
class SingleLabel(_Row):
    """Each image has exactly one of k classes; the decision is the most probable class, and of equals the first.

    Logits, answers (the probabilities) and targets are (..., k); labels and decisions are integers (...), positions in the list of classes.
    What a model learns may also be soft labels, shares of the classes: float32 (..., k) >= 0 that sum to 1. Wherever one class is needed,
    it is then the most probable one, see `classes_of`.
    """

    task = tasks.SINGLE_LABEL
    metric_name = metric_title = "accuracy"
    metric_short = "acc"

    def targets(self, labels: ArrayLike, num_classes: int) -> NDArray[np.float32]:
        """float32 (..., k): 1 at the label and 0 elsewhere, all 0 for a label of -1; soft labels as they are."""
        if is_soft(labels):
            return np.asarray(labels, np.float32)
        found: NDArray[np.float32] = (np.asarray(labels)[..., None] == np.arange(num_classes)).astype(np.float32)
        return found

    def targets_op(self, labels: Any, num_classes: int) -> Any:
        """`targets` of a tensor of integers, or of soft labels."""
        from keras import backend, ops

        if backend.is_float_dtype(backend.standardize_dtype(labels.dtype)):
            return ops.cast(labels, "float32")
        return ops.one_hot(labels, num_classes, dtype="float32")

    def answers(self, logits: ArrayLike) -> NDArray[np.float64]:
        """Probabilities, float64 in [0, 1]; the last axis sums to 1, for logits of any size."""
        found: NDArray[np.float64] = special.softmax(np.asarray(logits, np.float64), axis=-1)
        return found

    def answers_op(self, logits: Any) -> Any:
        """`answers` of a tensor, in its own precision."""
        from keras import ops

        return ops.softmax(logits)

    def log_probabilities(self, logits: NDArray[np.floating]) -> NDArray[np.floating]:
        """The logarithm of the probabilities, in the precision of the logits: the inner loop of a solved head."""
        logits = logits - logits.max(axis=-1, keepdims=True)
        return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))

    def log_probabilities_op(self, logits: Any) -> Any:
        """`log_probabilities` of a tensor."""
        from keras import ops

        return ops.log_softmax(logits)

    def logits(self, probabilities: NDArray[np.floating], least: float = EXACT) -> NDArray[np.floating]:
        """Logits that mean these probabilities, of which those below `least` count as it, so that logits are finite."""
        return np.log(np.maximum(probabilities, least))

    def logits_op(self, probabilities: Any, least: float) -> Any:
        """`logits` of a tensor."""
        from keras import ops

        return ops.log(ops.maximum(probabilities, least))

    def bounded_op(self, logits: Any, least: float) -> Any:
        """`logits_op` of the answers of a tensor of logits, without the rounding on the way."""
        from keras import ops

        return ops.maximum(ops.log_softmax(logits), float(np.log(least)))

    def mean_logits_op(self, logits: Sequence[Any], weights: NDArray[np.float64]) -> Any:
        """Logits that mean the weighted mean of the answers of m tensors of logits, however near to 0 it is; weights (m,) sum to 1."""
        return _log_mean_op([self.log_probabilities_op(each) for each in logits], weights)

    def decide(self, probabilities: NDArray[np.floating]) -> NDArray[np.int64]:
        """The class of each image, int64 (...)."""
        found: NDArray[np.int64] = probabilities.argmax(axis=-1)
        return found

    def decide_op(self, probabilities: Any) -> Any:
        """`decide` of a tensor."""
        from keras import ops

        return ops.argmax(probabilities, axis=-1)

    def classes_of(self, labels: Labels) -> NDArray[np.integer]:
        """The class of each label (...): of soft labels the most probable one, and of equals the first."""
        return self.decide(labels) if is_soft(labels) else labels

    def is_right(self, probabilities: NDArray[np.floating], labels: Labels) -> NDArray[np.bool_]:
        """Whether the decision on each image is its label, bool (...)."""
        found: NDArray[np.bool_] = self.decide(probabilities) == self.classes_of(labels)
        return found

    def plain_losses(self, logits: NDArray[np.floating], labels: Labels) -> NDArray[np.floating]:
        """The log loss of each image (n,), from logits (n, k); of soft labels its mean over the classes by their shares."""
        found = self.log_probabilities(logits)
        return -np.einsum("nk,nk->n", found, labels) if is_soft(labels) else -found[np.arange(len(logits)), labels]

    def metric(self, logits: NDArray[np.floating], labels: Labels) -> float:
        """The accuracy of logits (n, k)."""
        return float(self.is_right(self.answers(logits), labels).mean())

    def loss(self, label_smoothing: float = 0.0) -> "keras.losses.Loss":
        """The loss that training lowers unless it is told otherwise: cross-entropy of targets (b, k) and logits (b, k)."""
        import keras

        return keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=label_smoothing)

    def metrics(self) -> list["keras.metrics.Metric"]:
        """What is measured beside the loss, on targets (b, k) and logits (b, k): `metric_name`, and `PLAIN_LOSS`."""
        import keras

        return [
            keras.metrics.CategoricalAccuracy(name=self.metric_name),
            keras.metrics.CategoricalCrossentropy(from_logits=True, name=PLAIN_LOSS),
        ]


@dataclass(frozen=True)
class MultiLabel(_Row):
    """Each image has any number of k classes, which do not exclude each other; a class is found where its probability reaches a threshold.

    Logits, answers (the probabilities) and targets are (..., k); labels and decisions are bool (..., k).

    Attributes:
        thresholds: of each class, in [0, 1]; empty before they are chosen, and then 0.5.
    """

    task = tasks.MULTI_LABEL
    metric_name = "map"
    metric_title = metric_short = "mAP"
    metric_is_mean = False

    thresholds: tuple[float, ...] = ()

    def chosen(self, answers: NDArray[np.float64], labels: Labels) -> Self:
        """The thresholds with the highest F1 on val, class by class; see `precision_recall`."""
        return replace(self, thresholds=tuple(best_threshold(answers[:, k], labels[:, k]) for k in range(labels.shape[1])))

    def targets(self, labels: ArrayLike, num_classes: int) -> NDArray[np.float32]:
        """float32 (..., k): 1 for each class that an image has."""
        return np.asarray(labels, np.float32)

    def targets_op(self, labels: Any, num_classes: int) -> Any:
        """`targets` of a tensor of bool."""
        from keras import ops

        return ops.cast(labels, "float32")

    def answers(self, logits: ArrayLike) -> NDArray[np.float64]:
        """Probabilities, float64 in [0, 1], of each class for itself."""
        found: NDArray[np.float64] = special.expit(np.asarray(logits, np.float64))
        return found

    def answers_op(self, logits: Any) -> Any:
        """`answers` of a tensor, in its own precision."""
        from keras import ops

        return ops.sigmoid(logits)

    def logits(self, probabilities: NDArray[np.floating], least: float = EXACT) -> NDArray[np.floating]:
        """Logits that mean these probabilities, of which those within `least` of 0 or 1 count as so far off, so that logits are finite."""
        kept = np.clip(probabilities, least, 1 - least)
        return np.log(kept) - np.log1p(-kept)

    def logits_op(self, probabilities: Any, least: float) -> Any:
        """`logits` of a tensor."""
        from keras import ops

        kept = ops.clip(probabilities, least, 1 - least)
        return ops.log(kept) - ops.log1p(-kept)

    def bounded_op(self, logits: Any, least: float) -> Any:
        """`logits_op` of the answers of a tensor of logits, without the rounding on the way."""
        from keras import ops

        most = float(self.logits(np.array(1.0), least))
        return ops.clip(logits, -most, most)

    def mean_logits_op(self, logits: Sequence[Any], weights: NDArray[np.float64]) -> Any:
        """Logits that mean the weighted mean of the answers of m tensors of logits, however near to 0 or 1; weights (m,) sum to 1."""
        from keras import ops

        there, not_there = ([ops.log_sigmoid(sign * each) for each in logits] for sign in (1, -1))
        return _log_mean_op(there, weights) - _log_mean_op(not_there, weights)

    def decide(self, probabilities: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Which classes each image has, bool (..., k)."""
        found: NDArray[np.bool_] = probabilities >= self.limits(probabilities.shape[-1])
        return found

    def decide_op(self, probabilities: Any) -> Any:
        """`decide` of a tensor."""
        from keras import ops

        return probabilities >= ops.cast(self.limits(probabilities.shape[-1]), probabilities.dtype)

    def limits(self, num_classes: int) -> NDArray[np.float64]:
        """The threshold of each class that is in force, (k,)."""
        return np.array(self.thresholds or [0.5] * num_classes)

    def plain_losses(self, logits: NDArray[np.floating], labels: Labels) -> NDArray[np.floating]:
        """The binary log loss of each image (n,), its mean over the classes, from logits (n, k)."""
        found: NDArray[np.floating] = (np.logaddexp(0, logits) - logits * labels).mean(axis=-1)
        return found

    def metric(self, logits: NDArray[np.floating], labels: Labels) -> float:
        """The mean average precision of logits (n, k); see `precision_recall`."""
        return mean_average_precision(logits, labels)

    def loss(self, label_smoothing: float = 0.0) -> "keras.losses.Loss":
        """The loss that training lowers unless it is told otherwise: binary cross-entropy, its mean over the classes."""
        import keras

        return keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=label_smoothing)

    def metrics(self) -> list["keras.metrics.Metric"]:
        """What is measured beside the loss, on targets (b, k) and logits (b, k): `metric_name`, and `PLAIN_LOSS`."""
        import keras

        area = keras.metrics.AUC(curve="PR", multi_label=True, from_logits=True, name=self.metric_name)  # at 200 thresholds, in a stream
        return [area, keras.metrics.BinaryCrossentropy(from_logits=True, name=PLAIN_LOSS)]


@dataclass(frozen=True)
class Regression(_Row):
    """Each image has a number. The network's output is that number less `mean` and divided by `scale`, so that rates suit any unit.

    Logits, answers (the numbers) and targets are (..., 1); labels and decisions are float32 (...).

    Attributes:
        mean: of the labels of train.
        scale: their standard deviation; 1 where they are all equal.
    """

    task = tasks.REGRESSION
    metric_name, metric_title, metric_short = "mae", "mean absolute error", "MAE"
    metric_direction = "min"
    loss_title, loss_figure = "squared error", "relative_squared_error"

    mean: float = 0.0
    scale: float = 1.0

    def fitted(self, labels: Labels) -> Self:
        """The row for models that learn from these labels."""
        values = labels.astype(np.float64)
        equal = values.min() == values.max()  # then the deviation may be that of rounding
        return replace(self, mean=float(values.mean()), scale=1.0 if equal else float(values.std()))

    def num_apart(self, answers: NDArray[np.float64], others: NDArray[np.float64]) -> float:
        """The largest difference of two models' answers to the same images, in standard deviations of the labels of train.

        What rounding to float32 explains does not count: an exported model answers in it, in the unit of the labels.
        """
        largest = max(abs(self.mean), float(np.abs(answers).max()), float(np.abs(others).max()))
        rounding = float(np.spacing(np.float32(largest)))
        apart = super().num_apart(answers, others)
        return (max(apart - rounding, 0.0) if np.isfinite(apart) else apart) / self.scale

    def targets(self, labels: ArrayLike, num_classes: int) -> NDArray[np.float32]:
        """float32 (..., 1)."""
        found: NDArray[np.float32] = ((np.asarray(labels, np.float64)[..., None] - self.mean) / self.scale).astype(np.float32)
        return found

    def targets_op(self, labels: Any, num_classes: int) -> Any:
        """`targets` of a tensor."""
        from keras import ops

        return ops.cast((ops.cast(labels, "float64")[..., None] - self.mean) / self.scale, "float32")

    def answers(self, logits: ArrayLike) -> NDArray[np.float64]:
        """Numbers, float64."""
        return np.asarray(logits, np.float64) * self.scale + self.mean

    def answers_op(self, logits: Any) -> Any:
        """`answers` of a tensor, in its own precision."""
        return logits * self.scale + self.mean

    def logits(self, answers: NDArray[np.floating], least: float = EXACT) -> NDArray[np.floating]:
        """Logits that mean these numbers, of any size."""
        return (answers - self.mean) / self.scale

    def logits_op(self, answers: Any, least: float) -> Any:
        """`logits` of a tensor, in its own precision."""
        return (answers - self.mean) / self.scale

    def bounded_op(self, logits: Any, least: float) -> Any:
        """`logits_op` of the answers of a tensor of logits, without the rounding on the way: the same."""
        return logits

    def mean_logits_op(self, logits: Sequence[Any], weights: NDArray[np.float64]) -> Any:
        """Logits that mean the weighted mean of the numbers of m tensors of logits; weights (m,) sum to 1."""
        from keras import ops

        return ops.tensordot(weights.astype(np.float32), ops.stack(logits), axes=1)

    def decide(self, answers: NDArray[np.floating]) -> NDArray[np.floating]:
        """The number of each image, (...)."""
        return answers[..., 0]

    def decide_op(self, answers: Any) -> Any:
        """`decide` of a tensor."""
        return answers[..., 0]

    def plain_losses(self, logits: NDArray[np.floating], labels: Labels) -> NDArray[np.floating]:
        """The squared error of each image (n,), in variances of the labels of train."""
        found: NDArray[np.floating] = ((logits - self.targets(labels, 1)) ** 2)[..., 0]
        return found

    def metric(self, logits: NDArray[np.floating], labels: Labels) -> float:
        """The mean absolute error of logits (n, 1), in the unit of the labels."""
        return float(np.abs(self.decide(self.answers(logits)) - labels).mean())

    def loss(self, label_smoothing: float = 0.0) -> "keras.losses.Loss":
        """The loss that training lowers unless it is told otherwise: the squared error of targets (b, 1) and logits (b, 1)."""
        import keras

        return keras.losses.MeanSquaredError()

    def metrics(self) -> list["keras.metrics.Metric"]:
        """What is measured beside the loss, on targets (b, 1) and logits (b, 1): `metric_name`, and `PLAIN_LOSS`."""
        import keras

        def absolute_error(targets: Any, logits: Any) -> Any:
            return self.scale * keras.ops.abs(targets - logits)[..., 0]

        return [keras.metrics.MeanMetricWrapper(absolute_error, name=self.metric_name), keras.metrics.MeanSquaredError(name=PLAIN_LOSS)]


def _log_mean_op(logarithms: Sequence[Any], weights: NDArray[np.float64]) -> Any:
    """The logarithm of the weighted mean of m tensors (b, k), of the logarithms of these."""
    from keras import ops

    of_weights = np.log(np.maximum(weights, np.finfo(np.float32).tiny)).tolist()  # finite for a weight of 0
    logs = ops.stack([each + of_weight for each, of_weight in zip(logarithms, of_weights, strict=True)])
    highest = ops.max(logs, axis=0)
    return highest + ops.log(ops.sum(ops.exp(logs - highest), axis=0))


Output = SingleLabel | MultiLabel | Regression  # what a row is
SINGLE_LABEL = SingleLabel()

OUTPUTS: dict[str, Output] = {row.task: row for row in (SINGLE_LABEL, MultiLabel(), Regression())}


def to_json(output: Output) -> dict[str, Any]:
    """A row with what was fitted or chosen for one model."""
    return {"task": output.task, **asdict(output)}


def from_json(found: dict[str, Any]) -> Output:
    """The row that `to_json` wrote.

    Raises:
        TypeError, ValueError, KeyError: it is not one.
    """
    task, fields = found["task"], {name: value for name, value in found.items() if name != "task"}
    if set(fields) != set(asdict(OUTPUTS[task])):
        raise ValueError(f"it has the fields {', '.join(fields)}")
    numbers: dict[str, Any] = {name: tuple(map(float, each)) if isinstance(each, list) else float(each) for name, each in fields.items()}
    row: Output = replace(OUTPUTS[task], **numbers)
    return row
