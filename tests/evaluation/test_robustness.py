"""Images made worse in batches: each by its own noise, the same in batches of any size."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from tl_keras.evaluation.corruptions import CORRUPTIONS
from tl_keras.evaluation.robustness import corrupted_batches


def test_each_image_has_noise_of_its_own_whatever_the_batches() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 6, 3), dtype=np.uint8)
    data: Any = SimpleNamespace(pixels=SimpleNamespace(read=lambda rows: pixels[rows]))
    rows, noise = np.array([4, 0, 3]), CORRUPTIONS["noise"]
    expected = np.stack([noise(pixels[row], 2, int(row)) for row in rows])
    for size in (2, 3):
        found = np.concatenate([np.asarray(batch) for batch, _ in corrupted_batches(data, rows, noise, 2, size)])
        np.testing.assert_array_equal(found, expected)
