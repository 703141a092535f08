"""Does adapting help, and does `auto` choose well? Every method between two domains, both ways.

    python benchmarks/adaptation.py DOMAIN DOMAIN --backbones NAME [NAME ...] [--seeds 3] [--train METHOD ...] [--set KEY=VALUE ...]

Target accuracy of every method, the scores that need no labels, and what `auto` keeps. The regret of a rule is the best method's accuracy
less that of what it keeps; its gain is over the head that was not adapted. Half a minute for each backbone, direction and seed, and two for
each method that trains.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from processes import print_table

from tl_keras.adaptations import ADABN, AUTO, SELF_TRAINING, SOURCE_ONLY, TRAINED
from tl_keras.config_file import load_config
from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.progress import Progress
from tl_keras.run_folder import RunFolder
from tl_keras.runtime import restoring_process, set_up
from tl_keras.transfer.adapt.choice import Candidate, trusted
from tl_keras.transfer.adapt.judge import answers
from tl_keras.transfer.adapt.network import see
from tl_keras.transfer.adapt.problem import AdaptedHead
from tl_keras.transfer.adapt.statistics import write_statistics
from tl_keras.transfer.adapt.train import adapt_heads, add_mean_of_trusted, train_and_judge
from tl_keras.transfer.prepare import prepare_task
from tl_keras.workflows.setting_up import open_images
from tl_keras.workflows.train import target_of


@dataclass(frozen=True)
class Judged:
    """A method: its scores, its accuracy on the target, and whether its head is in the mean of the trusted ones."""

    candidate: Candidate
    accuracy: float
    is_member: bool = False


SCORES = {"classes": "classes", "risk": "source risk", "mixed": "mixed", "entropy": "entropy", "density": "density"}
MEAN = "mean of the trusted"


def methods(run: list[Judged]) -> list[Judged]:
    """What a user can name."""
    return [one for one in run if one.candidate.method not in (MEAN, AUTO)]


def members(run: list[Judged]) -> list[Judged]:
    """The methods whose heads are trusted."""
    return [one for one in run if one.is_member] or run[:1]


RULES: dict[str, Callable[[list[Judged]], Judged]] = {  # what might be kept, `auto` being what is
    "auto": lambda run: run[-1],
    MEAN: lambda run: run[-2],
    SELF_TRAINING: lambda run: next((one for one in run if one.candidate.method == SELF_TRAINING), run[0]),
    TRAINED[0]: lambda run: next((one for one in run if one.candidate.method == TRAINED[0]), run[0]),
    "lowest entropy": lambda run: min(methods(run), key=lambda one: one.candidate.entropy),
    "lowest entropy of the trusted": lambda run: min(members(run), key=lambda one: one.candidate.entropy),
    "highest agreement under mixing of the trusted": lambda run: max(members(run), key=lambda one: one.candidate.mixed),
    "lowest risk of the trusted": lambda run: min(members(run), key=lambda one: one.candidate.risk),
    "highest neighbourhood density": lambda run: max(methods(run), key=lambda one: one.candidate.density),
}


@restoring_process()
def judged(source: str, target: str, backbone: str, seed: int, folder: str, trained: list[str], sets: list[str]) -> list[Judged]:
    """Each method with its scores and its accuracy on the target; `auto` last."""
    settings = {"model.backbone": backbone, "data.source": source, "adapt.target": target, "runtime.seed": seed, "data.split_seed": seed}
    config, progress = load_config("adapt", sets=[*(f"{name}={value}" for name, value in settings.items()), *sets]), Progress()
    set_up(config.runtime)
    index = open_images(config.data, progress)
    task = prepare_task(config, index, RunFolder(Path(folder)), progress, target_of(config, index, progress))
    done, there = adapt_heads(task), task.the_target
    kept_method = done.kept
    if AUTO not in done.heads:  # which solves no more heads than it needs
        add_mean_of_trusted(task, done)
    labels = there.index.labels[there.rows]
    first = ADABN if done.statistics else SOURCE_ONLY
    alike = [one for one in done.candidates if one.method not in {SOURCE_ONLY, ADABN, AUTO} - {first}]
    in_mean = trusted(alike)

    def of(candidate: Candidate, head: AdaptedHead) -> Judged:
        said = SINGLE_LABEL.decide(_answers_of(head))
        return Judged(candidate, float((said == labels).mean()), candidate.method in in_mean)

    found = {one.method: of(one, head) for one, head in zip(done.candidates, done.heads.values(), strict=True)}
    kept = found[kept_method]
    mean = found.pop(AUTO, found[first])
    if done.statistics is not None:
        plain, before = done.heads[ADABN], SINGLE_LABEL.decide(_answers_of(done.heads[SOURCE_ONLY]))
        write_statistics(task.classifier.model, done.statistics[1])
        task.classifier.head.layers[-1].set_weights([plain.probe.kernel, plain.probe.bias])
        start, domains = task.classifier.model.get_weights(), see(task, done.statistics)
        for method in trained:
            task.classifier.model.set_weights(start)
            found[method] = of(*train_and_judge(task, domains, method, before))
        deep = found.get(TRAINED[0], kept)
        if deep.candidate.outdoes(kept.candidate, found[ADABN].candidate):
            kept = deep
    return [*found.values(), named(mean, MEAN), named(kept, AUTO)]


def _answers_of(head: AdaptedHead) -> NDArray[np.floating]:
    return answers(head.probe, head.domains.target)


def named(one: Judged, name: str) -> Judged:
    """The same under another name, which is of no method."""
    return replace(one, candidate=replace(one.candidate, method=name), is_member=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("domains", nargs=2)
    parser.add_argument("--backbones", nargs="+", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train", nargs="*", default=[], choices=TRAINED)
    parser.add_argument("--set", action="append", default=[], dest="sets")
    options = parser.parse_args()
    cases: dict[str, list[list[Judged]]] = {}
    for backbone in options.backbones:
        for source, target in (options.domains, options.domains[::-1]):
            name = f"{Path(backbone).stem}, {Path(source).name} to {Path(target).name}"
            for seed in range(options.seeds):
                with tempfile.TemporaryDirectory() as folder:
                    run = judged(source, target, backbone, seed, folder, options.train, options.sets)
                cases.setdefault(name, []).append(run)
                print(f"{name}, seed {seed}:", *(f"{one.candidate.method} {one.accuracy:.3f}" for one in run), flush=True)
    show(cases)


def show(cases: dict[str, list[list[Judged]]]) -> None:
    """Print a table for each case, and what was gained and lost in all."""
    means: dict[str, list[float]] = {}
    for name, runs in cases.items():
        rows: list[list[str]] = []
        for own in zip(*runs, strict=True):
            method, accuracies = own[0].candidate.method, [one.accuracy for one in own]
            means.setdefault(method, []).append(float(np.mean(accuracies)))
            scores = [np.mean([getattr(one.candidate, score) for one in own]) for score in SCORES]
            count = str(sum(one.is_member for one in own) or "")
            rows.append([method, f"{np.mean(accuracies):.3f}", f"{np.std(accuracies):.3f}", *(f"{score:.3f}" for score in scores), count])
        print(f"\n{name}\n")
        print_table(["method", "accuracy", "deviation", *SCORES.values(), "in auto"], rows)
    print("\nall cases\n")
    print_table(["method", "mean accuracy"], [[method, f"{np.mean(found):.3f}"] for method, found in means.items()])
    runs = [run for case in cases.values() for run in case]
    print()
    solved = {one.candidate.method for run in runs for one in run}
    for name, rule in RULES.items():
        if name in TRAINED and name not in solved:
            continue
        taken = [rule(run) for run in runs]
        regrets = [max(one.accuracy for one in methods(run)) - own.accuracy for run, own in zip(runs, taken, strict=True)]
        gains = [own.accuracy - run[0].accuracy for run, own in zip(runs, taken, strict=True)]
        spread = f"deviation {np.std(gains):.3f}, from {min(gains):.3f} to {max(gains):.3f}"
        print(f"{name}: regret {np.mean(regrets):.3f} on average and {max(regrets):.3f} at most; ", end="")
        print(f"gain over source_only {np.mean(gains):.3f}, {spread}; ", end="")
        print(f"{sum(one.candidate.collapsed for one in taken)} of {len(taken)} collapsed")


if __name__ == "__main__":
    main()
