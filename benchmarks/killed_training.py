"""Training killed at random moments (SIGKILL) and continued each time: are the weights those of an undisturbed run, to the bit?

    python benchmarks/killed_training.py [--kills 10] [--seed 0] -- --mode finetune --data FOLDER --backbone mobilenet_v2 [more options]

Give the arguments of a training run after `--`. The undisturbed run computes the features, so that the kills hit the training itself.
A kill before there is anything to resume is not counted, and the run is started again. When a run ends and kills are left, another begins.
"""

import argparse
import hashlib
import os
import random
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

TABLES = ("predictions.csv", "val_predictions.csv")


def started(line: list[str], cache: Path) -> subprocess.Popen[bytes]:
    """A process that trains."""
    environment = {**os.environ, "TL_KERAS_CACHE": str(cache)}
    return subprocess.Popen([sys.executable, "-m", "tl_keras.run", *line], env=environment, stdout=subprocess.DEVNULL)


def hashes(run: Path) -> dict[str, str]:
    """Of the weights in `model.keras`, of predictions, and of the curves of a run."""
    with zipfile.ZipFile(run / "model.keras") as archive:
        found = {name: archive.read(name) for name in archive.namelist() if name.endswith(".h5")}
    found |= {name: (run / name).read_bytes() for name in TABLES}
    lines = (run / "history.csv").read_text().splitlines()
    found["history.csv"] = "\n".join(line.rpartition(",")[0] for line in lines).encode()  # but for the seconds of an epoch
    return {name: hashlib.sha256(content).hexdigest() for name, content in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("line", nargs="+", help="the arguments of a training run")
    options = parser.parse_args()
    draw = random.Random(options.seed)
    mode = options.line[options.line.index("--mode") + 1]
    with tempfile.TemporaryDirectory() as folder:
        calm, killed, cache = Path(folder) / "calm", Path(folder) / "killed", Path(folder) / "cache"
        for _ in range(2):  # the second finds features
            if calm.exists():
                calm.rename(calm.with_name("first"))
            begun = time.perf_counter()
            if started([*options.line, "--run-dir", str(calm)], cache).wait():
                sys.exit("the undisturbed run has failed")
            duration = time.perf_counter() - begun
        print(f"undisturbed twice, equal: {hashes(calm) == hashes(calm.with_name('first'))}; {duration:.0f} s", flush=True)
        expected, kills, runs = hashes(calm), 0, 0
        while kills < options.kills:
            killed, before = calm.with_name(f"killed{runs}"), kills
            line = [*options.line, "--run-dir", str(killed)]
            while not (killed / "metrics.json").is_file():
                process = started(line, cache)
                try:
                    if process.wait(draw.uniform(0.25, 0.6) * duration if kills < options.kills else None):
                        sys.exit("a run has failed")
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                    if (killed / "config.yaml").is_file():
                        kills, line = kills + 1, ["--mode", mode, "--resume", "--run-dir", str(killed)]
            runs += 1
            found = hashes(killed)
            if differing := [name for name in expected if found.get(name) != expected[name]]:
                sys.exit(f"a run that was killed {kills - before} times differs in {', '.join(differing)}")
            print(f"a run that was killed {kills - before} times is equal to the bit", flush=True)


if __name__ == "__main__":
    main()
