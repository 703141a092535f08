"""Small copies of images inside a page, as addresses of `<img>`."""

import base64
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

from PIL import Image

from tl_keras.cores import usable_cpus
from tl_keras.data import images
from tl_keras.errors import BadImageError

SIDE = 160  # pixels of a picture's longer side, at most
QUALITY = 70  # of its JPEG


def thumbnails(files: Sequence[Path], decoding: images.Decoding) -> list[str]:
    """The addresses of small copies of image files; empty where one does not decode."""
    with ThreadPoolExecutor(usable_cpus()) as pool:
        return list(pool.map(lambda file: _thumbnail(file, decoding), files))


def _thumbnail(file: Path, decoding: images.Decoding) -> str:
    try:
        return images.look(file, lambda kind, pixels: address_of(Image.fromarray(pixels), SIDE), decoding)
    except BadImageError:
        return ""


def address_of(image: Image.Image, side: int) -> str:
    """An image, at most so many pixels on a side, as an address."""
    image.thumbnail((side, side))
    file = BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
