"""How much information each feature has about the classes: a row of `RANKERS` for each way to judge it.

Each of them sees a sample of train, standardised, that is small enough for memory, and takes 1 to 40 s for a full one;
`selection` keeps the features that it puts first. Knows arrays only; scikit-learn is imported where it is called, because many
runs never do.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import rel_entr

from tl_keras.data.splits import stratified_sample
from tl_keras.models.outputs import SINGLE_LABEL, Labels
from tl_keras.transfer.head.probe import CrossEntropy, Matrix, Pair, StandardisedRows, Standardiser, chunks

SAMPLE_BYTES = 128 * 10**6  # of features: 3,700 rows of all stages of MobileNetV2, 25,000 of its last
BLOCK = 256  # features that a filter sees at once, in float64
NUM_BINS = 8  # of a feature: of 600 rows, more would each hold few of a class
NUM_TREES = 200
L1_SHARE = 0.03  # of the least penalty at which no feature is kept
L1_ITERATIONS = 300

Sample = NDArray[np.float32]
Ranker = Callable[[Sample, Labels, NDArray[np.float32], int], Matrix]


def relevance(method: str, train: Pair, standardise: Standardiser, class_weights: NDArray[np.float32], seed: int) -> Matrix:
    """How much information each feature has about the classes, float64 (d,) >= 0, by a row of `RANKERS`; 0 for none.

    Args:
        method: a name in `RANKERS`.
        train: raw features float32 (n, d), in memory or not, and labels int32 (n,), or soft ones. About SAMPLE_BYTES of rows are looked at,
            of each class its share.
        standardise: applied to features first, so that their units do not matter.
        class_weights: float32 (k,), the weight of each class; `anova` and `chi2` know of none.
        seed: of the sample, and of what the ranker draws; at least 0.

    """
    x, labels = read_sample(train, standardise, max(SAMPLE_BYTES // (4 * train[0].shape[1]), len(class_weights)), seed)
    found, moves = np.zeros(x.shape[1]), x.max(axis=0) > x.min(axis=0)
    if moves.any():
        found[moves] = RANKERS[method](x if moves.all() else x[:, moves], labels, class_weights, seed)
    return found


def read_sample(train: Pair, standardise: Standardiser, num: int, seed: int) -> tuple[Sample, Labels]:
    """At most `num` rows, standardised float32 (m, d), and their classes int (m,): of each class its share, read in chunks."""
    features, labels = train[0], SINGLE_LABEL.classes_of(train[1])
    chosen = stratified_sample(labels, num, seed)
    parts = [(part, chosen[(part.start <= chosen) & (chosen < part.stop)] - part.start) for part in chunks(features)]
    return np.concatenate([standardise(features[part][rows]) for part, rows in parts if len(rows)]), labels[chosen]


def most_relevant(scores: Matrix, num: int) -> NDArray[np.int64]:
    """Positions of the `num` largest of scores (d,), ascending; of equal ones the first."""
    return np.sort(np.argsort(-scores, kind="stable")[:num])


def row_norms(kernel: Matrix) -> Matrix:
    """How much each feature moves the logits: the l2 norm of its row, (d,) >= 0, for a kernel (d, k) on standardised features.

    Reference:
        Evci et al. 2022, arXiv:2201.03529, eq. 3.
    """
    return np.sqrt((kernel.astype(np.float64) ** 2).sum(axis=1))


def _anova(x: Sample, labels: Labels, class_weights: NDArray[np.float32], seed: int) -> Matrix:
    """Variance between the classes over variance within them (F of the analysis of variance)."""
    from sklearn.feature_selection import f_classif

    with np.errstate(divide="ignore"):  # a feature that is constant in each class and not over all: F is infinite
        return _blockwise(lambda block: f_classif(block, labels)[0], x)


def _chi2(x: Sample, labels: Labels, class_weights: NDArray[np.float32], seed: int) -> Matrix:
    """Chi-squared of a feature's sums over the classes, as if it were a count.

    Counts are not negative; standardised features are, and so are those of a backbone that ends in a linear layer. Each is
    shifted by its least value in the sample.
    """
    from sklearn.feature_selection import chi2

    return _blockwise(lambda block: chi2(block - block.min(axis=0), labels)[0], x)


def _blockwise(score: Callable[[NDArray[np.float64]], Matrix], x: Sample) -> Matrix:
    """Scores (d,) of features (m, d), some at a time in float64: sums of squares of float32 lose what a good feature leaves over."""
    return np.concatenate([score(x[:, start : start + BLOCK].astype(np.float64)) for start in range(0, x.shape[1], BLOCK)])


def _mutual_information(x: Sample, labels: Labels, class_weights: NDArray[np.float32], seed: int) -> Matrix:
    """Mutual information (nats) of a feature, cut into NUM_BINS parts of equally many rows (equal values stay together), and the class.

    scikit-learn's estimate by nearest neighbours (Ross 2014, PLoS ONE 9(2) e87357) took 40 to 85 s for 600 rows of 8,584
    features; this takes under 1 s.
    """
    row_weights = class_weights[labels].astype(np.float64)
    members = np.eye(len(class_weights))[labels] * (row_weights / row_weights.sum())[:, None]  # (m, k)
    shares = members.sum(axis=0)[:, None]

    def score(block: NDArray[np.float64]) -> Matrix:
        edges = np.quantile(block, np.arange(1, NUM_BINS) / NUM_BINS, axis=0)
        above = np.stack([members.T @ (block > edge) for edge in edges])  # (bins - 1, k, b)
        ends = [np.broadcast_to(end, (1, *above.shape[1:])) for end in (shares, np.zeros(1))]
        joint = np.maximum(-np.diff(above, axis=0, prepend=ends[0], append=ends[1]), 0.0)  # (bins, k, b): rounding may be below 0
        return rel_entr(joint, joint.sum(axis=1, keepdims=True) * shares).sum(axis=(0, 1))

    return _blockwise(score, x)


def _trees(x: Sample, labels: Labels, class_weights: NDArray[np.float32], seed: int) -> Matrix:
    """How much purer the splits by a feature make the nodes of extremely randomised trees, summing to 1."""
    from sklearn.ensemble import ExtraTreesClassifier

    trees = ExtraTreesClassifier(NUM_TREES, random_state=seed)
    return trees.fit(x, labels, sample_weight=class_weights[labels]).feature_importances_


def _l1(x: Sample, labels: Labels, class_weights: NDArray[np.float32], seed: int) -> Matrix:
    """L2 norm of a feature's weights in logistic regression with an L1 penalty, which leaves most at 0.

    The weights are a difference of two that are not negative, which L-BFGS-B keeps so: it reaches exact zeros. For 600 rows of
    8,584 features that takes 4 to 7 s; scikit-learn's saga was not there after 58 s.
    """
    objective = CrossEntropy(StandardisedRows(x, Standardiser.identity(x.shape[1])), labels, class_weights)
    shares = np.bincount(labels, objective.row_weights, len(class_weights))
    weights = np.vstack([np.zeros((x.shape[1], len(shares))), np.log(np.maximum(shares, 1e-6))])
    penalty = L1_SHARE * np.abs(objective(weights)[1][:-1]).max()
    size = weights[:-1].size

    def evaluate(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        up, down, bias = np.split(flat, [size, 2 * size])
        loss, gradient, _ = objective(np.concatenate([up - down, bias]).reshape(weights.shape))
        kernel = gradient[:-1].ravel()
        return loss + penalty * float(flat[: 2 * size].sum()), np.concatenate([penalty + kernel, penalty - kernel, gradient[-1]])

    start = np.concatenate([np.zeros(2 * size), weights[-1]])
    bounds = [(0, None)] * (2 * size) + [(None, None)] * len(shares)
    found = minimize(evaluate, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": L1_ITERATIONS})
    up, down, _ = np.split(found.x, [size, 2 * size])
    return row_norms((up - down).reshape(-1, len(shares)))


RANKERS: dict[str, Ranker] = {
    "anova": _anova,
    "chi2": _chi2,
    "mutual_information": _mutual_information,
    "l1": _l1,
    "trees": _trees,
}
