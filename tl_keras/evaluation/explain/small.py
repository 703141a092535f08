"""Small maps of a run's images for a page, by the method that is quick: Grad-CAM."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tl_keras.config import DataConfig
from tl_keras.cores import usable_cpus
from tl_keras.data import images
from tl_keras.data.label_texts import SEPARATOR
from tl_keras.errors import BadImageError, ConfigError
from tl_keras.evaluation.explain.explainer import Explainer
from tl_keras.evaluation.explain.gradcam import grad_cam
from tl_keras.evaluation.explain.overlay import heat, overlay
from tl_keras.evaluation.thumbnails import SIDE, address_of
from tl_keras.models.outputs import Output
from tl_keras.tasks import MULTI_LABEL, REGRESSION


@dataclass(frozen=True)
class SmallMaps:
    """What makes small maps with a run's model.

    Attributes:
        classes: the names of its outputs, in their order.
        config: how images are decoded and resized.
    """

    explainer: Explainer
    classes: tuple[str, ...]
    config: DataConfig

    def addresses(self, said: Mapping[Path, str]) -> dict[Path, str]:
        """The addresses of the maps of some files; of one without an answer, or that does not decode, there is none.

        Args:
            said: of each file the model's answer as text, which its map is for; of several classes the first.
        """
        columns = {file: self._column(text) for file, text in said.items()}
        with ThreadPoolExecutor(usable_cpus()) as pool:
            loaded = list(pool.map(self._load, columns))
        known = [
            (file, pixels, column)
            for (file, column), pixels in zip(columns.items(), loaded, strict=True)
            if pixels is not None and column is not None
        ]
        if not known:
            return {}
        maps = grad_cam(self.explainer, np.stack([pixels for _, pixels, _ in known]), [column for _, _, column in known])
        task = self.explainer.output.task
        return {
            file: address_of(Image.fromarray(overlay(pixels, heat(found, (pixels.shape[0], pixels.shape[1]), task))), SIDE)
            for (file, pixels, _), found in zip(known, maps, strict=True)
        }

    def _column(self, text: str) -> int | None:
        task = self.explainer.output.task
        if task == REGRESSION:
            return 0
        name = text.split(SEPARATOR)[0] if task == MULTI_LABEL else text
        return self.classes.index(name) if name in self.classes else None

    def _load(self, file: Path) -> NDArray[np.uint8] | None:
        height, width = self.explainer.model.input.shape[1:3]
        try:
            return images.load(file, (height, width), self.config.resize, images.Decoding.of(self.config))
        except BadImageError:
            return None


def small_maps(
    model: keras.Model, output: Output, stages: Mapping[str, Any], classes: tuple[str, ...], config: DataConfig
) -> SmallMaps | None:
    """What makes small maps with a model; None where Grad-CAM does not suit it, see `Explainer.feature_map`."""
    explainer = Explainer(model, output, stages)
    try:
        explainer.feature_map  # noqa: B018
    except ConfigError:
        return None
    return SmallMaps(explainer, classes, config)
