"""Which features a probe should see: the last stage's, those of all stages, or a selection of them (Head2Toe).

    python benchmarks/stages.py FOLDER [FOLDER ...] [--backbone mobilenet_v2] [--seeds 3] [--set KEY=VALUE ...]

Test accuracy and seconds of the head, a row per data set; the seeds are of the split where the folder has none. The
features come from one store, so that each is computed once. Chosen on val; test is looked at here, where a default is
decided, over data sets.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from processes import ours, print_table

KINDS = {
    "last": ("features.stages=last",),
    "all": ("features.stages=all",),
    "all, selected": ("features.stages=all", "features.selection=head2toe"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], dest="sets")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        for data in options.data:
            cells = []
            for kind in KINDS.values():
                seeds = range(options.seeds)
                runs = [
                    ours("extract", data, f"data.split_seed={seed}", *kind, *options.sets, backbone=options.backbone, cache=cache)
                    for seed in seeds
                ]
                accuracies = [run["accuracy"] * 100 for run in runs]
                cells += [
                    f"{np.mean(accuracies):.1f} ± {np.std(accuracies):.1f}",
                    f"{np.median([run['timing']['train_s'] for run in runs]):.1f}",
                ]
            rows.append([Path(data).name, *cells])
    print_table(["data", *(word for kind in KINDS for word in (kind, "head, s"))], rows)


if __name__ == "__main__":
    main()
