"""What goes wrong with a photo outside: it is blurred, noisy, compressed too much, or taken with too little light.

Reference: Hendrycks & Dietterich 2019, arXiv:1903.12261 (ImageNet-C), whose severities 1, 3 and 5 the strengths of the first three are.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

STRENGTHS = (1, 2, 3)
SIDE = 224  # pixels of the shorter side that a blur is meant for; of smaller images it is less
Photo = NDArray[np.uint8]


@dataclass(frozen=True)
class Corruption:
    """A way to make an image worse.

    Attributes:
        levels: what each of `STRENGTHS` is, in the unit of `apply`.
        apply: an image uint8 (h, w, 3), a level, and a generator of random numbers -> the image made worse, uint8 (h, w, 3).
    """

    levels: tuple[float, float, float]
    apply: Callable[[Photo, float, np.random.Generator], Photo]

    def __call__(self, image: Photo, strength: int, seed: int) -> Photo:
        """An image made worse by one of `STRENGTHS`, always in the same way for one seed."""
        return self.apply(image, self.levels[strength - 1], np.random.default_rng(seed))


def blur(image: Photo, sigma: float, rng: np.random.Generator) -> Photo:
    """A Gaussian blur of a standard deviation in pixels of an image whose shorter side has `SIDE`."""
    radius = sigma * min(image.shape[:2]) / SIDE
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))


def noise(image: Photo, deviation: float, rng: np.random.Generator) -> Photo:
    """Gaussian noise of a standard deviation in shares of the range of a pixel."""
    noisy = image + 255 * deviation * rng.standard_normal(image.shape, np.float32)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def recompress(image: Photo, quality: float, rng: np.random.Generator) -> Photo:
    """JPEG of a quality, 1 to 95."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=int(quality))
    return np.asarray(Image.open(buffer).convert("RGB"))


def darken(image: Photo, factor: float, rng: np.random.Generator) -> Photo:
    """Pixels multiplied by a factor below 1."""
    return np.rint(image * np.float32(factor)).astype(np.uint8)


CORRUPTIONS = {
    "blur": Corruption((1, 3, 6), blur),
    "noise": Corruption((0.08, 0.18, 0.38), noise),
    "jpeg": Corruption((25, 15, 7), recompress),
    "darkness": Corruption((0.5, 0.3, 0.15), darken),
}
