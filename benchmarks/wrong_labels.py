"""How well wrong labels are found: `check` beside cleanlab, on the same features of the same images with labels changed at random.

    pip install cleanlab
    python benchmarks/wrong_labels.py --data flowers/ --backbone mobilenet_v2

cleanlab is given out-of-fold probabilities of scikit-learn's logistic regression, five folds, C by the least log loss out of fold, and
each of its three scores counts with its best. AUROC: how often a wrong label is ranked above a right one.
"""

import argparse
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from processes import print_table

from tl_keras import Progress, load_config
from tl_keras.data.sources import open_source
from tl_keras.runtime import set_up
from tl_keras.select.check.labels import answer_labels, check_labels
from tl_keras.select.check.neighbours import find_neighbours
from tl_keras.transfer.backbone_features import BackboneFeatures, open_features
from tl_keras.transfer.frozen import POOLED
from tl_keras.transfer.head.probe import chunks

RATES = (0.05, 0.3)
CS = (1e-4, 1e-3, 1e-2)
SCORES = ("self_confidence", "normalized_margin", "confidence_weighted_entropy")


def features_of(data: str, backbone: str, sets: list[str]) -> BackboneFeatures:
    """The features that `check` would see."""
    flags = {"--data": ("data.source", data), "--backbone": ("model.backbone", backbone)}
    config, progress = load_config("check", file=None, flags=flags, sets=sets), Progress()
    set_up(config.runtime)
    index = open_source(config.data).identified(progress)
    opened = open_features(config.replace("features.views", 0), index, progress, varied=None)
    opened.compute([np.arange(len(index.paths))], progress)
    return opened


def flipped(labels: NDArray[np.int32], num_classes: int, rate: float, seed: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Labels of which a share is another class's, each equally likely; and which."""
    rng = np.random.default_rng(seed)
    wrong = np.zeros(len(labels), bool)
    wrong[rng.permutation(len(labels))[: round(rate * len(labels))]] = True
    return np.where(wrong, (labels + rng.integers(1, num_classes, len(labels))) % num_classes, labels).astype(np.int32), wrong


def out_of_fold(features: NDArray[np.float32], labels: NDArray[np.int32]) -> NDArray[np.float64]:
    """Probabilities (n, k) of logistic regression."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    x = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-6)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    tried = [cross_val_predict(LogisticRegression(C=c, max_iter=300), x, labels, cv=folds, method="predict_proba") for c in CS]
    return min(tried, key=lambda probabilities: log_loss(labels, probabilities))


def compared(
    opened: BackboneFeatures, rate: float, seed: int
) -> Iterator[tuple[str, NDArray[np.floating], NDArray[np.bool_], NDArray[np.bool_], float]]:
    """For `check` and for cleanlab: suspicion (n,), which labels are suspect, which are wrong, and the seconds it took."""
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores
    from sklearn.metrics import roc_auc_score

    features, num_classes = opened.frozen.stored(POOLED, np.arange(len(opened.index.paths))), len(opened.index.classes)
    num_last = opened.classifier.num_last
    labels, wrong = flipped(opened.index.labels, num_classes, rate, seed)
    started = time.perf_counter()
    answers = answer_labels(features, labels, num_classes)
    ours = check_labels(answers, labels, find_neighbours(features, labels, num_classes, num_last))
    yield "check", ours.suspicion, ours.is_suspect, wrong, time.perf_counter() - started
    last = np.concatenate([features[part][:, -num_last:] for part in chunks(features)])
    started = time.perf_counter()
    probabilities = out_of_fold(last, labels)
    suspicions = [-get_label_quality_scores(labels, probabilities, method=name) for name in SCORES]
    best = max(suspicions, key=lambda each: roc_auc_score(wrong, each))
    yield "cleanlab", best, find_label_issues(labels, probabilities), wrong, time.perf_counter() - started


def main() -> None:
    from sklearn.metrics import roc_auc_score

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], dest="sets")
    options = parser.parse_args()
    opened = features_of(options.data, options.backbone, options.sets)
    rows, ratios = [], []
    for rate in RATES:
        for seed in range(options.seeds):
            areas = []
            for name, suspicion, suspects, wrong, seconds in compared(opened, rate, seed):
                areas.append(roc_auc_score(wrong, suspicion))
                figures = (f"{areas[-1]:.4f}", f"{suspects.sum():,}", f"{wrong[suspects].mean():.3f}", f"{suspects[wrong].mean():.3f}")
                rows.append([f"{rate:.0%}", str(seed), name, *figures, f"{seconds:.1f}"])
            ratios.append((1 - areas[0]) / (1 - areas[1]))
    print_table(["labels changed", "seed", "", "AUROC", "suspects", "truly wrong", "of all wrong", "s"], rows)
    print(f"ratio {np.mean(ratios):.2f}")


if __name__ == "__main__":
    main()
