"""What transfer buys on the digits when labels are few: from scratch, a frozen probe, finetuned.

    python benchmarks/digits_transfer.py [--seeds 5] [--labels 5 10 50]

Each cell trains on that many images a class, chooses on as many more, and is tested on the rest of a fixed third of
the 1,797 digits; mean and standard deviation over seeds, which draw other images each. Nothing is augmented. 'From
scratch' has the same network, as many passes, and a rate chosen on val among two.
"""

import argparse
import logging
import tempfile
from pathlib import Path

import numpy as np

from tl_keras import load_config, train
from tl_keras.data.sources.digits import unpack_digits

EPOCHS = {5: 40, 10: 30, 50: 15}  # passes of each phase that learns by steps
SCRATCH_RATES = ("1e-3", "3e-3")


def draw_labels(labels: int, seed: int, folder: Path) -> Path:
    """Link `labels` digits a class for train, as many for val, and the fixed test third, as class folders."""
    for source in sorted(path for path in unpack_digits().iterdir() if path.is_dir()):
        files = np.array(sorted(source.iterdir()))
        order = np.random.default_rng([7, int(source.name)]).permutation(len(files))
        pool, test = files[order[: len(files) * 2 // 3]], files[order[len(files) * 2 // 3 :]]
        pool = np.random.default_rng([seed, int(source.name)]).permutation(pool)
        parts = {"train": pool[:labels], "val": pool[labels : 2 * labels], "test": test}
        for split, chosen in parts.items():
            (folder / split / source.name).mkdir(parents=True)
            for file in chosen:
                (folder / split / source.name / file.name).symlink_to(file)
    return folder


def run_one(mode: str, data: Path, run_dir: Path, seed: int, epochs: int, *more: str) -> dict[str, float]:
    """Train once and return {'val': log loss, 'test': accuracy}."""
    frozen = ["features.stages=last"] if mode != "pretrain" else []
    by_steps = ["data.augment.random_resized_crop=null", f"train.epochs={epochs}"] if mode != "extract" else []
    sets = [f"runtime.seed={seed}", *frozen, *by_steps, *more]
    config = load_config(mode, file=None, flags={"--data": ("data.source", str(data))}, sets=sets)
    metrics = train(config, run_dir)
    return {"val": metrics["val"]["log_loss"], "test": metrics["test"]["accuracy"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--labels", type=int, nargs="+", default=[5, 10, 50])
    options = parser.parse_args()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    print("| labels a class | from scratch | frozen probe | finetuned |\n|---:|---:|---:|---:|")
    for labels in options.labels:
        found: dict[str, list[float]] = {"scratch": [], "probe": [], "finetuned": []}
        epochs = EPOCHS.get(labels, 15)
        for seed in range(options.seeds):
            with tempfile.TemporaryDirectory() as scratch:
                folder = Path(scratch)
                data = draw_labels(labels, seed, folder / "data")
                tries = [
                    run_one("pretrain", data, folder / f"s{rate}", seed, epochs, "model.weights=none", f"train.learning_rate={rate}")
                    for rate in SCRATCH_RATES
                ]
                found["scratch"].append(min(tries, key=lambda one: one["val"])["test"])
                found["probe"].append(run_one("extract", data, folder / "p", seed, epochs)["test"])
                found["finetuned"].append(run_one("finetune", data, folder / "f", seed, epochs)["test"])
        cells = " | ".join(f"{100 * np.mean(values):.1f} ± {100 * np.std(values, ddof=1):.1f}" for values in found.values())
        print(f"| {labels} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
