"""Instance-based adaptation: how much each source image counts, so that the source as a whole resembles the target.

Each method gives weights of mean 1. Where features are many, densities are compared in their leading principal components: a ratio
of densities in a thousand dimensions is 0 or infinite.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from tl_keras.transfer.adapt.affine import sample
from tl_keras.transfer.adapt.kernels import median_bandwidth, rbf
from tl_keras.transfer.head.probe import Features, Standardiser, chunks

Matrix = NDArray[np.floating]
Weights = NDArray[np.float32]

COMPONENTS = 32  # of the features, in which densities are compared
FITTED_ON = 2_000  # rows of each domain that components and ratios are found from
CENTRES = 200  # of the kernels that a ratio is a sum of
KLIEP_STEPS = 2_000  # of the search, at most
KMM_BOUND = 10.0  # B of the paper: the largest weight
KMM_ROWS = 2_000  # of the source: the programme is cubic in them
ULSIF_WEIGHTS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
MOST = 20.0  # times the mean: one image must not speak for hundreds


def components(source: Features, target: Features, rng: np.random.Generator) -> Callable[[Matrix], Matrix]:
    """The leading principal components of both domains together, each of variance 1."""
    x = np.concatenate([sample(each, FITTED_ON, rng)[1] for each in (source, target)])
    own = Standardiser.fit(x)
    _, spectrum, axes = np.linalg.svd(own(x), full_matrices=False)
    num = min(COMPONENTS, len(x) - 1, x.shape[1])
    scaled = axes[:num].T * (np.sqrt(len(x)) / np.maximum(spectrum[:num], 1e-6))
    return lambda rows: own(rows) @ scaled


def by_classifier(source: Features, target: Features, rng: np.random.Generator) -> Weights:
    """The odds of a logistic regression that tells the domains apart; see `likeness`."""
    return _all(source, likeness(source, target, rng))


def likeness(source: Features, target: Features, rng: np.random.Generator) -> Callable[[Matrix], Matrix]:
    """What tells how much rows of features (n, d) look like the target: the odds (n,) that a logistic regression gives them.

    Reference: Bickel, Brueckner & Scheffer 2009, JMLR 10, 2137.
    """
    see = components(source, target, rng)
    s, t = (see(sample(each, FITTED_ON, rng)[1]) for each in (source, target))
    x, is_target = np.concatenate([s, t]).astype(np.float64), np.repeat([0.0, 1.0], [len(s), len(t)])
    own = np.where(is_target == 1, 0.5 / len(t), 0.5 / len(s))  # both domains count alike

    def evaluate(w: Matrix) -> tuple[float, Matrix]:
        logits = x @ w[:-1] + w[-1]
        residual = own * (expit(logits) - is_target)
        decay = np.append(w[:-1], 0) / len(x)
        loss = own @ (np.logaddexp(0, logits) - is_target * logits) + 0.5 * decay @ w
        return float(loss), np.append(residual @ x, residual.sum()) + decay

    w = minimize(evaluate, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B").x
    return lambda rows: np.exp(np.clip(see(rows) @ w[:-1] + w[-1], -20, 20))


def by_kliep(source: Features, target: Features, rng: np.random.Generator) -> Weights:
    """A sum of kernels around target images, of the greatest likelihood of the target where the source's mean is 1.

    Reference: KLIEP (Sugiyama et al. 2008, Ann. Inst. Stat. Math. 60, 699, fig. 1).
    """
    see, s, t, centres, gamma = _kernels(source, target, rng)
    at_target, at_source = rbf(t, centres, gamma), rbf(s, centres, gamma).mean(axis=0)
    if not at_source.sum() > 1e-12:  # no source image is near any target image: no weights make the source resemble the target
        return np.ones(len(source), np.float32)
    alpha = np.ones(len(centres)) / at_source.sum()

    def satisfied(values: Matrix) -> Matrix:
        values = np.maximum(values + (1 - at_source @ values) * at_source / (at_source @ at_source), 0)
        return values / (at_source @ values)

    likelihood, step = -np.inf, 1.0
    for _ in range(KLIEP_STEPS):
        if step < 1e-4:
            break
        tried = satisfied(alpha + step * at_target.T @ (1 / np.maximum(at_target @ alpha, 1e-12)) / len(t))
        found = float(np.log(np.maximum(at_target @ tried, 1e-12)).mean())
        if found > likelihood + 1e-7:
            alpha, likelihood = tried, found
        else:
            step /= 3
    return _all(source, lambda rows: rbf(see(rows), centres, gamma) @ alpha)


def by_ulsif(source: Features, target: Features, rng: np.random.Generator) -> Weights:
    """The same sum of kernels, of the least squared error to the ratio of densities; leave-one-out chooses how much its size counts.

    Reference: uLSIF (Kanamori, Hido & Sugiyama 2009, JMLR 10, 1391, fig. 2).
    """
    see, s, t, centres, gamma = _kernels(source, target, rng)
    at_source, at_target = rbf(s, centres, gamma), rbf(t, centres, gamma)
    # Rows are paired at random: they may be sorted by class.
    at_source, at_target = rng.permutation(at_source), rng.permutation(at_target)
    best = min(ULSIF_WEIGHTS, key=lambda weight: _left_out(at_source, at_target, weight))
    alpha = _ulsif(at_source, at_target, best)
    return _all(source, lambda rows: rbf(see(rows), centres, gamma) @ alpha)


def _ulsif(at_source: Matrix, at_target: Matrix, weight: float) -> Matrix:
    """The weights (c,) of the kernels, whose values are (n, c) at the source and (m, c) at the target."""
    h = at_source.T @ at_source / len(at_source)
    return np.maximum(np.linalg.solve(h + weight * np.eye(len(h)), at_target.mean(axis=0)), 0)


def _left_out(at_source: Matrix, at_target: Matrix, weight: float) -> float:
    """The mean loss at each pair of a source row and a target row, of `_ulsif` without that pair: the closed form of the paper."""
    n, m = len(at_source), len(at_target)
    num = min(n, m)
    x, y = at_source[:num], at_target[:num]
    b = at_source.T @ at_source / n + weight * (n - 1) / n * np.eye(at_source.shape[1])
    solved, of_mean, of_target = np.linalg.solve(b, x.T), np.linalg.solve(b, at_target.mean(axis=0)), np.linalg.solve(b, y.T)
    denominator = n - np.einsum("nc,cn->n", x, solved)
    b0 = of_mean[:, None] + solved * ((x @ of_mean) / denominator)
    b1 = of_target + solved * (np.einsum("nc,cn->n", x, of_target) / denominator)
    left = np.maximum((n - 1) / (n * (m - 1)) * (m * b0 - b1), 0)
    losses = np.einsum("nc,cn->n", x, left) ** 2 / 2 - np.einsum("nc,cn->n", y, left)
    return float(losses.mean())


def by_mean_matching(source: Features, target: Features, rng: np.random.Generator) -> Weights:
    """Weights in [0, KMM_BOUND] that bring the mean of the source in the kernel's space to that of the target.

    Source images beyond KMM_ROWS, which are not looked at, have weight 0.

    Reference: kernel mean matching (Huang et al. 2006, NIPS, eq. 5), without its bound on the sum: weights are scaled to mean 1.
    """
    see = components(source, target, rng)
    rows, x = sample(source, KMM_ROWS, rng)
    s, t = see(x), see(sample(target, KMM_ROWS, rng)[1])
    gamma = median_bandwidth(np.concatenate([s, t])[:: max(1, (len(s) + len(t)) // 1000)])
    k = rbf(s, s, gamma) + 1e-6 * np.eye(len(s))
    kappa = rbf(s, t, gamma).mean(axis=1) * len(s)

    def evaluate(weights: Matrix) -> tuple[float, Matrix]:
        product = k @ weights
        return float(0.5 * weights @ product - kappa @ weights) / len(s), (product - kappa) / len(s)

    bounds = [(0, KMM_BOUND)] * len(s)
    solved = minimize(evaluate, np.ones(len(s)), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 500}).x
    found = np.zeros(len(source), np.float32)
    found[rows] = _even(solved) * len(source) / len(rows)  # cut before: beside many zeros each of these weights is far above the mean
    return found


def _kernels(
    source: Features, target: Features, rng: np.random.Generator
) -> tuple[Callable[[Matrix], Matrix], Matrix, Matrix, Matrix, float]:
    """What sees the components, both domains in them, the centres of kernels, and their width."""
    see = components(source, target, rng)
    s, t = (see(sample(each, FITTED_ON, rng)[1]) for each in (source, target))
    centres = t[rng.permutation(len(t))[:CENTRES]]
    return see, s, t, centres, median_bandwidth(centres)


def _all(source: Features, weigh: Callable[[Matrix], Matrix]) -> Weights:
    return _even(np.concatenate([weigh(source[rows]) for rows in chunks(source)]))


def _even(weights: Matrix) -> Weights:
    """Of mean 1, none above MOST times it by much; all 1 where all are 0."""
    if not weights.any():
        return np.ones(len(weights), np.float32)
    cut = np.minimum(weights / weights.mean(), MOST)
    return (cut / cut.mean()).astype(np.float32)


WEIGHTINGS: dict[str, Callable[[Features, Features, np.random.Generator], Weights]] = {
    "domain_classifier": by_classifier,
    "kliep": by_kliep,
    "ulsif": by_ulsif,
    "kmm": by_mean_matching,
}
