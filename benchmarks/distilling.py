"""Does a small backbone learn more from a large run beside the labels than from the labels alone? Paired by seed.

    python benchmarks/distilling.py --data flowers/ --teacher RUN [--backbone mobilenet_025] [--seeds 5] [--set KEY=VALUE ...]

Every variant is finetuned with the same settings and seeds; a gain is that of the taught over the plain run of the same seed, in points of
accuracy, with the 95 % interval of its mean (Student's t). Choose by the column of val: test is there to say what the choice is worth.
With --runs the runs are kept, and those that are there already are not trained again.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from processes import print_table
from scipy import stats

import tl_keras
from tl_keras.progress import Progress

PLAIN = "plain"


def trained(folder: Path, **given: Any) -> dict[str, Any]:
    """The metrics of a run, which is trained where it is not there."""
    file = folder / "metrics.json"
    metrics = json.loads(file.read_text()) if file.is_file() else tl_keras.train(run_dir=folder, progress=Progress(), **given)
    print(folder.name, *(f"{split} {metrics[split]['accuracy']:.3f}" for split in ("val", "test")), file=sys.stderr, flush=True)
    return metrics


def gain(found: np.ndarray) -> str:
    """The mean of differences (n,) in points, and its interval."""
    half = stats.t.ppf(0.975, len(found) - 1) * stats.sem(found)
    return f"{100 * found.mean():+.1f} ({100 * (found.mean() - half):+.1f} to {100 * (found.mean() + half):+.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--teacher", required=True, help="the folder of a run")
    parser.add_argument("--backbone", default="mobilenet_025")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--weights", type=float, nargs="+", default=[0.5, 1.0], help="values of train.teacher_weight")
    parser.add_argument("--set", action="append", default=[], dest="sets", metavar="KEY=VALUE", help="of all runs")
    parser.add_argument("--runs", type=Path, help="where runs are kept")
    options = parser.parse_args()
    common = {key: yaml.safe_load(value) for key, _, value in (text.partition("=") for text in options.sets)}
    variants: dict[str, dict[str, Any]] = {PLAIN: {}}
    variants |= {f"taught {weight:g}": {"train.teacher": options.teacher, "train.teacher_weight": weight} for weight in options.weights}
    rows, plain = [], np.empty(0)
    with tempfile.TemporaryDirectory() as scratch:
        for name, own in variants.items():
            runs = [
                trained(
                    (options.runs or Path(scratch)) / f"{name.replace(' ', '_')}_{seed}",
                    data=options.data,
                    backbone=options.backbone,
                    mode="finetune",
                    seed=seed,
                    settings=common | own,
                )
                for seed in range(options.seeds)
            ]
            found = np.array(
                [[run["val"]["accuracy"], run["test"]["accuracy"], run["val"]["log_loss"], run["test"]["log_loss"]] for run in runs]
            )
            plain = found if name == PLAIN else plain
            gains = ["", ""] if name == PLAIN else [gain(each) for each in (found - plain)[:, :2].T]
            rows.append([name, *(f"{mean:.3f}" for mean in found.mean(axis=0)), *gains])
    print_table(
        ["run", "val accuracy", "test accuracy", "val log loss", "test log loss", "gain on val, points", "gain on test, points"], rows
    )


if __name__ == "__main__":
    main()
