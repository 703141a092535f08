"""Feature selection finds informative features among noise, drops the others for good, and never needs all rows at once."""

from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from tl_keras import config
from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.transfer.head import probe, relevance, selection
from tl_keras.transfer.head.probe import LinearProbe, Standardiser, fit_linear_probe
from tl_keras.transfer.head.relevance import RANKERS, row_norms
from tl_keras.transfer.head.selection import BY_PROBE, METHODS, Selection, TransformedFeatures, select_features

INFORMATIVE = np.array([3, 25, 40, 77, 91, 110, 128, 149, 164, 180])
WEIGHTS = np.ones(3, np.float32)
RANKED = (*BY_PROBE, *RANKERS)
Pair = tuple[NDArray[np.float32], NDArray[np.int32]]

every_method = pytest.mark.parametrize("method", METHODS)
every_ranked = pytest.mark.parametrize("method", RANKED)


@pytest.fixture(autouse=True)
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as the ten informative features need."""
    monkeypatch.setattr(relevance, "NUM_TREES", 50)


def needles(num: int, seed: int) -> Pair:
    """Three classes that show in ten of 200 features; each feature has a mean and a scale of its own, and one is constant."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num, dtype=np.int32) % 3
    x = rng.normal(size=(num, 200))
    x[:, INFORMATIVE] += np.tile(np.eye(3), 4)[labels][:, :10] * 1.6
    x[:, 60] = 0
    return (x * np.linspace(0.5, 4, 200) + np.linspace(-3, 9, 200)).astype(np.float32), labels


TRAIN, VAL, UNSEEN = needles(150, 1), needles(90, 2), needles(600, 3)
STANDARDISE = Standardiser.fit(TRAIN[0])


def select(method: str, train: Pair = TRAIN, val: Pair = VAL, **settings: Any) -> Selection:
    return select_features(method, train, val, Standardiser.fit(train[0]), WEIGHTS, **settings)


def logits_of(found: LinearProbe, x: NDArray[np.float32]) -> NDArray[np.float32]:
    return STANDARDISE(x) @ found.kernel + found.bias


def judged(found: LinearProbe, pair: Pair) -> tuple[float, float]:
    """Log loss and accuracy."""
    logits = logits_of(found, pair[0])
    log_loss = -SINGLE_LABEL.log_probabilities(logits)[np.arange(len(logits)), pair[1]].mean()
    return float(log_loss), float((logits.argmax(1) == pair[1]).mean())


def test_the_configuration_offers_what_there_is() -> None:
    assert sorted(get_args(config.Selection)) == sorted(("none", *METHODS))


@every_ranked
@pytest.mark.parametrize("memory", [10**9, 0])
def test_most_informative_features_stay_and_unseen_images_fare_better(method: str, memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "IN_MEMORY_BYTES", memory)
    found = select(method)
    kept = np.flatnonzero(row_norms(found.probe.kernel))
    plain = fit_linear_probe(TRAIN, VAL, STANDARDISE, WEIGHTS)
    assert len(set(INFORMATIVE) & set(kept)) >= 8
    assert len(kept) <= 50
    assert found.probe.val_loss < plain.val_loss
    assert judged(found.probe, UNSEEN)[0] < judged(plain, UNSEEN)[0]
    assert judged(found.probe, UNSEEN)[1] >= judged(plain, UNSEEN)[1]


@every_ranked
def test_dropped_features_are_rows_of_zeros(method: str) -> None:
    found = select(method, keep=0.1)
    kept = np.flatnonzero(row_norms(found.probe.kernel))
    assert len(kept) == found.kept == 20
    assert judged(found.probe, VAL) == pytest.approx((found.probe.val_loss, found.probe.val_metric), abs=1e-5)


@every_ranked
def test_probe_on_what_is_kept_is_scikit_learns(method: str) -> None:
    found = select(method, keep=0.05)
    kept = np.flatnonzero(row_norms(found.probe.kernel))
    x, val = STANDARDISE(TRAIN[0])[:, kept].astype(np.float64), STANDARDISE(VAL[0])[:, kept]
    twin = LogisticRegression(C=found.probe.c, max_iter=1000, tol=1e-7).fit(x, TRAIN[1])
    np.testing.assert_allclose(np.exp(SINGLE_LABEL.log_probabilities(logits_of(found.probe, VAL[0]))), twin.predict_proba(val), atol=1e-2)


@every_method
def test_report_says_what_was_kept_and_what_all_would_give(method: str) -> None:
    found = select(method, keep=0.1)
    plain = fit_linear_probe(TRAIN, VAL, STANDARDISE, WEIGHTS)
    num = 15 if method == "pca" else 20  # of 149 components, of 200 features
    report = found.report()
    assert report == {
        "method": method,
        "kept": num,
        "of": 200,
        "val_accuracy": judged(found.probe, VAL)[1],
        "val_accuracy_all": plain.val_metric,
    }
    words = "15 components of 200 features" if method == "pca" else "20 of 200 features"
    assert found.summary == f"on {words} by {method}; on all accuracy {plain.val_metric:.4f}"


