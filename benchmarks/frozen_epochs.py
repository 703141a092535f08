"""Ten epochs' worth of a frozen backbone: the Keras guide's recipe against one pass and a solved head.

    python benchmarks/frozen_epochs.py --data FOLDER [--epochs 10] [--repeats 3]

Both start from nothing stored and end with test accuracy; imports are left out on both sides. The two take turns, and
the last line is the median of the ratios.
"""

import argparse
import tempfile

from processes import measure, median, ours, print_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    rows, ratios = [], []
    for repeat in range(options.repeats):
        guide = measure("keras_guide.py", "--data", options.data, "--epochs", str(options.epochs), "--seed", str(repeat))
        with tempfile.TemporaryDirectory() as cache:
            mine = ours("extract", options.data, f"runtime.seed={repeat}", cache=cache)
        ratios.append(guide["seconds"] / mine["seconds"])
        rows += [
            [f"Keras guide, {options.epochs} epochs", f"{guide['seconds']:.1f}", f"{guide['accuracy']:.3f}", "1.0"],
            ["tl_keras extract", f"{mine['seconds']:.1f}", f"{mine['accuracy']:.3f}", f"{ratios[-1]:.1f}"],
        ]
    print_table(["recipe", "seconds", "test accuracy", "times faster"], rows)
    print(f"ratio {median(ratios):.2f}")


if __name__ == "__main__":
    main()
