"""What a run's probabilities are worth: the calibration error on test without and with its temperature, and the coverage of its sets.

    python benchmarks/calibration.py RUN [RUN ...]

For finished runs with one class an image. Probabilities without the temperature follow from predictions.csv and metrics.json. For the
coverage of prediction sets, val and test are put together and cut anew 200 times, as many images to find the thresholds as val has.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tl_keras import run_folder
from tl_keras.evaluation.conformal import class_thresholds, prediction_sets
from tl_keras.evaluation.metrics import classification_metrics
from tl_keras.evaluation.prediction_file import read_predictions

RESPLITS = 200
COVERAGE = 0.9


def coverages(probabilities: NDArray[np.float64], labels: NDArray[np.int64], num_val: int) -> tuple[list[float], list[float]]:
    """The share of images covered, and the mean size of sets, of each cut."""
    found, sizes = [], []
    for seed in range(RESPLITS):
        order = np.random.default_rng(seed).permutation(len(labels))
        val, test = order[:num_val], order[num_val:]
        sets = prediction_sets(probabilities[test], class_thresholds(probabilities[val], labels[val], COVERAGE))
        found.append(float(sets[np.arange(len(test)), labels[test]].mean()))
        sizes.append(float(sets.sum(axis=1).mean()))
    return found, sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path)
    print("| run | val, test | accuracy | temperature | ECE without | with | log loss without | with | covered (0.9 asked) | mean size |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for run in parser.parse_args().runs:
        val, test = (read_predictions(run / name) for name in (run_folder.VAL_PREDICTIONS, run_folder.PREDICTIONS))
        temperature = json.loads((run / run_folder.METRICS).read_text())["temperature"]
        after = test.probabilities / test.probabilities.sum(axis=1, keepdims=True)
        before = after**temperature / (after**temperature).sum(axis=1, keepdims=True)
        found = [classification_metrics(each, test.labels, test.classes) for each in (before, after)]
        cells = [f"{each['ece']:.3f} ({each['ece_ci95'][0]:.3f} to {each['ece_ci95'][1]:.3f})" for each in found]
        cells += [f"{each['log_loss']:.3f}" for each in found]
        both = [np.concatenate([one, other]) for one, other in zip(val[:2], test[:2], strict=True)]
        covered, sizes = coverages(both[0], both[1], len(val.labels))
        cells += [f"{np.mean(covered):.3f} ± {np.std(covered):.3f}", f"{np.mean(sizes):.2f}"]
        numbers = f"{len(val.labels):,}, {len(test.labels):,} | {found[1]['accuracy']:.3f} | {temperature:.2f}"
        print(f"| {run.name} | {numbers} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