@every_method
def test_val_chooses_the_share(method: str) -> None:
    best = select(method)
    losses = [select(method, keep=fraction).probe.val_loss for fraction in selection.FRACTIONS]
    assert best.probe.val_loss == min(losses)


@every_method
def test_labels_of_val_choose_the_share_and_nothing_else(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "C_PATH", (1e-2,))  # which val chooses too
    other = VAL[0], VAL[1][::-1].copy()
    one, two = (select(method, val=val, keep=0.1).probe for val in (VAL, other))
    np.testing.assert_array_equal(one.kernel, two.kernel)
    np.testing.assert_array_equal(one.bias, two.bias)


@every_method
def test_keeping_all_is_the_plain_probe(method: str) -> None:
    found = select(method, keep=1.0)
    plain = fit_linear_probe(TRAIN, VAL, STANDARDISE, WEIGHTS)
    assert found.kept == 200
    np.testing.assert_array_equal(found.probe.kernel, plain.kernel)
    assert found.summary.startswith("on 200 of 200 features by ")


@every_method
def test_the_same_seed_gives_the_same_probe(method: str) -> None:
    one, two = (select(method, keep=0.1, seed=7) for _ in range(2))
    np.testing.assert_array_equal(one.probe.kernel, two.probe.kernel)


class OnDisk:
    """Features that give no more than some rows at once, as an array that does not fit in memory would."""

    def __init__(self, x: NDArray[np.float32], most: int) -> None:
        self.x, self.shape, self.most = x, x.shape, most

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: slice) -> NDArray[np.float32]:
        assert isinstance(rows, slice)
        found = self.x[rows]
        assert len(found) <= self.most
        return found


