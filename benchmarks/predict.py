"""`predict` over a folder of photos against the pass that `extract` makes over the same photos.

    python benchmarks/predict.py --data FOLDER [--backbone mobilenet_v2] [--pairs 3]

Each measurement is a process of its own, in turn, so that both meet the same machine; processor seconds are what a busy machine moves
least. The pass is the time in which `extract` computes
its stored features, folding the network included; `predict` is everything after the imports, reading the model included. `graph alone`
is `predict` without reading the model. The last line has the medians of the pairs' ratios.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from processes import measure, median, print_table

from tl_keras import run
from tl_keras.arguments import read_options
from tl_keras.modes import MODES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--run-dir", help=argparse.SUPPRESS)
    parser.add_argument("--one", choices=("extract", "predict"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps({"extract": extract, "predict": predict}[options.one](options)))
        return
    rows: list[list[str]] = []
    ratios: dict[str, list[float]] = {"seconds": [], "cpu": []}
    with tempfile.TemporaryDirectory() as folder:
        for pair in range(options.pairs):
            given = ("--data", options.data, "--backbone", options.backbone, "--run-dir", f"{folder}/run{pair}", "--one")
            passed, predicted = (measure("predict.py", *given, one, cache=f"{folder}/cache{pair}") for one in ("extract", "predict"))
            for name, found in ratios.items():
                found.append(predicted[name] / passed[name])
            images = f"{passed['images']:,} / {predicted['images']:,}"
            cells = [f"{one[name]:.1f}" for name in ratios for one in (passed, predicted)]
            rows.append([str(pair + 1), images, *cells, f"{predicted['alone']:.1f}", *(f"{found[-1]:.2f}" for found in ratios.values())])
    header = ["pair", "images", "pass, s", "predict, s", "pass, CPU s", "predict, CPU s", "graph alone, s", "ratio", "ratio of CPU"]
    print_table(header, rows)
    print(f"predict takes {median(ratios['seconds']):.2f} times the pass, {median(ratios['cpu']):.2f} times its processor seconds")


def extract(options: argparse.Namespace) -> dict[str, Any]:
    """Train, and say how long the pass over the images took."""
    config = run.configure(read_options(["--mode", "extract", "--data", options.data, "--backbone", options.backbone]))
    train, progress = run.start(MODES[config.mode].run, config)
    from tl_keras.transfer.features import FrozenFeatures

    laps = Laps()
    FrozenFeatures.compute = laps.timed(FrozenFeatures.compute)  # type: ignore[method-assign]
    metrics = train(config, Path(options.run_dir), progress=progress)
    return {"seconds": laps.seconds, "cpu": laps.cpu, "images": metrics["features"]["computed"]}


def predict(options: argparse.Namespace) -> dict[str, Any]:
    """Classify the images, and say how long that took, with and without reading the model."""
    predict_files, progress = run.start(MODES["predict"].run, to_stderr=True)
    module = sys.modules["tl_keras.workflows.predict"]
    whole, reading = Laps(), Laps()
    module.open_run = reading.timed(module.open_run)
    found = whole.timed(lambda: list(predict_files(options.run_dir, [options.data], progress=progress)))()
    bad = sum(each.error is not None for each in found)
    return {"seconds": whole.seconds, "cpu": whole.cpu, "alone": whole.seconds - reading.seconds, "images": len(found) - bad}


class Laps:
    """Seconds of the clock and of the processors that some calls take together."""

    def __init__(self) -> None:
        self.seconds = self.cpu = 0.0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, whose calls are measured."""

        def call(*given: Any, **named: Any) -> Any:
            started = time.perf_counter(), time.process_time()
            try:
                return function(*given, **named)
            finally:
                self.seconds += time.perf_counter() - started[0]
                self.cpu += time.process_time() - started[1]

        return call


if __name__ == "__main__":
    main()
