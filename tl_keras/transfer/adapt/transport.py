"""Optimal transport: where each source image goes if the source as a whole is to become the target with the least movement.

It is carried out by an affine map of the source, which moves images that were not among those transported as well; the target stays.
"""

import numpy as np
from numpy.typing import NDArray

from tl_keras.transfer.adapt.affine import Affine, sample
from tl_keras.transfer.adapt.alignment import Maps, standardise
from tl_keras.transfer.adapt.kernels import squared_distances
from tl_keras.transfer.head.probe import Features

Matrix = NDArray[np.floating]
Labels = NDArray[np.integer]

ROWS = 700  # of each domain: the plan has a number for each pair
ENTROPY = 0.05  # of the plan, against a cost whose median is 1
CLASSES = 0.5  # how much it costs that images of several classes go to one place
CLASS_ROUNDS = 10  # of the search for a plan that does not mix classes
SCALINGS = 200  # of the plan's rows and columns, at most, in each round
SETTLED = 1e-6  # mass that rows lack or have too much of, in all, at which a plan has settled
SMALL = 1e-3  # beside the mass of a class, so that none has an infinite price
RIDGE = 1.0  # how much the size of the map counts, for each row


def optimal_transport(source: Features, labels: Labels, target: Features, rng: np.random.Generator) -> Maps:
    """Carry the standardised source to the standardised target, images of one class together.

    At most ROWS rows of each domain are looked at.

    Args:
        source: features (n, d).
        labels: of the source, int (n,).
        target: features (m, d).

    Reference: Courty et al. 2016, arXiv:1507.00504 (the plan, with entropy and classes, and the mean of where it sends an image); Perrot
    et al. 2016, NIPS (the map that is nearest to it).
    """
    maps = standardise(source, target, rng)
    rows, sampled = sample(source, ROWS, rng)
    x, y = (own(each).astype(np.float64) for own, each in zip(maps, (sampled, sample(target, ROWS, rng)[1]), strict=True))
    cost = squared_distances(x, y)
    plan = class_plan(cost / max(float(np.median(cost)), 1e-12), labels[rows])
    arrived = plan @ y / plan.sum(axis=1, keepdims=True)
    matrix, at_mean = ridge_map(x, arrived)
    # What is added after the matrix is taken off the target, so that both maps have a shift and a matrix only.
    kept = maps[1]
    return maps[0].then(matrix), Affine.of(kept.shift + at_mean / kept.matrix, kept.matrix)


def class_plan(cost: Matrix, labels: Labels) -> Matrix:
    """How much of each source row goes to each target row, (n, m), all of sum 1: rows of sum 1 / n, columns of sum 1 / m.

    Of least cost, less ENTROPY times its entropy, plus CLASSES times the sum over target rows and classes of the root of what comes from a
    class. Each round takes the tangent of that root as price.

    Args:
        cost: (n, m), of median 1.
        labels: int (n,).
    """
    classes = (labels[:, None] == np.unique(labels)).astype(np.float64)  # (n, k)
    price = np.zeros_like(cost)
    for _ in range(CLASS_ROUNDS):
        plan = entropic_plan(cost + CLASSES * price)
        price = classes @ (0.5 / np.sqrt(classes.T @ plan + SMALL))
    return plan


def entropic_plan(cost: Matrix) -> Matrix:
    """The plan of least cost less ENTROPY times its entropy, by scaling its rows and its columns in turn.

    Reference: Sinkhorn's iteration (Cuturi 2013, arXiv:1306.0895, algorithm 1).
    """
    num, count = cost.shape
    # A constant that is taken off a row or a column changes no plan, and leaves no row or column that is 0 in all.
    cost = cost - cost.min(axis=1, keepdims=True)
    kernel = np.exp(-(cost - cost.min(axis=0)) / ENTROPY)
    by_row = np.ones(num)
    for _ in range(SCALINGS):
        by_column = 1 / count / (kernel.T @ by_row)
        reached = kernel @ by_column
        if np.abs(by_row * reached - 1 / num).sum() < SETTLED:
            break
        by_row = 1 / num / reached
    return by_row[:, None] * kernel * by_column


def ridge_map(x: Matrix, y: Matrix) -> tuple[Matrix, Matrix]:
    """The matrix (d, r) and what is added after it (r,) that bring rows (n, d) nearest to rows (n, r), its size counting RIDGE a row."""
    means = x.mean(axis=0), y.mean(axis=0)
    x, y = x - means[0], y - means[1]
    num, width = x.shape
    # In the span of the rows where these are fewer than features: the same matrix, of a smaller system.
    solved = (
        x.T @ np.linalg.solve(x @ x.T + RIDGE * num * np.eye(num), y)
        if num < width
        else np.linalg.solve(x.T @ x + RIDGE * num * np.eye(width), x.T @ y)
    )
    return solved, means[1] - means[0] @ solved