@every_method
def test_features_are_read_some_rows_at_a_time(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = select(method, keep=0.1)
    monkeypatch.setattr(probe, "CHUNK_BYTES", 8 * 4 * 200)
    train, val = ((OnDisk(pair[0], 8), pair[1]) for pair in (TRAIN, VAL))
    found = select_features(method, train, val, STANDARDISE, WEIGHTS, keep=0.1)
    np.testing.assert_allclose(logits_of(found.probe, VAL[0]), logits_of(expected.probe, VAL[0]), atol=1e-2)


@every_method
def test_features_larger_than_memory_are_sampled_and_streamed(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "CHUNK_BYTES", 50 * 4 * 200)
    monkeypatch.setattr(probe, "IN_MEMORY_BYTES", 10**5)
    monkeypatch.setattr(selection, "IN_MEMORY_BYTES", 10**5)
    monkeypatch.setattr(relevance, "SAMPLE_BYTES", 300 * 4 * 200)
    x, labels = needles(2000, 1)
    found = select_features(method, (OnDisk(x, 50), labels), (OnDisk(VAL[0], 50), VAL[1]), Standardiser.fit(x), WEIGHTS, keep=0.1)
    assert found.kept == (1 if method == "pca" else 20)  # 10**5 bytes hold 12 components of 2000 rows
    if method != "pca":
        assert len(set(INFORMATIVE) & set(np.flatnonzero(row_norms(found.probe.kernel)))) >= 8


@every_method
def test_half_precision_gives_nearly_the_same(method: str) -> None:
    half = TRAIN[0].astype(np.float16)
    one, two = (select_features(method, (x, TRAIN[1]), VAL, STANDARDISE, WEIGHTS, keep=0.1) for x in (half, half.astype(np.float32)))
    np.testing.assert_allclose(logits_of(one.probe, VAL[0]), logits_of(two.probe, VAL[0]), atol=5e-2)
    assert one.probe.kernel.dtype == np.float32


@every_method
@pytest.mark.filterwarnings("error")
def test_constant_features_are_dropped_without_a_word(method: str) -> None:
    x = TRAIN[0].copy()
    x[:, 100:] = 7
    found = select_features(method, (x, TRAIN[1]), VAL, Standardiser.fit(x), WEIGHTS, keep=0.9)
    assert np.isfinite(found.probe.kernel).all()
    assert found.kept <= 149 if method == "pca" else 100
    np.testing.assert_allclose(found.probe.kernel[100:], 0, atol=1e-6)


@every_method
def test_all_features_constant_is_answered_by_the_bias(method: str) -> None:
    x = np.full((30, 5), 3, np.float32)
    found = select_features(method, (x, TRAIN[1][:30]), (x, TRAIN[1][:30]), Standardiser.fit(x), WEIGHTS, keep=0.5)
    assert np.isfinite(found.probe.val_loss)


@every_method
def test_fewer_features_than_shares_are_enough(method: str) -> None:
    x, val = TRAIN[0][:, [3, 25]], VAL[0][:, [3, 25]]
    found = select_features(method, (x, TRAIN[1]), (val, VAL[1]), Standardiser.fit(x), WEIGHTS)
    assert found.kept in (1, 2)


@every_method
def test_class_weights_reach_the_probe(method: str) -> None:
    shares = []
    for weight in (1.0, 8.0):
        weights = np.array([weight, 1, 1], np.float32)
        found = select_features(method, TRAIN, VAL, STANDARDISE, weights, keep=0.1).probe
        shares.append((logits_of(found, UNSEEN[0]).argmax(1) == 0).mean())
    assert shares[1] > shares[0] + 0.01


@every_method
@pytest.mark.parametrize("keep", [0.0, -0.1, 1.5])
def test_a_share_that_is_none_is_named(method: str, keep: float) -> None:
    with pytest.raises(ValueError, match=rf"keep must be a share in \(0, 1\]. Received: keep={keep}"):
        select(method, keep=keep)


@pytest.mark.parametrize("keep", [None, 1.0])
def test_an_unknown_method_is_named(keep: float | None) -> None:
    with pytest.raises(ValueError, match=r"method must be one of head2toe, .*anova.* Received: method='annova'"):
        select("annova", keep=keep)


def test_elimination_ranks_again_after_each_share(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = np.arange(200)
    kernel = fit_linear_probe(TRAIN, VAL, STANDARDISE, WEIGHTS).kernel
    for num in (100, 50, 20, 10):
        kept = np.sort(kept[np.argsort(-row_norms(kernel[kept]), kind="stable")[:num]])
        narrow = Standardiser(STANDARDISE.mean[kept], STANDARDISE.scale[kept])
        kernel = np.zeros((200, 3), np.float32)
        kernel[kept] = fit_linear_probe((TRAIN[0][:, kept], TRAIN[1]), (VAL[0][:, kept], VAL[1]), narrow, WEIGHTS).kernel
    np.testing.assert_array_equal(select("rfe", keep=0.05).probe.kernel, kernel)
    assert not np.array_equal(select("head2toe", keep=0.05).probe.kernel, kernel)


@pytest.mark.parametrize(("keep", "solves"), [(None, 5), (0.3, 3), (0.01, 6)])
def test_elimination_solves_a_few_times(keep: float | None, solves: int, monkeypatch: pytest.MonkeyPatch) -> None:
    widths: list[int] = []

    def counted(train: Pair, *others: object) -> LinearProbe:
        widths.append(train[0].shape[1])
        return fit_linear_probe(train, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(selection, "fit_linear_probe", counted)
    select("rfe", keep=keep)
    assert len(widths) == solves
    assert widths == sorted(widths, reverse=True)


@pytest.mark.parametrize("num", [150, 300], ids=["fewer rows than features", "more rows"])
def test_pca_is_scikit_learns_and_a_probe(num: int) -> None:
    train = needles(num, 1)
    standardise = Standardiser.fit(train[0])
    found = select_features("pca", train, VAL, standardise, WEIGHTS, keep=0.2)
    pca = PCA(found.kept, svd_solver="full").fit(standardise(train[0]).astype(np.float64))
    turned = [(pca.transform(standardise(x)).astype(np.float32), labels) for x, labels in (train, VAL)]
    twin = fit_linear_probe(*turned, Standardiser.identity(found.kept), WEIGHTS)
    assert found.kept == round(0.2 * min(num - 1, 199))
    assert found.probe.c == twin.c
    logits = standardise(VAL[0]) @ found.probe.kernel + found.probe.bias
    np.testing.assert_allclose(logits, turned[1][0] @ twin.kernel + twin.bias, atol=2e-3)
    np.testing.assert_allclose(found.probe.kernel, pca.components_.T @ twin.kernel, atol=1e-3)


@pytest.mark.parametrize(("start", "stop"), [(0, 10), (3, 4), (2, 9), (None, None), (8, 99)])
def test_rows_are_shown_in_chunks_as_at_once(start: int | None, stop: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "CHUNK_BYTES", 3 * 4 * 3)
    x = np.arange(30, dtype=np.float32).reshape(10, 3)
    show: Callable[[NDArray[np.float32]], NDArray[np.float32]] = lambda rows: rows[:, [0, 2]] * 2  # noqa: E731
    shown = TransformedFeatures(OnDisk(x, 3), 2, show)
    assert (len(shown), shown.shape) == (10, (10, 2))
    np.testing.assert_array_equal(shown[start:stop], x[start:stop][:, [0, 2]] * 2)
