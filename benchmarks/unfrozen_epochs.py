"""The last stage finetuned: the Keras guide's recipe with the same layers unfrozen, against stored activations.

    python benchmarks/unfrozen_epochs.py --data FOLDER [--epochs 20] [--seeds 3]

Seconds of the unfrozen epochs alone and of everything, imports left out. Ours has a frozen phase of its own (a solved
head), the guide its ten frozen epochs. The layers: MobileNetV2's from block_13_expand on, the last resolution.
"""

import argparse
import tempfile

from processes import measure, median, ours, print_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    rows, ratios, accuracies = [], [], []
    layers = ["--unfreeze-from", "block_13_expand", "--unfrozen-epochs", str(options.epochs)]
    for seed in range(options.seeds):
        guide = measure("keras_guide.py", "--data", options.data, "--seed", str(seed), *layers)
        with tempfile.TemporaryDirectory() as cache:
            sets = [f"runtime.seed={seed}", "train.unfreeze_from=stage5", f"train.epochs={options.epochs}"]
            mine = ours("finetune", options.data, *sets, cache=cache)
        ratios.append(guide["unfrozen_s"] / mine["seconds"])
        accuracies.append(mine["accuracy"])
        rows += [
            ["Keras guide", f"{guide['unfrozen_s']:.1f}", f"{guide['seconds']:.1f}", f"{guide['accuracy']:.3f}", "1.0"],
            ["tl_keras finetune", f"{mine['seconds']:.1f}", f"{mine['seconds']:.1f}", f"{mine['accuracy']:.3f}", f"{ratios[-1]:.1f}"],
        ]
    print_table(["recipe", f"{options.epochs} unfrozen epochs, s", "all, s", "test accuracy", "times faster"], rows)
    print(f"mean test accuracy {sum(accuracies) / len(accuracies):.3f}; ratio {median(ratios):.2f}")


if __name__ == "__main__":
    main()
