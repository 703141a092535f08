"""A sheet of images and their random views, to look at before hours of training: a row for each image, the original first.

The views are those that the first epochs show which read these images, as images 0, 1, ... of train.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tl_keras.config import AugmentConfig
from tl_keras.data.augment import augment_batch
from tl_keras.data.draws import draw
from tl_keras.data.mixing import Mix
from tl_keras.run_folder import write_atomically

GAP = 6  # pixels between images
HEADER = 20  # pixels for the names of the columns
LEAST_SIDE = 96  # smaller images are enlarged by a whole number, so that each pixel of theirs is seen
NUM_VIEWS = 7


def write_sheet(
    path: Path, images: NDArray[np.uint8], augment: AugmentConfig, seed: int, *, num_views: int = NUM_VIEWS, mix: Mix | None = None
) -> None:
    """Write a PNG of some images and their views.

    Args:
        images: uint8 (n, h, w, 3) as a network gets them, with n and num_views >= 1.
        seed: the run's.
        mix: what blends the images of a batch, which those of the sheet then are; None leaves them apart.
    """
    sheet = sheet_of([images, *views_of(images, augment, seed, num_views, mix)])
    write_atomically(path, lambda temporary: sheet.save(temporary, "PNG"))


def views_of(
    images: NDArray[np.uint8], augment: AugmentConfig, seed: int, num_views: int, mix: Mix | None = None
) -> list[NDArray[np.uint8]]:
    """What epochs 0, 1, ... show of some images, uint8 (n, h, w, 3) each."""
    view = tf.function(_view_in(images, augment, seed, mix), autograph=False)
    return [view(tf.constant(epoch, tf.int64)).numpy() for epoch in range(num_views)]


def _view_in(images: NDArray[np.uint8], augment: AugmentConfig, seed: int, mix: Mix | None) -> Callable[[tf.Tensor], tf.Tensor]:
    def view(epoch: tf.Tensor) -> tf.Tensor:
        places = tf.range(len(images), dtype=tf.int64)
        draws = tf.map_fn(lambda place: draw(seed, epoch, place), places, fn_output_signature=tf.float32)
        found = augment_batch(augment, tf.constant(images), draws)
        if mix is None:
            return found
        batch = (tf.cast(found, tf.float32), tf.zeros((len(images), 1)), tf.ones(len(images)))
        return tf.saturate_cast(tf.round(mix(epoch * 2**32, batch)[0]), tf.uint8)

    return view


def sheet_of(columns: list[NDArray[np.uint8]]) -> Image.Image:
    """Columns of images, uint8 (n, h, w, 3) each, side by side with their names above; the first is called original."""
    num, height, width, _ = columns[0].shape
    scale = -(-LEAST_SIDE // min(height, width))
    cell_height, cell_width = scale * height + GAP, scale * width + GAP
    sheet = Image.new("RGB", (GAP + len(columns) * cell_width, HEADER + GAP + num * cell_height), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for place, column in enumerate(columns):
        left = GAP + place * cell_width
        pen.text((left, GAP), f"view {place}" if place else "original", "black", font)
        for row, pixels in enumerate(column):
            image = Image.fromarray(pixels).resize((scale * width, scale * height), Image.Resampling.NEAREST)
            sheet.paste(image, (left, HEADER + GAP + row * cell_height))
    return sheet
