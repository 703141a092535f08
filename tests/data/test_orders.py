"""Which images an epoch shows."""

import numpy as np
import pytest
import tensorflow as tf

from tl_keras.data.orders import MIXED, Order, balanced, by_shard, shuffled

LABELS = np.array([0] * 60 + [2] * 30 + [3] * 3)
SHARDS = np.repeat(np.arange(31), 3)


def shown(order: Order, seed: int = 0, epoch: int = 0) -> tuple[np.ndarray, np.ndarray]:
    places, numbers = order(seed, tf.constant(epoch, tf.int64))
    return places.numpy(), numbers.numpy()


@pytest.mark.parametrize("order", [shuffled(93), balanced(LABELS), by_shard(SHARDS)], ids=["shuffled", "balanced", "by_shard"])
def test_an_order_depends_on_seed_and_epoch_alone(order: Order) -> None:
    first = shown(order, 3, 5)
    for again in (shown(order, 3, 5), shown(tf.function(order), 3, 5)):
        np.testing.assert_array_equal(again, first)
    for other in (shown(order, 4, 5), shown(order, 3, 6), shown(order, 0, 0)):
        assert (other[0] != first[0]).any()
    assert all(len(part) == 93 for part in first)


def test_shuffled_shows_each_image_once_and_its_view_is_its_own() -> None:
    places, numbers = shown(shuffled(93))
    np.testing.assert_array_equal(np.sort(places), np.arange(93))
    np.testing.assert_array_equal(numbers, places)


def test_by_shard_shows_each_image_once_and_mixes_a_few_shards_at_a_time() -> None:
    first = [shown(by_shard(SHARDS), 0, epoch)[0] for epoch in range(2)]
    for places in first:
        np.testing.assert_array_equal(np.sort(places), np.arange(93))
        together = [set(SHARDS[places[start : start + 3 * MIXED]].tolist()) for start in range(0, 93, 3 * MIXED)]
        assert [len(shards) for shards in together] == [MIXED, MIXED, MIXED, 31 - 3 * MIXED]
        assert len(set.union(*together)) == 31
        assert (np.diff(SHARDS[places[: 3 * MIXED]]) != 0).sum() > MIXED  # and within them their images are mixed
    assert set(SHARDS[first[0][: 3 * MIXED]].tolist()) != set(SHARDS[first[1][: 3 * MIXED]].tolist())


@pytest.mark.slow
def test_balanced_shows_all_classes_and_within_them_all_images_equally_often() -> None:
    order = balanced(LABELS)
    places = np.concatenate([shown(order, 0, epoch)[0] for epoch in range(200)])
    shares = np.bincount(LABELS[places], minlength=4) / len(places)
    np.testing.assert_allclose(shares, [1 / 3, 0, 1 / 3, 1 / 3], atol=0.02)
    for label in (0, 2, 3):
        rows = np.flatnonzero(label == LABELS)
        counts = np.bincount(places, minlength=93)[rows]
        expected = len(places) / 3 / len(rows)
        assert abs(counts - expected).max() < 5 * np.sqrt(expected)


def test_an_image_that_comes_twice_has_two_views() -> None:
    places, numbers = shown(balanced(LABELS))
    assert len(set(places.tolist())) < 93
    assert len(set(numbers.tolist())) == 93
    assert numbers.min() >= 93  # none of those of `shuffled`
