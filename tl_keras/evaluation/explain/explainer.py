"""A model that can be asked why, and the table of the ways to ask.

Each way makes a map of an image: float32 (h', w') of any size, whose places say how much that part speaks for an answer (above 0) or
against it (below 0). `heat` makes of it what is shown.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tl_keras.errors import ConfigError
from tl_keras.evaluation.explain.evidence import evidence
from tl_keras.models.outputs import Output
from tl_keras.models.stages import is_feature_map

Map = NDArray[np.float32]  # (h', w')
AT_ONCE = 8 * 224 * 224  # pixels whose activations are in memory at once: 1 GB of VGG16's
LEAST_SIDE = 4  # places of a feature map's shorter side: from fewer no place can be told
ELSE = "Take --method occlusion or integrated_gradients, which need nothing of the kind."


@dataclass(frozen=True)
class Explainer:
    """A model that can be asked why.

    Attributes:
        model: float32 pixels (b, h, w, 3) in 0..255 -> logits (b, k); any network of Keras.
        output: what its logits mean.
        stages: its stages' outputs from input to output, see `TrainedRun.stages`; none where no single backbone runs through it.
        run: a faster form of the same, uint8 pixels -> logits; None where there is none.
    """

    model: keras.Model
    output: Output
    stages: Mapping[str, Any]
    run: Callable[[NDArray[np.uint8]], NDArray[np.float32]] | None = None

    @property
    def feature_map(self) -> Any:
        """The symbolic tensor that Grad-CAM looks at: the output of the last stage that has places to tell apart.

        Raises:
            ConfigError: there is none.
        """
        ends = list(self.stages.values())
        if not ends:
            raise ConfigError(f"--method: grad_cam needs one backbone, and this model is made of several networks. {ELSE}")
        if not is_feature_map(ends[-1]):
            raise ConfigError(f"--method: grad_cam needs a backbone that outputs a feature map, and this one outputs vectors. {ELSE}")
        wide = [end for end in ends if is_feature_map(end) and min(end.shape[1:3]) >= LEAST_SIDE]
        if not wide:
            raise ConfigError(f"--method: grad_cam needs feature maps of {LEAST_SIDE} places a side; the images are too small. {ELSE}")
        return wide[-1]

    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run the model on uint8 pixels (b, h, w, 3): float32 (b, k)."""
        if self.run is not None:
            return self.run(pixels)
        return np.asarray(self.model(pixels.astype(np.float32), training=False), np.float32)

    @cached_property
    def gradients(self) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
        """A compiled function of images, float32 (b, h, w, 3), and columns, int32 (b,): the gradient of each image's evidence."""

        @tf.function(autograph=False, reduce_retracing=True)
        def gradients(images: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                tape.watch(images)
                found = evidence(self.output, self.model(images, training=False), columns)
            return tape.gradient(found, images)

        return gradients


def batch_size(pixels: NDArray[np.uint8]) -> int:
    """How many images of this size, (..., h, w, 3), go through a network at once."""
    height, width = pixels.shape[-3:-1]
    return max(1, AT_ONCE // (height * width))


def blank(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What stands for an image, or a part of it, that shows nothing: its mean colour, float32 (3,)."""
    found: NDArray[np.float32] = pixels.reshape(-1, 3).mean(axis=0).astype(np.float32)
    return found
