"""Ranking of backbones: candidates are scored on a sample of the user's images, in seconds each, without training any.

A candidate's frozen features of the sample come from the store. How well ridge regression on them answers images that it
has not seen is the figure to expect (the metric of the task); published transferability metrics stand beside it. What a
candidate costs is measured on this machine. `plot` draws the result; a workflow writes it down.
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
from tl_keras.data.strata import stratified
from tl_keras.errors import ConfigError, DataError
from tl_keras.evaluation.metrics import figures_of
from tl_keras.models.backbone_names import check_backbone, short_name, table_name
from tl_keras.models.backbone_weights import has_weights
from tl_keras.models.backbones import BACKBONES
from tl_keras.models.outputs import OUTPUTS, SINGLE_LABEL, Labels, Output
from tl_keras.progress import Progress
from tl_keras.runtime import fresh_names, restoring_process
from tl_keras.select.ranking import transferability
from tl_keras.tasks import MULTI_LABEL, REGRESSION, figure_text
from tl_keras.transfer.backbone_features import open_features
from tl_keras.transfer.engine import timed
from tl_keras.transfer.features import FrozenFeatures
from tl_keras.transfer.frozen import POOLED
from tl_keras.transfer.head.probe import Standardiser
from tl_keras.transfer.head.ridge import ridge_answers
from tl_keras.transfer.machine_cache import keep, recall
from tl_keras.transfer.trunk import BATCH_SIZE

CACHED = "cached"  # the candidates whose published weights lie on this machine
COSTS = "costs.json"  # beside the features: what was timed
CLUSTERS_PER_CLASS = 5  # of N-LEEP, as in its paper
IMAGES_PER_CLUSTER = 10  # fewer clusters where images are few: small ones fit any labels
CLUSTER_SEED = 0
METRICS = {  # the task -> the transferability metrics that are defined for it
    SINGLE_LABEL.task: ("LogME", "H-score", "N-LEEP", "NCE", "TransRate", "CKA"),
    MULTI_LABEL: ("LogME", "CKA"),
    REGRESSION: ("LogME", "CKA"),
}


@dataclass(frozen=True)
class RankedBackbone:
    """One candidate, and what is to be expected of it.

    Attributes:
        backbone: as it was given.
        image_size: (height, width) in pixels.
        figure: the metric of the task, such as the accuracy, of ridge regression on frozen features, on images that were left out.
        interval: its 95 % interval.
        scores: transferability metrics by name, see `scores`.
        num_parameters: of the backbone.
        ms: milliseconds per image, in batches, on this machine and without decoding.
        task: what labels are, a key of `OUTPUTS`.
    """

    backbone: str
    image_size: tuple[int, int]
    figure: float
    interval: tuple[float, float]
    scores: dict[str, float | None]
    num_parameters: int
    ms: float
    task: str = SINGLE_LABEL.task

    @property
    def output(self) -> Output:
        """What the figure is."""
        return OUTPUTS[self.task]

    @property
    def merit(self) -> float:
        """The figure, with the sign that makes more better."""
        return self.output.turned(self.output.val_metric, self.figure)

    @property
    def at_worst(self) -> float:
        """The worse end of the interval, likewise."""
        return min(self.output.turned(self.output.val_metric, end) for end in self.interval)

    @property
    def text(self) -> str:
        """The figure as messages show it."""
        return self.told(self.figure)

    def told(self, figure: float) -> str:
        """A value of the figure as messages show it."""
        return figure_text(self.output.metric_name, figure, 3)

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

    The test split is not looked at (where files do not decode, a training run may split a little differently). Ties are in the
    order of their milliseconds.

    Args:
        rows: positions of the images to choose the sample from, where it is known which decode, int64 (n,); None for train and val.

    Raises:
        UserError: from the data, a candidate or the store.
    """
    asked = candidates(config.rank.candidates)
    rows = outside_test(dataset.cut(index, config.data, {})) if rows is None else rows
    strata = stratified(index.take(rows)).labels
    sample = index.take(rows[stratified_sample(strata, config.rank.max_images, config.data.split_seed)])
    found = []
    with progress.bar("rank", len(asked)) as advance:
        for name in asked:
            with fresh_names():
                found.append(judge(with_backbone(config, name), sample, progress))
            gc.collect()  # its network, which is a ring of references
            advance(1)
    return sorted(found, key=lambda judged: (-judged.merit, judged.ms))


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
    output, classes = sample.output.fitted(labels), sample.classes
    targets = output.targets(labels, len(classes))
    if (targets == targets[0]).all():
        raise DataError(f"{sample.root}: the images that decode all have the same label. Ranking needs at least two.")
    _, left_out = ridge_answers(features, targets, Standardiser.fit(features))
    figures = figures_of(output, output.answers(left_out), labels, classes)  # which keep the order of what they are made of
    low, high = figures[f"{output.metric_name}_ci95"]
    return RankedBackbone(
        config.model.backbone,
        opened.frozen.pixels.shape[:2],
        figures[output.metric_name],
        (low, high),
        scores(features, labels, output, len(classes)),
        opened.num_parameters,
        milliseconds(opened.frozen, good),
        output.task,
    )


