"""How far two domains are apart, by their features: sampled, so that each costs seconds at most.

All take rows as arrays, float32 (n, d) and (m, d), that one standardiser has brought to variance 1 or so.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from threadpoolctl import threadpool_limits

from tl_keras.transfer.adapt.kernels import median_bandwidth, rbf

Matrix = NDArray[np.floating]
Rows = NDArray[np.integer]

WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)  # times the median: the kernel is the mean of these Gaussians


def squared_mmd(x: Matrix, y: Matrix) -> float:
    """Squared maximum mean discrepancy, unbiased: 0 on average where both are of one distribution, and then also below it.

    Reference: Gretton et al. 2012, JMLR 13, 723, eq. 3, with a mean of Gaussian kernels (DAN, arXiv:1502.02791).
    """
    gamma = median_bandwidth(np.concatenate([x, y]))
    found = 0.0
    for width in WIDTHS:
        xx, yy, xy = (rbf(a, b, gamma * width) for a, b in ((x, x), (y, y), (x, y)))
        within = (xx.sum() - np.trace(xx)) / (len(x) * (len(x) - 1)) + (yy.sum() - np.trace(yy)) / (len(y) * (len(y) - 1))
        found += float(within - 2 * xy.mean()) / len(WIDTHS)
    return found


def coral_distance(x: Matrix, y: Matrix) -> float:
    """Squared Frobenius distance between covariances, over 4 d^2. Reference: Deep CORAL (arXiv:1607.01719, eq. 1)."""
    difference = np.cov(x, rowvar=False) - np.cov(y, rowvar=False)
    return float((difference**2).sum() / (4 * x.shape[1] ** 2))


def proxy_a_distance(x: Matrix, y: Matrix, rng: np.random.Generator) -> float:
    """2 (1 - 2 error) of a linear classifier that tells the domains apart, on the half of the rows that it has not seen, each in turn.

    0 where it cannot, 2 where it always can. Both domains count alike in the error, whatever their numbers.

    Reference: Ben-David et al. 2007, NIPS, sec. 4.1.
    """
    halves = [np.array_split(rng.permutation(len(each)), 2) for each in (x, y)]
    errors = [_unseen_error(x, y, halves[0][turn], halves[1][turn], halves[0][1 - turn], halves[1][1 - turn]) for turn in (0, 1)]
    return 2 * (1 - 2 * min(0.5, float(np.mean(errors))))


@threadpool_limits.wrap(
    limits=1, user_api="blas"
)  # small products: threads that wait for each other took 20 times as long on a busy machine
def _unseen_error(x: Matrix, y: Matrix, seen_x: Rows, seen_y: Rows, rest_x: Rows, rest_y: Rows) -> float:
    a = np.concatenate([x[seen_x], y[seen_y]]).astype(np.float64)  # once: each product with a float64 vector would do it again
    is_second = np.repeat([0.0, 1.0], [len(seen_x), len(seen_y)])
    own = np.where(is_second == 1, 0.5 / len(seen_y), 0.5 / len(seen_x))
    centre = a.mean(axis=0)
    a = a - centre
    # In the span of the rows, of which there are fewer than features.
    gram = a @ a.T

    def evaluate(w: Matrix) -> tuple[float, Matrix]:
        pulled = gram @ w[:-1]
        logits = pulled + w[-1]
        residual = own * (expit(logits) - is_second)
        loss = own @ (np.logaddexp(0, logits) - is_second * logits) + 0.5 / len(a) * w[:-1] @ pulled
        return float(loss), np.append(gram @ residual + pulled / len(a), residual.sum())

    w = minimize(evaluate, np.zeros(len(a) + 1), jac=True, method="L-BFGS-B", options={"maxiter": 100}).x
    told = [(rows - centre) @ (a.T @ w[:-1]) + w[-1] for rows in (x[rest_x], y[rest_y])]
    return float(0.5 * (told[0] >= 0).mean() + 0.5 * (told[1] < 0).mean())


def classwise_mmd(x: Matrix, y: Matrix, labels_x: NDArray[np.integer], labels_y: NDArray[np.integer]) -> float:
    """The mean of `squared_mmd` over the classes that both have at least two rows of; nan where there is none.

    Args:
        labels_y: of the target, what a model says.
    """
    classes = [label for label in np.unique(labels_x) if min((labels_x == label).sum(), (labels_y == label).sum()) > 1]
    return float(np.mean([squared_mmd(x[labels_x == label], y[labels_y == label]) for label in classes])) if classes else float("nan")
