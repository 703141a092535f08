"""Ways of making prediction sets side by side: thresholds on the probability, one for each class or one for all, and adaptive sets.

    python benchmarks/prediction_sets.py RUN [RUN ...]

For finished runs with one class an image. Val and test are put together and cut anew 200 times, as many images to find the thresholds as
val has. The worst class is that with the least mean coverage over the cuts; unsure images are the quarter with the lowest probability.
Adaptive sets (APS) add classes by falling probability until their sum, less a random part of that of the last, reaches a threshold: Romano,
Sesia & Candes 2020, arXiv:2006.02544; regularised ones (RAPS) add 0.01 for each class beyond the first: Angelopoulos et al. 2021,
arXiv:2009.14193.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
from calibration import RESPLITS
from numpy.typing import NDArray
from processes import print_table

from tl_keras import run_folder
from tl_keras.evaluation.conformal import class_thresholds, prediction_sets, threshold
from tl_keras.evaluation.prediction_file import read_predictions

Matrix = NDArray[np.float64]
PENALTY = 0.01  # of RAPS


def by_class(val: Matrix, labels: NDArray[np.int64], test: Matrix, coverage: float, seed: int) -> NDArray[np.bool_]:
    return prediction_sets(test, class_thresholds(val, labels, coverage))


def by_all(val: Matrix, labels: NDArray[np.int64], test: Matrix, coverage: float, seed: int) -> NDArray[np.bool_]:
    return prediction_sets(test, np.full(test.shape[1], threshold(own(val, labels), coverage)))


def adaptive(val: Matrix, labels: NDArray[np.int64], test: Matrix, coverage: float, seed: int, penalty: float = 0.0) -> NDArray[np.bool_]:
    draws = np.random.default_rng(seed)
    scores, others = (-mass_above(each, draws.random(len(each)), penalty) for each in (val, test))  # larger is surer, as a probability
    return prediction_sets(others, np.full(test.shape[1], threshold(own(scores, labels), coverage)))


def regularised(val: Matrix, labels: NDArray[np.int64], test: Matrix, coverage: float, seed: int) -> NDArray[np.bool_]:
    return adaptive(val, labels, test, coverage, seed, PENALTY)


def mass_above(probabilities: Matrix, random: Matrix, penalty: float) -> Matrix:
    """Of each class (n, k): the probability of those above it and a random share, (n,), of its own, and the penalty for its rank."""
    order = np.argsort(-probabilities, axis=1, kind="stable")
    falling = np.take_along_axis(probabilities, order, axis=1)
    found = np.empty_like(probabilities)
    scores = np.cumsum(falling, axis=1) - random[:, None] * falling + penalty * np.arange(probabilities.shape[1])
    np.put_along_axis(found, order, scores, axis=1)
    return found


def own(values: NDArray[np.generic], labels: NDArray[np.int64]) -> NDArray[np.generic]:
    """Those of the true classes, (n,)."""
    return np.take_along_axis(values, labels[:, None], axis=1)[:, 0]


WAYS: dict[str, Callable[[Matrix, NDArray[np.int64], Matrix, float, int], NDArray[np.bool_]]] = {
    "a threshold for each class": by_class,
    "one threshold": by_all,
    "APS": adaptive,
    "RAPS": regularised,
}


def row(run: Path, way: str, coverage: float) -> list[str]:
    """A row of the table."""
    val, test = (read_predictions(run / name) for name in (run_folder.VAL_PREDICTIONS, run_folder.PREDICTIONS))
    probabilities, labels = (np.concatenate([one, other]) for one, other in zip(val[:2], test[:2], strict=True))
    found = defaultdict(list)
    for seed in range(RESPLITS):
        order = np.random.default_rng(seed).permutation(len(labels))
        cal, rest = order[: len(val.labels)], order[len(val.labels) :]
        sets = WAYS[way](probabilities[cal], labels[cal], probabilities[rest], coverage, seed)
        covered, sure = own(sets, labels[rest]), probabilities[rest].max(axis=1)
        found["covered"].append(covered.mean())
        found["classes"].append([covered[labels[rest] == each].mean() for each in range(len(val.classes))])
        found["unsure"].append(covered[sure < np.quantile(sure, 0.25)].mean())
        found["size"].append(sets.sum(axis=1).mean())
        found["empty"].append((~sets.any(axis=1)).mean())
    worst = np.mean(found["classes"], axis=0).min()
    shares = [f"{np.mean(found['covered']):.3f}", f"{worst:.3f}", f"{np.mean(found['unsure']):.3f}"]
    return [run.name, f"{coverage:g}", way, *shares, f"{np.mean(found['size']):.2f}", f"{np.mean(found['empty']):.3f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--coverage", type=float, nargs="+", default=[0.9, 0.95])
    given = parser.parse_args()
    rows = [row(run, way, coverage) for run in given.runs for coverage in given.coverage for way in WAYS]
    print_table(["run", "asked", "sets by", "covered", "worst class", "unsure images", "mean size", "empty"], rows)


if __name__ == "__main__":
    main()
