"""SavedModels of every kind as a layer: the same features and gradients as without Keras, and nothing lost on the way to a file."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tl_keras.config import ModelConfig
from tl_keras.deploy.exported import Exported
from tl_keras.deploy.saved_model import write_saved_model
from tl_keras.errors import ConfigError
from tl_keras.models.backbone_loading import build_backbone
from tl_keras.models.classifier import Classifier, build_classifier, count_parameters, unfreeze
from tl_keras.models.hub_layer import HubModule, SavedModule
from tl_keras.models.outputs import SINGLE_LABEL

MakeModule = Callable[..., Path]
KINDS = ("hub_object", "plain_module", "signature_only", "keras_export", "tf_keras_model")
QUICK_KINDS = [kind if kind in ("hub_object", "keras_export") else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
WITH_TRAINING = ("hub_object", "tf_keras_model")  # those that can be told to train
SIZE = 16
PIXELS = np.random.default_rng(0).integers(0, 256, (6, SIZE, SIZE, 3)).astype("float32")


def build(folder: Path, **settings: Any) -> Classifier:
    keras.utils.set_random_seed(0)
    built = build_backbone(str(folder), image_size=(SIZE, SIZE), preprocessing="zero_to_one", **settings)
    return build_classifier(ModelConfig(), built, 2, 0)


def layer_of(classifier: Classifier) -> HubModule:
    return classifier.model.get_layer("hub_module")


def train(model: keras.Model, steps: int = 3, *, run_eagerly: bool = False) -> list[float]:
    """The loss of each step. A few steps take less time eagerly than the graph takes to be traced."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(0.05), loss=loss, run_eagerly=run_eagerly)
    found = model.fit(PIXELS, np.arange(len(PIXELS)) % 2, batch_size=len(PIXELS), epochs=steps, verbose=0)
    return found.history["loss"]


def weights_of(layer: Any) -> dict[str, Any]:
    return {weight.path: weight.numpy() for weight in layer.weights}


@dataclass
class Tuned:
    """A classifier that was finetuned, of a folder that is gone; its losses, and what its layer held and put out before."""

    classifier: Classifier
    losses: list[float]
    weights: dict[str, Any]
    features: Any


@pytest.fixture(scope="module")
def tuned(hub_module: MakeModule, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Tuned]:
    """A factory: `tuned(kind)`; the same again is the same one, not to be changed."""
    made: dict[str, Tuned] = {}

    def make(kind: str) -> Tuned:
        if kind not in made:
            copy = tmp_path_factory.mktemp("tuned") / kind
            shutil.copytree(hub_module(kind), copy)
            classifier = build(copy)
            unfreeze(classifier, "stage1", freeze_batchnorm=True)
            before, features = weights_of(layer_of(classifier)), classifier.trunk(PIXELS)
            made[kind] = Tuned(classifier, train(classifier.model), before, features)
            shutil.rmtree(copy)
        return made[kind]

    return make


def moved(layer: Any, before: dict[str, Any]) -> set[str]:
    return {path for path, value in weights_of(layer).items() if not np.array_equal(value, before[path])}


@pytest.mark.slow
@pytest.mark.parametrize("pooled", [True, False], ids=["vector", "map"])
@pytest.mark.parametrize("kind", KINDS)
def test_features_are_those_of_the_savedmodel(hub_module: MakeModule, raw_features: Any, kind: str, pooled: bool) -> None:
    folder = hub_module(kind, pooled)
    built = build_backbone(str(folder), image_size=(SIZE, SIZE), preprocessing="zero_to_one")
    expected = raw_features(folder, PIXELS / 255)
    assert built.preprocessing == "zero_to_one"
    assert built.model.output.shape[1:] == expected.shape[1:]
    np.testing.assert_allclose(built.model(PIXELS), expected, rtol=1e-5, atol=1e-6)
    assert built.stages == {"stage1": ("pixels", "preprocessing", "hub_module")}
    assert built.boundaries["stage1"] is built.model.output


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_the_savedmodel(hub_module: MakeModule, kind: str) -> None:
    layer = build_backbone(str(hub_module(kind)), image_size=(SIZE, SIZE), preprocessing="zero_to_one").model.layers[-1]
    raw = SavedModule(hub_module(kind), with_weights=True)
    theirs = [variable for variable, trains in raw.variables(layer.interface, (SIZE, SIZE)) if trains]
    images = tf.constant(PIXELS / 255)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.sin(raw.call(layer.interface, images, False)))
    expected = tape.gradient(loss, theirs)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.sin(layer(images)))
    found = tape.gradient(loss, [weight.value for weight in layer.trainable_weights])
    assert len(found) == len(expected) >= 1
    for mine, its in zip(found, expected, strict=True):
        assert np.abs(its).max() > 0
        np.testing.assert_allclose(mine, its, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", QUICK_KINDS)
def test_finetuning_moves_weights_and_no_statistic(tuned: Callable[[str], Tuned], kind: str) -> None:
    found = tuned(kind)
    layer = layer_of(found.classifier)
    assert found.losses[-1] < found.losses[0]
    assert moved(layer, found.weights) == {weight.path for weight in layer.trainable_weights}
    assert len(layer.trainable_weights) < len(layer.weights)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*WITH_TRAINING, "signature_only"])
