"""What an ensemble's probabilities and prediction sets are worth on images of test, over several cuts of one set of images.

    python benchmarks/ensemble_calibration.py --data flowers/ --seeds 10 mobilenet_v2 mobilenet_075 mobilenet_050

`flowers/` is a folder of class folders, of which each seed cuts val and test anew, a fifth each. Heads on stored features; the soup is of
three runs of `extract` on the first backbone, with other values of `train.head_c`. Temperature and thresholds are those of the run: from
val, and of a stack out of fold.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from tl_keras import ensemble, load_config, run_folder, train
from tl_keras.evaluation.metrics import classification_metrics
from tl_keras.evaluation.prediction_file import read_predictions

WAYS = ("one run", "average", "vote", "stack", "stack linear", "bagging", "soup")
SOUP_OF = (0.003, 0.03, 0.3)  # values of train.head_c
CUT = ["data.val_fraction=0.2", "data.test_fraction=0.2"]


def combine(members: list[str], data: str, way: str, seed: int, folder: Path) -> Path:
    """Make an ensemble, or a run of its first member alone, of the images as a seed cuts them: its run folder."""
    method, _, meta = way.partition(" ")
    cut = [*CUT, f"data.split_seed={seed}"]
    flags: dict[str, tuple[str, object]] = {"--data": ("data.source", data)}
    own = [*cut, f"model.backbone={members[0]}"]
    if way == "one run":
        train(load_config("extract", file=None, flags=flags, sets=own), folder / "run")
        return folder / "run"
    if way == "soup":
        for c in SOUP_OF:
            train(load_config("extract", file=None, flags=flags, sets=[*own, f"train.head_c={c}"]), folder / str(c))
        members, cut, flags = [str(folder / str(c)) for c in SOUP_OF], [], {}
    sets = [*cut, f"ensemble.method={method}", *([f"ensemble.meta={meta}"] if meta else [])]
    ensemble(load_config("ensemble", file=None, flags=flags | {"PATH": ("ensemble.members", members)}, sets=sets), folder / "run")
    return folder / "run"


def figures_of(run: Path) -> list[float]:
    """Temperature, then without and with it calibration error and log loss on test; the share that sets cover, and their mean size."""
    metrics = json.loads((run / run_folder.METRICS).read_text())
    test = read_predictions(run / run_folder.PREDICTIONS)
    after = test.probabilities / test.probabilities.sum(axis=1, keepdims=True)
    before = after ** metrics["temperature"] / (after ** metrics["temperature"]).sum(axis=1, keepdims=True)
    found = [classification_metrics(each, test.labels, test.classes) for each in (before, after)]
    sets = metrics["prediction_sets"]
    errors, losses = ([each[name] for each in found] for name in ("ece", "log_loss"))
    return [metrics["temperature"], *errors, *losses, sets["covered"], sets["mean_size"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder of class folders")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    parser.add_argument("members", nargs="+")
    given = parser.parse_args()
    print("| ensemble | temperature | ECE without | with | log loss without | with | covered (0.9 asked) | mean size |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for way in given.ways:
        found = []
        for seed in range(given.seeds):
            with tempfile.TemporaryDirectory() as folder:
                found.append(figures_of(combine(given.members, given.data, way, seed, Path(folder))))
        mean, spread = np.mean(found, axis=0), np.std(found, axis=0)
        covered = f"{mean[5]:.3f} ± {spread[5]:.3f}"
        cells = [way, f"{mean[0]:.2f}", *(f"{each:.3f}" for each in mean[1:5]), covered, f"{mean[6]:.2f}"]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
