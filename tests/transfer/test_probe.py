"""The linear probe against scikit-learn, and standardised features folded into a layer."""

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from tl_keras.transfer import probe
from tl_keras.transfer.probe import PATIENCE, LinearProbe, Standardiser, fit_linear_probe

Pair = tuple[NDArray[np.float32], NDArray[np.int32]]


def clouds(num: int, num_classes: int, seed: int, width: int = 5, spread: float = 1.5) -> Pair:
    """Overlapping clouds of points around fixed centres."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num, dtype=np.int32) % num_classes
    centres = np.random.default_rng(99).normal(size=(num_classes, width))
    return (centres[labels] + rng.normal(size=(num, width)) * spread).astype(np.float32), labels


def probabilities_of(found: LinearProbe, x: NDArray[np.float32]) -> NDArray[np.float64]:
    logits = (x @ found.kernel + found.bias).astype(np.float64)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("weight", [1.0, 5.0])
def test_probe_is_logistic_regression_at_the_chosen_penalty(num_classes: int, weight: float) -> None:
    train, val = clouds(60, num_classes, 1), clouds(30, num_classes, 2)
    weights = np.array([weight, *[1.0] * (num_classes - 1)], np.float32)
    found = fit_linear_probe(train, val, weights)
    twin = LogisticRegression(C=found.penalty, max_iter=1000, tol=1e-6, class_weight=dict(enumerate(weights)))
    twin.fit(train[0].astype(np.float64), train[1])
    expected = twin.predict_proba(val[0])
    np.testing.assert_allclose(probabilities_of(found, val[0]), expected, atol=2e-3)
    assert found.val_loss == pytest.approx(log_loss(val[1], expected), abs=1e-3)
    assert found.val_accuracy == pytest.approx((expected.argmax(1) == val[1]).mean())


def test_class_weights_pull_towards_the_heavy_class() -> None:
    train, val = clouds(60, 2, 1), clouds(30, 2, 2)
    shares = [probabilities_of(fit_linear_probe(train, val, np.array([w, 1.0], np.float32)), val[0])[:, 0].mean() for w in (1.0, 8.0)]
    assert shares[1] > shares[0] + 0.1


def test_val_loss_chooses_and_the_path_ends_when_it_rises() -> None:
    told: list[LinearProbe] = []
    train, val = clouds(30, 3, 1, 40, 5), clouds(60, 3, 2, 40, 5)  # wide: a weak penalty overfits
    found = fit_linear_probe(train, val, np.ones(3, np.float32), told.append)
    losses = [each.val_loss for each in told]
    assert found is told[int(np.argmin(losses))]
    assert len(told) == int(np.argmin(losses)) + 1 + PATIENCE < len(probe.PENALTIES)
    assert [each.penalty for each in told] == list(probe.PENALTIES[: len(told)])


def test_a_class_that_val_lacks_does_no_harm() -> None:
    (x, y), train = clouds(30, 3, 2), clouds(60, 3, 1)
    found = fit_linear_probe(train, (x[y != 2], y[y != 2]), np.ones(3, np.float32))
    assert found.kernel.shape == (5, 3)


def test_standardiser_measures_in_chunks_what_numpy_measures_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "CHUNK_ROWS", 7)
    features = np.random.default_rng(0).normal(50, [1, 10, 100], (40, 3)).astype(np.float32)
    found = Standardiser.fit(features)
    variance = features.astype(np.float64).var(axis=0)
    np.testing.assert_allclose(found.mean, features.astype(np.float64).mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.scale, np.sqrt(variance + 1e-3 * variance.mean()), rtol=1e-5)


def test_constant_features_stay_finite() -> None:
    features = np.full((10, 2), 3.0, np.float32)
    np.testing.assert_array_equal(Standardiser.fit(features)(features), np.zeros((10, 2)))


@pytest.mark.parametrize("hidden", [(), (6,)])
def test_folded_head_on_raw_features_is_the_head_on_standardised_ones(hidden: tuple[int, ...]) -> None:
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(units, activation="relu") for units in hidden] + [keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    raw = np.random.default_rng(0).normal(5, [0.1, 1, 10, 3], (20, 4)).astype(np.float32)
    standardise = Standardiser.fit(raw)
    expected = np.asarray(model(standardise(raw)))
    standardise.fold(layers[0])
    np.testing.assert_allclose(model(raw), expected, atol=1e-5)
