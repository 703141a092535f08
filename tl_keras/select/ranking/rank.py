"""Ranking of backbones: candidates are scored on a sample of the user's images, in seconds each, without training any.

A candidate's frozen features of the sample come from the store. How well ridge regression on them answers images that it
has not seen is the accuracy to expect; published transferability metrics stand beside it. What a candidate costs is
measured on this machine. `front` draws the result; a workflow writes it down.
"""

import gc
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tl_keras.config import Config
from tl_keras.data import dataset
from tl_keras.data.index import Index
from tl_keras.data.splits import outside_test, stratified_sample
from tl_keras.errors import ConfigError, DataError
from tl_keras.evaluation.intervals import wilson
from tl_keras.models.backbone_names import check_backbone, short_name, table_name
from tl_keras.models.backbone_weights import has_weights
from tl_keras.models.backbones import BACKBONES
from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.progress import Progress
from tl_keras.runtime import fresh_names, restoring_process
from tl_keras.select.ranking import transferability
from tl_keras.transfer.backbone_features import open_features
from tl_keras.transfer.engine import timed
from tl_keras.transfer.features import FrozenFeatures
from tl_keras.transfer.frozen import POOLED
from tl_keras.transfer.head.probe import Standardiser
from tl_keras.transfer.head.ridge import fit_ridge
from tl_keras.transfer.machine_cache import keep, recall
from tl_keras.transfer.trunk import BATCH_SIZE

CACHED = "cached"  # the candidates whose published weights lie on this machine
COSTS = "costs.json"  # beside the features: what was timed
CLUSTERS_PER_CLASS = 5  # of N-LEEP, as in its paper
IMAGES_PER_CLUSTER = 10  # fewer clusters where images are few: small ones fit any labels
CLUSTER_SEED = 0
METRICS = ("LogME", "H-score", "N-LEEP", "NCE", "TransRate", "CKA")


@dataclass(frozen=True)
class RankedBackbone:
    """One candidate, and what is to be expected of it.

    Attributes:
        backbone: as it was given.
        image_size: (height, width) in pixels.
        accuracy: of ridge regression on frozen features, on images that were left out, in [0, 1].
        interval: Wilson's 95 % interval of it.
        scores: transferability metrics by name, see `scores`.
        num_parameters: of the backbone.
        ms: milliseconds per image, in batches, on this machine and without decoding.
    """

    backbone: str
    image_size: tuple[int, int]
    accuracy: float
    interval: tuple[float, float]
    scores: dict[str, float | None]
    num_parameters: int
    ms: float

    @property
    def name(self) -> str:
        """What people call it."""
        return short_name(self.backbone)

    @property
    def megabytes(self) -> float:
        """MB of its weights in float32."""
        return 4 * self.num_parameters / 1e6


def candidates(names: Sequence[str]) -> list[str]:
    """The backbones that are asked for, each once; 'cached' stands for each row whose weights lie on this machine.

    Raises:
        BackboneError: a name is neither a row of the table nor a file or folder of a backbone.
    """
    found: list[str] = []
    for name in names:
        found += [row.name for row in BACKBONES.values() if has_weights(row)] if name == CACHED else [table_name(name)]
    for name in found:
        check_backbone(name)
    return list(dict.fromkeys(found))


@restoring_process()
def rank_candidates(config: Config, index: Index, progress: Progress, rows: NDArray[np.int64] | None = None) -> list[RankedBackbone]:
    """Judge the candidates of `rank.candidates` on a sample of train and val, the best first.

    Test is not looked at (where files do not decode, a training run may cut it a little differently). Equal accuracies are in the
    order of their milliseconds.

    Args:
        rows: positions of the images to choose the sample from, where it is known which decode, int64 (n,); None for train and val.

    Raises:
        UserError: from the data, a candidate or the store.
    """
    asked = candidates(config.rank.candidates)
    rows = outside_test(dataset.cut(index, config.data, {})) if rows is None else rows
    sample = index.take(rows[stratified_sample(index.labels[rows], config.rank.max_images, config.data.split_seed)])
    found = []
    with progress.bar("rank", len(asked)) as advance:
        for name in asked:
            with fresh_names():
                found.append(judge(with_backbone(config, name), sample, progress))
            gc.collect()  # its network, which is a ring of references
            advance(1)
    return sorted(found, key=lambda judged: (-judged.accuracy, judged.ms))


def with_backbone(config: Config, backbone: str) -> Config:
    """The configuration of a frozen backbone without augmented views: all that is looked at here."""
    return config.replace("model.backbone", backbone).replace("features.views", 0)


