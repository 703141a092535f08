"""Each method against its definition, and on networks of every kind: which work is part of what is promised."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tl_keras.config import ModelConfig
from tl_keras.errors import ConfigError
from tl_keras.evaluation.explain import explainer as explainer_module
from tl_keras.evaluation.explain import gradcam, integrated_gradients, occlusion
from tl_keras.evaluation.explain.evidence import evidence
from tl_keras.evaluation.explain.explainer import Explainer, blank
from tl_keras.evaluation.explain.methods import METHODS
from tl_keras.evaluation.explain.overlay import peak
from tl_keras.evaluation.explain.sanity import randomised
from tl_keras.explanations import GRAD_CAM, METHOD_NAMES
from tl_keras.models.backbone_loading import build_backbone
from tl_keras.models.classifier import build_classifier
from tl_keras.models.combined import combined_model
from tl_keras.models.outputs import SINGLE_LABEL, MultiLabel, Regression
from tl_keras.models.rules import Average

Scene = Callable[..., Any]
SIDE, OBJECT = 48, 12  # pixels of an image, and of a square in it


def on_object(place: tuple[float, float] | None, begin: tuple[int, int]) -> bool:
    return place is not None and all(0 <= SIDE * at - first < OBJECT for at, first in zip(place, begin, strict=True))


def shares(finder: Explainer, scene: Scene, method: str, images: int) -> tuple[float, float]:
    """The shares of peaks that lie on the one square, and on the right one of two."""
    found = []
    for num_squares in (1, 2):
        scenes = [scene(seed, *[seed % 3, (seed + 1) % 3][:num_squares]) for seed in range(images)]
        maps = METHODS[method](finder, np.stack([pixels for pixels, _ in scenes]), [seed % 3 for seed in range(images)])
        peaks = [peak(each, "single_label") for each in maps]
        found.append(float(np.mean([on_object(place, squares[0]) for place, (_, squares) in zip(peaks, scenes, strict=True)])))
    return found[0], found[1]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHOD_NAMES)
def test_the_peak_lies_on_the_object_that_the_answer_is_about(finder: Explainer, scene: Scene, method: str) -> None:
    assert min(shares(finder, scene, method, 9)) >= 0.9
    failed = []
    for seed in range(2):
        with randomised(finder.model, seed=seed):
            failed.append(shares(finder, scene, method, 6)[1])
    assert np.mean(failed) <= 0.6


def test_the_table_has_the_methods_that_the_command_line_knows() -> None:
    assert tuple(METHODS) == METHOD_NAMES


# --- each by its definition ----------------------------------------------------------------------------------------


def test_grad_cam_weighs_channels_by_the_mean_of_their_gradient(finder: Explainer, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    num = 6
    monkeypatch.setattr(explainer_module, "AT_ONCE", 4 * SIDE * SIDE)
    pixels = np.stack([scene(seed, seed % 3)[0] for seed in range(num)])
    columns = [seed % 3 for seed in range(num)]
    both = keras.Model(finder.model.input, [finder.stages["stage2"], finder.model.output])
    maps, logits = (each.numpy() for each in both(pixels.astype(np.float32)))
    head = finder.model.get_layer("logits").get_weights()[0]
    for row, found in enumerate(gradcam.grad_cam(finder, pixels, columns)):
        others = [column for column in range(3) if column != columns[row]]
        chances = SINGLE_LABEL.answers(logits[row, others])  # among the others
        weights = (head[:, columns[row]] - head[:, others] @ chances) / maps[row, :, :, 0].size  # of each place's mean
        np.testing.assert_allclose(found, maps[row] @ weights, rtol=1e-3, atol=1e-5)


def test_integrated_gradients_of_a_linear_model_are_exact(linear: Callable[..., Explainer]) -> None:
    random = np.random.default_rng(0)
    weights = random.normal(size=(2, 8, 8, 3))
    pixels = random.integers(0, 256, (8, 8, 3)).astype(np.uint8)
    for output, column in ((MultiLabel(), 1), (Regression(mean=3.0, scale=2.0), 0)):
        own = weights[[column]] if isinstance(output, Regression) else weights
        found = integrated_gradients.attributions(linear(own, output), pixels, column, steps=3)
        scale = getattr(output, "scale", 1.0)
        np.testing.assert_allclose(found, scale * weights[column] * (pixels - blank(pixels)), rtol=1e-3, atol=1e-2)
        (summed,) = integrated_gradients.integrated_gradients(linear(own, output), pixels[None], [column])
        np.testing.assert_allclose(summed, found.sum(axis=-1), rtol=1e-3, atol=0.1)  # cells of one pixel


def test_integrated_gradients_are_complete(finder: Explainer, scene: Scene) -> None:
    pixels, _ = scene(3, 1)
    both = np.stack([pixels.astype(np.float32), np.broadcast_to(blank(pixels), pixels.shape)])
    here, nothing = np.asarray(evidence(SINGLE_LABEL, finder.model(both), np.array([1, 1])))
    found = integrated_gradients.attributions(finder, pixels, 1)
    assert found.sum() == pytest.approx(here - nothing, rel=0.02)
    (summed,) = integrated_gradients.integrated_gradients(finder, pixels[None], [1])
    assert summed.shape == (integrated_gradients.CELLS,) * 2
    assert summed.sum() == pytest.approx(found.sum(), rel=1e-4)


def test_occlusion_is_the_mean_loss_over_the_patches_that_cover_a_cell(linear: Callable[..., Explainer]) -> None:
    random = np.random.default_rng(1)
    side, cells, patch = 30, occlusion.CELLS, occlusion.PATCH
    pixels = random.integers(0, 256, (side, side, 3)).astype(np.uint8)
    explainer = linear(random.normal(size=(2, side, side, 3)), MultiLabel())

    places = [(row, column) for row in range(cells - patch + 1) for column in range(cells - patch + 1)]
    images = np.repeat(pixels[None], 1 + len(places), axis=0)
    for image, (row, column) in zip(images[1:], places, strict=True):
        image[3 * row : 3 * (row + patch), 3 * column : 3 * (column + patch)] = np.rint(blank(pixels))
    logits = explainer.model(images.astype(np.float32)).numpy()[:, 1]
    losses: dict[tuple[int, int], list[float]] = {}
    for (row, column), logit in zip(places, logits[1:], strict=True):
        for cell in np.ndindex(patch, patch):
            losses.setdefault((row + cell[0], column + cell[1]), []).append(logits[0] - logit)
    (found,) = occlusion.occlusion(explainer, pixels[None], [1])
    assert found.shape == (cells, cells)
    for cell, values in losses.items():
        assert found[cell] == pytest.approx(np.mean(values), rel=1e-3, abs=0.1)


# --- networks of every kind ----------------------------------------------------------------------------------------


def test_grad_cam_looks_at_the_last_stage_that_has_places_to_tell_apart() -> None:
    x = pixels = keras.Input((16, 16, 3))
    stages = {}
    for number in range(1, 5):
        x = stages[f"stage{number}"] = keras.layers.MaxPooling2D(2)(x)
    explainer = Explainer(keras.Model(pixels, x), SINGLE_LABEL, stages)
    assert explainer.feature_map is stages["stage2"]
    with pytest.raises(ConfigError, match="feature maps of 4 places a side; the images are too small"):
        Explainer(explainer.model, SINGLE_LABEL, {"stage4": x}).feature_map  # noqa: B018


def write_module(folder: Path, pooled: bool) -> str:
    """A TF-Hub module of one convolution."""
    root = tf.Module()
    root.kernel = tf.Variable(np.random.default_rng(3).normal(size=(3, 3, 3, 5)), dtype=tf.float32)
    images = tf.TensorSpec((None, 16, 16, 3), tf.float32)

    @tf.function(input_signature=[images])
    def call(images: tf.Tensor) -> tf.Tensor:
        maps = tf.nn.relu(tf.nn.conv2d(images, root.kernel, 2, "SAME"))
        return tf.reduce_mean(maps, (1, 2)) if pooled else maps

    root.__call__ = call
    tf.saved_model.save(root, str(folder))
    return str(folder)


def explainer_of(backbone: str, size: int) -> Explainer:
    classifier = build_classifier(ModelConfig(), build_backbone(backbone, image_size=(size, size)), 2, 0)
    return Explainer(classifier.model, SINGLE_LABEL, classifier.boundaries)


def ensemble(tmp_path: Path, own_backbone: str) -> Explainer:
    members = [explainer_of(own_backbone, 16).model for _ in range(2)]
    return Explainer(combined_model(members, Average()), SINGLE_LABEL, {})


def hub_with_maps(tmp_path: Path, own_backbone: str) -> Explainer:
    return explainer_of(write_module(tmp_path / "module", pooled=False), 16)


def hub_with_vectors(tmp_path: Path, own_backbone: str) -> Explainer:
    return explainer_of(write_module(tmp_path / "module", pooled=True), 16)


NETWORKS: dict[str, tuple[Callable[[Path, str], Explainer], str | None]] = {
    "a file": (lambda _, own_backbone: explainer_of(own_backbone, 16), None),
    "a TF-Hub module that outputs maps": (hub_with_maps, None),
    "a TF-Hub module that outputs vectors": (hub_with_vectors, "this one outputs vectors. Take --method occlusion or integrated"),
    "an ensemble": (ensemble, "this model is made of several networks. Take --method occlusion or integrated"),
}


@pytest.mark.parametrize(("make", "refused"), NETWORKS.values(), ids=list(NETWORKS))
def test_what_works_on_a_network(make: Callable[[Path, str], Explainer], refused: str | None, tmp_path: Path, own_backbone: str) -> None:
    explainer = make(tmp_path, own_backbone)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
    for name, method in METHODS.items():
        if name == GRAD_CAM and refused:
            with pytest.raises(ConfigError, match=refused):
                method(explainer, pixels, [0, 1])
            continue
        maps = method(explainer, pixels, [0, 1])
        for found in maps:
            assert found.dtype == np.float32
            assert np.isfinite(found).all()
            assert found.std() > 0
        (alone,) = method(explainer, pixels[1:], [1])
        np.testing.assert_allclose(alone, maps[1], rtol=1e-3, atol=1e-6)
