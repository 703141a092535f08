"""Random erasing: how often, how large, where, and with what; its twin, pixel by pixel, is in `test_augment`."""

import numpy as np
import tensorflow as tf

from tl_keras.data.draws import DRAWS
from tl_keras.data.erasing import erase


def erased(probability: float, num: int = 500) -> tuple[np.ndarray, np.ndarray]:
    """Images, and the same after erasing."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 100, (num, 24, 30, 3)).astype(np.float32)
    draws = {name: tf.constant(rng.random(num, dtype=np.float32)) for name in DRAWS}
    return images, erase(probability, tf.constant(images), draws).numpy()


def test_a_box_is_filled_with_the_mean_of_its_image() -> None:
    images, found = erased(1.0)
    for image, after in zip(images, found, strict=True):
        changed = (image != after).any(axis=-1)
        np.testing.assert_allclose(after[changed], np.broadcast_to(image.mean(axis=(0, 1)), (changed.sum(), 3)), rtol=1e-4)
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        assert changed[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()  # one box
        assert 0.01 < changed.mean() < 0.36  # 0.02 to 0.33, but for the pixels that its edges cut


def test_as_many_images_are_erased_as_asked_for() -> None:
    for probability in (0.0, 0.25, 1.0):
        images, found = erased(probability)
        assert abs((images != found).any(axis=(1, 2, 3)).mean() - probability) < 0.05


def test_boxes_reach_every_pixel() -> None:
    images, found = erased(1.0)
    assert (images != found).any(axis=(0, 3)).all()
