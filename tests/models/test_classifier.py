"""Heads on backbones: shared layers, which of them train, and how much they move."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tl_keras.config import ModelConfig
from tl_keras.errors import ConfigError
from tl_keras.models.backbone_loading import BuiltBackbone, build_backbone
from tl_keras.models.classifier import Classifier, build_classifier, count_parameters, cut_below, first_epochs, unfreeze, update_scales

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3)).astype("float32")
TARGETS = np.eye(2, dtype="float32")[[0, 1, 0, 1]]


def build(backbone: str = "small_resnet", size: int = 16, seed: int = 0, all_stages: bool = False, **model: Any) -> Classifier:
    built = build_backbone(backbone, image_size=(size, size), weights="none")
    return build_classifier(ModelConfig(**model), built, 2, seed, all_stages=all_stages)


def fit(classifier: Classifier) -> None:
    """One step, eagerly: the graph of a step takes longer to be traced than the step itself."""
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    classifier.model.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=True)
    classifier.model.fit(PIXELS, TARGETS, epochs=1, verbose=0)


def weights_by_layer(classifier: Classifier) -> dict[str, list[np.ndarray]]:
    return {layer.name: layer.get_weights() for layer in classifier.model.layers if layer.weights}


def moved(before: dict[str, list[np.ndarray]], after: dict[str, list[np.ndarray]]) -> set[str]:
    return {name for name in before if any(not np.array_equal(a, b) for a, b in zip(before[name], after[name], strict=True))}


def is_batchnorm(classifier: Classifier, name: str) -> bool:
    return isinstance(classifier.model.get_layer(name), keras.layers.BatchNormalization)


@pytest.mark.parametrize(("backbone", "size"), [("small_resnet", 16), ("mobilenet_025", 32)])
def test_head_on_trunk_is_the_model(backbone: str, size: int) -> None:
    classifier = build(backbone, size, hidden=(8,))
    pixels = np.random.default_rng(1).integers(0, 256, (2, size, size, 3)).astype("float32")
    np.testing.assert_array_equal(classifier.head(classifier.trunk(pixels)), classifier.model(pixels))
    assert classifier.model.output.shape == (None, 2)


def test_training_the_head_changes_the_model() -> None:
    classifier = build()
    before = np.asarray(classifier.model(PIXELS))
    kernel, bias = classifier.head.layers[-1].get_weights()
    classifier.head.layers[-1].set_weights([kernel, bias + np.array([1.0, 0.0])])
    np.testing.assert_allclose(np.asarray(classifier.model(PIXELS)) - before, [[1.0, 0.0]] * 4, atol=1e-5)


@pytest.mark.parametrize(("pooling", "width"), [("avg", 128), ("max", 128), ("flatten", 4 * 4 * 128)])
def test_pooling_sets_the_width_of_features(pooling: str, width: int) -> None:
    assert build(pooling=pooling).trunk.output.shape == (None, width)


def test_vgg_head_has_its_hidden_layers_and_one_dropout() -> None:
    head = build(pooling="flatten", hidden=(8, 6), dropout=0.5).head
    assert [layer.name for layer in head.layers] == ["features", "hidden1", "hidden2", "dropout", "logits"]
    assert [head.get_layer(name).units for name in ("hidden1", "hidden2", "logits")] == [8, 6, 2]
    assert not any(isinstance(layer, keras.layers.Dropout) for layer in build(dropout=0).head.layers)


def test_seed_decides_the_weights_of_the_head() -> None:
    first, same, other = (build(seed=seed, hidden=(4,)).head.get_weights() for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(first, same, strict=True))
    assert not np.array_equal(first[0], other[0])
    assert not np.array_equal(first[2], other[2])


def test_backbone_may_have_layers_of_the_heads_names() -> None:
    pixels = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, name="logits")(pixels)
    x = keras.layers.Dropout(0.1, name="dropout")(x)
    x = keras.layers.MaxPooling2D(name="pool")(x)
    backbone = BuiltBackbone(keras.Model(pixels, x), {"stage1": ("logits", "dropout", "pool")}, {"stage1": x}, None, "none")
    classifier = build_classifier(ModelConfig(), backbone, 2, 0)
    assert [layer.name for layer in classifier.head.layers] == ["features", "head_dropout", "head_logits"]


def test_unfreeze_knows_no_such_stage() -> None:
    text = r"^train.unfreeze_from: got 'stage9', expected 'all' or one of stage1, stage2, stage3, the backbone's stages\.$"
    with pytest.raises(ConfigError, match=text):
        unfreeze(build(), "stage9", freeze_batchnorm=True)


@pytest.mark.parametrize("freeze_batchnorm", [True, False])
@pytest.mark.parametrize(("lowest", "stages"), [(None, ()), ("stage3", (3,)), ("stage2", (2, 3)), ("all", (1, 2, 3))])
def test_unfreeze_picks_whole_stages(lowest: str | None, stages: tuple[int, ...], freeze_batchnorm: bool) -> None:
    classifier = build()
    unfreeze(classifier, "all", freeze_batchnorm=False)  # a choice leaves nothing behind from the one before
    unfreeze(classifier, lowest, freeze_batchnorm=freeze_batchnorm)
    upper = {name for stage in stages for name in classifier.stages[f"stage{stage}"]}
    wanted = {name for name in upper if not (freeze_batchnorm and is_batchnorm(classifier, name))}
    layers_with_weights = {layer.name for layer in classifier.model.layers if layer.trainable and layer.weights}
    assert layers_with_weights == {name for name in wanted if classifier.model.get_layer(name).weights} | {"logits"}


def test_fit_moves_the_upper_stages_and_nothing_else() -> None:
    classifier = build()
    unfreeze(classifier, "stage2", freeze_batchnorm=False)
    before = weights_by_layer(classifier)
    fit(classifier)
    upper = {*classifier.stages["stage2"], *classifier.stages["stage3"], "logits"}
    changed = moved(before, weights_by_layer(classifier))
    assert changed <= upper
    # A block's last norm starts with gamma 0, which keeps the gradient from the convolutions in front of it.
    assert {name for name in upper if name in before and is_batchnorm(classifier, name)} <= changed


@pytest.mark.parametrize("freeze_batchnorm", [True, False])
def test_fit_moves_batchnorm_statistics_only_if_asked(freeze_batchnorm: bool) -> None:
    classifier = build()
    unfreeze(classifier, "all", freeze_batchnorm=freeze_batchnorm)
    before = weights_by_layer(classifier)
    fit(classifier)
    after = weights_by_layer(classifier)
    norms = [name for name in before if is_batchnorm(classifier, name)]
    held = [np.array_equal(before[name][i], after[name][i]) for name in norms for i in (2, 3)]  # moving mean, variance
    assert len(held) >= 10
    assert all(held) if freeze_batchnorm else not any(held)
    assert "stage2_out_0_conv" in moved(before, after)


# --- cutting where training begins ---------------------------------------------------------------------------------

ROWS = {"small_resnet": 16, "mobilenet_025": 32, "vgg16": 32, "densenet121": 32, "efficientnet_b0": 32, "nasnet_mobile": 32}
QUICK = ("small_resnet", "mobilenet_025", "vgg16")


def logits_of(classifier: Classifier, size: int) -> tuple[Any, Any]:
    """Two images, and what the model says of them."""
    pixels = np.random.default_rng(1).integers(0, 256, (2, size, size, 3)).astype("float32")
    return pixels, np.asarray(classifier.model(pixels, training=False))


def check_cut(classifier: Classifier, lowest: str, pixels: Any, expected: Any) -> int:
    """Prove that frozen tensors and tail are the model, and what trains in it; return the number of tensors."""
    cut = cut_below(classifier, lowest)
    assert cut is not None
    tensors, tail = cut
    assert list(tensors) == [f"cut{number}" for number in range(1, len(tensors) + 1)]
    trunk = keras.Model(classifier.model.input, list(tensors.values()))
    np.testing.assert_allclose(tail(trunk(pixels, training=False), training=False), expected, rtol=1e-4, atol=1e-5)
    for freeze_batchnorm in (True, False):
        unfreeze(classifier, lowest, freeze_batchnorm=freeze_batchnorm)
        trainable = [variable.path for variable in classifier.model.trainable_variables]
        assert [variable.path for variable in tail.trainable_variables] == trainable
    below = {name for stage in list(classifier.stages)[: list(classifier.stages).index(lowest)] for name in classifier.stages[stage]}
    assert not {layer.name for layer in tail.layers if layer.weights} & below
    return len(tensors)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in ROWS])
def test_tail_on_what_lies_below_is_the_model(name: str) -> None:
    classifier = build(name, ROWS[name])
    if name == "small_resnet":  # a block's last norm starts with gamma 0, which hides the block
        classifier.model.set_weights([weight + 0.01 for weight in classifier.model.get_weights()])
    assert cut_below(classifier, next(iter(classifier.stages))) is None
    assert cut_below(classifier, "all") is None
    pixels, expected = logits_of(classifier, ROWS[name])
    for lowest in list(classifier.stages)[1:] if name in QUICK else ("stage2", "stage5"):
        number = check_cut(classifier, lowest, pixels, expected)
        assert number == 1 or name == "nasnet_mobile"  # whose cells read the two cells before them


def test_tail_shares_its_weights_with_the_model() -> None:
    classifier = build()
    tensors, tail = cut_below(classifier, "stage3")  # type: ignore[misc]
    unfreeze(classifier, "stage3", freeze_batchnorm=True)
    below = np.asarray(keras.Model(classifier.model.input, tensors["cut1"])(PIXELS))
    before = weights_by_layer(classifier)
    tail.compile(keras.optimizers.SGD(0.1), keras.losses.CategoricalCrossentropy(from_logits=True), run_eagerly=True)
    tail.fit(below, TARGETS, epochs=1, verbose=0)
    assert "logits" in moved(before, weights_by_layer(classifier)) <= {*classifier.stages["stage3"], "logits"}
    np.testing.assert_allclose(tail([below]), classifier.model(PIXELS), rtol=1e-4, atol=1e-5)


def test_head_that_sees_every_stage_is_cut_too() -> None:
    classifier = build(all_stages=True)
    assert classifier.trunk.output.shape[-1] > build().trunk.output.shape[-1]
    np.testing.assert_allclose(classifier.head(classifier.trunk(PIXELS)), classifier.model(PIXELS), rtol=1e-4, atol=1e-5)
    assert check_cut(classifier, "stage3", *logits_of(classifier, 16)) > 1  # what stages below put out is read by the head as well
    tensors, _ = cut_below(classifier, "stage3")  # type: ignore[misc]
    assert sum(len(tensor.shape) == 4 for tensor in tensors.values()) == 1  # of these, averages are enough


@pytest.mark.slow
def test_features_of_every_stage_end_with_the_last_pooled_as_asked() -> None:
    keras.utils.set_random_seed(0)
    whole = build(all_stages=True, pooling="max")
    last = build(pooling="max")
    last.model.set_weights([*whole.model.get_weights()[:-2], *last.model.get_weights()[-2:]])
    features, expected = np.asarray(whole.trunk(PIXELS)), np.asarray(last.trunk(PIXELS))
    np.testing.assert_allclose(features[:, -expected.shape[1] :], expected, rtol=1e-4, atol=1e-5)


def test_update_scales_decay_once_per_stage() -> None:
    classifier = build()
    scales = update_scales(classifier, 0.5)
    unfreeze(classifier, "all", freeze_batchnorm=False)
    head = {variable.path for variable in classifier.head.trainable_variables}
    assert {variable.path for variable in classifier.model.trainable_variables} - set(scales) == head
    assert not head & set(scales)
    assert scales["stage3_out_1_conv/kernel"] == 0.5
    assert scales["stage2_out_1_conv/kernel"] == 0.25
    assert scales["stem_conv/kernel"] == scales["stage1_out_1_bn/gamma"] == 0.125


def test_first_epochs_go_down_from_the_last_stage() -> None:
    classifier = build()
    epochs = first_epochs(classifier, 2)
    assert set(epochs) == set(update_scales(classifier, 0.5))
    assert epochs["stage3_out_1_conv/kernel"] == 0
    assert epochs["stage2_out_1_conv/kernel"] == 2
    assert epochs["stem_conv/kernel"] == epochs["stage1_out_1_bn/gamma"] == 4


def test_count_parameters_knows_what_trains() -> None:
    classifier = build()
    unfreeze(classifier, None, freeze_batchnorm=True)
    total = sum(weights.size for weights in classifier.model.get_weights())
    assert count_parameters(classifier.model) == {"total": total, "trainable": 128 * 2 + 2}


LOAD_AND_RUN = """
import sys
import keras, numpy as np
model = keras.models.load_model(sys.argv[1])
np.save(sys.argv[3], np.asarray(model(np.load(sys.argv[2]))))
assert not any(name.startswith("tl_keras") for name in sys.modules)
"""


@pytest.mark.slow
def test_saved_classifier_answers_alike_in_a_process_without_this_package(tmp_path: Path, python_alone: Callable[..., Any]) -> None:
    classifier = build(hidden=(4,))
    files = [str(tmp_path / name) for name in ("model.keras", "pixels.npy", "logits.npy")]
    classifier.model.save(files[0])
    np.save(files[1], PIXELS)
    python_alone(LOAD_AND_RUN, *files, cwd=tmp_path)
    np.testing.assert_allclose(np.load(files[2]), classifier.model(PIXELS), rtol=1e-5, atol=1e-5)
    assert not any(isinstance(layer, keras.Model) for layer in classifier.model.layers)  # flat
