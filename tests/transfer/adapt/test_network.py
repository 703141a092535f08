"""A network of two domains: what is shared, whose statistics count, and in which order images come."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tl_keras.errors import StoreError
from tl_keras.models.classifier import unfreeze
from tl_keras.run_folder import CHECKPOINTS
from tl_keras.transfer.adapt import network
from tl_keras.transfer.adapt.discrepancy import ClassConfusion
from tl_keras.transfer.adapt.domain_loss import DomainLoss, Seen
from tl_keras.transfer.adapt.network import DomainFeed, Domains, joint_model, see, tails, train_network
from tl_keras.transfer.adapt.statistics import own_statistics, read_statistics, write_statistics
from tl_keras.transfer.adapt.target import bring_in
from tl_keras.transfer.defaults import required
from tl_keras.transfer.feeds import PixelFeed
from tl_keras.transfer.frozen import FEED
from tl_keras.transfer.store import Store
from tl_keras.transfer.task import Task


@pytest.fixture
def domains(make_task: Callable[..., Task], own_backbone: str) -> Domains:
    """The same images as source and target, with statistics of train, and of val."""
    task = make_task(mode="adapt", model={"backbone": own_backbone, "preprocessing": "none"}, data={"image_size": 16})
    task = replace(task, target=bring_in(task.config, task.data.index, task.the_frozen, task.progress))
    found = [own_statistics(task, task.the_frozen.pixels, task.data.rows(split)) for split in ("train", "val")]
    write_statistics(task.classifier.model, found[1])
    return see(task, (found[0], found[1]))


@pytest.mark.slow
def test_each_domain_has_statistics_of_its_own_and_all_else_is_shared(domains: Domains) -> None:
    classifier = domains.source.classifier
    lowest = required(domains.source.config.train.unfreeze_from)
    unfreeze(classifier, lowest, freeze_batchnorm=True)
    of_source, of_target = tails(domains, lowest)
    assert {id(each) for each in of_source.trainable_variables} == {id(each) for each in of_target.trainable_variables}
    pixels = domains.source.data.pixels.read(np.arange(6)).astype(np.float32)
    for tail, statistics, task in zip((of_source, of_target), domains.statistics, (domains.source, domains.target), strict=True):
        write_statistics(classifier.model, statistics)
        expected = classifier.model(pixels, training=False)
        stored = [task.the_frozen.stored(name, np.arange(6))[:] for name in domains.tail] or [pixels]
        _, logits = tail(stored, training=False)
        if tail is of_target:
            write_statistics(classifier.model, domains.statistics[1])
        np.testing.assert_allclose(logits, expected, atol=2e-3)
    assert not np.allclose(*(statistics[0] for statistics in domains.statistics))


@pytest.mark.slow
def test_a_run_goes_on_from_what_it_began_with(make_task: Callable[..., Task], monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task(mode="adapt", train={"unfreeze_from": "stage3"})
    task = replace(task, target=bring_in(task.config, task.data.index, task.the_frozen, task.progress))
    own = [own_statistics(task, task.the_frozen.pixels, task.data.rows("train"))] * 2
    monkeypatch.setattr(Store, "room", lambda self: 2_000)  # bytes, enough for what a head reads alone
    assert see(task, (own[0], own[1])).tail == ()
    monkeypatch.undo()
    assert see(task, (own[0], own[1])).tail == ()  # and does so when there is
    (task.run / CHECKPOINTS / FEED).unlink()
    assert see(task, (own[0], own[1])).tail
    monkeypatch.setattr(network, "features_of_domains", lambda task, statistics, tail: (task.the_frozen, task.the_frozen))
    with pytest.raises(StoreError, match="this run learned from stored features, for which there is no room now"):
        see(task, (own[0], own[1]))


@pytest.mark.slow
def test_the_target_comes_without_labels(domains: Domains) -> None:
    assert (domains.target.data.index.labels == -1).all()
    assert set(domains.target.data.split) == {"train"}


@pytest.mark.slow
def test_training_moves_no_statistics(domains: Domains) -> None:
    before = read_statistics(domains.source.classifier.model)
    unfreeze(domains.source.classifier, "all", freeze_batchnorm=True)
    pixels = replace(domains, source=replace(domains.source, frozen=None))
    of_source, of_target = tails(pixels, "all")
    model = joint_model(of_source, of_target, ClassConfusion(4))
    model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
    model.fit(DomainFeed(model, feeds_of(domains), 2, 30, 8).train(0), steps_per_epoch=2, shuffle=False, verbose=0)
    for kept, was in zip(read_statistics(domains.source.classifier.model), before, strict=True):
        np.testing.assert_array_equal(kept, was)


def feeds_of(domains: Domains) -> tuple[PixelFeed, PixelFeed]:
    model = domains.source.classifier.model
    return PixelFeed(domains.source, model), PixelFeed(domains.target, model)


def with_batches_of(task: Task, size: int) -> Task:
    return replace(task, config=task.config.replace("train.batch_size", size))


class Flatten(DomainLoss):
    """Lowers all logits of the target to 0, of which nothing can be told."""

    def compare(self, source: Seen, target: Seen) -> Any:
        return 1_000.0 * keras.ops.mean(keras.ops.square(target.logits))


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "is_kept"), [(Flatten, False), (ClassConfusion, True)], ids=["collapses", "sharpens"])
def test_the_epoch_that_tells_most_of_the_target_is_kept(
    loss: type[DomainLoss], is_kept: bool, domains: Domains, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(network.LOSSES, "mcc", loss)
    model = domains.source.classifier.model
    before = model.get_weights()
    state = train_network(domains, "mcc")
    assert bool(state.best_epoch) is is_kept
    assert all(np.array_equal(one, other) for one, other in zip(before, model.get_weights(), strict=True)) is not is_kept


def test_batches_of_both_domains_go_on_where_they_were(domains: Domains) -> None:
    size = 5
    num_source, num_target = (len(task.data.rows("train")) for task in (domains.source, domains.target))
    steps = -(-num_source // size)
    assert -(-num_target // size) != steps, "the domains should be of other lengths"
    domains = replace(domains, **{name: with_batches_of(getattr(domains, name), size) for name in ("source", "target")})
    feed: Any = DomainFeed(domains.source.classifier.model, feeds_of(domains), steps, num_target, size)
    whole = list(feed.train(0).take(3 * steps))
    rest = list(feed.train(2, 1).take(steps - 1))
    assert len(rest) == steps - 1
    for one, other in zip(whole[2 * steps + 1 :], rest, strict=True):
        for left, right in zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True):
            np.testing.assert_array_equal(left, right)
