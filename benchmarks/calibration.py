"""What a run's probabilities are worth: calibration error without and with its temperature, coverage of its sets, answers accepted.

    python benchmarks/calibration.py RUN [RUN ...]

For finished runs with one class an image. Probabilities without the temperature follow from predictions.csv and metrics.json. For the
coverage of prediction sets, and for the answers that `predict --min-precision 0.95` accepts, val and test are put together and cut anew 200
times, as many images to find the thresholds as val has.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tl_keras import run_folder
from tl_keras.evaluation.acceptance import accepting_above, is_accepted
from tl_keras.evaluation.conformal import class_thresholds, prediction_sets
from tl_keras.evaluation.metrics import classification_metrics
from tl_keras.evaluation.prediction_file import read_predictions
from tl_keras.models.outputs import SINGLE_LABEL

RESPLITS = 200
COVERAGE = 0.9
PRECISION = 0.95


def over_cuts(probabilities: NDArray[np.float64], labels: NDArray[np.int64], num_val: int) -> NDArray[np.float64]:
    """Of each cut the share of images covered, the mean size of sets, the share of answers accepted, and of these that of right ones."""
    found = []
    confidence, right = probabilities.max(axis=1), SINGLE_LABEL.is_right(probabilities, labels)
    for seed in range(RESPLITS):
        order = np.random.default_rng(seed).permutation(len(labels))
        val, test = order[:num_val], order[num_val:]
        sets = prediction_sets(probabilities[test], class_thresholds(probabilities[val], labels[val], COVERAGE))
        above = accepting_above(confidence[val], right[val], PRECISION)
        taken = np.zeros(len(test), bool) if above is None else is_accepted(confidence[test], above)
        hits = right[test][taken].mean() if taken.any() else np.nan
        found.append([sets[np.arange(len(test)), labels[test]].mean(), sets.sum(axis=1).mean(), taken.mean(), hits])
    return np.array(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path)
    print(
        "| run | val, test | accuracy | temperature | ECE without | with | log loss without | with | covered (0.9 asked) | mean size "
        "| accepted (0.95 asked) | right |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for run in parser.parse_args().runs:
        val, test = (read_predictions(run / name) for name in (run_folder.VAL_PREDICTIONS, run_folder.PREDICTIONS))
        temperature = json.loads((run / run_folder.METRICS).read_text())["temperature"]
        after = test.probabilities / test.probabilities.sum(axis=1, keepdims=True)
        before = after**temperature / (after**temperature).sum(axis=1, keepdims=True)
        found = [classification_metrics(each, test.labels, test.classes) for each in (before, after)]
        cells = [f"{each['ece']:.3f} ({each['ece_ci95'][0]:.3f} to {each['ece_ci95'][1]:.3f})" for each in found]
        cells += [f"{each['log_loss']:.3f}" for each in found]
        both = [np.concatenate([one, other]) for one, other in zip(val[:2], test[:2], strict=True)]
        cuts = over_cuts(both[0], both[1], len(val.labels))
        mean, spread = np.nanmean(cuts, axis=0), np.nanstd(cuts, axis=0)
        cells += [f"{mean[0]:.3f} ± {spread[0]:.3f}", f"{mean[1]:.2f}", f"{mean[2]:.2f} ± {spread[2]:.2f}"]
        cells += [f"{mean[3]:.3f} ± {spread[3]:.3f}"]
        numbers = f"{len(val.labels):,}, {len(test.labels):,} | {found[1]['accuracy']:.3f} | {temperature:.2f}"
        print(f"| {run.name} | {numbers} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