def test_frozen_module_stays_bit_equal(hub_module: MakeModule, kind: str) -> None:
    classifier = build(hub_module(kind))
    unfreeze(classifier, None, freeze_batchnorm=True)
    before = weights_of(layer_of(classifier))
    train(classifier.model, run_eagerly=True)
    assert not moved(layer_of(classifier), before)
    assert count_parameters(classifier.model)["trainable"] == 2 * 5 + 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["hub_object", pytest.param("tf_keras_model", marks=pytest.mark.slow)])
def test_statistics_move_where_batchnorm_learns(hub_module: MakeModule, kind: str) -> None:
    classifier = build(hub_module(kind))
    layer = layer_of(classifier)
    unfreeze(classifier, "all", freeze_batchnorm=False)
    before = weights_of(layer)
    classifier.model(PIXELS)  # inference moves none
    classifier.trunk(PIXELS, training=False)
    assert not moved(layer, before)
    train(classifier.model, 1)
    assert any("mean" in path for path in moved(layer, before))
    unfreeze(classifier, None, freeze_batchnorm=False)  # a choice leaves nothing behind from the one before
    before = weights_of(layer)
    train(classifier.model, 1)
    assert not moved(layer, before)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - set(WITH_TRAINING)))
def test_batchnorm_that_cannot_learn_is_not_told_to(hub_module: MakeModule, kind: str) -> None:
    classifier = build(hub_module(kind))
    unfreeze(classifier, None, freeze_batchnorm=False)  # nothing trains: nothing is asked of it
    with pytest.raises(ConfigError) as caught:
        unfreeze(classifier, "stage1", freeze_batchnorm=False)
    assert str(caught.value) == (
        "model.freeze_batchnorm: got false, expected true: the TF-Hub module has no argument 'training', so its BatchNorm stays frozen."
    )


def test_regularization_is_added_only_where_it_trains(hub_module: MakeModule) -> None:
    """The kernel's, half its sum of squares, is in the loss of a step and in its gradient."""
    classifier = build(hub_module("hub_object"))
    layer = layer_of(classifier)
    for lowest, expected in ((None, 0.0), ("stage1", 0.5 * np.sum(layer.trainable_weights[0].numpy() ** 2))):
        unfreeze(classifier, lowest, freeze_batchnorm=True)
        classifier.model(PIXELS, training=True)
        assert float(sum(classifier.model.losses)) == pytest.approx(expected, rel=1e-6)
        classifier.model(PIXELS, training=False)
        assert float(sum(classifier.model.losses)) == 0
    with tf.GradientTape() as tape:
        classifier.model(PIXELS, training=True)
        loss = sum(classifier.model.losses)
    (gradient,) = tape.gradient(loss, [layer.trainable_weights[0].value])
    np.testing.assert_allclose(gradient, layer.trainable_weights[0].numpy(), rtol=1e-6)


def test_what_an_author_keeps_from_training_does_not_train(hub_module: MakeModule) -> None:
    layer = layer_of(build(hub_module("hub_object")))
    assert [(name, trains) for name, _, _, trains in layer.interface.variables] == [
        ("conv/kernel", True),
        ("norm/mean", False),
        ("norm/gamma", False),
        ("count", False),
    ]
    assert len({weight.path for weight in layer.weights}) == 4  # an optimiser tells them apart by it


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_module_computes_in_float32_in_every_precision(hub_module: MakeModule, raw_features: Any, policy: str) -> None:
    keras.config.set_dtype_policy(policy)
    try:
        classifier = build(hub_module("hub_object"))
        found = classifier.trunk(PIXELS)
    finally:
        keras.config.set_dtype_policy("float32")
    assert found.dtype == tf.float32
    np.testing.assert_allclose(found, raw_features(hub_module("hub_object"), PIXELS / 255), rtol=1e-5, atol=1e-6)


# --- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_saved_files_bring_the_tuned_weights_back_in_another_process(
    tuned: Callable[[str], Tuned], tmp_path: Path, python_alone: Callable[..., Any]
) -> None:
    """Which has no tensorflow_hub and no folder of a module; what it saves again is the same."""
    for kind in KINDS:
        tuned(kind).classifier.model.save(tmp_path / f"{kind}.keras")
    np.save(tmp_path / "pixels.npy", PIXELS)
    code = (
        "import sys; sys.modules['tensorflow_hub'] = sys.modules['tf_keras'] = None\n"
        "import keras, numpy as np\n"
        "import tl_keras.models.hub_layer\n"
        "pixels = np.load('pixels.npy')\n"
        "for kind in sys.argv[1:]:\n"
        "    model = keras.models.load_model(f'{kind}.keras', compile=False)\n"
        "    np.save(f'{kind}.npy', model(pixels))\n"
        "model.save('again.keras')\n"
        "np.save('again.npy', keras.models.load_model('again.keras')(pixels))\n"
    )
    python_alone(code, *KINDS, cwd=tmp_path)
    for kind in KINDS:
        classifier, found = tuned(kind).classifier, np.load(tmp_path / f"{kind}.npy")
        np.testing.assert_allclose(found, classifier.model(PIXELS), rtol=1e-5, atol=1e-6, err_msg=kind)
        assert not np.allclose(classifier.trunk(PIXELS), tuned(kind).features, atol=1e-3), kind
    np.testing.assert_array_equal(np.load(tmp_path / "again.npy"), found)


