"""The last stage finetuned: the Keras guide's recipe with the same layers unfrozen, against stored activations.

    python benchmarks/unfrozen_epochs.py --data FOLDER [--epochs 20] [--seeds 3] [--guide-seeds 1] [--views N]

Imports are left out. 'Unfrozen' are the guide's unfrozen epochs alone, after its ten frozen ones; for ours it is everything: the
pass over images and views, the head, the epochs, the evaluation. 'Epochs alone' leaves the pass out of ours, not the head. The
layers: MobileNetV2's from block_13_expand on, the last resolution. The last line compares medians.
"""

import argparse
import tempfile

from processes import measure, median, ours, print_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--guide-seeds", type=int, default=1)
    parser.add_argument("--views", type=int, help="stored views of each image beside the plain one; the default is the package's")
    options = parser.parse_args()
    layers = ["--unfreeze-from", "block_13_expand", "--unfrozen-epochs", str(options.epochs)]
    rows, theirs, whole, alone, accuracies = [], [], [], [], []
    for seed in range(options.seeds):
        if seed < options.guide_seeds:
            guide = measure("keras_guide.py", "--data", options.data, "--seed", str(seed), *layers)
            theirs.append(guide["unfrozen_s"])
            rows.append(["Keras guide", f"{theirs[-1]:.1f}", f"{theirs[-1]:.1f}", f"{guide['seconds']:.1f}", f"{guide['accuracy']:.3f}"])
        with tempfile.TemporaryDirectory() as cache:
            sets = [f"runtime.seed={seed}", "train.unfreeze_from=stage5", f"train.epochs={options.epochs}"]
            sets += [] if options.views is None else [f"features.views={options.views}"]
            mine = ours("finetune", options.data, *sets, cache=cache)
        whole.append(mine["seconds"])
        alone.append(mine["timing"]["train_s"])
        accuracies.append(mine["accuracy"])
        rows.append(["tl_keras finetune", f"{whole[-1]:.1f}", f"{alone[-1]:.1f}", f"{whole[-1]:.1f}", f"{accuracies[-1]:.3f}"])
    print_table(["recipe", f"{options.epochs} unfrozen epochs, s", "epochs alone, s", "everything, s", "test accuracy"], rows)
    ratios = f"ratio {median(theirs) / median(whole):.2f}, epochs alone {median(theirs) / median(alone):.2f}"
    print(f"mean test accuracy {sum(accuracies) / len(accuracies):.3f}; {ratios}")


if __name__ == "__main__":
    main()
