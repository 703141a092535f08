"""The backbone trained on both domains: it learns the labels of the source, and a loss brings the domains together.

Each domain keeps BatchNorm statistics of its own, as with AdaBN; all other weights are shared. What is frozen runs once, for both. No label
of the target is read: the epoch that is kept is the one whose predictions for the target tell most of the images.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tl_keras.adaptations import AUTO
from tl_keras.data.dataset import ImageData, keep_pixels
from tl_keras.data.index import UNLABELLED
from tl_keras.data.pipeline import without_tuning
from tl_keras.models.classifier import cut_below, unfreeze, update_scales
from tl_keras.models.fused import fused
from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.run_folder import SCRATCH
from tl_keras.runtime import building_as
from tl_keras.transfer.adapt.adversarial import ConditionalDiscriminator, Discriminator
from tl_keras.transfer.adapt.discrepancy import ClassConfusion, CovarianceDistance, MeanDiscrepancy
from tl_keras.transfer.adapt.domain_loss import DomainLoss
from tl_keras.transfer.adapt.scores import mutual_information
from tl_keras.transfer.adapt.statistics import Statistics, features_of_domains, norms
from tl_keras.transfer.checkpoints import Monitor, PhaseState, Watch
from tl_keras.transfer.defaults import required
from tl_keras.transfer.feeds import Feed, PixelFeed, StoredFeed
from tl_keras.transfer.frozen import no_room_again, read_tail, record_tail
from tl_keras.transfer.phases import Phase, measure, run_phase
from tl_keras.transfer.task import Task

LOSSES: dict[str, type[DomainLoss]] = {
    "mcc": ClassConfusion,
    "dan": MeanDiscrepancy,
    "deep_coral": CovarianceDistance,
    "dann": Discriminator,
    "cdan": ConditionalDiscriminator,
}
INFORMATION = Monitor("information", "information on the target", "max")


@dataclass(frozen=True)
class Domains:
    """Source and target as tasks of their own, which have the features that the backbone gives with statistics of each.

    Attributes:
        target: its images are all of train, and its labels are `UNLABELLED`.
        statistics: of the source, and of the target; empty for a backbone without BatchNorm.
    """

    source: Task
    target: Task
    statistics: tuple[Statistics, Statistics]

    @property
    def tail(self) -> tuple[str, ...]:
        """The outputs that training goes on from; empty where it reads images."""
        return self.source.tail if self.source.tail == self.target.tail else ()


def see(task: Task, statistics: tuple[Statistics, Statistics]) -> Domains:
    """Both domains as the backbone sees them with statistics of their own, what is frozen being computed.

    Raises:
        StoreError: the run began to train from stored features, for which there is no room now.
    """
    target, before = task.the_target, read_tail(task.run)
    source, frozen = features_of_domains(task, statistics, tail=before != ())
    split = np.full(len(target.index.paths), "", task.data.split.dtype)
    split[target.rows] = "train"
    unlabelled = replace(target.index, labels=np.full(len(split), UNLABELLED, np.int32))
    alike = task.config.replace("train.class_weights", "none").replace("train.sampling", "natural")
    own = replace(task, config=alike, data=ImageData(unlabelled, target.pixels, split), frozen=frozen)
    found = Domains(replace(task, frozen=source), own, statistics)
    if before and not found.tail:
        raise no_room_again(task.run)
    record_tail(found.tail, task.run)
    return found


def train_network(domains: Domains, method: str) -> PhaseState:
    """Train the upper stages and the head on both domains; they start from what the classifier has, which is epoch 0 of the choice.

    Returns:
        How it ended; with a best epoch of 0, the classifier is as it was.
    """
    source, config, output = domains.source, domains.source.config, domains.source.data.output
    lowest, train = required(config.train.unfreeze_from), config.train
    unfreeze(source.classifier, lowest, freeze_batchnorm=True)
    source.tell_parameters(method)
    if not domains.tail:
        for task, name in ((source, "source"), (domains.target, "target")):  # training reads images in every epoch
            keep_pixels(task.data.pixels, config.data, source.run / SCRATCH / name)
    of_source, of_target = tails(domains, lowest)
    views = [_logits_of(each) for each in (of_source, of_target)]
    feeds = _feed(source, views[0], domains.tail), _feed(domains.target, views[1], domains.tail)

    def information() -> float:
        return mutual_information(SINGLE_LABEL.answers(views[1].predict(feeds[1].ordered("train"), verbose=0)))

    start = measure(views[0], feeds[0].ordered("val"), output) | {INFORMATION.name: information()}
    phase = Phase(
        name=method,
        epochs=required(train.epochs),
        num_images=len(source.data.rows("train")),
        learning_rate=required(train.learning_rate),
        scales=update_scales(source.classifier, required(train.layer_decay)),
        patience=train.patience,
        start=start,
        output=output,
        watch=Watch(INFORMATION, information),
        minutes=config.adapt.max_minutes if config.adapt.method == AUTO else None,
    )
    steps = phase.steps(train.batch_size)
    model = joint_model(of_source, of_target, LOSSES[method](steps * phase.epochs, name=method))
    both = DomainFeed(model, feeds, steps, len(domains.target.data.rows("train")), train.batch_size)
    state = run_phase(model, both.train, both.ordered("val"), phase, train, source.run, source.progress)
    if state.best_epoch == 0 and state.trained is not None:
        found = f"{start[INFORMATION.name]:.4f}; at best {state.trained:.4f}"
        source.progress.line(f"{method}: no epoch has more {INFORMATION.title} than the network before training ({found}): that is kept")
    return state


def tails(domains: Domains, lowest: str) -> tuple[keras.Model, keras.Model]:
    """What trains, for each domain: from stored activations or pixels to features and logits; all but BatchNorm's statistics is shared.

    Args:
        lowest: the lowest stage that trains.
    """
    classifier = domains.source.classifier
    cut = cut_below(classifier, lowest) if domains.tail else None
    inputs = [classifier.model.input] if cut is None else list(cut[0].values())
    with building_as(classifier.model):
        of_target = keras.Model(inputs, [classifier.trunk.output, classifier.model.output], name="of_target")
        twin = keras.models.clone_model(of_target, clone_function=_own_layer(domains))
        return keras.Model(twin.inputs, twin.outputs, name="of_source"), of_target


def _own_layer(domains: Domains) -> Callable[[Any], Any]:
    """What takes the place of a layer for the source: a BatchNorm with its statistics, a new input, or the layer itself."""
    places = {layer.name: 2 * place for place, layer in enumerate(norms(domains.source.classifier.model))}
    statistics = domains.statistics[0]

    def own(layer: Any) -> Any:
        if isinstance(layer, keras.layers.InputLayer):
            return type(layer).from_config(layer.get_config())
        if layer.name not in places:
            return layer
        norm: Any = keras.layers.BatchNormalization.from_config(layer.get_config())
        norm.build(layer.input.shape)
        norm.set_weights(layer.get_weights())
        norm.moving_mean.assign(statistics[places[layer.name]])
        norm.moving_variance.assign(statistics[places[layer.name] + 1])
        norm.trainable = False
        return norm

    return own


def joint_model(of_source: keras.Model, of_target: keras.Model, loss: DomainLoss) -> keras.Model:
    """Inputs of the source, then of the target -> logits of the source; in training, a loss between the domains is added."""
    with building_as(of_source):
        inputs = [[keras.Input(each.shape[1:], dtype=each.dtype) for each in one.inputs] for one in (of_source, of_target)]
        seen = [fused(one)(own[0] if len(own) == 1 else own) for one, own in zip((of_source, of_target), inputs, strict=True)]
        return keras.Model([*inputs[0], *inputs[1]], loss([*seen[0], *seen[1]]), name="both_domains")


def _logits_of(tail: keras.Model) -> keras.Model:
    with building_as(tail):
        return fused(keras.Model(tail.inputs, tail.outputs[1], name=f"logits_{tail.name}"))


def _feed(task: Task, model: keras.Model, tail: tuple[str, ...]) -> Feed:
    return StoredFeed(task, model, tail) if tail else PixelFeed(task, model)


class DomainFeed:
    """Batches of two domains at a time; an epoch is each image of the source once, and the target goes round by itself.

    Args:
        model: see `joint_model`.
        feeds: of the source, and of the target.
        steps: of an epoch.
        num_target: images of the target.
    """

    def __init__(self, model: keras.Model, feeds: tuple[Feed, Feed], steps: int, num_target: int, batch_size: int) -> None:
        self.model, self._steps = model, steps
        self._source, self._target = feeds
        self._target_steps = -(-num_target // batch_size)

    def train(self, first_epoch: int, first_step: int = 0) -> Any:
        """Endless ((inputs of both), targets, weights) batches from an epoch (0-based) and a step in it on."""
        place_in_target = divmod(first_epoch * self._steps + first_step, self._target_steps)
        pairs = tf.data.Dataset.zip((self._source.train(first_epoch, first_step), self._target.train(*place_in_target)))

        def joined(source: Any, target: Any) -> Any:
            return (*_flat(source[0]), *_flat(target[0])), source[1], source[2]

        return without_tuning(pairs.map(joined))

    def ordered(self, split: str) -> Any:
        """((inputs twice), targets) batches of the source: nothing of the target is needed where no loss compares them."""
        return without_tuning(self._source.ordered(split).map(lambda inputs, targets: ((*_flat(inputs), *_flat(inputs)), targets)))


def _flat(inputs: Any) -> tuple[Any, ...]:
    return inputs if isinstance(inputs, tuple) else (inputs,)
