"""Random weights come and go; a map that is the model's changes with them, another does not."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from scipy.stats import spearmanr

from tl_keras.evaluation.explain.explainer import Explainer
from tl_keras.evaluation.explain.gradcam import grad_cam
from tl_keras.evaluation.explain.sanity import ALL, HEAD, MOST_ALIKE, alikeness, randomised, rank_correlation
from tl_keras.models.classifier import head_of


def test_kernels_keep_their_values_in_another_order_and_come_back() -> None:
    pixels = keras.Input((8, 8, 3))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3, bias_initializer="ones")(pixels))
    x = keras.layers.Dropout(0.5)(keras.layers.Dense(5)(keras.layers.Flatten()(x)))
    model = keras.Model(pixels, keras.layers.Dense(2)(x))
    assert [type(layer).__name__ for layer in head_of(model)] == ["Dense", "Dropout", "Dense"]
    before = model.get_weights()
    for which, changed in ((HEAD, 2), (ALL, 3)):
        with randomised(model, which):
            inside = model.get_weights()
        different = [not np.array_equal(one, other) for one, other in zip(before, inside, strict=True)]
        assert sum(different) == changed
        assert all(one.ndim > 1 for one, is_different in zip(before, different, strict=True) if is_different)
        for one, other, after in zip(before, inside, model.get_weights(), strict=True):
            np.testing.assert_array_equal(np.sort(one, axis=None), np.sort(other, axis=None))
            np.testing.assert_array_equal(one, after)


def test_a_model_of_several_networks_has_no_head() -> None:
    pixels = keras.Input((4,))
    assert head_of(keras.Model(pixels, keras.layers.Average()([keras.layers.Dense(2)(pixels) for _ in range(2)]))) == []


def test_a_map_that_does_not_ask_the_model_is_found_out(finder: Explainer, scene: Callable[..., Any]) -> None:
    pixels = np.stack([scene(seed, seed % 3, (seed + 1) % 3)[0] for seed in range(3)])
    columns = [0, 1, 2]

    def brightness(explainer: Explainer, images: np.ndarray, columns: object) -> list[np.ndarray]:
        return [image.mean(axis=-1).astype(np.float32) for image in images]

    assert alikeness(finder, brightness, pixels, columns, brightness(finder, pixels, columns)) == pytest.approx({HEAD: 1, ALL: 1})
    found = alikeness(finder, grad_cam, pixels, columns, grad_cam(finder, pixels, columns))
    assert found[ALL] < MOST_ALIKE


def test_rank_correlation_is_spearmans() -> None:
    random = np.random.default_rng(0)
    one, other = random.integers(0, 5, (2, 6, 7)).astype(np.float32)  # with ties
    assert rank_correlation(one, other) == pytest.approx(spearmanr(one.ravel(), other.ravel()).statistic)
    assert rank_correlation(one, 3 * one + 1) == pytest.approx(1)
    assert rank_correlation(one, np.zeros_like(one)) == 0