def judge(config: Config, sample: Index, progress: Progress) -> RankedBackbone:
    """Judge the backbone of a configuration on all images of a sample."""
    everything = np.arange(len(sample.paths))
    opened = open_features(config, sample, progress, varied=None)
    opened.compute([everything], progress)
    good = np.setdiff1d(everything, list(opened.frozen.pixels.bad))
    features, labels = opened.frozen.stored(POOLED, good)[:], sample.labels[good]
    check_classes(labels, sample)
    ridge = fit_ridge(features, SINGLE_LABEL.targets(labels, len(sample.classes)), Standardiser.fit(features))
    return RankedBackbone(
        config.model.backbone,
        opened.frozen.pixels.shape[:2],
        ridge.loo_accuracy,
        wilson(round(ridge.loo_accuracy * len(good)), len(good)),
        scores(features, labels, len(sample.classes)),
        opened.num_parameters,
        milliseconds(opened.frozen, good),
    )


def check_classes(labels: NDArray[np.int32], sample: Index) -> None:
    """Refuse a sample in which there is only one class left."""
    if len(np.unique(labels)) < 2:
        raise DataError(f"{sample.root}: the images that decode are all of one class. Ranking needs at least two.")


def scores(features: NDArray[np.float32], labels: NDArray[np.int32], num_classes: int) -> dict[str, float | None]:
    """Transferability metrics of features (n, d) for labels (n,), by name; larger is better for each.

    The backbones come without the classifier of their source task, so that LEEP and NCE see clusters of the features in
    place of its answers. All are None where the features are the same for all images.
    """
    if (features == features[0]).all():
        return dict.fromkeys(METRICS)
    spectra = transferability.Spectra(features)
    clusters = transferability.source_clusters(
        spectra, min(CLUSTERS_PER_CLASS * num_classes, max(len(labels) // IMAGES_PER_CLUSTER, 1)), CLUSTER_SEED
    )
    found = (
        transferability.log_me(spectra, labels, num_classes),
        transferability.regularised_h_score(spectra, labels, num_classes),
        transferability.leep(clusters, labels, num_classes),
        transferability.nce(SINGLE_LABEL.decide(clusters), labels),
        transferability.trans_rate(spectra, labels, num_classes),
        transferability.linear_cka(spectra, SINGLE_LABEL.targets(labels, num_classes)),
    )
    return dict(zip(METRICS, found, strict=True))


def milliseconds(frozen: FrozenFeatures, rows: NDArray[np.int64]) -> float:
    """Milliseconds an image of the frozen backbone in batches: the least that was measured on this machine.

    Measured whenever the trunk is folded anyway, so that one time on a busy machine does not stay for ever.
    """
    file, about = frozen.store.root / COSTS, (frozen.fingerprints[POOLED], frozen.trunk.engine)
    known: float | None = recall(file, *about)
    if known is not None and not frozen.trunk.is_folded:
        return known
    batch = frozen.pixels.read(np.resize(rows, BATCH_SIZE))
    least = min(known or np.inf, 1e3 * timed(frozen.trunk, batch)[1] / len(batch))
    keep(file, least, *about)
    return least


def front(judged: Sequence[RankedBackbone]) -> list[RankedBackbone]:
    """Those of which no other is both as fast and as accurate: the Pareto front, the fastest first."""
    best: list[RankedBackbone] = []
    for each in sorted(judged, key=lambda one: (one.ms, -one.accuracy)):
        if not best or each.accuracy > best[-1].accuracy:
            best.append(each)
    return best


def choose(judged: Sequence[RankedBackbone], max_ms: float | None) -> RankedBackbone:
    """The first of a ranking that is fast enough.

    Raises:
        ConfigError: none is.
    """
    for each in judged:
        if max_ms is None or each.ms <= max_ms:
            return each
    fastest = min(judged, key=lambda one: one.ms)
    raise ConfigError(
        f"rank.max_ms: got {max_ms:g}, and the fastest candidate, {fastest.name}, takes {fastest.ms:.2f} ms per image. Raise it."
    )


def explain(judged: Sequence[RankedBackbone], max_ms: float | None) -> str:
    """One line: what is chosen, and what speaks for it and against it."""
    chosen = choose(judged, max_ms)
    num = sum(max_ms is None or one.ms <= max_ms for one in judged)
    within = "" if max_ms is None else f" within {max_ms:g} ms per image"
    low, high = chosen.interval
    line = (
        f"{chosen.name}: accuracy {chosen.accuracy:.3f} expected of its frozen features (95 % interval {low:.3f} to {high:.3f}), "
        f"the best of {num}{within}; {chosen.ms:.1f} ms per image, {chosen.num_parameters / 1e6:.1f} M parameters"
    )
    faster = [one for one in front(judged) if one.ms < chosen.ms and one.accuracy >= low]
    if faster:
        line += f". {faster[0].name} is {chosen.ms / faster[0].ms:.1f} times faster and not clearly worse ({faster[0].accuracy:.3f})"
    better = [one for one in judged if one.accuracy > chosen.accuracy]
    return line + (f". Without the limit: {better[0].name}, {better[0].accuracy:.3f}" if better else "")
