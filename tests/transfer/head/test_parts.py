"""Rows in parts have the head of the same rows at once, whoever answers for them."""

import pickle
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tl_keras.models.outputs import SINGLE_LABEL, MultiLabel
from tl_keras.transfer.features import StoredFeatures
from tl_keras.transfer.head import probe
from tl_keras.transfer.head.parts import Part, PartsHere, cut, fit_on_parts, fit_standardiser
from tl_keras.transfer.head.probe import LinearProbe, StandardisedRows, Standardiser, fit_linear_probe, objective_of
from tl_keras.transfer.store import Store

WIDTH, CLASSES = 6, 3


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven rows a chunk."""
    monkeypatch.setattr(probe, "CHUNK_BYTES", 7 * 4 * WIDTH)


def problem(num: int, seed: int, output: Any) -> tuple[NDArray[np.float32], Any]:
    random = np.random.default_rng(seed)
    x = (random.standard_normal((num, WIDTH)) * np.linspace(0.1, 5, WIDTH) + 3).astype(np.float32)
    true = np.random.default_rng(7).standard_normal((WIDTH, CLASSES))
    logits = (x - 3) @ true + random.gumbel(size=(num, CLASSES))
    return x, (logits.argmax(1).astype(np.int32) if output == SINGLE_LABEL else logits > 0)


def in_parts(x: Any, y: Any, class_weights: Any, output: Any, most: int, weights: Any = None) -> PartsHere:
    slices = cut(*x.shape, most)
    return PartsHere([Part(s.start, x[s], y[s], None if weights is None else weights[s], class_weights, output) for s in slices])


@pytest.mark.parametrize(("num", "most"), [(100, 1), (100, 3), (100, 50), (7, 3), (8, 2), (1, 4)])
def test_parts_cover_the_rows_in_order_and_end_where_chunks_do(num: int, most: int) -> None:
    found = cut(num, WIDTH, most)
    assert np.concatenate([np.arange(num)[each] for each in found]).tolist() == list(range(num))
    assert len(found) <= most
    assert all(each.start % 7 == 0 for each in found)


@pytest.mark.parametrize("output", [SINGLE_LABEL, MultiLabel()], ids=["single", "multi"])
def test_the_head_is_that_of_all_rows_at_once(output: Any) -> None:
    (x, y), (x_val, y_val) = problem(120, 1, output), problem(40, 2, output)
    class_weights = np.array([0.5, 1, 2] if output == SINGLE_LABEL else [1, 1, 1], np.float32)
    weights = np.random.default_rng(3).uniform(0.5, 2, len(x)).astype(np.float32)
    train, val = in_parts(x, y, class_weights, output, 4, weights), in_parts(x_val, y_val, class_weights, output, 3)
    standardise = fit_standardiser(train)
    expected = Standardiser.fit(x)
    np.testing.assert_allclose(standardise.mean, expected.mean, rtol=1e-6)
    np.testing.assert_allclose(standardise.scale, expected.scale, rtol=1e-6)
    tried = list[LinearProbe]()
    at_once = fit_linear_probe((x, y), (x_val, y_val), expected, class_weights, 0.1, output=output, weights=weights)
    found = fit_on_parts(train, val, y_val, standardise, class_weights, output, 0.1, tried.append)
    assert tried == [found]
    objective = objective_of(output, StandardisedRows(x, expected), y, class_weights, weights)

    def penalised(head: LinearProbe) -> float:
        square = float((head.kernel.astype(np.float64) ** 2).sum())
        return objective(np.vstack([head.kernel, head.bias]))[0] + objective.columns / (head.c * objective.total_weight) * square / 2

    assert penalised(found) == pytest.approx(penalised(at_once), rel=1e-6)
    assert found.val_loss == pytest.approx(at_once.val_loss, rel=1e-4)
    assert found.val_metric == pytest.approx(at_once.val_metric, abs=1e-9)


def test_shares_of_the_loss_add_up_to_a_plain_sum_over_the_rows() -> None:
    x, y = problem(50, 4, SINGLE_LABEL)
    class_weights = np.array([0.5, 1, 2], np.float32)
    parts, standardise = in_parts(x, y, class_weights, SINGLE_LABEL, 4), Standardiser.fit(x)
    total = sum(parts("weight", standardise))
    weights = np.random.default_rng(5).standard_normal((WIDTH + 1, CLASSES))
    loss, weighed = 0.0, 0.0
    for row, label in zip((x - standardise.mean) / standardise.scale, y, strict=True):
        logits = row @ weights[:-1] + weights[-1]
        loss += class_weights[label] * (np.log(np.exp(logits).sum()) - logits[label])
        weighed += class_weights[label]
    assert total == pytest.approx(weighed)
    assert sum(each[0] for each in parts("loss", weights, standardise, total)) == pytest.approx(loss / weighed, rel=1e-5)


def test_a_slice_of_stored_features_travels_and_reads_the_same(tmp_path: Any) -> None:
    store, ids = Store(tmp_path, 1.0), np.array([b"%04d" % each for each in range(40)], "S16")
    values = np.random.default_rng(0).standard_normal((40, WIDTH)).astype(np.float32)
    one, other = store.open("one", {}), store.open("other", {})
    for start in range(0, 40, 10):
        one.write(ids[start : start + 10], values[start : start + 10])
        other.write(ids[start : start + 10], -values[start : start + 10])
    order = np.random.default_rng(1).permutation(40)
    stored = StoredFeatures([(one, ids[order]), (other, ids[order[:15]])])
    assert np.array_equal(stored[:], np.concatenate([values[order], -values[order[:15]]]))
    for rows in (slice(0, 55), slice(3, 30), slice(35, 50), slice(41, 55), slice(5, 6)):
        travelled = pickle.loads(pickle.dumps(stored.slice(rows)))
        assert len(travelled) == len(stored[rows])
        assert np.array_equal(travelled[2:9], stored[rows][2:9])
        assert np.array_equal(travelled[:], stored[rows])