@pytest.mark.parametrize("kind", QUICK_KINDS)
def test_reloaded_model_trains_on(tuned: Callable[[str], Tuned], kind: str, tmp_path: Path) -> None:
    tuned(kind).classifier.model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    layer, before = again.get_layer("hub_module"), weights_of(again.get_layer("hub_module"))
    train(again, 1, run_eagerly=True)
    assert moved(layer, before) == {weight.path for weight in layer.trainable_weights}


def test_file_holds_the_weights_once(hub_module: MakeModule, tmp_path: Path) -> None:
    import zipfile

    classifier = build(hub_module("plain_module"))
    classifier.model.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        names = archive.namelist()
        config = json.loads(archive.read("config.json"))
    assert [name for name in names if "variables" in name] == []
    assert [name for name in names if name.endswith("saved_model.pb")] == ["assets/layers/hub_module/saved_model.pb"]
    assert str(hub_module("plain_module")) not in json.dumps(config)


def test_checkpoint_of_weights_comes_back(hub_module: MakeModule, tuned: Callable[[str], Tuned], tmp_path: Path) -> None:
    classifier, twin = tuned("hub_object").classifier, build(hub_module("hub_object"))
    classifier.model.save_weights(tmp_path / "some.weights.h5")
    assert not np.allclose(twin.model(PIXELS), classifier.model(PIXELS), atol=1e-3)
    twin.model.load_weights(tmp_path / "some.weights.h5")
    np.testing.assert_array_equal(twin.model(PIXELS), classifier.model(PIXELS))
    given = build_backbone(str(hub_module("hub_object")), image_size=(SIZE, SIZE), weights=str(tmp_path / "some.weights.h5"))
    np.testing.assert_array_equal(given.model(PIXELS), classifier.trunk(PIXELS))


def test_layer_of_a_configuration_alone_says_what_it_lacks(hub_module: MakeModule) -> None:
    layer = layer_of(build(hub_module("hub_object")))
    clone = HubModule.from_config(layer.get_config())
    assert clone.interface == layer.interface
    with pytest.raises(RuntimeError, match="has no SavedModel: it was made from a configuration alone"):
        clone(PIXELS)
    with pytest.raises(RuntimeError, match="has no SavedModel"):
        clone.save_assets(str(hub_module("hub_object")))


@pytest.mark.filterwarnings("ignore:Skipping nested container")
def test_graph_that_reads_other_variables_than_the_file_says_is_refused(
    hub_module: MakeModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one would whose variables came in another order: weights of one shape would change places unseen."""
    build(hub_module("plain_module")).model.save(tmp_path / "model.keras")
    honest = SavedModule.variables
    monkeypatch.setattr(SavedModule, "variables", lambda *arguments: honest(*arguments)[::-1])
    with pytest.raises(ValueError, match="does not read the variables that it was saved with"):
        keras.models.load_model(tmp_path / "model.keras")


@pytest.mark.slow
def test_export_agrees_with_tensorflow_alone(tuned: Callable[[str], Tuned], tmp_path: Path, python_alone: Callable[..., Any]) -> None:
    """In a process that imports neither keras, nor this package, nor tensorflow_hub."""
    for kind in KINDS:
        write_saved_model(Exported(tuned(kind).classifier.model, ("a", "b"), "crop"), tmp_path / kind)
    np.save(tmp_path / "pixels.npy", PIXELS)
    code = (
        "import sys; sys.modules['keras'] = sys.modules['tl_keras'] = sys.modules['tensorflow_hub'] = None\n"
        "import numpy as np, tensorflow as tf\n"
        "for kind in sys.argv[1:]:\n"
        "    answer = tf.saved_model.load(kind).signatures['serving_default'](pixels=tf.constant(np.load('pixels.npy')))\n"
        "    np.save(f'{kind}.npy', answer['probabilities'])\n"
    )
    python_alone(code, *KINDS, cwd=tmp_path)
    for kind in KINDS:
        expected = SINGLE_LABEL.answers(tuned(kind).classifier.model(PIXELS).numpy())
        np.testing.assert_allclose(np.load(tmp_path / f"{kind}.npy"), expected, rtol=0, atol=1e-5, err_msg=kind)


def test_keras_is_the_one_whose_private_attribute_this_was_tested_with() -> None:
    """The layer puts the SavedModel's variable into `keras.Variable._value`, which is nobody's promise."""
    variable, other = keras.Variable([0.0]), tf.Variable([1.0])
    variable._value = other
    variable.assign([2.0])
    assert variable.value is other
    assert other.numpy() == [2.0]
    assert keras.__version__.startswith("3.15.")
