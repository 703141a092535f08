"""What a run's temperature did to its probabilities on test: the calibration error and the log loss without and with it.

    python benchmarks/calibration.py RUN [RUN ...]

For finished runs with one class an image. Those without it follow from predictions.csv and the temperature in metrics.json.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tl_keras import run_folder
from tl_keras.data.label_texts import PROBABILITY
from tl_keras.evaluation.metrics import classification_metrics


def read(run: Path) -> tuple[NDArray[np.float64], NDArray[np.int64], list[str], float]:
    """Probabilities (n, k), labels (n,), classes and temperature of a run."""
    with run_folder.open_text(run / run_folder.PREDICTIONS) as file:
        header, *lines = run_folder.read_csv(file)
    columns = [place for place, name in enumerate(header) if name.startswith(PROBABILITY)]
    classes = [header[place].removeprefix(PROBABILITY) for place in columns]
    probabilities = np.array([[float(line[place]) for place in columns] for line in lines])
    labels = np.array([classes.index(line[1]) for line in lines])
    return (
        probabilities / probabilities.sum(axis=1, keepdims=True),
        labels,
        classes,
        json.loads((run / "metrics.json").read_text())["temperature"],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path)
    print("| run | test images | temperature | ECE without | with | log loss without | with |\n|---|---:|---:|---:|---:|---:|---:|")
    for run in parser.parse_args().runs:
        after, labels, classes, temperature = read(run)
        before = after**temperature
        before /= before.sum(axis=1, keepdims=True)
        found = [classification_metrics(each, labels, classes) for each in (before, after)]
        cells = [f"{each['ece']:.3f} ({each['ece_ci95'][0]:.3f} to {each['ece_ci95'][1]:.3f})" for each in found]
        cells += [f"{each['log_loss']:.3f}" for each in found]
        print(f"| {run.name} | {len(labels)} | {temperature:.2f} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
