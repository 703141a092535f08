"""What are a few labels of the target domain worth? Heads that learn from the source, from labelled target images, and from both.

    python benchmarks/few_target_labels.py SOURCE TARGET --backbone NAME [--seeds 5]

The features of `adapt`, as they are and with the BatchNorm statistics of each domain. 1, 5 and 20 images a class of the target, drawn
at random, are labelled; accuracy is that on the others. All heads have the C of the head that learned from the source. In a union both
domains count alike. TrAdaBoost is that of Dai et al. 2007 for several classes, ten rounds from such a union, as the mean of the logits of
its later half.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from processes import print_table

from tl_keras.config_file import make_config
from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.progress import Progress
from tl_keras.run_folder import RunFolder
from tl_keras.runtime import restoring_process, set_up
from tl_keras.transfer.adapt.problem import DomainProblem, solve
from tl_keras.transfer.adapt.train import Judge, own_judge, problem_of
from tl_keras.transfer.head.probe import LinearProbe, Standardiser, fit_linear_probe
from tl_keras.transfer.prepare import prepare_task
from tl_keras.workflows.setting_up import open_images
from tl_keras.workflows.train import target_of

PER_CLASS = (1, 5, 20)
ROUNDS = 10
LEAST_ERROR, MOST_ERROR = 1e-3, 0.49  # between which the error of a round is taken to be

Rows = NDArray[np.float32]
Classes = NDArray[np.int32]


@restoring_process()
def both_problems(source: str, target: str, backbone: str, seed: int) -> tuple[dict[str, DomainProblem], Classes]:
    """The domains with the backbone's own BatchNorm statistics and with those of each, and the classes of the target."""
    settings = {"model.backbone": backbone, "data.source": source, "adapt.target": target, "runtime.seed": seed, "data.split_seed": seed}
    config, progress = make_config("adapt", None, {}, settings), Progress()
    set_up(config.runtime)
    index = open_images(config.data, progress)
    with tempfile.TemporaryDirectory() as folder:
        task = prepare_task(config, index, RunFolder(Path(folder)), progress, target_of(config, index, progress))
        there = task.the_target
        plain = problem_of(task, task.the_frozen, there)
        own = own_judge(task, Judge(task, plain, there))[0].problem
        return {"plain": plain, "adabn": own}, there.index.labels[there.rows]


def learn(x: Rows, y: Classes, weights: NDArray[np.floating], problem: DomainProblem, c: float) -> LinearProbe:
    """A head for raw features, solved on rows that count by `weights`."""
    standardise, even = Standardiser.fit(x), np.ones(len(problem.classes), np.float32)
    own = (weights / weights.mean()).astype(np.float32)
    return fit_linear_probe((x, y), problem.val, standardise, even, c, weights=own).on_raw(standardise)


def tradaboost(x: Rows, y: Classes, num_source: int, problem: DomainProblem, c: float, unseen: Rows) -> tuple[NDArray[np.floating], int]:
    """The sum of logits (m, k) of the later rounds for unseen rows, and how many source rows were ever wrong.

    Args:
        x: rows of the source, and then labelled ones of the target.
    """
    is_source = np.arange(len(x)) < num_source
    weights = even_union(is_source)
    of_source = 1 / (1 + np.sqrt(2 * np.log(num_source) / ROUNDS))
    told, ever = np.zeros((len(unseen), len(problem.classes))), np.zeros(len(x), bool)
    for number in range(ROUNDS):
        head = learn(x, y, weights, problem, c)
        wrong = SINGLE_LABEL.decide(head.logits(x)) != y
        ever |= wrong
        error = float(np.average(wrong[~is_source], weights=weights[~is_source]))
        factor = (bounded := min(max(error, LEAST_ERROR), MOST_ERROR)) / (1 - bounded)
        weights = weights * np.where(is_source, of_source ** wrong.astype(float), factor ** -wrong.astype(float))
        if number >= ROUNDS // 2:
            told += np.log(1 / factor) * head.logits(unseen)
    return told, int(ever[is_source].sum())


def even_union(is_source: NDArray[np.bool_]) -> NDArray[np.floating]:
    """Weights under which both domains count alike."""
    return np.where(is_source, 1 / is_source.sum(), 1 / (~is_source).sum())


def judged(problem: DomainProblem, classes: Classes, per_class: int, seed: int) -> dict[str, float]:
    """Accuracy of each way on the images of the target without labels."""
    draws = np.random.default_rng(seed)
    labelled = np.concatenate([draws.permutation(np.flatnonzero(classes == label))[:per_class] for label in np.unique(classes)])
    rest = np.setdiff1d(np.arange(len(classes)), labelled)
    (source, of_source), target = (problem.train[0][slice(None)], problem.train[1]), problem.target[slice(None)]
    x, y = np.concatenate([source, target[labelled]]), np.concatenate([of_source, classes[labelled]]).astype(np.int32)
    before, is_source = solve(problem, "source_only").probe, np.arange(len(x)) < len(source)

    def right(logits: NDArray[np.floating]) -> float:
        return float((SINGLE_LABEL.decide(logits) == classes[rest]).mean())

    def accuracy(rows: NDArray[np.bool_], weights: NDArray[np.floating]) -> float:
        return right(learn(x[rows], y[rows], weights[rows], problem, before.c).logits(target[rest]))

    everything, boosted = np.ones(len(x), bool), tradaboost(x, y, len(source), problem, before.c, target[rest])
    return {
        "source, no labels of the target": right(before.logits(target[rest])),
        "optimal_transport, likewise": right(solve(problem, "optimal_transport").probe.logits(target[rest])),
        "labelled target images alone": accuracy(~is_source, np.ones(len(x))),
        "union, each image alike": accuracy(everything, np.ones(len(x))),
        "union, each domain alike": accuracy(everything, even_union(is_source)),
        "TrAdaBoost": right(boosted[0]),
        "source images that it ever had wrong": boosted[1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("domains", nargs=2)
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    problems, classes = both_problems(*options.domains, options.backbone, 0)
    columns = {
        (name, number): [judged(problem, classes, number, seed) for seed in range(options.seeds)]
        for name, problem in problems.items()
        for number in PER_CLASS
    }
    ways = list(next(iter(columns.values()))[0])
    rows = [[way, *(f"{np.mean([run[way] for run in runs]):.3f}" for runs in columns.values())] for way in ways]
    print_table(["labelled images a class", *(f"{name}, {number}" for name, number in columns)], rows)


if __name__ == "__main__":
    main()
