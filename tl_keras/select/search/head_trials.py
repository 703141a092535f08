"""One trial on stored features: the head of a configuration, solved on train and judged on val, in a fraction of a second."""

import json

import numpy as np
from numpy.typing import NDArray

from tl_keras.config import Config
from tl_keras.data.index import Index
from tl_keras.data.splits import stratified_sample
from tl_keras.data.strata import stratified
from tl_keras.progress import Progress
from tl_keras.transfer.backbone_features import BackboneFeatures, open_features

SEEN_OF_MODEL = {"backbone", "weights", "preprocessing", "pooling"}  # settings that features depend on; a head has the others
SEEN_OF_FEATURES = {"stages", "views", "max_gb"}


class HeadTrials:
    """Trials of one study, which share what is computed: a backbone's features are opened once for all that use them.

    Args:
        index: the images of all trials.
    """

    def __init__(self, index: Index, progress: Progress) -> None:
        self._index, self._progress = index, progress
        self._opened: dict[str, tuple[BackboneFeatures, NDArray[np.str_]]] = {}

    def open(self, config: Config) -> tuple[BackboneFeatures, NDArray[np.str_]]:
        """The features that a configuration learns from, computed, and the splits as its training would cut them."""
        model, features = config.model.model_dump(include=SEEN_OF_MODEL), config.features.model_dump(include=SEEN_OF_FEATURES)
        key = json.dumps([config.data.model_dump(mode="json"), model, features], sort_keys=True)
        if key not in self._opened:
            opened = open_features(config, self._index, self._progress)
            split = opened.compute_and_cut(self._progress)
            self._opened[key] = opened, split
        return self._opened[key]

    def __call__(self, config: Config, share: float) -> dict[str, float]:
        """Solve the head on a share of train, stratified; return `val_loss` and the metric on val."""
        opened, split = self.open(config)
        train, val = (np.flatnonzero(split == name) for name in ("train", "val"))
        if share < 1:
            train = train[stratified_sample(stratified(self._index).labels[train], max(2, round(share * len(train))), config.runtime.seed)]
        probe = opened.problem.solve(config, train, val).probe
        return dict(zip(self._index.output.monitored, (probe.val_loss, probe.val_metric), strict=True))
