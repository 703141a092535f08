"""MixUp and CutMix: what a mixed image, its target and its weight are, how much is mixed, and that a continued run mixes alike."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tl_keras.config import TrainConfig
from tl_keras.data.mixing import mix_of
from tl_keras.transfer.losses import make_loss

KINDS = {"mixup": {"mixup_alpha": 0.4}, "cutmix": {"cutmix_alpha": 1.0}, "both": {"mixup_alpha": 0.4, "cutmix_alpha": 1.0}}


def coloured(num: int, height: int = 20, width: int = 30) -> np.ndarray:
    """Image i has the value 1 in channel i and 0 in others, so that what is kept of it can be read off: float32 (n, h, w, n)."""
    return np.broadcast_to(np.eye(num, dtype=np.float32)[:, None, None, :], (num, height, width, num))


def mixed(options: dict[str, Any], images: np.ndarray, weights: Any = 1.0, *, seed: int = 0, number: int = 0) -> tuple[np.ndarray, ...]:
    """A mixed batch whose images are classes of their own."""
    num = len(images)
    mix = mix_of(TrainConfig(**options), seed)
    assert mix is not None
    batch = (tf.constant(images), tf.eye(num), tf.constant(np.broadcast_to(weights, num), tf.float32))
    return tuple(part.numpy() for part in mix(tf.constant(number, tf.int64), batch))


def kept(options: dict[str, Any], num: int = 12, **keys: int) -> np.ndarray:
    """(n, h, w): what each image keeps of each pixel."""
    images, *_ = mixed(options, coloured(num), **keys)
    return images[np.arange(num), ..., np.arange(num)]


def test_nothing_is_mixed_by_default() -> None:
    assert mix_of(TrainConfig(), 0) is None


@pytest.mark.parametrize("kind", KINDS)
def test_each_image_is_mixed_with_the_next_and_its_target_by_as_much(kind: str) -> None:
    num = 12
    images, targets, weights = mixed(KINDS[kind], coloured(num))
    for place in range(num):
        other = (place + 1) % num
        own = images[place, ..., place]
        rest = np.delete(images[place], [place, other], axis=-1)
        np.testing.assert_allclose(images[place, ..., other], 1 - own, atol=1e-6)
        assert not rest.any()
        expected = np.zeros(num)
        expected[[place, other]] = own.mean(), 1 - own.mean()
        np.testing.assert_allclose(targets[place], expected, atol=1e-5)
    np.testing.assert_allclose(weights, 1, rtol=1e-6)


def test_mixup_blends_all_pixels_alike() -> None:
    parts = kept(KINDS["mixup"])
    assert (parts == parts[:, :1, :1]).all()
    assert len(np.unique(parts[:, 0, 0])) == 12  # each image by its own share


def test_cutmix_pastes_one_box_with_the_sides_of_the_image() -> None:
    pasted = kept(KINDS["cutmix"], 60) == 0
    np.testing.assert_array_equal(pasted, 1 - kept(KINDS["cutmix"], 60))
    whole = 0
    for box in pasted:
        rows, columns = np.flatnonzero(box.any(axis=1)), np.flatnonzero(box.any(axis=0))
        assert box.sum() == len(rows) * len(columns)
        if len(rows) and rows[0] > 0 and rows[-1] < 19 and columns[0] > 0 and columns[-1] < 29:
            assert (rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1) == (len(rows), len(columns))
            assert abs(len(rows) / 20 - len(columns) / 30) <= 1 / 20
            whole += 1
    assert whole >= 5


@pytest.mark.slow
def test_with_both_half_of_the_images_get_either() -> None:
    parts = kept(KINDS["both"], 200)
    blended = ((parts > 0) & (parts < 1)).all(axis=(1, 2))
    assert 0.4 < blended.mean() < 0.6


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1.0, 4.0])
def test_shares_of_mixup_are_drawn_from_beta(alpha: float) -> None:
    _, targets, _ = mixed({"mixup_alpha": alpha}, np.zeros((1000, 1, 1, 3), np.float32))
    shares = np.diag(targets)
    assert 0.45 < (shares < 0.5).mean() < 0.55
    small = shares[shares < 0.5]  # near 1 float32 has no digits left
    assert stats.kstest(small, lambda share: 2 * stats.beta(alpha, alpha).cdf(share)).pvalue > 0.01


def test_areas_of_cutmix_are_drawn_from_beta() -> None:
    """Of boxes that the image does not cut: there are such boxes only of less than the whole, and small ones more often."""
    _, targets, _ = mixed({"cutmix_alpha": 1.0}, np.zeros((1500, 64, 64, 1), np.float32))
    rng = np.random.default_rng(0)
    half, row, column = np.sqrt(rng.random(50_000)) / 2, *rng.random((2, 50_000))
    sides = [np.minimum(centre + half, 1) - np.maximum(centre - half, 0) for centre in (row, column)]
    assert stats.ks_2samp(1 - np.diag(targets), sides[0] * sides[1]).statistic < 0.05


@pytest.mark.parametrize("alpha", [1e-6, 1e-3, 100.0])
def test_the_smallest_and_largest_alphas_give_numbers(alpha: float) -> None:
    for name in ("mixup_alpha", "cutmix_alpha"):
        images, targets, weights = mixed({name: alpha}, coloured(40))
        assert np.isfinite(images).all()
        np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-5)
        np.testing.assert_allclose(weights, 1, rtol=1e-5)


@pytest.mark.parametrize("loss", ["cross_entropy", "focal"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_mean_of_both_losses_each_with_the_weight_of_its_class(loss: str, smoothing: float) -> None:
    num, weights = 6, np.array([1, 4, 0.5, 2, 1, 9], np.float32)
    logits = np.random.default_rng(0).normal(size=(num, num)).astype(np.float32)
    of = make_loss(TrainConfig(loss=loss, label_smoothing=smoothing))
    of = type(of).from_config(of.get_config() | {"reduction": None})
    images, targets, mixed_weights = mixed(KINDS["both"], coloured(num), weights)
    share = np.array([images[place, ..., place].mean() for place in range(num)])
    found = keras.ops.convert_to_numpy(of(targets, logits)) * mixed_weights
    apart = [keras.ops.convert_to_numpy(of(rows, logits)) for rows in (np.eye(num), np.roll(np.eye(num), -1, axis=0))]
    np.testing.assert_allclose(found, share * weights * apart[0] + (1 - share) * np.roll(weights, -1) * apart[1], rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_mixing_depends_on_the_seed_and_the_batch_alone(kind: str) -> None:
    first = kept(KINDS[kind], seed=3, number=2**32 + 5)
    np.testing.assert_array_equal(kept(KINDS[kind], seed=3, number=2**32 + 5), first)
    for seed, number in ((4, 2**32 + 5), (3, 2**32 + 6), (3, 5)):
        assert (kept(KINDS[kind], seed=seed, number=number) != first).any(axis=(1, 2)).mean() > 0.8


@pytest.mark.parametrize("kind", KINDS)
def test_a_last_image_that_is_alone_stays_as_it_is(kind: str) -> None:
    images, targets, weights = mixed(KINDS[kind], coloured(1), 3.0)
    np.testing.assert_allclose(images, coloured(1), rtol=1e-6)
    np.testing.assert_allclose(targets, [[1]], rtol=1e-6)
    np.testing.assert_allclose(weights, [3], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_graph_is_eager(kind: str) -> None:
    mix = mix_of(TrainConfig(**KINDS[kind]), 0)
    assert mix is not None
    number, batch = tf.constant(7, tf.int64), (tf.constant(coloured(5)), tf.eye(5), tf.ones(5))
    for eager, graph in zip(mix(number, batch), tf.function(mix)(number, batch), strict=True):
        np.testing.assert_allclose(graph, eager, rtol=1e-6)
