"""Networks that begin alike: the same answers with what they share run once, and nothing shared that differs."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from tl_keras.models import combined
from tl_keras.models.combined import combined_model
from tl_keras.models.rules import Average
from tl_keras.models.sharing import cut_shared


def network(seed: int, *, units: int = 3, dilation: int = 1) -> keras.Model:
    """Two convolutions, a residual connection around the second, and a head."""
    pixels = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same", activation="relu", kernel_initializer=keras.initializers.HeNormal(seed=1))(pixels)
    y = layers.Conv2D(4, 3, padding="same", dilation_rate=dilation, kernel_initializer=keras.initializers.HeNormal(seed=2))(x)
    x = layers.Add()([x, layers.BatchNormalization()(y)])
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(pixels, layers.Dense(units, kernel_initializer=keras.initializers.HeNormal(seed=seed))(x))


def images() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 1, (5, 8, 8, 3)).astype(np.float32)


def weights_run(models: list[keras.Model]) -> int:
    return combined_model(models, Average()).count_params()


def test_what_is_alike_is_there_once_and_the_answers_stay(tmp_path: Path) -> None:
    models = [network(seed) for seed in (7, 8, 9)]
    both = combined.side_by_side(models)
    for place, model in enumerate(models):
        np.testing.assert_allclose(both(images()).numpy()[:, place], model(images()).numpy(), rtol=1e-5, atol=1e-6)
    head = 4 * 3 + 3
    assert both.count_params() == models[0].count_params() + 2 * head
    both.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "m.keras")(images()).numpy(), both(images()).numpy())


def test_a_cut_inside_a_residual_block_reads_both_branches() -> None:
    models = [network(7), network(8)]
    second = models[1].layers[2]
    second.set_weights([second.get_weights()[0] + 1, second.get_weights()[1]])
    shared = cut_shared(models)
    assert shared is not None
    assert [len(reads) for reads in shared.reads] == [1, 1]  # the first convolution's output, which both branches begin with
    norms = [network(7), network(8)]
    norms[1].layers[3].set_weights([array + 1 for array in norms[1].layers[3].get_weights()])
    shared = cut_shared(norms)
    assert shared is not None
    assert len(shared.reads[0]) == 2  # the skipped output and that of the second convolution
    for place, model in enumerate(norms):
        answers = combined.side_by_side(norms)(images()).numpy()
        np.testing.assert_allclose(answers[:, place], model(images()).numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_a_weight_that_differs_ends_what_is_shared(layer: int) -> None:
    models = [network(7), network(8)]
    before = weights_run(models)
    for array in models[1].layers[layer].weights[:1]:
        array.assign(array.numpy() + 1e-6)
    assert weights_run(models) > before


def test_equal_weights_that_do_something_else_are_not_shared() -> None:
    plain, dilated = network(7), network(8, dilation=2)
    shared = cut_shared([plain, dilated])
    assert shared is not None
    assert shared.trunk.count_params() == plain.layers[1].count_params()


def test_networks_that_are_the_same_or_differ_from_the_start_are_not_cut() -> None:
    one, other = network(7), network(7)
    assert cut_shared([one, other]) is None
    assert cut_shared([one, one]) is None
    other.layers[1].set_weights([array + 1 for array in other.layers[1].get_weights()])
    assert cut_shared([one, other]) is None


def test_heads_of_other_widths_share_a_trunk() -> None:
    shared = cut_shared([network(7), network(8, units=5)])
    assert shared is not None
    assert [tail.output.shape[-1] for tail in shared.tails] == [3, 5]
