"""How well a ranking predicts: Kendall's tau between each metric of --mode rank and the accuracy after finetuning.

    python benchmarks/rank_tau.py FOLDER [FOLDER ...] --backbones NAME [NAME ...] [--repeats 1] [--set KEY=VALUE ...]

Every backbone is finetuned with the defaults on every data set (mean test accuracy of the repeats); the ranking sees train
and val alone. A tau of 1 is the same order, 0 none, -1 the opposite one. Minutes for each backbone and data set.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from processes import ours, print_table
from scipy.stats import kendalltau


def ranking(data: str, backbones: list[str], cache: str) -> list[dict[str, object]]:
    """The candidates as rank.json holds them."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tl_keras.run", "--mode", "rank", "--data", data, "--run-dir", f"{folder}/R", *backbones]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"TL_KERAS_CACHE": cache})
        found: list[dict[str, object]] = json.loads(Path(folder, "R", "rank.json").read_text())["candidates"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--backbones", nargs="+", required=True)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], dest="sets")
    options = parser.parse_args()
    taus: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as cache:
        for data in options.data:
            judged = ranking(data, options.backbones, cache)
            tuned = []
            for one in judged:
                backbone = str(one["backbone"])
                runs = [
                    ours("finetune", data, f"runtime.seed={seed}", *options.sets, backbone=backbone, cache=cache)["accuracy"]
                    for seed in range(options.repeats)
                ]
                tuned.append(float(np.mean(runs)))
                print(f"{Path(data).name}: {Path(backbone).stem} {tuned[-1]:.3f}", file=sys.stderr, flush=True)
            scores = {"leave-one-out accuracy": [one["accuracy"] for one in judged]}
            scores |= {name: [one["scores"][name] for one in judged] for name in judged[0]["scores"]}  # type: ignore[index,attr-defined]
            rows = [
                [Path(str(one["backbone"])).stem, f"{after:.3f}", *(f"{values[place]:.4g}" for values in scores.values())]
                for place, (one, after) in enumerate(zip(judged, tuned, strict=True))
            ]
            print(f"\n{Path(data).name}\n")
            print_table(["backbone", "finetuned", *scores], rows)
            for name, values in scores.items():
                taus.setdefault(name, []).append(float(kendalltau(values, tuned).statistic))
    print("\ntau\n")
    table = [[name, *(f"{value:.2f}" for value in values), f"{np.mean(values):.2f}"] for name, values in taus.items()]
    print_table(["metric", *(Path(data).name for data in options.data), "mean"], table)
    print(f"ratio {np.mean(taus['leave-one-out accuracy']):.2f}")


if __name__ == "__main__":
    main()
