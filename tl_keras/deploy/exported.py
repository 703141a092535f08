"""The exported object: a model together with the steps that turn a file into its pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from tl_keras.data import images
from tl_keras.evaluation.novelty import Novelty
from tl_keras.models.outputs import SINGLE_LABEL, Output


@dataclass(frozen=True)
class Exported:
    """A model, how it sees files, and what it says.

    Attributes:
        model: float32 pixels (b, h, w, 3) -> logits (b, k).
        classes: the k labels, in the order of the logits; in a regression the name of the number.
        output: what the logits mean.
        resize: 'crop', 'letterbox' or 'stretch'.
        decoding: how files are decoded.
    """

    model: keras.Model
    classes: Sequence[str]
    resize: str
    decoding: images.Decoding = images.DEFAULT
    output: Output = SINGLE_LABEL
    novelty: Novelty | None = None

    @cached_property
    def watched(self) -> keras.Model:
        """The model, and after its logits the novelty where there is one: (b, k) or (b, k + 1)."""
        return self.model if self.novelty is None else self.novelty.watched(self.model)

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
        found = self.watched(pixels.astype(np.float32), training=False).numpy()
        num = self.model.output.shape[-1]
        return self.output.answers(found[:, :num]), found[:, num:]
