"""The meaning of a model's outputs: from labels to targets, and from logits to probabilities to a decision.

The mirror of the image contract: every model takes raw pixels and outputs logits, and what the logits say is one row of `OUTPUTS`, which
training, scoring, ensembles, predictions and exports share. A method whose name ends in `_op` is the same in `keras.ops`, for graphs; the
others take and return NumPy arrays and need neither Keras nor TensorFlow. There are two because `keras.ops` would bring TensorFlow to
code that knows arrays only; a test keeps them equal.

A row is a frozen dataclass: what is fitted or chosen for one model, such as a temperature or thresholds, becomes a field of it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

if TYPE_CHECKING:
    import keras

LOG_LOSS = "log_loss"  # cross-entropy with the labels as they are, every image counting the same: `val_loss`, see `LogLossOfVal`


@dataclass(frozen=True)
class SingleLabel:
    """Each image has exactly one of k classes; the decision is the most probable class, and of equals the first.

    Logits, probabilities and targets are (..., k); labels and decisions are integers (...), positions in the list of classes.

    Attributes:
        metric_name: what history files and monitors call the share of right decisions.
    """

    metric_name: str = "accuracy"

    @property
    def history(self) -> tuple[str, str, str, str]:
        """What is known of an epoch: loss and metric on train, then on val."""
        return "loss", self.metric_name, "val_loss", f"val_{self.metric_name}"

    @property
    def monitored(self) -> dict[str, str]:
        """What can choose an epoch or a trial -> 'min' or 'max', which of it is better."""
        return {"val_loss": "min", f"val_{self.metric_name}": "max"}

    def targets(self, labels: ArrayLike, num_classes: int) -> NDArray[np.float32]:
        """float32 (..., k): 1 at the label and 0 elsewhere; all 0 for a label of -1."""
        found: NDArray[np.float32] = (np.asarray(labels)[..., None] == np.arange(num_classes)).astype(np.float32)
        return found

    def targets_op(self, labels: Any, num_classes: int) -> Any:
        """`targets` of a tensor of integers."""
        from keras import ops

        return ops.one_hot(labels, num_classes, dtype="float32")

    def probabilities(self, logits: ArrayLike) -> NDArray[np.float64]:
        """float64 in [0, 1]; the last axis sums to 1, for logits of any size."""
        found: NDArray[np.float64] = special.softmax(np.asarray(logits, np.float64), axis=-1)
        return found

    def probabilities_op(self, logits: Any) -> Any:
        """`probabilities` of a tensor, in its own precision."""
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

    def logits(self, probabilities: NDArray[np.floating], least: float) -> NDArray[np.floating]:
        """Logits that mean these probabilities, of which those below `least` count as it, so that logits are finite."""
        return np.log(np.maximum(probabilities, least))

    def logits_op(self, probabilities: Any, least: float) -> Any:
        """`logits` of a tensor."""
        from keras import ops

        return ops.log(ops.maximum(probabilities, least))

    def decide(self, probabilities: NDArray[np.floating]) -> NDArray[np.int64]:
        """The class of each image, int64 (...)."""
        found: NDArray[np.int64] = probabilities.argmax(axis=-1)
        return found

    def decide_op(self, probabilities: Any) -> Any:
        """`decide` of a tensor."""
        from keras import ops

        return ops.argmax(probabilities, axis=-1)

    def is_right(self, probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Whether the decision on each image is its label, bool (...)."""
        found: NDArray[np.bool_] = self.decide(probabilities) == labels
        return found

    def loss(self, label_smoothing: float = 0.0) -> "keras.losses.Loss":
        """The loss that training lowers unless it is told otherwise: cross-entropy of targets (b, k) and logits (b, k)."""
        import keras

        return keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=label_smoothing)

    def metrics(self) -> list["keras.metrics.Metric"]:
        """What is measured beside the loss, on targets (b, k) and logits (b, k): `metric_name`, and `LOG_LOSS`."""
        import keras

        return [
            keras.metrics.CategoricalAccuracy(name=self.metric_name),
            keras.metrics.CategoricalCrossentropy(from_logits=True, name=LOG_LOSS),
        ]


Output = SingleLabel  # what a row is; a union once there are several
SINGLE_LABEL = SingleLabel()

OUTPUTS: dict[str, Output] = {"single_label": SINGLE_LABEL}
