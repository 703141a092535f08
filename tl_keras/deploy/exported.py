"""The exported object: a model together with the steps that turn a file into its pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tl_keras.data import images
from tl_keras.errors import ExportError
from tl_keras.evaluation.novelty import Novelty
from tl_keras.models.folded import freeze
from tl_keras.models.outputs import SINGLE_LABEL, MultiLabel, Output
from tl_keras.tasks import REGRESSION

BATCH = 32  # images that the model answers at once
PIXELS, NOVELTY = "pixels", "novelty"


@dataclass(frozen=True)
class Exported:
    """A model, how it sees files, and what it says.

    Attributes:
        model: float32 pixels (b, h, w, 3) -> logits (b, k).
        classes: the k labels, in the order of the logits; in a regression the name of the number.
        resize: 'crop', 'letterbox' or 'stretch'.
        decoding: how files are decoded.
        output: what the logits mean.
        novelty: what tells images of none of the classes; None where the run has none.
        calibration: images like those that the model will see, for formats that round activations.
        unseen: images that it has not learned of, by which formats that round find a `novelty_threshold` of their own.
    """

    model: keras.Model
    classes: Sequence[str]
    resize: str
    decoding: images.Decoding = images.DEFAULT
    output: Output = SINGLE_LABEL
    novelty: Novelty | None = None
    calibration: Sequence[Path] = ()
    unseen: Sequence[Path] = ()

    @cached_property
    def watched(self) -> keras.Model:
        """The model, and after its logits the novelty where there is one: (b, k) or (b, k + 1)."""
        return self.model if self.novelty is None else self.novelty.watched(self.model)

    @property
    def answers_name(self) -> str:
        """What formats with named outputs call the answers (b, k)."""
        return "value" if self.output.task == REGRESSION else "probabilities"

    @cached_property
    def named(self) -> keras.Model:
        """The model with its outputs by name: the answers float32 (b, k), and `novelty` (b,) where there is one."""
        found, num = self.watched.output, len(self.classes)
        told = {self.answers_name: self.output.answers_op(found[:, :num])}
        return keras.Model(self.watched.input, told if self.novelty is None else told | {NOVELTY: found[:, num]})

    @property
    def output_names(self) -> list[str]:
        """The names of the outputs of `frozen`, in its order."""
        return sorted(self.named.output)

    @cached_property
    def frozen(self) -> Any:
        """`named` as one graph of constants: a concrete function of float32 pixels (b, h, w, 3), any b, to its outputs as a list.

        Raises:
            ExportError: it is too large for one graph.
        """
        found = freeze(self.named, None, tf.float32)
        if found is None:
            raise ExportError("its weights take more than 1.5 GB, which only a SavedModel can hold")
        return found

    @property
    def description(self) -> dict[str, Any]:
        """What a program has to know besides the graph; formats hold it where they can."""
        height, width = self.image_size
        told: dict[str, Any] = {
            "task": self.output.task,
            "classes": list(self.classes),
            "input": {"name": PIXELS, "dtype": "float32", "range": [0, 255], "shape": [None, height, width, 3], "channels": "RGB"},
            "resize": self.resize,
            "resize_filter": "bilinear, antialiased",
            "outputs": self.output_names,
        }
        if isinstance(self.output, MultiLabel):
            told["thresholds"] = self.output.limits(len(self.classes)).tolist()
        if self.novelty is not None:
            told["novelty_threshold"] = self.novelty.threshold
        return told

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        height, width = self.model.input.shape[1:3]
        return int(height), int(width)

    def pixels(self, files: Sequence[Path]) -> NDArray[np.uint8]:
        """What the model sees of some files: uint8 (n, h, w, 3)."""
        return np.stack([images.load(file, self.image_size, self.resize, self.decoding) for file in files])

    def answers(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[Any]]:
        """What the model says of pixels: its answers (n, k), and the novelty (n, 1), or (n, 0) where there is none."""
        parts = [self.watched(pixels[at : at + BATCH].astype(np.float32), training=False).numpy() for at in range(0, len(pixels), BATCH)]
        found, num = np.concatenate(parts), self.model.output.shape[-1]
        return self.output.answers(found[:, :num]), found[:, num:]
