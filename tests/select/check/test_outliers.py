"""What does not belong stands out."""

import numpy as np

from tl_keras.select.check.neighbours import find_neighbours
from tl_keras.select.check.outliers import find_outliers, upper_fence


def test_strangers_are_found_and_few_others() -> None:
    rng = np.random.default_rng(0)
    features = (np.array([5.0, 5.0, 0.0, 0.0]) + rng.normal(size=(200, 4)) * 0.5).astype(np.float32)
    features[:3] = [[0, 0, 5, 0], [0, 0, 0, 5], [-5, 5, 0, 0]]
    found = find_outliers(find_neighbours(features, np.arange(200, dtype=np.int32) % 2, 2, 4))
    assert found[:3].all()
    assert found[3:].sum() <= 10


def test_few_images_have_no_outliers() -> None:
    features = np.eye(10, dtype=np.float32)
    assert not find_outliers(find_neighbours(features, np.arange(10, dtype=np.int32) % 2, 2, 10)).any()


def test_the_fence_is_that_of_a_box_plot() -> None:
    assert upper_fence(np.arange(101.0), 1.5) == 75 + 1.5 * 50
