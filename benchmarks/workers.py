"""Training by one process against two that train together: the same losses? equal weights? equal after a kill? how fast, how much memory?

    python benchmarks/workers.py [--seed 0] -- --mode finetune --data FOLDER --backbone mobilenet_025 [more options]

Give the arguments of a training run after `--`, without dropout and mixing if losses are to be equal. A run of one process
computes the features first. Then one process trains, and again without oneDNN: how far apart are losses that differ by rounding alone? Then
two train by `TF_CONFIG`, each of which says the hash of its weights; then two by --workers, one of which is killed (SIGKILL) at a random
moment, and both are continued.
"""

import argparse
import csv
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from killed_training import hashes
from processes import median, print_table

from tl_keras.tf_config import TF_CONFIG, Place, config_of
from tl_keras.workflows.together import free_addresses, share_of_machine

RUN = """
import hashlib, resource, sys
from tl_keras.transfer import phases
from tl_keras.run import main

compare = phases.require_equal


def tell(model):
    print("weights", hashlib.sha256(b"".join(weight.tobytes() for weight in model.get_weights())).hexdigest()[:16], flush=True)
    compare(model)


phases.require_equal = tell
status = main(sys.argv[1:])
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, flush=True)
sys.exit(status)
"""


def train(line: list[str], run: Path, count: int, **more: str) -> tuple[list[str], list[float], float]:
    """Train in so many processes: the hash of the weights of each, its peak memory in GB, and the seconds that all took.

    Args:
        more: of the environment.
    """
    addresses, begun = free_addresses(count), time.perf_counter()
    places = [Place(index, addresses) for index in range(count)]
    together = [{TF_CONFIG: config_of(place)} | share_of_machine(place.index, count, ()) for place in places] if count > 1 else [{}]
    command = [sys.executable, "-c", RUN, *line, "--run-dir", str(run)]
    started = [
        subprocess.Popen(command, env=os.environ | more | own, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for own in together
    ]
    told = [process.communicate()[0].splitlines() for process in started]
    if any(process.returncode for process in started):
        sys.exit(f"a run of {count} processes has failed: {told}")
    words = [dict(each.split() for each in lines if each.startswith(("weights ", "peak "))) for lines in told]
    return [each["weights"] for each in words], [int(each["peak"]) / 2**20 for each in words], time.perf_counter() - begun


def history(run: Path) -> list[dict[str, float]]:
    """The epochs that were trained."""
    with (run / "history.csv").open(newline="") as file:
        return [{key: float(value) for key, value in row.items() if key != "phase"} for row in csv.DictReader(file) if row["seconds"]]


def differences(some: list[dict[str, float]], others: list[dict[str, float]]) -> list[float]:
    """The largest relative difference of the losses of each epoch."""
    return [max(abs(a[key] - b[key]) / abs(a[key]) for key in ("loss", "val_loss")) for a, b in zip(some, others, strict=True)]


def kill_one(line: list[str], run: Path, after_s: float, which: int) -> str:
    """Start two processes by --workers, and kill one of them so long after training has begun; how the command ended."""
    command = [sys.executable, "-m", "tl_keras", *line, "--run-dir", str(run), "--workers", "2"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not (run / "history.csv").is_file():
        time.sleep(0.1)
    time.sleep(after_s)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[which]), 9)
    begun = time.perf_counter()
    last = process.communicate()[1].strip().splitlines()[-1]
    return f"ended with {process.returncode} after {time.perf_counter() - begun:.1f} s: {last}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the moment of the kill")
    parser.add_argument("line", nargs="+", help="the command line of a training run")
    options = parser.parse_args()
    draw, mode = random.Random(options.seed), options.line[options.line.index("--mode") + 1]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TL_KERAS_CACHE"] = str(Path(folder) / "cache")
        first, one, rounded, two, killed = (Path(folder) / name for name in ("first", "one", "rounded", "two", "killed"))
        train(options.line, first, 1)
        _, one_gb, one_s = train(options.line, one, 1)
        train(options.line, rounded, 1, TF_ENABLE_ONEDNN_OPTS="0")
        weights, two_gb, two_s = train(options.line, two, 2)
        alone, together = history(one), history(two)
        apart, by_rounding = differences(alone, together), differences(alone, history(rounded))
        print_table(
            ["epoch", "loss, one process", "loss, two", "val loss, one", "val loss, two", "largest relative difference", "by rounding"],
            [
                [f"{a['epoch']:.0f}", *(f"{each[key]:.6g}" for key in ("loss", "val_loss") for each in (a, b)), f"{by:.1e}", f"{alike:.1e}"]
                for a, b, by, alike in zip(alone, together, apart, by_rounding, strict=True)
            ],
        )
        print(f"weights of the two processes equal to the bit: {len(set(weights)) == 1} ({', '.join(weights)})", flush=True)
        epoch_s = [median([each["seconds"] for each in lines[1:] or lines]) for lines in (alone, together)]
        print_table(
            ["", "an epoch, s", "everything, s", "peak memory of a process, GB"],
            [
                ["one process", f"{epoch_s[0]:.1f}", f"{one_s:.0f}", f"{one_gb[0]:.2f}"],
                ["two", f"{epoch_s[1]:.1f}", f"{two_s:.0f}", " and ".join(f"{each:.2f}" for each in two_gb)],
            ],
        )
        after_s = draw.uniform(0.2, 0.8) * sum(each["seconds"] for each in together)
        print(kill_one(options.line, killed, after_s, draw.randrange(2)).replace(folder, ""), flush=True)
        again = [sys.executable, "-m", "tl_keras", "--mode", mode, "--resume", "--run-dir", str(killed), "--workers", "2"]
        subprocess.run(again, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        print(f"killed and continued, equal to the undisturbed two to the bit: {hashes(killed) == hashes(two)}")
        print(f"ratio {epoch_s[0] / epoch_s[1]:.2f} of an epoch's speed; largest relative difference of a loss {max(apart):.1e}")


if __name__ == "__main__":
    main()
