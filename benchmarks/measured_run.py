"""One training of this package, measured: seconds after the imports, peak memory, what it reached.

    python benchmarks/measured_run.py --mode extract --data FOLDER [--backbone NAME] [--set KEY=VALUE ...]

The command line's own options; prints one line of JSON. What the other benchmarks start as a process of its own.
"""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

from tl_keras import run
from tl_keras.arguments import read_options
from tl_keras.modes import MODES


def main() -> None:
    options = read_options(sys.argv[1:])
    config = run.configure(options)
    train, _ = run.start(MODES[config.mode].run, config)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        metrics = train(config, Path(folder) / "run")
    found = {
        "seconds": time.perf_counter() - started,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6),
        "accuracy": metrics["test"]["accuracy"],
        "val_accuracy": metrics["val"]["accuracy"],
        "engine": metrics["engine"],
        "timing": metrics["timing"],
        "computed": metrics["features"]["computed"],
        "selection": metrics.get("selection"),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
