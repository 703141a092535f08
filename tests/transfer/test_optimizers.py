"""Scaled optimizers against NumPy twins, and through a real `fit`."""

from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tl_keras.config import TrainConfig
from tl_keras.transfer.optimizers import make_optimizer
from tl_keras.transfer.schedules import Schedule

STEPS = 4
KERNEL, BIAS = (3, 2), (2,)
ADAMW = TrainConfig(weight_decay=0.1, clip_norm=None)
SGD = TrainConfig(optimizer="sgd", weight_decay=0.1, clip_norm=None)
PLAIN_SGD = TrainConfig(optimizer="sgd", momentum=0.0, weight_decay=0.1, clip_norm=None)
RULES = {"adamw": ADAMW, "sgd": SGD, "plain sgd": PLAIN_SGD}


def gradients() -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(1)
    return [(rng.normal(size=KERNEL).astype("float32"), rng.normal(size=BIAS).astype("float32")) for _ in range(STEPS)]


def start() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    return rng.normal(size=KERNEL).astype("float32"), rng.normal(size=BIAS).astype("float32")


def walk(
    train: TrainConfig, scales: Mapping[str, float], rate: object = 0.01, first_steps: Mapping[str, int] | None = None
) -> list[np.ndarray]:
    """Kernel and bias after `STEPS` steps with the same gradients, inside a tf.function."""
    variables = [keras.Variable(value, name=name) for value, name in zip(start(), ("kernel", "bias"), strict=True)]
    optimizer = make_optimizer(train, rate, scales, first_steps)
    optimizer.build(variables)
    step = tf.function(lambda grads: optimizer.apply(grads))
    for grads in gradients():
        step([tf.constant(grad) for grad in grads])
    return [variable.numpy() for variable in variables]


def adamw_twin(
    value: np.ndarray, grads: list[np.ndarray], rates: list[float], decay: float, towards: np.ndarray | float = 0.0
) -> np.ndarray:
    """Loshchilov & Hutter, algorithm 2, with Keras' epsilon inside of the bias correction."""
    value, m, v = value.astype("float64"), np.zeros(value.shape), np.zeros(value.shape)
    for t, (grad, rate) in enumerate(zip(grads, rates, strict=True), start=1):
        m, v = 0.9 * m + 0.1 * grad, 0.999 * v + 0.001 * grad**2
        value = value - rate * decay * (value - towards)
        value = value - rate * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + 1e-7)
    return value


def sgd_twin(value: np.ndarray, grads: list[np.ndarray], rates: list[float], decay: float, momentum: float) -> np.ndarray:
    value, velocity = value.astype("float64"), np.zeros(value.shape)
    for grad, rate in zip(grads, rates, strict=True):
        velocity = momentum * velocity - rate * grad
        value = value - rate * decay * value + velocity
    return value


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_adamw_equals_twin_with_schedule_and_scale(scale: float) -> None:
    schedule = Schedule("cosine", 0.05, STEPS, warmup_fraction=0.25)
    kernel, bias = walk(ADAMW, {"kernel": scale, "bias": scale}, schedule)
    rates = [scale * float(schedule(t)) for t in range(STEPS)]
    grads = gradients()
    np.testing.assert_allclose(kernel, adamw_twin(start()[0], [g[0] for g in grads], rates, 0.1), rtol=1e-5)
    np.testing.assert_allclose(bias, adamw_twin(start()[1], [g[1] for g in grads], rates, 0.0), rtol=1e-5)


@pytest.mark.parametrize("train", [SGD, PLAIN_SGD], ids=["momentum", "plain"])
def test_sgd_equals_twin_with_scale(train: TrainConfig) -> None:
    kernel, bias = walk(train, {"kernel": 0.3})
    grads = gradients()
    expected = sgd_twin(start()[0], [g[0] for g in grads], [0.003] * STEPS, 0.1, train.momentum)
    np.testing.assert_allclose(kernel, expected, rtol=1e-5)
    expected = sgd_twin(start()[1], [g[1] for g in grads], [0.01] * STEPS, 0.0, train.momentum)
    np.testing.assert_allclose(bias, expected, rtol=1e-5)


@pytest.mark.parametrize("train", RULES.values(), ids=RULES)
def test_change_is_scaled_exactly(train: TrainConfig) -> None:
    """From zero, where floats round relative to the change itself and decay takes nothing, and by a power of two."""

    def change(scale: float) -> list[np.ndarray]:
        variable = keras.Variable(np.zeros(KERNEL, "float32"), name="kernel")
        optimizer = make_optimizer(train.model_copy(update={"weight_decay": 0.0}), 0.01, {"kernel": scale})
        optimizer.build([variable])
        changes = []
        for kernel, _ in gradients():
            optimizer.apply([tf.constant(kernel)])
            changes.append(variable.numpy())
        return changes

    for scaled, whole in zip(change(0.25), change(1.0), strict=True):
        assert np.abs(whole).min() > 0
        np.testing.assert_array_equal(scaled, whole * np.float32(0.25))


