"""A trunk against the Keras model that it was cut from, one image against any company, and what its fingerprint tells apart."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from tl_keras.config import ModelConfig
from tl_keras.errors import TrainingError
from tl_keras.models import folded as module
from tl_keras.models.backbone_loading import build_backbone
from tl_keras.models.classifier import Classifier, build_classifier, unfreeze
from tl_keras.transfer.trunk import BATCH_SIZE, Trunk

PIXELS = np.random.default_rng(0).integers(0, 256, (BATCH_SIZE + 7, 16, 16, 3), np.uint8)


def build(name: str = "small_resnet", size: int = 16, **settings: Any) -> Classifier:
    backbone = build_backbone(name, image_size=(size, size), **{"weights": "none"} | settings)
    return build_classifier(ModelConfig(), backbone, 2, 0)


def trunk_of(classifier: Classifier) -> Trunk:
    """The pooled features, and what two stages put out."""
    boundaries = {name: classifier.boundaries[name] for name in ("stage1", "stage2")}
    return Trunk(classifier.model, {"pooled": classifier.trunk.output, **boundaries})


def randomise(classifier: Classifier) -> None:
    """Give BatchNorm statistics that matter, so that a trunk that is not in inference mode is found out."""
    generator = np.random.default_rng(1)
    weights = [
        (0.5 + generator.random(weight.shape)).astype(np.float32) if weight.path.endswith(("variance", "gamma")) else weight.numpy()
        for weight in classifier.model.weights
    ]
    classifier.model.set_weights(weights)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    made = build()
    randomise(made)
    return made


def keras_outputs(classifier: Classifier, pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    tensors = {"pooled": classifier.trunk.output, **{name: classifier.boundaries[name] for name in ("stage1", "stage2")}}
    model = keras.Model(classifier.model.input, tensors)
    return {name: np.asarray(values) for name, values in model(pixels.astype(np.float32), training=False).items()}


@pytest.mark.parametrize("folded", [True, False], ids=["constants", "variables"])
def test_outputs_are_those_of_the_keras_model(classifier: Classifier, folded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FOLDED_BYTES", 1_500_000_000 if folded else 0)
    trunk = trunk_of(classifier)
    found, expected = trunk(PIXELS), keras_outputs(classifier, PIXELS)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].dtype == np.float32
        assert found[name].shape == (len(PIXELS), *trunk.shapes[name])
        np.testing.assert_allclose(found[name], values, rtol=1e-3, atol=1e-4 * np.abs(values).max())


def test_outputs_of_an_image_are_bit_equal_in_any_company(classifier: Classifier) -> None:
    trunk = trunk_of(classifier)
    whole = trunk(PIXELS)
    order = np.random.default_rng(2).permutation(len(PIXELS))
    for rows in (order, order[:1], order[:5], np.repeat(order[:1], 40), np.arange(len(PIXELS) - 1, -1, -1)):
        for name, values in trunk(PIXELS[rows]).items():
            np.testing.assert_array_equal(values, whole[name][rows])
    again = trunk_of(classifier)(PIXELS)
    assert all(np.array_equal(again[name], whole[name]) for name in whole)


def test_only_some_outputs_are_those_of_all(classifier: Classifier) -> None:
    trunk = trunk_of(classifier)
    whole = trunk(PIXELS)
    short = trunk.only(["stage1"])
    assert list(short.shapes) == ["stage1"]
    np.testing.assert_allclose(short(PIXELS)["stage1"], whole["stage1"], rtol=1e-5, atol=1e-5)
    assert len(short._model.operations) < len(trunk._model.operations) / 2  # what comes after is not run
    assert short.fingerprints()["stage1"] == trunk.fingerprints()["stage1"]
    assert trunk.only(trunk.shapes) is trunk


def test_running_changes_no_weight_and_no_statistic(classifier: Classifier) -> None:
    classifier.model.trainable = True
    before = classifier.model.get_weights()
    trunk_of(classifier)(PIXELS)
    assert all(np.array_equal(a, b) for a, b in zip(before, classifier.model.get_weights(), strict=True))


def test_a_trunk_stays_as_it_was_when_called_first() -> None:
    classifier = build()
    trunk = trunk_of(classifier)
    before = trunk(PIXELS[:2])["pooled"]
    classifier.model.set_weights([weight + 1 for weight in classifier.model.get_weights()])
    np.testing.assert_array_equal(trunk(PIXELS[:2])["pooled"], before)


NOT_FINITE = r"^the backbone outputs numbers that are not finite\. Set runtime\.precision=float32, or repair its weights\.$"


def test_numbers_that_are_not_finite_are_refused() -> None:
    pixels = keras.Input((16, 16, 3))
    huge = keras.layers.Rescaling(1e30)(keras.layers.Rescaling(1e30)(pixels))
    with pytest.raises(TrainingError, match=NOT_FINITE):
        Trunk(keras.Model(pixels, huge), {"huge": huge})(np.ones((1, 16, 16, 3), np.uint8))


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(wrong: float) -> None:
    """Folded into a convolution with its ReLU, they come out as zeros."""
    classifier = build()
    layer = next(layer for layer in classifier.model.layers if isinstance(layer, keras.layers.BatchNormalization))
    gamma, *rest = layer.get_weights()
    layer.set_weights([gamma * wrong, *rest])
    with pytest.raises(TrainingError, match=NOT_FINITE):
        trunk_of(classifier)(PIXELS[:1])


# --- fingerprints --------------------------------------------------------------------------------------------------

ROWS = {"small_resnet": 16, "mobilenet_025": 32, "mobilenet_v2": 32, "efficientnet_b0": 32}
QUICK = ("small_resnet", "mobilenet_025")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in ROWS])
def test_fingerprint_of_a_network_that_is_built_twice_is_one(name: str) -> None:
    first, twin = build(name, ROWS[name]), build(name, ROWS[name])
    found, trunk = trunk_of(first).fingerprints(), trunk_of(twin)
    assert trunk.fingerprints() != found  # random weights
    twin.model.set_weights(first.model.get_weights())
    assert trunk.fingerprints() == found
    assert len(set(found.values())) == 3  # each output has its own


def test_fingerprint_tells_one_weight() -> None:
    classifier = build()
    before = trunk_of(classifier).fingerprints()
    layer = classifier.model.get_layer(classifier.stages["stage2"][-1])
    while not layer.weights:
        layer = classifier.model.get_layer(classifier.stages["stage2"][classifier.stages["stage2"].index(layer.name) - 1])
    weights = layer.get_weights()
    weights[0].flat[0] += 1e-6
    layer.set_weights(weights)
    after = trunk_of(classifier).fingerprints()
    assert after["stage1"] == before["stage1"]  # does not depend on it
    assert after["stage2"] != before["stage2"]
    assert after["pooled"] != before["pooled"]


def test_fingerprint_does_not_know_the_head_nor_what_trains(classifier: Classifier) -> None:
    before = trunk_of(classifier).fingerprints()
    classifier.model.get_layer("logits").set_weights([weight + 1 for weight in classifier.model.get_layer("logits").get_weights()])
    classifier.model.get_layer("logits").trainable = False
    assert trunk_of(classifier).fingerprints() == before


@pytest.fixture
def float32_policy() -> Iterator[Callable[[str], None]]:
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy("float32")


def test_fingerprint_tells_the_precision(classifier: Classifier, float32_policy: Callable[[str], None]) -> None:
    float32_policy("mixed_bfloat16")
    twin = build()
    twin.model.set_weights(classifier.model.get_weights())
    assert not set(trunk_of(twin).fingerprints().values()) & set(trunk_of(classifier).fingerprints().values())


def test_fingerprint_tells_the_preprocessing(classifier: Classifier) -> None:
    found = set()
    for preprocessing in ("caffe", "torch", "minus_one_to_one", "zero_to_one", "none"):
        twin = build(preprocessing=preprocessing)
        twin.model.set_weights(classifier.model.get_weights())
        found.add(trunk_of(twin).fingerprints()["pooled"])
    assert len(found) == 5


def plain(compute: Callable[[Any, Any], Any]) -> str:
    pixels = keras.Input((4, 4, 3))
    doubled, negated = keras.layers.Rescaling(2.0)(pixels), keras.layers.Rescaling(-1.0)(pixels)
    output = compute(doubled, negated)
    return Trunk(keras.Model(pixels, output), {"out": output}).fingerprints()["out"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda x, y: keras.layers.Subtract()([x, y]), lambda x, y: keras.layers.Subtract()([y, x])),
        (lambda x, y: keras.layers.Add()([x, y]), lambda x, y: keras.layers.Add()([x, x])),
        (lambda x, _: keras.layers.Rescaling(0.5)(x), lambda x, _: keras.layers.Rescaling(0.25)(x)),
        (lambda x, _: keras.layers.ReLU()(x), lambda x, _: keras.layers.ReLU(6.0)(x)),
        (lambda x, _: x / 127.5, lambda x, _: x / 255.0),
        (lambda x, _: x - 1.0, lambda x, _: 1.0 - x),
        (lambda x, _: keras.ops.split(x, 3, axis=-1)[0], lambda x, _: keras.ops.split(x, 3, axis=-1)[1]),
    ],
    ids=["order", "inputs", "settings", "activation", "constant", "side of a constant", "output of an operation"],
)
def test_fingerprint_tells_computations_without_weights(one: Callable[..., Any], other: Callable[..., Any]) -> None:
    assert plain(one) == plain(one)
    assert plain(one) != plain(other)


def test_fingerprint_does_not_tell_what_trains_later(classifier: Classifier) -> None:
    before = trunk_of(classifier).fingerprints()
    twin = build()
    twin.model.set_weights(classifier.model.get_weights())
    unfreeze(twin, "all", freeze_batchnorm=True)
    assert trunk_of(twin).fingerprints() == before
    unfreeze(twin, None, freeze_batchnorm=True)
    assert trunk_of(twin).fingerprints() == before
