"""Feeds: every image and view in its turn, in an order that a continued run meets again, the same from pixels and from the store."""

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from tl_keras.transfer.feeds import PixelFeed, StoredFeed, view_of
from tl_keras.transfer.finetune import finetune_feed
from tl_keras.transfer.frozen import POOLED
from tl_keras.transfer.task import Task

MakeTask = Callable[..., Task]
ROTATE = {"random_resized_crop": None, "rotation_range": 90, "width_shift_range": 0.3}
VIEWS = 3  # the plain one and two more
NUM = 12
BATCHES = 3  # of 5: the last is partial


@pytest.fixture(scope="module")
def task(make_lasting_task: MakeTask) -> Task:
    """With views of the training images in the store."""
    train = {"unfreeze_from": "stage3", "batch_size": 5, "class_weights": {"cat": 3.0}}
    made = make_lasting_task(data={"augment": ROTATE}, features={"views": VIEWS - 1}, train=train)
    assert (len(made.data.rows("train")), made.num_views) == (NUM, VIEWS - 1)
    return made


def with_seed(task: Task, seed: int) -> Task:
    """The same features in the order of another run."""
    config = task.config.model_copy(update={"runtime": task.config.runtime.model_copy(update={"seed": seed})})
    return Task(config, task.data, task.classifier, task.frozen, task.engine, task.run, task.progress)


def epochs_of(feed: Any, epochs: int, *first: int) -> list[tuple[NDArray[np.float32], ...]]:
    return [tuple(part.numpy() for part in batch) for batch in islice(feed.train(*(first or (0,))), epochs * BATCHES)]


def pooled(task: Task, **options: Any) -> StoredFeed:
    return StoredFeed(task, task.classifier.head, [POOLED], **options)


def rows_of(task: Task, batches: list[tuple[NDArray[np.float32], ...]]) -> list[list[int]]:
    """Which of the stored rows each epoch showed: view * 12 + image."""
    stored = task.stored(POOLED, "train")[:]
    known = {row.tobytes(): number for number, row in enumerate(stored)}
    assert len(known) == VIEWS * NUM
    seen = [known[row.tobytes()] for batch in batches for row in batch[0]]
    return [seen[start : start + NUM] for start in range(0, len(seen), NUM)]