@pytest.mark.parametrize("train", RULES.values(), ids=RULES)
def test_only_the_named_variable_is_scaled(train: TrainConfig) -> None:
    kernel, bias = walk(train, {"kernel": 0.0, "another": 0.5})
    np.testing.assert_array_equal(kernel, start()[0])
    np.testing.assert_array_equal(bias, walk(train, {})[1])


@pytest.mark.parametrize("train", RULES.values(), ids=RULES)
def test_decay_takes_from_kernels_and_not_from_biases(train: TrainConfig) -> None:
    variables = [keras.Variable(np.ones(shape, "float32"), name=name) for name, shape in (("k", KERNEL), ("b", BIAS))]
    optimizer = make_optimizer(train, 0.5, {"k": 0.5})
    optimizer.build(variables)
    optimizer.apply([tf.zeros(KERNEL), tf.zeros(BIAS)])
    np.testing.assert_allclose(variables[0], np.full(KERNEL, 1 - 0.5 * 0.5 * 0.1), rtol=1e-6)
    np.testing.assert_array_equal(variables[1], np.ones(BIAS))


def test_gradients_are_clipped_by_their_global_norm() -> None:
    train = PLAIN_SGD.model_copy(update={"weight_decay": 0.0, "clip_norm": 1.0})
    variables = [keras.Variable(np.zeros(2, "float32"), name=name) for name in "ab"]
    optimizer = make_optimizer(train, 1.0, {})
    optimizer.build(variables)
    optimizer.apply([tf.constant([3.0, 0.0]), tf.constant([0.0, 4.0])])
    np.testing.assert_allclose(np.array(variables), [[-0.6, 0.0], [0.0, -0.8]], rtol=1e-6)


def test_scales_must_be_finite_and_not_negative() -> None:
    for scale in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=rf"scales must be finite and >= 0. Received: {scale} for 'kernel'"):
            make_optimizer(ADAMW, 0.01, {"kernel": scale})


def small_model(train: TrainConfig, scales: Mapping[str, float], dtype: str = "float32") -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(5, activation="relu", name="frozen", dtype=dtype)(inputs)
    hidden = keras.layers.Dense(5, activation="relu", name="early", dtype=dtype)(hidden)
    model = keras.Model(inputs, keras.layers.Dense(3, name="head", dtype=dtype)(hidden))
    model.get_layer("frozen").trainable = False
    optimizer = make_optimizer(train, Schedule("cosine", 0.05, 40), scales)
    if dtype == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, jit_compile=False)
    return model


def fit(model: keras.Model, epochs: int = 2) -> None:
    rng = np.random.default_rng(3)
    images, targets = rng.normal(size=(16, 4)), np.eye(3)[rng.integers(0, 3, 16)]
    model.fit(images, targets, batch_size=4, epochs=epochs, verbose=0, shuffle=False)


def weights(model: keras.Model) -> dict[str, np.ndarray]:
    return {variable.path: variable.numpy() for variable in model.variables}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("train", "dtype"),
    [(ADAMW, "float32"), (ADAMW, "mixed_bfloat16"), (ADAMW, "mixed_float16"), (SGD, "float32"), (PLAIN_SGD, "float32")],
    ids=["adamw", "adamw, bfloat16", "adamw, float16", "sgd", "plain sgd"],
)
def test_fit_moves_only_what_trains_and_has_a_scale(train: TrainConfig, dtype: str) -> None:
    model = small_model(train, {"early/kernel": 0.0}, dtype)
    before = weights(model)
    fit(model)
    moved = {path for path, value in weights(model).items() if not np.array_equal(value, before[path])}
    assert moved == {"early/bias", "head/kernel", "head/bias"}


@pytest.mark.slow
@pytest.mark.parametrize(("train", "dtype"), [(ADAMW, "float32"), (SGD, "mixed_float16")], ids=["adamw", "sgd, float16"])
def test_saved_weights_restore_the_optimizer(train: TrainConfig, dtype: str, tmp_path: Path) -> None:
    train = train.model_copy(update={"ema": 0.9})
    whole = small_model(train, {"early/kernel": 0.5}, dtype)
    fit(whole, epochs=1)
    first = whole.optimizer.variables[0].numpy()
    whole.save_weights(tmp_path / "half.weights.h5")
    resumed = small_model(train, {"early/kernel": 0.5}, dtype)
    resumed.optimizer.build(resumed.trainable_variables)
    resumed.load_weights(tmp_path / "half.weights.h5")
    np.testing.assert_array_equal(resumed.optimizer.variables[0], first)
    fit(whole, epochs=1)
    fit(resumed, epochs=1)
    for path, value in weights(whole).items():
        np.testing.assert_array_equal(weights(resumed)[path], value)


