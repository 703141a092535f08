"""What a training is about, handed from step to step."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tl_keras.config import Config
from tl_keras.data.dataset import ImageData
from tl_keras.models.classifier import Classifier, count_parameters
from tl_keras.progress import Progress
from tl_keras.run_folder import RunFolder
from tl_keras.transfer.losses import class_weight_vector

Value = TypeVar("Value")


@dataclass(frozen=True)
class Task:
    """All that a training is about: what is learned, from what, how, and who listens."""

    config: Config
    data: ImageData
    classifier: Classifier
    run: RunFolder
    progress: Progress

    @property
    def class_weights(self) -> NDArray[np.float32]:
        """float32 (k,): the weight of each class in the loss."""
        return class_weight_vector(self.config.train.class_weights, self.data.labels("train"), self.data.classes)

    def tell_parameters(self, phase: str) -> None:
        """Say how many parameters a phase trains."""
        count = count_parameters(self.classifier.model)
        self.progress.line(f"{phase}: {count['trainable']:,} of {count['total']:,} parameters train")


def chosen(value: Value | None) -> Value:
    """Return a setting that `defaults.resolve` has filled."""
    if value is None:
        raise ValueError("an open setting reached training; `defaults.resolve` comes first.")
    return value
