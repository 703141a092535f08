"""How often `compare` is right, by simulation: intervals that hold the true difference, equal models told apart, others told apart.

    python benchmarks/comparing.py --repeats 400

Two simulated classifiers of five classes answer the same images. Both find the same images hard; the logits of the true class are higher
by a gap in the second one. What is true of all images is measured on 400,000 of them. For each number of images `--repeats` pairs are
compared. Columns: how often the 95 % interval of the difference held the true one; how often two equal models were told apart (at most
0.05 is promised); how often models were told apart whose accuracies differ by what `unseen` says (0.8 is promised).
"""

import argparse
from collections import Counter

import numpy as np
from sklearn.metrics import accuracy_score, f1_score, log_loss

from tl_keras.evaluation.comparison import Answers, Pair, compare, losses_of
from tl_keras.evaluation.metrics import SUMMARY
from tl_keras.models.outputs import SINGLE_LABEL

CLASSES = 5
SIZES = (50, 200, 1000)
GAP = 0.5  # of logits
ALL = 400_000
LEAST_ACCURATE = 2.5  # logits of the true class


def two_models(random: np.random.Generator, num: int, gap: float) -> Pair:
    """A pair of answers to new images."""
    labels = random.integers(0, CLASSES, num)
    hard = random.normal(0, 1.5, (num, CLASSES))  # what both see
    targets = SINGLE_LABEL.targets(labels, CLASSES)

    def answers(more: float) -> Answers:
        probabilities = SINGLE_LABEL.answers((LEAST_ACCURATE + more) * targets + hard + random.normal(0, 0.8, (num, CLASSES)))
        said = SINGLE_LABEL.decide(probabilities)
        return Answers(said, losses_of(SINGLE_LABEL.task, labels, said, probabilities), probabilities)

    return Pair(SINGLE_LABEL.task, labels, answers(0), answers(gap), CLASSES)


def true_difference(random: np.random.Generator, gap: float) -> dict[str, float]:
    """What is true of all images."""
    pair = two_models(random, ALL, gap)
    of_each = [
        (
            accuracy_score(pair.labels, each.said),
            f1_score(pair.labels, each.said, average="macro"),
            log_loss(pair.labels, each.probabilities),
        )
        for each in (pair.a, pair.b)
    ]
    return dict(zip(SUMMARY[SINGLE_LABEL.task], np.subtract(of_each[1], of_each[0]).tolist(), strict=True))


def gap_for(random: np.random.Generator, difference: float) -> float:
    """The gap that makes accuracies differ by so much, by halving."""
    low, high = 0.0, 5.0
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if true_difference(random, middle)["accuracy"] < difference else (low, middle)
    return (low + high) / 2


def main() -> None:
    """Print a line for each number of images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=400)
    repeats, random = parser.parse_args().repeats, np.random.default_rng(0)
    truth = true_difference(random, GAP)
    print("difference of all images: " + "  ".join(f"{name} {value:+.4f}" for name, value in truth.items()))
    print("images  " + "  ".join(f"{name:>9}" for name in truth) + "  equal told apart  unseen  told apart at it")
    for num in SIZES:
        covered: Counter[str] = Counter()
        unseen = []
        for _ in range(repeats):
            found = compare(two_models(random, num, GAP))
            unseen.append(found["unseen"])
            for name, figures in found["figures"].items():
                low, high = figures["difference_ci95"]
                covered[name] += low <= truth[name] <= high
        gap = gap_for(random, float(np.mean(unseen)))
        equal, told = (sum(compare(two_models(random, num, each))["is_told"] for _ in range(repeats)) / repeats for each in (0.0, gap))
        cover = "  ".join(f"{covered[name] / repeats:9.3f}" for name in truth)
        print(f"{num:6d}  {cover}  {equal:16.3f}  {np.mean(unseen):6.3f}  {told:16.3f}", flush=True)


if __name__ == "__main__":
    main()