def scores(features: NDArray[np.float32], labels: Labels, output: Output, num_classes: int) -> dict[str, float | None]:
    """Those transferability metrics of features (n, d) that are defined for such labels, by name; larger is better for each.

    The backbones come without the classifier of their source task, so that LEEP and NCE see clusters of the features in
    place of its answers. All are None where the features are the same for all images.
    """
    names = METRICS[output.task]
    if (features == features[0]).all():
        return dict.fromkeys(names)
    spectra, targets = transferability.Spectra(features), output.targets(labels, num_classes)
    found = {"LogME": transferability.log_me_of_targets(spectra, targets), "CKA": transferability.linear_cka(spectra, targets)}
    if output == SINGLE_LABEL:
        found |= scores_of_classes(spectra, labels, num_classes)
    return {name: found[name] for name in names}


def scores_of_classes(spectra: transferability.Spectra, labels: NDArray[np.int32], num_classes: int) -> dict[str, float]:
    """The metrics that need one class for each image."""
    clusters = transferability.source_clusters(
        spectra, min(CLUSTERS_PER_CLASS * num_classes, max(len(labels) // IMAGES_PER_CLUSTER, 1)), CLUSTER_SEED
    )
    return {
        "H-score": transferability.regularised_h_score(spectra, labels, num_classes),
        "N-LEEP": transferability.leep(clusters, labels, num_classes),
        "NCE": transferability.nce(SINGLE_LABEL.decide(clusters), labels),
        "TransRate": transferability.trans_rate(spectra, labels, num_classes),
    }


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
    """Those of which no other is both as fast and as good: the Pareto front, the fastest first."""
    best: list[RankedBackbone] = []
    for each in sorted(judged, key=lambda one: (one.ms, -one.merit)):
        if not best or each.merit > best[-1].merit:
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
    low, high = map(chosen.told, chosen.interval)
    line = (
        f"{chosen.name}: {chosen.output.metric_title} {chosen.text} expected of its frozen features (95 % interval {low} to {high}), "
        f"the best of {num}{within}; {chosen.ms:.1f} ms per image, {chosen.num_parameters / 1e6:.1f} M parameters"
    )
    faster = [one for one in front(judged) if one.ms < chosen.ms and one.merit >= chosen.at_worst]
    if faster:
        line += f". {faster[0].name} is {chosen.ms / faster[0].ms:.1f} times faster and not clearly worse ({faster[0].text})"
    better = [one for one in judged if one.merit > chosen.merit]
    return line + (f". Without the limit: {better[0].name}, {better[0].text}" if better else "")
