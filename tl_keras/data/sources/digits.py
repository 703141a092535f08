"""scikit-learn's handwritten digits, which come with it."""

from pathlib import Path

import numpy as np
from PIL import Image

from tl_keras.cache import cache_folder
from tl_keras.data.sources.source import unpack_once


def unpack_digits() -> Path:
    """Write scikit-learn's 1,797 handwritten digits (8x8 pixels, UCI, CC BY 4.0) as PNG files in ten class folders."""
    return unpack_once(cache_folder() / "digits", _write_digits)


def _write_digits(folder: Path) -> None:
    from sklearn.datasets import load_digits

    data = load_digits()
    for number, (image, label) in enumerate(zip(data.images, data.target, strict=True)):
        path = folder / str(label) / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.round(image * (255 / 16)).astype(np.uint8)).save(path)
