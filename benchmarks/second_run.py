"""A second run on a warm store, and ten seeds of one probe: what is stored is not computed again.

    python benchmarks/second_run.py --data FOLDER [--seeds 10]

Seconds from the imports to the end of each run, and the images that went through the backbone in it.
"""

import argparse
import subprocess
import sys
import tempfile
import time

from processes import ours, print_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        for seed in range(options.seeds):
            found = ours("extract", options.data, f"runtime.seed={seed}", backbone=options.backbone, cache=cache)
            rows.append([f"seed {seed}", f"{found['seconds']:.2f}", str(found["computed"]), f"{found['accuracy']:.3f}"])
    print_table(["run", "seconds", "images computed", "test accuracy"], rows)
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "tl_keras.run", "--help"], check=True, capture_output=True)
    print(f"--help takes {time.perf_counter() - started:.2f} s, interpreter included")


if __name__ == "__main__":
    main()
