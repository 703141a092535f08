"""Does evidence choose the regularisation of a head better than val does, where images are few? And do its probabilities know more?

    python benchmarks/bayesian_head.py --data flowers/ [--backbone mobilenet_v2] [--seeds 5]

5 and 20 images a class of train. `val` is `extract`: a fifth of them chooses C, and the head is solved on the others; `val, then all`
solves it again on all images with that C. `evidence` needs no val: the head is solved on all images with the C of the highest evidence
by Laplace's approximation (MacKay 1992, Neural Computation 4, 720). `predictive` is the mean probability of 200 heads drawn from that
approximation, which is no longer one linear head. `regression` is that of one-hot labels with LogME's precisions, whose temperature
leave-one-out chooses. Accuracy, log loss and expected calibration error (15 bins) on test.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from processes import print_table
from scipy.special import log_softmax, softmax  # of logits of several heads at once

from tl_keras.config_file import make_config
from tl_keras.models.outputs import SINGLE_LABEL
from tl_keras.progress import Progress
from tl_keras.run_folder import RunFolder
from tl_keras.runtime import restoring_process, set_up
from tl_keras.select.ranking.transferability import EVIDENCE_ROUNDS
from tl_keras.transfer.frozen import POOLED
from tl_keras.transfer.head.probe import C_PATH, Standardiser, fit_linear_probe
from tl_keras.transfer.prepare import prepare_task
from tl_keras.workflows.setting_up import open_images

PER_CLASS = (5, 20)
DRAWS = 200
BINS = 15
TEMPERATURES = np.geomspace(0.02, 2, 30)

Matrix = NDArray[np.floating]
Classes = NDArray[np.integer]


@restoring_process()
def features_of(data: str, backbone: str) -> dict[str, tuple[Matrix, Classes]]:
    """Features and classes of train and test."""
    config, progress = (
        make_config("extract", None, {}, {"model.backbone": backbone, "data.source": data, "features.stages": "last"}),
        Progress(),
    )
    set_up(config.runtime)
    with tempfile.TemporaryDirectory() as folder:
        task = prepare_task(config, open_images(config.data, progress), RunFolder(Path(folder)), progress)
        return {split: (task.stored(POOLED, split)[slice(None)], task.data.labels(split)) for split in ("train", "test")}


def by_val(x: Matrix, y: Classes, test: Matrix, num_classes: int, draws: np.random.Generator) -> tuple[Matrix, Matrix]:
    """Log probabilities of a head whose C a fifth of each class chooses, as `extract` solves it, and solved again on all images."""
    ordered = draws.permutation(len(y))
    held = np.concatenate([ordered[y[ordered] == label][: max(1, (y == label).sum() // 5)] for label in range(num_classes)])
    rest = np.setdiff1d(np.arange(len(y)), held)
    standardise, even = Standardiser.fit(x[rest]), np.ones(num_classes, np.float32)
    head = fit_linear_probe((x[rest], y[rest]), (x[held], y[held]), standardise, even)
    on_all = Standardiser.fit(x)
    again = fit_linear_probe((x, y), (x, y), on_all, even, head.c)
    found = head.on_raw(standardise), again.on_raw(on_all)
    return log_softmax(found[0].logits(test), axis=1), log_softmax(found[1].logits(test), axis=1)


def by_evidence(x: Matrix, y: Classes, test: Matrix, num_classes: int, draws: np.random.Generator) -> tuple[Matrix, Matrix]:
    """Log probabilities of the head of the highest evidence, and of the mean of heads drawn around it."""
    standardise = Standardiser.fit(x)
    rows, unseen = standardise(x).astype(np.float64), standardise(test).astype(np.float64)
    _, spectrum, axes = np.linalg.svd(rows, full_matrices=False)
    turn = axes[spectrum > 1e-6 * spectrum[0]].T  # the rows' span: elsewhere weights are as before, and of no effect on the rows
    u = np.hstack([rows @ turn, np.ones((len(rows), 1))])
    best = max((laplace(x, y, standardise, turn, u, num_classes, c) for c in C_PATH), key=lambda one: one[0])
    _, c, weights, hessian = best
    coordinates = np.hstack([unseen @ turn, np.ones((len(unseen), 1))])
    outside = np.maximum((unseen**2).sum(axis=1) - (coordinates[:, :-1] ** 2).sum(axis=1), 0)  # where only the prior speaks
    root = np.linalg.cholesky(np.linalg.inv(hessian))
    total = np.zeros((len(test), num_classes))
    for _ in range(DRAWS):
        drawn = weights + (root @ draws.normal(size=root.shape[0])).reshape(weights.shape)
        total += softmax(coordinates @ drawn + np.sqrt(outside * c)[:, None] * draws.normal(size=total.shape), axis=1)
    return log_softmax(coordinates @ weights, axis=1), np.log(total / DRAWS)


def laplace(
    x: Matrix, y: Classes, standardise: Standardiser, turn: Matrix, u: Matrix, num_classes: int, c: float
) -> tuple[float, float, Matrix, Matrix]:
    """Log evidence of C, C, the weights (r + 1, k) in the span of the rows, and the second derivative there."""
    pair = (x.astype(np.float32), y.astype(np.int32))
    head = fit_linear_probe(pair, pair, standardise, np.ones(num_classes, np.float32), c)
    weights = np.vstack([turn.T @ head.kernel, head.bias])
    log_p = log_softmax(u @ weights, axis=1)
    p = np.exp(log_p)
    inner = np.einsum("nk,kj->nkj", p, np.eye(num_classes)) - np.einsum("nk,nj->nkj", p, p)
    hessian = np.einsum("nr,nkj,ns->rksj", u, inner, u).reshape(weights.size, weights.size)
    prior = np.repeat(np.append(np.full(turn.shape[1], 1 / c), 1e-2), num_classes)  # a wide prior of the bias
    hessian[np.diag_indices(len(hessian))] += prior
    log_likelihood = log_p[np.arange(len(y)), y].sum()
    fit = log_likelihood - 0.5 * (prior * weights.ravel() ** 2).sum()
    return float(fit + 0.5 * np.log(prior).sum() - 0.5 * np.linalg.slogdet(hessian)[1]), c, weights, hessian


def by_regression(x: Matrix, y: Classes, test: Matrix, num_classes: int) -> Matrix:
    """Log probabilities of ridge regression on one-hot labels, each class with the precisions of LogME."""
    standardise, targets = Standardiser.fit(x), np.eye(num_classes)[y]
    rows, unseen, means = standardise(x).astype(np.float64), standardise(test).astype(np.float64), targets.mean(axis=0)
    left, spectrum, axes = np.linalg.svd(rows, full_matrices=False)
    values, told, left_out = spectrum**2, [], []
    for target in (targets - means).T:
        products, ratio = left.T @ target, 1.0
        for _ in range(EVIDENCE_ROUNDS):
            fitted, rest = values / (values + ratio), ratio / (values + ratio)
            alpha = fitted.sum() / ((products**2 * fitted / (values + ratio)).sum() + 1e-5)
            beta = (len(y) - len(values) + rest.sum()) / ((products**2 * rest**2).sum() + 1e-5)
            ratio = alpha / beta
        shrunk = values / (values + ratio)
        told.append(unseen @ (axes.T @ (products * spectrum / (values + ratio))))
        hat = (left**2 * shrunk).sum(axis=1) + 1 / len(y)
        left_out.append(target - (target - left @ (products * shrunk)) / np.maximum(1 - hat, 1e-6))
    logits, unseen_logits = np.stack(left_out, axis=1) + means, np.stack(told, axis=1) + means
    losses = [-log_softmax(logits / each, axis=1)[np.arange(len(y)), y].mean() for each in TEMPERATURES]
    return log_softmax(unseen_logits / TEMPERATURES[int(np.argmin(losses))], axis=1)


def figures(log_p: Matrix, y: Classes) -> tuple[float, float, float]:
    """Accuracy, log loss and expected calibration error."""
    said, confidence = SINGLE_LABEL.decide(log_p), np.exp(log_p.max(axis=1))
    places = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [abs((said == y)[places == place].sum() - confidence[places == place].sum()) for place in range(BINS)]
    return float((said == y).mean()), float(-log_p[np.arange(len(y)), y].mean()), float(sum(gaps) / len(y))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    found = features_of(options.data, options.backbone)
    (x, y), (test, of_test), num_classes = found["train"], found["test"], int(found["train"][1].max()) + 1
    rows = []
    for per_class in PER_CLASS:
        runs: dict[str, list[tuple[float, float, float]]] = {}
        for seed in range(options.seeds):
            draws = np.random.default_rng(seed)
            own = np.concatenate([draws.permutation(np.flatnonzero(y == label))[:per_class] for label in range(num_classes)])
            evidence, predictive = by_evidence(x[own], y[own], test, num_classes, draws)
            val, again = by_val(x[own], y[own], test, num_classes, draws)
            for name, log_p in (
                ("val", val),
                ("val, then all", again),
                ("evidence", evidence),
                ("predictive", predictive),
                ("regression", by_regression(x[own], y[own], test, num_classes)),
            ):
                runs.setdefault(name, []).append(figures(log_p, of_test))
        for name, each in runs.items():
            means, deviations = np.mean(each, axis=0), np.std(each, axis=0)
            rows.append([str(per_class), name, *(f"{mean:.3f} ± {spread:.3f}" for mean, spread in zip(means, deviations, strict=True))])
    print_table(["images a class", "head", "accuracy", "log loss", "calibration error"], rows)


if __name__ == "__main__":
    main()
