"""Features of a frozen trunk against one image at a time."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from tl_keras.config import AugmentConfig, ModelConfig
from tl_keras.data.pipeline import Pixels
from tl_keras.errors import TrainingError
from tl_keras.models.backbone_loading import build_backbone
from tl_keras.models.classifier import build_classifier
from tl_keras.transfer.features import compute_features, run_model

ROWS = np.array([4, 0, 3, 1, 5])
FLIP = AugmentConfig(random_resized_crop=None, rotation_range=90, width_shift_range=0.3)


@pytest.fixture
def pixels(photo_folder: Callable[..., Path]) -> Pixels:
    return Pixels(sorted(photo_folder(per_class=3).rglob("*.*")), (16, 16), "crop")


@pytest.fixture(scope="module")
def trunk() -> keras.Model:
    return build_classifier(ModelConfig(), build_backbone("small_resnet", image_size=(16, 16), weights="none"), 2, 0).trunk


def brute_force(trunk: keras.Model, pixels: Pixels) -> NDArray[np.float32]:
    images = pixels.read(ROWS).astype(np.float32)
    return np.concatenate([np.asarray(trunk(image[None], training=False)) for image in images])


def test_features_are_those_of_one_image_at_a_time(trunk: keras.Model, pixels: Pixels, tmp_path: Path) -> None:
    done: list[int] = []
    found = compute_features(trunk, pixels, ROWS, tmp_path / "f.npy", batch_size=2, advance=done.append)
    np.testing.assert_allclose(found, brute_force(trunk, pixels), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(np.load(tmp_path / "f.npy"), found)
    assert isinstance(found, np.memmap)
    assert found.dtype == np.float32
    assert done == [2, 2, 1]


def test_views_come_after_plain_images_and_differ(trunk: keras.Model, pixels: Pixels, tmp_path: Path) -> None:
    first, same, other = (
        compute_features(trunk, pixels, ROWS, tmp_path / f"{i}.npy", batch_size=4, views=2, augment=FLIP, seed=seed)
        for i, seed in enumerate((0, 0, 1))
    )
    plain, view1, view2 = first.reshape(3, len(ROWS), -1)
    np.testing.assert_allclose(plain, brute_force(trunk, pixels), rtol=1e-4, atol=1e-5)
    for one, another in ((plain, view1), (plain, view2), (view1, view2)):
        assert (np.abs(one - another).max(axis=1) > 1e-4).all()
    np.testing.assert_array_equal(first, same)
    assert not np.allclose(other[len(ROWS) :], first[len(ROWS) :])


def test_numbers_that_are_not_finite_are_refused() -> None:
    pixels = keras.Input((2,))
    model = keras.Model(pixels, keras.ops.log(pixels), name="bad")
    with pytest.raises(TrainingError, match=r"^'bad' puts out numbers that are not finite\. Set runtime\.precision=float32"):
        run_model(model, [(-np.ones((1, 2), np.float32), None)], 1)
