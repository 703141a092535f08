"""From a configuration and an index of files to a task that is ready to train.

The network is built, the outputs of its frozen part are brought into the store for every image, and the splits are cut
among the images that decode. What is learned from it, is up to the other modules of this package.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tl_keras.config import Config
from tl_keras.data import dataset
from tl_keras.data.dataset import ImageData
from tl_keras.data.file_ids import numbers
from tl_keras.data.index import Index
from tl_keras.data.pipeline import Pixels
from tl_keras.errors import TrainingError
from tl_keras.models.classifier import Classifier
from tl_keras.models.engines import TENSORFLOW
from tl_keras.progress import Progress
from tl_keras.run_folder import SCRATCH, RunFolder
from tl_keras.runtime import place
from tl_keras.transfer.adapt.target import bring_in
from tl_keras.transfer.build import build_and_tell, check_names, image_size_of, resolve
from tl_keras.transfer.cluster import uses_cluster
from tl_keras.transfer.cluster_features import compute_by_actors, with_engine_of_cluster
from tl_keras.transfer.engine import Choice, as_asked, begun, settle_engine
from tl_keras.transfer.features import FrozenFeatures, Rows
from tl_keras.transfer.frozen import compute_and_cut, fit_to_store_limit, num_views, open_frozen, record_tail, tail_of, views_of
from tl_keras.transfer.memory import require_memory
from tl_keras.transfer.replicas import are_the_chiefs, wait_for_others
from tl_keras.transfer.store import open_store
from tl_keras.transfer.task import Task, require_shards
from tl_keras.transfer.varied import require_varied


@dataclass(frozen=True)
class Opened:
    """A network and its images, before anything frozen is computed.

    Attributes:
        config: without open settings, but for engine and precision.
        index: with the ids of its files.
        classifier: the network, in the precision that is asked for.
        split: the split of each file, if all of them decode.
        pixels: the images, identified.
    """

    config: Config
    index: Index
    classifier: Classifier
    split: NDArray[np.str_]
    pixels: Pixels


def open_network(config: Config, index: Index, progress: Progress) -> Opened:
    """Build the network, fill the open settings, and refuse what cannot be trained before anything is computed.

    Args:
        index: with the ids of its files as they are now, or without.

    Raises:
        UserError: from the data, the backbone, or the settings that only they can check.
    """
    classifier = build_and_tell(config, len(index.classes), progress)
    split = dataset.cut(index, config.data, {})  # a class that is too small is said before hours of computing
    config = resolve(config, classifier, int((split == "train").sum()))
    check_names(config, classifier, index, split)
    if config.mode in ("finetune", "pretrain") and config.train.sampling == "by_shard":  # others may not use it
        require_shards(index)
    require_memory(config, classifier)
    pixels = dataset.open_pixels(index, config.data, image_size_of(config))
    pixels.identify(progress, index.ids)
    index = replace(index, ids=pixels.ids)
    require_varied(pixels, np.flatnonzero(split == "train"))
    return Opened(config, index, classifier, split, pixels)


def compute_part(
    config: Config, classifier: Classifier, frozen: FrozenFeatures, wanted: Sequence[Rows], part: tuple[int, int], progress: Progress
) -> tuple[FrozenFeatures, list[Rows]]:
    """Compute what the store lacks of one part of the images, k of n by their content, on the first engine that there is.

    Args:
        wanted: for each view, the rows that need it.

    Returns:
        What is frozen, on that engine; and those of the rows that are in this part.
    """
    is_mine = numbers(frozen.ids) % part[1] == part[0]
    mine = [rows[is_mine[rows]] for rows in wanted]
    _, _, frozen = settle_engine(config, classifier, frozen, mine, progress, worth_s=np.inf)
    frozen.compute(mine, progress, lambda: dataset.check(frozen.pixels, config.data))
    return frozen, mine


def _require_like_the_chiefs(config: Config, data: ImageData, tail: Sequence[str]) -> None:
    """Refuse what another process trains on otherwise, because of its disk, its store or what was measured on it before.

    Raises:
        TrainingError: naming what may differ.
    """
    if place() is None:
        return
    told = {
        "images or their splits": data.split.tobytes() + data.pixels.ids.tobytes(),
        "engine or precision": f"{config.runtime.engine} {config.runtime.precision}".encode(),
        "room for stored features": repr(tuple(tail)).encode(),
    }
    for what, content in told.items():
        if not are_the_chiefs([content]):
            raise TrainingError(f"{place()} has other {what} than the chief. Make the machines alike, or name what they are to take.")


def prepare_task(config: Config, index: Index, run: RunFolder, progress: Progress, target: Index | None = None) -> Task:
    """Build the network, fill the open settings, compute what is frozen and cut the splits.

    Args:
        index: with the ids of its files as they are now, or without.
        target: the images of the target domain, likewise, where there is one.

    Raises:
        UserError: from the data, the backbone, the settings that only they can check, or the store.
    """
    opened = open_network(config, index, progress)
    config, index, classifier, split, pixels = opened.config, opened.index, opened.classifier, opened.split, opened.pixels
    frozen: FrozenFeatures | None = None
    choice = Choice(TENSORFLOW, as_asked(config))
    if config.mode != "pretrain":
        if by_cluster := uses_cluster(config):
            config = with_engine_of_cluster(config)
        frozen = begun(config, open_frozen(config, classifier, pixels, open_store(config.features.max_gb)))
        frozen = fit_to_store_limit(config, frozen, split, run, progress)
        wanted = views_of(split, num_views(config))
        here = place()
        if here is not None:
            compute_part(config, classifier, frozen, wanted, (here.index, len(here.addresses)), progress)
            wait_for_others()
            frozen.store.refresh()
        worth_s = None if here is None else np.inf  # several machines would measure several things
        choice, classifier, frozen = settle_engine(config, classifier, frozen, wanted, progress, worth_s=worth_s, elsewhere=by_cluster)
        config = config.replace("runtime.engine", choice.engine)
        frozen = fit_to_store_limit(config, frozen, split, run, progress)  # what is stored differs between engines and precisions
        if by_cluster:
            compute_by_actors(config.replace("runtime.precision", choice.precision), index, frozen, wanted, progress)
        if config.mode == "finetune":
            record_tail(tail_of(frozen), run)
    config = config.replace("runtime.precision", choice.precision)
    if config.mode in ("finetune", "pretrain") and not tail_of(frozen):  # training reads images in every epoch
        dataset.keep_pixels(pixels, config.data, run / SCRATCH)
    if frozen is None:
        split = dataset.decode_and_cut(index, config.data, pixels, progress)
    else:
        split = compute_and_cut(config, index, frozen, progress)
    data = ImageData(replace(index, output=index.output.fitted(index.labels[split == "train"])), pixels, split)
    _require_like_the_chiefs(config, data, tail_of(frozen))
    dataset.write(data, run, progress)
    there = None if target is None or frozen is None else bring_in(config, target, frozen, progress)
    return Task(config, data, classifier, frozen, choice, run, progress, there)
