"""What each way of combining buys against the best single classifier, which val (stack: answers out of fold) points out.

    python benchmarks/ensembles.py --data ../shared/data/flowers mobilenet_v2 mobilenet_075 my.keras
    python benchmarks/ensembles.py RUN1 RUN2 RUN3

Over backbones: heads on stored features, computed before the first way is timed. Over runs: their models.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from processes import print_table

from tl_keras import ensemble, load_config
from tl_keras.errors import UserError
from tl_keras.run_folder import CONFIG

FROM_BACKBONES = ("average", "vote", "stack", "stack linear", "bagging", "boosting")
FROM_RUNS = ("average", "vote", "stack", "soup")


def combine(members: list[str], data: str | None, way: str) -> tuple[dict[str, Any], float]:
    """Run the mode once: its result and the seconds it took."""
    method, _, meta = way.partition(" ")
    flags = {"--data": ("data.source", data)} if data else {}
    sets = [f"ensemble.method={method}", *([f"ensemble.meta={meta}"] if meta else [])]
    config = load_config("ensemble", file=None, flags=flags | {"PATH": ("ensemble.members", members)}, sets=sets)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        return ensemble(config, Path(folder) / "run"), time.perf_counter() - started


def row(name: str, where: str, found: dict[str, Any], *rest: str) -> list[str]:
    """A row of the table."""
    judged, test = found[where], found["test"]
    accuracy = f"{test['accuracy']:.3f} ({interval(test['accuracy_ci95'], '.3f')})"
    return [name, where.replace("_", " "), f"{judged['accuracy']:.3f}", f"{judged['log_loss']:.3f}", accuracy, *rest]


def interval(ends: list[float], form: str) -> str:
    return f"{ends[0]:{form}} to {ends[1]:{form}}"


def gain(difference: dict[str, Any], where: str) -> str:
    """A difference with its interval."""
    found = difference.get(where)
    return f"{found['mean']:+.3f} ({interval(found['ci95'], '+.3f')})" if found else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="a folder of class folders; with backbones")
    parser.add_argument("members", nargs="+")
    given = parser.parse_args()
    ways = FROM_RUNS if (Path(given.members[0]) / CONFIG).is_file() else FROM_BACKBONES
    combine(given.members, given.data, "average")  # so that no way pays for the pass over the images
    singles, combined = {}, []
    for way in ways:
        try:
            found, seconds = combine(given.members, given.data, way)
        except UserError as error:  # a soup of different networks
            print(f"{way}: {error}\n")
            continue
        where, gains = found["judged_on"], [gain(found["difference"], split) for split in ("test", "out_of_fold")]
        for single in found["singles"]:
            singles[single["name"], where] = row(single["name"], where, single, "", "", "")
        combined.append(row(way, where, found["together"], *gains, f"{seconds:.1f}"))
    print_table(
        ["classifier", "compared by", "accuracy", "log loss", "test accuracy", "gain on test", "out of fold", "s"],
        [*singles.values(), *combined],
    )


if __name__ == "__main__":
    main()
