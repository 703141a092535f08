"""Leave-one-out ridge against refitting without each image, and against scikit-learn."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.transfer.head import probe, ridge
from tl_keras.transfer.head.probe import Standardiser
from tl_keras.transfer.head.ridge import fit_ridge, ridge_answers


def clouds(num: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Overlapping clouds of three classes in `width` features with means and scales of their own."""
    rng = np.random.default_rng(0)
    labels = np.arange(num, dtype=np.int32) % 3
    x = rng.normal(size=(3, width))[labels] + rng.normal(size=(num, width)) * 2
    return (x * rng.uniform(0.1, 10, width) + rng.normal(0, 20, width)).astype(np.float32), labels


def left_out_answers(x: NDArray[np.float32], targets: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    """Each row's answer by a fit to all others: n fits."""
    answers = np.empty_like(targets)
    for row in range(len(x)):
        others = np.arange(len(x)) != row
        answers[row] = Ridge(alpha=alpha).fit(x[others].astype(np.float64), targets[others]).predict(x[row : row + 1])[0]
    return answers


@pytest.mark.parametrize("width", [6, 50])
@pytest.mark.parametrize("memory", [10**9, 0])
@pytest.mark.parametrize("penalty", [0.01, 1.0, 100.0])
def test_leave_one_out_is_refitting_without_each_image(width: int, memory: int, penalty: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "IN_MEMORY_BYTES", memory)
    monkeypatch.setattr(probe, "CHUNK_BYTES", 7 * 4 * width)
    monkeypatch.setattr(ridge, "RIDGE_PENALTIES", (penalty,))
    x, labels = clouds(30, width)
    standardise = Standardiser.fit(x)
    found = fit_ridge(x, SINGLE_LABEL.targets(labels, 3), standardise)
    targets = np.eye(3)[labels]
    answers = left_out_answers(standardise(x), targets, penalty * len(x))
    assert found.loo_error == pytest.approx(((answers - targets) ** 2).mean(), rel=1e-3)


@pytest.mark.parametrize("width", [6, 50])
def test_kernel_and_bias_are_those_of_scikit_learn_where_the_mean_is_not_zero(width: int) -> None:
    x, labels = clouds(30, width)
    standardise = Standardiser(np.zeros(width, np.float32), x.std(axis=0))
    found = fit_ridge(x, SINGLE_LABEL.targets(labels, 3), standardise)
    twin = Ridge(alpha=found.penalty * len(x)).fit(standardise(x).astype(np.float64), np.eye(3)[labels])
    np.testing.assert_allclose(found.kernel, twin.coef_.T, atol=1e-4)
    np.testing.assert_allclose(standardise(x) @ found.kernel + found.bias, twin.predict(standardise(x)), atol=1e-3)


def test_least_left_out_error_chooses_the_penalty(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = clouds(60, 40)
    standardise = Standardiser.fit(x)
    found = fit_ridge(x, SINGLE_LABEL.targets(labels, 3), standardise)
    errors = {}
    for penalty in ridge.RIDGE_PENALTIES:
        monkeypatch.setattr(ridge, "RIDGE_PENALTIES", (penalty,))
        errors[penalty] = fit_ridge(x, SINGLE_LABEL.targets(labels, 3), standardise).loo_error
    assert found.penalty == min(errors, key=errors.__getitem__)
    assert found.loo_error == pytest.approx(min(errors.values()))
    assert 0.01 < found.penalty < 1000  # neither end of the path


def test_a_constant_feature_gets_no_weight() -> None:
    x, labels = clouds(30, 6)
    x[:, 2] = 5
    found = fit_ridge(x, SINGLE_LABEL.targets(labels, 3), Standardiser.fit(x))
    assert np.isfinite(found.kernel).all()
    np.testing.assert_allclose(found.kernel[2], 0, atol=1e-6)


@pytest.mark.parametrize("width", [6, 50])
def test_answers_are_those_of_refitting_without_each_image(width: int) -> None:
    x, labels = clouds(30, width)
    standardise = Standardiser.fit(x)
    found, answers = ridge_answers(x, SINGLE_LABEL.targets(labels, 3), standardise)
    expected = left_out_answers(standardise(x), np.eye(3)[labels], found.penalty * len(x))
    np.testing.assert_allclose(answers, expected, atol=2e-3)
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-4)