def test_saved_model_keeps_scales_and_decay(tmp_path: Path) -> None:
    model = small_model(SGD, {"early/kernel": 0.5})
    fit(model, epochs=1)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    config = again.optimizer.get_config()
    assert config == model.optimizer.get_config()
    assert (config["scales"], config["decay"]) == ({"early/kernel": 0.5}, 0.1)


@pytest.mark.parametrize("momentum", [0.5, 0.9])
def test_ema_is_the_average_of_the_steps(momentum: float) -> None:
    variable = keras.Variable(np.zeros(KERNEL, "float32"), name="kernel")
    optimizer = make_optimizer(ADAMW.model_copy(update={"ema": momentum}), 0.01, {})
    optimizer.build([variable])
    average = None
    for kernel, _ in gradients():
        optimizer.apply([tf.constant(kernel)])
        value = variable.numpy()
        average = value if average is None else momentum * average + (1 - momentum) * value
    assert np.abs(average - variable.numpy()).max() > 1e-3
    optimizer.finalize_variable_values([variable])
    np.testing.assert_allclose(variable, average, rtol=1e-5)


def test_no_average_is_kept_when_ema_is_zero() -> None:
    assert not make_optimizer(ADAMW, 0.01, {}).use_ema


def test_decay_towards_the_start_equals_a_twin_and_leaves_biases() -> None:
    train = ADAMW.replace("weight_decay", 3.0).replace("decay_towards", "start")
    kernel, bias = walk(train, {"kernel": 0.5}, 0.05)
    grads = gradients()
    expected = adamw_twin(start()[0], [g[0] for g in grads], [0.025] * STEPS, 3.0, start()[0].astype("float64"))
    np.testing.assert_allclose(kernel, expected, rtol=1e-5)
    np.testing.assert_allclose(bias, adamw_twin(start()[1], [g[1] for g in grads], [0.05] * STEPS, 0.0), rtol=1e-5)
    assert np.abs(kernel - start()[0]).max() < np.abs(walk(ADAMW.replace("weight_decay", 0.0), {"kernel": 0.5}, 0.05)[0] - start()[0]).max()


@pytest.mark.parametrize("train", RULES.values(), ids=RULES)
def test_before_its_first_step_a_variable_stands_still_and_then_equals_a_twin_without_those_rates(train: TrainConfig) -> None:
    grads, first = gradients(), STEPS // 2
    still = walk(train, {}, first_steps={"kernel": STEPS})
    np.testing.assert_array_equal(still[0], start()[0])
    np.testing.assert_array_equal(still[1], walk(train, {})[1])
    rates, kernels = [0.0] * first + [0.01] * (STEPS - first), [g[0] for g in grads]
    by_adam = adamw_twin(start()[0], kernels, rates, 0.1)
    expected = by_adam if train is ADAMW else sgd_twin(start()[0], kernels, rates, 0.1, train.momentum)
    np.testing.assert_allclose(walk(train, {}, first_steps={"kernel": first})[0], expected, rtol=1e-5)


def test_before_its_first_step_nothing_pulls_to_the_start() -> None:
    train = ADAMW.replace("decay_towards", "start")
    np.testing.assert_array_equal(walk(train, {}, first_steps={"kernel": STEPS})[0], start()[0])


def test_the_start_is_saved_with_the_state(tmp_path: Path) -> None:
    train = ADAMW.replace("decay_towards", "start")

    def model() -> keras.Model:
        made = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, kernel_initializer=keras.initializers.GlorotUniform(1))])
        made.compile(make_optimizer(train, 0.1, {}), "mse")
        made.optimizer.build(made.trainable_variables)
        return made

    first = model()
    before = first.layers[0].kernel.numpy()
    first.fit(np.ones((4, 3)), np.ones((4, 2)), epochs=2, verbose=0)
    first.save_weights(tmp_path / "state.weights.h5")
    second = model()
    second.layers[0].kernel.assign(np.zeros((3, 2)))
    second.load_weights(tmp_path / "state.weights.h5")
    np.testing.assert_array_equal(second.optimizer._starts[0], before)
    assert second.optimizer._starts[1] is None
