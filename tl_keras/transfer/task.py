"""Context of a training run, passed from phase to phase."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_keras.config import Config
from tl_keras.data.dataset import ImageData
from tl_keras.data.index import Index
from tl_keras.data.orders import Order, balanced, by_shard, shuffled
from tl_keras.data.shards.contents import shard_numbers
from tl_keras.errors import ConfigError
from tl_keras.models.classifier import Classifier, count_parameters
from tl_keras.models.outputs import Labels
from tl_keras.progress import Progress
from tl_keras.run_folder import RunFolder
from tl_keras.transfer.adapt.target import Target
from tl_keras.transfer.engine import Choice
from tl_keras.transfer.features import FrozenFeatures, StoredFeatures
from tl_keras.transfer.frozen import num_views, tail_of
from tl_keras.transfer.head.problem import HeadProblem
from tl_keras.transfer.losses import image_weights, logit_shifts


@dataclass(frozen=True)
class Task:
    """Context of a training run: the model, the data, the settings, and where progress is reported.

    Attributes:
        frozen: the outputs of the frozen part of the backbone, computed for every image; None where nothing is frozen.
        target: the images of the target domain; None where there is none.
        teacher: float32 (n, k), a teacher's probabilities for the training images, in the order of `data.rows("train")`; None where there
            is none.
        engine: what computes the frozen part, the precision of the network, and why.
    """

    config: Config
    data: ImageData
    classifier: Classifier
    frozen: FrozenFeatures | None
    engine: Choice
    run: RunFolder
    progress: Progress
    target: Target | None = None
    teacher: NDArray[np.float32] | None = None

    @property
    def tail(self) -> tuple[str, ...]:
        """The names of the outputs in `frozen` that finetuning goes on from; empty where it starts from pixels."""
        return tail_of(self.frozen)

    @property
    def train_weights(self) -> NDArray[np.float32]:
        """float32 (n,): the weight of each training image in the loss."""
        index, rows = self.data.index, self.data.rows("train")
        found = image_weights(self.config.train.class_weights, index.labels[rows], index.classes, index.output)
        return found if index.weights is None else found * index.weights[rows]

    @property
    def learned(self) -> Labels:
        """What training learns of each of the n files: what its label says, of train mixed with the teacher's answer if there is one."""
        index, rows = self.data.index, self.data.rows("train")
        if self.teacher is None:
            return index.learned
        share = self.config.train.teacher_weight
        found = index.output.targets(index.learned, len(index.classes)).copy()
        found[rows] = (1 - share) * found[rows] + share * self.teacher
        return found

    @property
    def order(self) -> Order:
        """Which training images an epoch shows."""
        labels, sampling = self.data.labels("train"), self.config.train.sampling
        if sampling == "by_shard":
            return by_shard(require_shards(self.data.index)[self.data.rows("train")])
        return balanced(labels) if sampling == "balanced" else shuffled(len(labels))

    @property
    def logit_shifts(self) -> NDArray[np.float32] | None:
        """float32 (k,): what is added to the logits in the loss, see `losses.logit_shifts`; None for nothing."""
        return logit_shifts(self.config.train, self.data.labels("train"), self.data.classes)

    @property
    def targets_op(self) -> Callable[[Any], Any]:
        """What turns a tensor of labels into what the model learns, float32 (b, k)."""
        return partial(self.data.output.targets_op, num_classes=len(self.data.classes))

    @property
    def num_views(self) -> int:
        """Stored augmented views of each training image, beside the plain one."""
        return num_views(self.config)

    @property
    def head_problem(self) -> HeadProblem:
        """What a linear head is solved on."""
        return HeadProblem(self.the_frozen, self.learned, self.data.classes, self.num_views, self.data.output, self.data.index.weights)

    @property
    def the_frozen(self) -> FrozenFeatures:
        """The features of a task that has some."""
        if self.frozen is None:
            raise ValueError("this task has nothing frozen")
        return self.frozen

    @property
    def the_target(self) -> Target:
        """The target domain of a run that has one."""
        if self.target is None:
            raise ValueError("this task has no target domain")
        return self.target

    def stored(self, output: str, split: str) -> StoredFeatures:
        """An output of the frozen trunk for a split: the plain view of each row and, of train, then each further view."""
        return self.the_frozen.stored(output, self.data.rows(split), self.num_views if split == "train" else 0)

    def tell_parameters(self, phase: str) -> None:
        """Say how many parameters a phase trains."""
        count = count_parameters(self.classifier.model)
        self.progress.line(f"{phase}: {count['trainable']:,} of {count['total']:,} parameters train")


def require_shards(index: Index) -> NDArray[np.int64]:
    """The number of the shard that each image lies in, (n,), for train.sampling=by_shard.

    Raises:
        ConfigError: they do not lie in shards.
    """
    found = shard_numbers(index.paths)
    if found is None:
        raise ConfigError(f"train.sampling: got 'by_shard', and the images of {index.root} do not lie in shards. Leave it out.")
    return found
