"""Feature selection finds informative features among noise, and drops the others for good."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tl_keras.transfer import probe
from tl_keras.transfer.probe import LinearProbe, Standardiser, fit_linear_probe
from tl_keras.transfer.selection import Columns, relevance, select_features

INFORMATIVE = np.array([3, 40, 77, 110, 149, 180])
WEIGHTS = np.ones(3, np.float32)
Pair = tuple[NDArray[np.float32], NDArray[np.int32]]


def needles(num: int, seed: int) -> Pair:
    """Three classes that show in six of 200 features; each feature has a mean and a scale of its own."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num, dtype=np.int32) % 3
    x = rng.normal(size=(num, 200))
    x[:, INFORMATIVE] += np.tile(np.eye(3), 2)[labels] * 1.6
    return (x * np.linspace(0.5, 4, 200) + np.linspace(-3, 9, 200)).astype(np.float32), labels


def judged(found: LinearProbe, standardise: Standardiser, pair: Pair) -> float:
    logits = standardise(pair[0]) @ found.kernel + found.bias
    return float(-probe.log_softmax(logits)[np.arange(len(logits)), pair[1]].mean())


@pytest.mark.parametrize("memory", [10**9, 0])
def test_informative_features_stay_and_unseen_loss_falls(memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "IN_MEMORY_BYTES", memory)
    train, val, unseen = needles(150, 1), needles(90, 2), needles(300, 3)
    standardise = Standardiser.fit(train[0])
    found, kept = select_features(train, val, standardise, WEIGHTS)
    plain = fit_linear_probe(train, val, standardise, WEIGHTS)
    assert set(INFORMATIVE) <= set(kept)
    assert len(kept) <= 50
    assert found.val_loss < plain.val_loss
    assert judged(found, standardise, unseen) < judged(plain, standardise, unseen)


def test_dropped_features_are_rows_of_zeros() -> None:
    train, val = needles(150, 1), needles(90, 2)
    standardise = Standardiser.fit(train[0])
    found, kept = select_features(train, val, standardise, WEIGHTS, (0.1,))
    assert len(kept) == 20
    assert (np.diff(kept) > 0).all()
    np.testing.assert_array_equal(np.flatnonzero(relevance(found.kernel)), kept)
    assert judged(found, standardise, val) == pytest.approx(found.val_loss, abs=1e-5)


def test_all_features_are_the_plain_probe() -> None:
    train, val = needles(60, 1), needles(60, 2)
    standardise = Standardiser.fit(train[0])
    found, kept = select_features(train, val, standardise, WEIGHTS, (1.0,))
    plain = fit_linear_probe(train, val, standardise, WEIGHTS)
    np.testing.assert_array_equal(kept, np.arange(200))
    np.testing.assert_array_equal(found.kernel, plain.kernel)
    assert found.val_loss == plain.val_loss


@pytest.mark.parametrize("fractions", [(), (0.0, 1.0), (0.5, 1.5)])
def test_fractions_that_are_no_shares_are_named(fractions: tuple[float, ...]) -> None:
    train = needles(30, 1)
    with pytest.raises(ValueError, match=r"shares in \(0, 1\]. Received: fractions="):
        select_features(train, train, Standardiser.fit(train[0]), WEIGHTS, fractions)


def test_relevance_is_the_length_of_each_row() -> None:
    np.testing.assert_allclose(relevance(np.array([[3, 4], [0, 0], [-1, 0]])), [5, 0, 1])


def test_columns_are_read_through() -> None:
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    columns = Columns(x, np.array([0, 2]))
    assert (len(columns), columns.shape) == (4, (4, 2))
    np.testing.assert_array_equal(columns[1:3], x[1:3][:, [0, 2]])