def test_views_take_turns_and_each_comes_once(task: Task) -> None:
    rows = rows_of(task, epochs_of(pooled(task), 2 * VIEWS))
    for epoch in rows:
        assert sorted(row % NUM for row in epoch) == list(range(NUM))
        assert len({row // NUM for row in epoch}) > 1  # images do not change views in step
    for turn in (rows[:VIEWS], rows[VIEWS:]):
        assert sorted(row for epoch in turn for row in epoch) == list(range(VIEWS * NUM))
    assert [sorted(epoch) for epoch in rows[:VIEWS]] != [sorted(epoch) for epoch in rows[VIEWS:]]  # a new turn is dealt anew


def test_batches_have_the_promised_parts(task: Task) -> None:
    batches = epochs_of(pooled(task), 2)
    assert [[part.shape for part in batch] for batch in batches] == [[(b, 8), (b, 2), (b,)] for b in (5, 5, 2)] * 2
    assert all(part.dtype == np.float32 for batch in batches for part in batch)
    images = [row % NUM for epoch in rows_of(task, batches) for row in epoch]
    labels = task.data.labels("train")[images]
    np.testing.assert_array_equal(np.concatenate([batch[1] for batch in batches]), np.eye(2)[labels])
    np.testing.assert_array_equal(np.concatenate([batch[2] for batch in batches]), np.where(labels == 0, 3.0, 1.0))


def test_seed_decides_the_order_and_the_turns(task: Task) -> None:
    first, same = (rows_of(task, epochs_of(pooled(task), 2)) for _ in range(2))
    other = rows_of(task, epochs_of(pooled(with_seed(task, 1)), 2))
    assert first == same
    for one, another in zip(first, other, strict=True):
        assert [row % NUM for row in one] != [row % NUM for row in another]
        assert sorted(one) != sorted(another)
    assert [row % NUM for row in first[0]] != [row % NUM for row in first[1]]


@pytest.mark.parametrize("first", [(1, 0), (VIEWS, 1), (4, 2)])
def test_a_continued_feed_is_the_tail_of_the_whole(task: Task, first: tuple[int, int]) -> None:
    feed, (epoch, step) = pooled(task), first
    whole, tail = epochs_of(feed, epoch + 3)[epoch * BATCHES + step :][: 2 * BATCHES], epochs_of(feed, 2, *first)
    for one, other in zip(tail, whole, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_ordered_is_the_plain_view_of_every_image_in_order(task: Task) -> None:
    for split in ("train", "val", "test"):
        batches = pooled(task).ordered(split)
        found = [(features.numpy(), target.numpy()) for features, target in batches]
        np.testing.assert_array_equal(
            np.concatenate([features for features, _ in found]), task.stored(POOLED, split)[: len(task.data.rows(split))]
        )
        np.testing.assert_array_equal(np.concatenate([target for _, target in found]), np.eye(2)[task.data.labels(split)])
        assert [len(target) for _, target in found] == [len(target) for _, target in batches]  # can be read again
    assert [len(target) for _, target in pooled(task).ordered("train")] == [5, 5, 2]


def test_several_outputs_go_together(task: Task) -> None:
    feed = StoredFeed(task, task.classifier.head, [POOLED, "cut1"])
    maps = task.stored("cut1", "train")[:]
    assert maps.shape == (VIEWS * NUM, 4, 4, 8)
    for (vectors, found), _, _ in islice(feed.train(0), 2 * BATCHES):
        stored = task.stored(POOLED, "train")[:]
        rows = [int(np.flatnonzero((stored == vector).all(axis=1))[0]) for vector in vectors.numpy()]
        np.testing.assert_array_equal(found.numpy(), maps[rows])
    (vectors, found), _ = next(iter(feed.ordered("val")))
    np.testing.assert_array_equal(vectors, task.stored(POOLED, "val")[:])
    np.testing.assert_array_equal(found, task.stored("cut1", "val")[:])


def test_what_changes_features_is_applied_everywhere(task: Task) -> None:
    changed = pooled(task, change=lambda features: 2 * features + 1)
    for one, other in zip(epochs_of(changed, 1), epochs_of(pooled(task), 1), strict=True):
        np.testing.assert_array_equal(one[0], 2 * other[0] + 1)
    np.testing.assert_array_equal(next(iter(changed.ordered("val")))[0], 2 * task.stored(POOLED, "val")[:] + 1)


@pytest.mark.slow
def test_pixels_and_stored_features_come_in_one_order(task: Task) -> None:
    stored, pixels = epochs_of(finetune_feed(task, task.classifier), 2), epochs_of(PixelFeed(task, task.classifier.model), 2)
    assert stored[0][0].shape == (5, 4, 4, 8)
    assert pixels[0][0].shape == (5, 16, 16, 3)
    for one, other in zip(stored, pixels, strict=True):
        np.testing.assert_array_equal(one[1], other[1])
        np.testing.assert_array_equal(one[2], other[2])
    for split in ("val", "test"):
        one, other = (feed.ordered(split) for feed in (pooled(task), PixelFeed(task, task.classifier.model)))
        np.testing.assert_array_equal(*(np.concatenate([target.numpy() for _, target in batches]) for batches in (one, other)))


def test_pixels_and_the_plain_view_are_the_same_images(make_task: MakeTask) -> None:
    task = make_task(train={"unfreeze_from": "stage3", "batch_size": 5})
    for (features, *_), (pixels, *_) in zip(epochs_of(pooled(task), 1), epochs_of(PixelFeed(task, task.classifier.model), 1), strict=True):
        np.testing.assert_allclose(features, task.classifier.trunk(pixels, training=False), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("num_views", [1, 2, 5])
def test_view_of_deals_each_view_once(num_views: int) -> None:
    order = tf.range(40, dtype=tf.int64)[::-1]

    def views(epoch: int, seed: int = 0) -> NDArray[np.int64]:
        return view_of(order, tf.constant(epoch, tf.int64), 40, num_views, seed).numpy()

    for start in (0, num_views, 7 * num_views):
        dealt = np.stack([views(epoch) for epoch in range(start, start + num_views)])
        np.testing.assert_array_equal(np.sort(dealt, axis=0), np.tile(np.arange(num_views)[:, None], 40))
    if num_views > 1:
        assert (views(0) != views(0, seed=1)).any()
        assert (views(0) != views(num_views)).any()


def with_train(task: Task, **train: Any) -> Task:
    return replace(task, config=task.config.model_copy(update={"train": task.config.train.model_copy(update=train)}))


@pytest.mark.parametrize("kind", ["stored", "pixels"])
def test_the_weight_of_an_image_is_that_of_its_class_times_its_own(task: Task, kind: str) -> None:
    own = np.linspace(0.5, 2.0, len(task.data.index.paths), dtype=np.float32)
    weighted = replace(task, data=replace(task.data, index=replace(task.data.index, weights=own)))
    feed = pooled(weighted) if kind == "stored" else PixelFeed(weighted, weighted.classifier.model)
    found = np.concatenate([weights for *_, weights in epochs_of(feed, 1)])
    rows = task.data.rows("train")
    by_class = np.where(np.array(task.data.classes)[task.data.labels("train")] == "cat", 3.0, 1.0)
    np.testing.assert_allclose(np.sort(found), np.sort(by_class * own[rows]), rtol=1e-6)
    if kind == "stored":
        images = np.array(rows_of(task, epochs_of(feed, 1))[0]) % NUM
        np.testing.assert_allclose(found, (by_class * own[rows])[images], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["stored", "pixels"])
def test_balanced_sampling_shows_classes_equally_often_and_goes_on_where_it_stopped(task: Task, kind: str) -> None:
    fewer = np.array(task.data.split)
    train = task.data.rows("train")
    fewer[train[task.data.labels("train") == 0][1:]] = ""  # one image is left of a class
    one = with_train(replace(task, data=replace(task.data, split=fewer)), sampling="balanced", class_weights="none")
    num = len(one.data.rows("train"))
    feed = pooled(one) if kind == "stored" else PixelFeed(one, one.classifier.model)
    batches = -(-num // 5)
    whole = [tuple(part.numpy() for part in batch) for batch in islice(feed.train(0), 60 * batches)]
    shares = np.concatenate([targets for _, targets, _ in whole]).mean(axis=0)
    np.testing.assert_allclose(shares, 1 / len(one.data.classes), atol=0.08)
    later = [tuple(part.numpy() for part in batch) for batch in islice(feed.train(58), 2 * batches)]
    for first, again in zip(whole[58 * batches :], later, strict=True):
        for left, right in zip(first, again, strict=True):
            np.testing.assert_array_equal(left, right)


def test_stored_views_of_an_image_that_an_epoch_shows_several_times_differ(task: Task) -> None:
    fewer, train = np.array(task.data.split), task.data.rows("train")
    kept = train[task.data.labels("train") == 0][0]
    fewer[train[(task.data.labels("train") == 0) & (train != kept)]] = ""
    one = with_train(replace(task, data=replace(task.data, split=fewer)), sampling="balanced", class_weights="none")
    num, feed = len(one.data.rows("train")), pooled(one)
    batches = [tuple(part.numpy() for part in batch) for batch in islice(feed.train(0), -(-num // 5))]
    targets = np.concatenate([targets for _, targets, _ in batches])
    shown = np.concatenate([features for features, *_ in batches])[targets[:, 0] == 1]
    assert len(shown) > VIEWS
    assert len({row.tobytes() for row in shown}) > 1


def test_nothing_tunes_the_batches_of_a_feed(task: Task) -> None:
    for feed in (pooled(task), PixelFeed(task, task.classifier.model)):
        for batches in (feed.train(0), feed.ordered("val")):
            assert batches.options().autotune.enabled is False


def test_soft_labels_are_what_is_learned(task: Task) -> None:
    data = task.data
    shares = np.random.default_rng(0).dirichlet((1, 1), len(data.index.paths)).astype(np.float32)
    soft = replace(task, data=replace(data, index=replace(data.index, shares=shares)))
    for made in (pooled, lambda task: PixelFeed(task, task.classifier.model)):
        learned = np.concatenate([targets for _, targets, _ in epochs_of(made(soft), 1)])
        np.testing.assert_array_equal(np.sort(learned, axis=0), np.sort(shares[data.rows("train")], axis=0))
        measured = np.concatenate([targets.numpy() for _, targets in made(soft).ordered("val")])
        np.testing.assert_array_equal(measured, shares[data.rows("val")])
        weights = np.concatenate([weights for _, _, weights in epochs_of(made(soft), 1)])
        assert sorted(set(weights.tolist())) == [1, 3]  # of the class, as ever
